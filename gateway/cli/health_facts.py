"""What is wrong with a gateway, and what soon will be, from what it says of itself. Pure."""

from collections.abc import Iterator, Mapping, Sized
from math import inf
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from gateway.cli.samples import Samples
from gateway.limits.quotas import NEAR
from gateway.tls.file_ends import ENDS_SOON, is_ca
from gateway.units import DAY

_MOST: Final = 10
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class HealthFacts(NamedTuple):
    """`problems` need somebody now; `warnings` soon; `limits` are (key or caller, limit, share), fullest first."""

    problems: list[str]
    warnings: list[str]
    limits: list[tuple[str, str, float]]


def facts_of(found: Samples, now: float, addresses: Mapping[str, str] = _NONE) -> HealthFacts:
    """Judges it; `now` is in seconds since the epoch, `addresses` are where the upstreams are, by name."""
    return HealthFacts(list(_problems(found, now, addresses)), list(_warnings(found, now)), _near(found))


def _problems(found: Samples, now: float, addresses: Mapping[str, str]) -> Iterator[str]:
    if found.readiness.get("status") == "draining":
        yield "it is draining, and ends soon"
    missing = found.readiness.get("missing")
    ledger = found.overview.get("ledger")
    for name in missing if isinstance(missing, list) else []:
        why = ledger.get("trouble") if name == "ledger" and isinstance(ledger, dict) else None
        yield f"not ready: {name}{f': {why}' if why else ''}"
    yield from _containers(found, addresses)
    without = found.readiness.get("issuers_without_keys")
    for issuer in without[:_MOST] if isinstance(without, list) else []:
        yield f"tokens of {issuer} are refused: its keys can't be fetched{_trouble(found, issuer)}"
    if not _value(found, "gateway_config_last_reload_successful", 1.0):
        yield "the configuration on the disk is refused, the old one is in force: see gateway check"
        yield from _faults(found)
    yield from (f"{name} has ended" for name, ends in _ends(found) if ends <= now)


def _issuers(found: Samples) -> Iterator[Mapping[str, Any]]:
    """What it tells of each issuer; nothing where it is of another release, or told nothing."""
    told = found.overview.get("issuers")
    yield from (entry for entry in told or () if isinstance(entry, dict) and "trouble" in entry)


def _trouble(found: Samples, issuer: object) -> str:
    entry = next((entry for entry in _issuers(found) if entry["issuer"] == issuer and entry["trouble"]), None)
    if entry is None:
        return ""
    return f" from {entry['source']}: {entry['trouble']}; the next attempt is at {entry['next_fetch_at']}"


def _faults(found: Samples) -> Iterator[str]:
    told = found.overview.get("configuration")
    faults = told.get("faults") if isinstance(told, dict) else None
    yield from (f"configuration: {fault}" for fault in (faults or ())[:_MOST])


def _containers(found: Samples, addresses: Mapping[str, str]) -> Iterator[str]:
    told = found.overview.get("upstreams")
    troubles = [entry for entry in told if entry["trouble"]] if isinstance(told, list) else []
    for entry in troubles:
        name, address = str(entry["name"]), addresses.get(str(entry["name"]), "")
        at = f"{address}: " if address else ""
        yield f"the container{_named(name, told or ())} does not answer its health path: {at}{entry['trouble']}"
    for labels, value in found.metrics.get("gateway_upstream_up", {}).items():
        if not value and not troubles:
            name = dict(labels).get("upstream", "")
            yield f"the container{f' {name}' if name else ''} does not answer its health path"


def _named(upstream: str, among: Sized) -> str:
    """A single one needs no name."""
    return f" {upstream}" if len(among) > 1 else ""


def _warnings(found: Samples, now: float) -> Iterator[str]:
    for name, ends in _ends(found):
        if now < ends < now + ENDS_SOON:
            yield f"{name} ends in {_left(ends - now)}"
    for issuer in _issuers(found):
        if issuer["keys"] is not None and issuer["trouble"]:
            text = f"the keys of {issuer['issuer']} can't be fetched from {issuer['source']}: {issuer['trouble']}"
            yield f"{text}; those that are held are dropped at {issuer['dropped_at']}"
    waits = found.readiness.get("waits_for_restart")
    if isinstance(waits, list) and waits:
        yield f"waits for a restart: {', '.join(map(str, waits))}"
    dead = found.total("gateway_webhooks", state="dead")
    if dead:
        yield f"{dead:.0f} webhooks were given up: gateway webhooks list --state dead"


def _ends(found: Samples) -> list[tuple[str, float]]:
    """What ends when, the first first: each file, or of a gateway that names none the one moment that it tells."""
    files = found.metrics.get("gateway_certificate_file_not_after_seconds", {})
    told = [(_file(found, dict(labels).get("setting", "")), ends) for labels, ends in files.items()]
    if not told:
        told = [("a certificate", _value(found, "gateway_tls_certificate_not_after_seconds", inf))]
    return sorted(told, key=lambda entry: entry[1])


def _file(found: Samples, setting: str) -> str:
    files = found.overview.get("certificate_files")
    paths = {entry["setting"]: entry["file"] for entry in files} if isinstance(files, list) else {}
    what = "the CA" if is_ca(setting) else "the certificate"
    return f"{what} of {setting}{f' ({paths[setting]})' if setting in paths else ''}"


def _left(seconds: float) -> str:
    days = int(seconds // DAY)
    return f"{days} days" if days > 1 else f"{seconds // 3600:.0f} hours"


def _near(found: Samples) -> list[tuple[str, str, float]]:
    """Of keys and callers, by the admin API; a gateway that does not tell has a metric of keys."""
    told = found.near.get("near")
    if isinstance(told, list):
        return [(entry["key"] or entry["account"], entry["name"], entry["share"]) for entry in told[:_MOST]]
    shares = found.metrics.get("gateway_limit_used_ratio", {}).items()
    near = [(dict(labels).get("key", ""), dict(labels).get("limit", ""), share) for labels, share in shares]
    return sorted((entry for entry in near if entry[2] >= NEAR), key=lambda entry: -entry[2])[:_MOST]


def _value(found: Samples, name: str, default: float) -> float:
    return next(iter(found.metrics.get(name, {}).values()), default)
