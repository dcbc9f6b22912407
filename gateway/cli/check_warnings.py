"""Settings of a valid configuration that work, but may not be intended: warnings of `gateway check`."""

from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final

from gateway.cli.checked import Checked, upstream_section
from gateway.cli.dev_tokens import ISSUER
from gateway.cli.this_machine import is_this_machine
from gateway.config.compile import compile_settings
from gateway.config.route_consistency import unread
from gateway.config.settings import Settings
from gateway.config.state import routed_upstreams
from gateway.keys.view import idle_scopes
from gateway.model.routes import Access, Kind
from gateway.policy.routes import may_begin

_SHORT_SECRET: Final = 24
_WIDE_PROXIES: Final = {4: 8, 6: 32}
_UVICORN_IDLE: Final = 5.0


def warnings(settings: Settings) -> Iterator[Checked]:
    """What works and may not be meant."""
    for warned in (
        _network_warnings,
        _upstream_warnings,
        _certificate_warnings,
        _issuer_warnings,
        _spool_warnings,
        _key_warnings,
        _route_warnings,
        _webhook_warnings,
    ):
        yield from (Checked("warning", text) for text in warned(settings))


def _network_warnings(settings: Settings) -> Iterator[str]:
    for i, network in enumerate(settings.network.allow):
        if network.prefixlen == 0:
            yield f"network.allow[{i}]: {network} lets everybody in who has a key"
    for i, network in enumerate(settings.network.trusted_proxies):
        if network.prefixlen < _WIDE_PROXIES[network.version]:
            yield f"network.trusted_proxies[{i}]: anyone in {network} can claim to be any address"
    admin = settings.admin
    if not ip_address(admin.address).is_loopback:
        if admin.token is None:
            yield "admin.token: is not set, so /metrics is refused to everybody but this machine"
        elif admin.tls is None:
            yield "admin.tls: is not set, so the admin token crosses the network in the clear"


def _upstream_warnings(settings: Settings) -> Iterator[str]:
    state = compile_settings(settings)
    routed = routed_upstreams(state)
    for name, target in routed.items():
        place = upstream_section(name)
        if target.scheme == "http" and not is_this_machine(target.host):
            yield f"{place}.url: documents cross the network to {target.host} in the clear"
        if target.idle_timeout >= _UVICORN_IDLE:
            yield f"{place}.idle_timeout: uvicorn closes idle connections after 5s; stay below, or requests get lost"
    for name in settings.upstreams.keys() - routed.keys():
        yield f"upstreams.{name}: no route goes there"


def _certificate_warnings(settings: Settings) -> Iterator[str]:
    if settings.tls.client_certificates != "none":
        return
    if settings.tls.client_ca is not None:
        yield "tls.client_ca: is not used, since tls.client_certificates is none"
    if settings.authentication.certificates.identity is not None:
        yield "authentication.certificates.identity: is not used, since tls.client_certificates is none"


def _issuer_warnings(settings: Settings) -> Iterator[str]:
    for i, entry in enumerate(settings.authentication.jwt):
        if entry.issuer == ISSUER:
            yield f"authentication.jwt[{i}].issuer: is that of gateway certs token, for trying out alone"


def _spool_warnings(settings: Settings) -> Iterator[str]:
    limits = {f"profiles.{name}.body_limit": profile.body_limit for name, profile in settings.profiles.items()}
    limits |= {f"keys[{i}].limits.body_limit": key.limits.body_limit or 0 for i, key in enumerate(settings.keys)}
    largest = max(limits, key=limits.__getitem__)
    if settings.body.spool_limit < limits[largest]:
        yield f"body.spool_limit: is less than {largest}, so a PDF or TIFF as large as that may be refused"


def _key_warnings(settings: Settings) -> Iterator[str]:
    if settings.keys and not settings.authentication.api_keys.enabled:
        yield "authentication.api_keys.enabled: is off, so no key of keys can be used"
    for i, key in enumerate(settings.keys):
        if key.secret.length < _SHORT_SECRET:
            yield f"keys[{i}].secret: is shorter than {_SHORT_SECRET} bytes; make one with: openssl rand -base64 32"
        if key.expires is not None and key.expires <= datetime.now(UTC):
            ended = f"{key.expires.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
            yield f"keys[{i}].expires: {ended} is over, so key {key.id} is refused"
        for scope in idle_scopes(key.scopes):
            yield f"keys[{i}].scopes: {scope} opens nothing; the only scope is admin"
    for name, entry in settings.authentication.certificates.names.items():
        for scope in idle_scopes(entry.scopes):
            yield f"authentication.certificates.names.{name}.scopes: {scope} opens nothing; the only scope is admin"


def _route_warnings(settings: Settings) -> Iterator[str]:
    for i, route in enumerate(settings.routes):
        if route.access is Access.ANYONE and route.kind is not Kind.PLAIN:
            yield f"routes[{i}].access: anyone may use {route.name} without a key"
    for place, name, path in unread(settings.model_dump(mode="json", include={"routes", "jobs"})):
        yield f"{place}: nobody can read the jobs of {name}: no route of kind result takes GET {path}"
    for alias, target in settings.aliases.items():
        if not any(may_begin(route.path, target) for route in settings.routes):
            yield f"aliases.{alias}: leads to {target}, where no route is"


def _webhook_warnings(settings: Settings) -> Iterator[str]:
    out = settings.webhooks.out
    if out.allow and not out.is_on:  # a default_url is allowed, too
        yield "webhooks.out.secret: is not set, nor secrets, so no webhook is sent"
    seen = dict[bytes, int]()
    for i, received in enumerate(settings.webhooks.in_):
        values = {secret.value for secret in (received.secret, received.previous_secret) if secret is not None}
        shared = min((seen[value] for value in values if value in seen), default=None)
        if shared is not None:
            told = f"is that of webhooks.in[{shared}], too, so a message to one can be sent to the other again"
            yield f"webhooks.in[{i}].secret: {told}"
        seen |= dict.fromkeys(values - seen.keys(), i)
