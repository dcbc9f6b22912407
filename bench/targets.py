"""What the gateway promises, and whether a run bears it out: ratios within one run, never absolute times."""

from collections.abc import Callable
from dataclasses import dataclass

Figures = dict[str, dict[str, float]]  # metric -> peer -> median
GATEWAY, BEFORE, REFERENCE = "gateway", "before", "nginx"


@dataclass(frozen=True, slots=True)
class Target:
    """A promise: a value from the run's figures, and the bound it keeps."""

    title: str
    value: Callable[[Figures], float]
    bound: float
    at_least: bool = True

    def verdict(self, figures: Figures) -> tuple[float, bool] | None:
        """The value and whether it keeps the bound; None when the run did not measure what it takes."""
        try:
            value = self.value(figures)
        except (KeyError, ZeroDivisionError):
            return None
        return value, value >= self.bound if self.at_least else value <= self.bound

    def margin(self, value: float) -> float:
        """By what share of the bound the value is better (or worse, below zero)."""
        distance = (value - self.bound) / self.bound
        return distance if self.at_least else -distance


def capacity(metric: str, peer: str = REFERENCE) -> Callable[[Figures], float]:
    """How much of a peer's capacity the gateway has, by what both use for a unit of work."""
    return lambda figures: figures[metric][peer] / figures[metric][GATEWAY]


def wait(figures: Figures) -> float:
    """How long the gateway lets polls wait beside uploads, as a share of nginx's wait."""
    return figures["mixed_p99"][GATEWAY] / figures["mixed_p99"][REFERENCE]


def latency(figures: Figures) -> float:
    """What the gateway adds to a single client's poll, as a share of what nginx adds."""
    return figures["latency"][GATEWAY] / figures["latency"][REFERENCE]


def tokens(figures: Figures) -> float:
    """What Envoy uses for a poll with a key, relative to what the gateway uses for one with a token."""
    return figures["poll_cpu"]["envoy"] / figures["token_cpu"][GATEWAY]


def admission(figures: Figures) -> float:
    """Milliseconds that a small submit takes longer through the gateway than through nginx."""
    return (figures["submit_time"][GATEWAY] - figures["submit_time"][REFERENCE]) / 1000


def job(figures: Figures) -> float:
    """CPU of gateway and container for a job whose polls are held, as a share of what it takes through nginx."""
    through_nginx = figures["watched_cpu"][REFERENCE] + figures["watched_container_cpu"][REFERENCE]
    return (figures["held_cpu"][GATEWAY] + figures["held_container_cpu"][GATEWAY]) / through_nginx


def own(metric: str) -> Callable[[Figures], float]:
    """The gateway's own figure."""
    return lambda figures: figures[metric][GATEWAY]


def targets() -> tuple[Target, ...]:
    """All promises."""
    return (
        Target("polls: capacity relative to Envoy", capacity("poll_cpu", "envoy"), 1.5),
        Target("polls: capacity relative to nginx", capacity("poll_cpu"), 0.5),
        Target("us added to a single client's poll, relative to nginx's", latency, 1, at_least=False),
        Target("polls with a JWT: capacity relative to Envoy's with a key", tokens, 1.0),
        Target("ms that a small submit's admission takes", admission, 1, at_least=False),
        Target("uploads, looked into: capacity relative to nginx", capacity("upload_cpu"), 0.65),
        Target("uploads with pages counted: capacity relative to nginx", capacity("inspected_cpu"), 0.65),
        Target("downloads: capacity relative to nginx", capacity("download_cpu"), 1.0),
        Target("full handshakes: capacity relative to nginx", capacity("handshake_cpu"), 0.65),
        Target("resumed handshakes: capacity relative to nginx", capacity("resumed_cpu"), 0.8),
        Target("poll p99 while four uploads run, relative to nginx's", wait, 0.2, at_least=False),
        Target("ms from a job's end to its result, held", own("wait_late"), 120, at_least=False),
        Target(
            "questions to the container in 100 ms while four clients wait", own("wait_asked"), 1.2, at_least=False
        ),
        Target("CPU of a held job, both sides, relative to that through nginx", job, 0.25, at_least=False),
        Target("ms from a job's end to its result, polled with jobs.hold", own("held_late"), 120, at_least=False),
        Target("KB per idle TLS connection", own("idle_kb"), 45, at_least=False),
        Target("MB of growth while eight 100 MB uploads run", own("uploads_mb"), 30, at_least=False),
        Target("MB of growth while eight 50 MB downloads run", own("downloads_mb"), 30, at_least=False),
        Target("ms from the start until it is ready", own("start_time"), 1000, at_least=False),
        Target("ms of `gateway --help`", own("help_time"), 150, at_least=False),
        Target("% of a core with nobody there", own("rest_cpu"), 0.3, at_least=False),
        Target("MB of memory with nobody there", own("rest_mb"), 75, at_least=False),
    )
