"""What happened between two looks at a gateway, by the second. Pure."""

from typing import Final, NamedTuple

from gateway.cli.samples import Samples

_DURATION: Final = "gateway_request_duration_seconds"


class Pace(NamedTuple):
    """Requests, refusals and failures a second, the mean latency in seconds, and pages a minute."""

    requests: float
    refused: float
    failed: float
    latency: float | None
    pages: float


def pace_of(before: Samples, after: Samples, seconds: float) -> Pace:
    """The pace between two looks that are so far apart."""
    count = _grown(before, after, f"{_DURATION}_count")
    spent = _grown(before, after, f"{_DURATION}_sum")
    pages = _grown(before, after, "gateway_pages_total", kind="settled")
    statuses = _by_status(before, after)
    return Pace(
        sum(statuses.values()) / seconds,
        sum(grown for status, grown in statuses.items() if status.startswith("4")) / seconds,
        sum(grown for status, grown in statuses.items() if status.startswith("5")) / seconds,
        spent / count if count else None,
        pages * 60 / seconds,
    )


def _grown(before: Samples, after: Samples, name: str, **labels: str) -> float:
    """How much a counter has grown; a gateway that was restarted counts from 0."""
    return max(0.0, after.total(name, **labels) - before.total(name, **labels))


def _by_status(before: Samples, after: Samples) -> dict[str, float]:
    name = "gateway_requests_total"
    statuses = {dict(labels).get("status", "") for labels in after.metrics.get(name, {})}
    return {status: _grown(before, after, name, status=status) for status in statuses}
