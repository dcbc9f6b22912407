"""What is wrong with a gateway, and what soon will be, from what it says of itself. Pure."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from gateway.cli.running_gateway import Samples

_DAY: Final = 86_400.0
_SOON: Final = 14 * _DAY
_NEAR: Final = 0.8
_MOST: Final = 10


class HealthFacts(NamedTuple):
    """`problems` need somebody now; `warnings` soon; `limits` are (key, limit, share), the fullest first."""

    problems: list[str]
    warnings: list[str]
    limits: list[tuple[str, str, float]]


def facts_of(found: Samples, now: float) -> HealthFacts:
    """Judges it; `now` is in seconds since the epoch."""
    return HealthFacts(list(_problems(found, now)), list(_warnings(found, now)), _near(found))


def _problems(found: Samples, now: float) -> Iterator[str]:
    if found.readiness.get("status") == "draining":
        yield "it is draining, and ends soon"
    missing = found.readiness.get("missing")
    for name in missing if isinstance(missing, list) else []:
        yield f"not ready: {name}"
    for labels, value in found.metrics.get("gateway_upstream_up", {}).items():
        name = dict(labels).get("upstream", "")
        if not value:
            yield f"the container{f' {name}' if name else ''} does not answer its health path"
    if not _value(found, "gateway_config_last_reload_successful", 1.0):
        yield "the configuration on the disk is refused, the old one is in force: see gateway check"
    ends = _value(found, "gateway_tls_certificate_not_after_seconds", now + _SOON)
    if ends <= now:
        yield "a certificate has ended"


def _warnings(found: Samples, now: float) -> Iterator[str]:
    ends = _value(found, "gateway_tls_certificate_not_after_seconds", now + _SOON)
    if now < ends < now + _SOON:
        yield f"a certificate ends in {(ends - now) / _DAY:.0f} days"
    waits = found.readiness.get("waits_for_restart")
    if isinstance(waits, list) and waits:
        yield f"waits for a restart: {', '.join(map(str, waits))}"
    dead = found.total("gateway_webhooks", state="dead")
    if dead:
        yield f"{dead:.0f} webhooks were given up: gateway webhooks list --state dead"


def _near(found: Samples) -> list[tuple[str, str, float]]:
    shares = found.metrics.get("gateway_limit_used_ratio", {}).items()
    near = [(dict(labels).get("key", ""), dict(labels).get("limit", ""), share) for labels, share in shares]
    return sorted((entry for entry in near if entry[2] >= _NEAR), key=lambda entry: -entry[2])[:_MOST]


def _value(found: Samples, name: str, default: float) -> float:
    return next(iter(found.metrics.get(name, {}).values()), default)
