"""What a configuration means, compiled once: immutable, looked at by every request, swapped whole on reload."""

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from gateway.auth.api_keys import Key
from gateway.auth.certificates import CertificateRules, compile_certificate_rules
from gateway.auth.jwt.cache import TokenCache
from gateway.auth.jwt.claims import Issuer
from gateway.auth.jwt.key_set import KeySet
from gateway.auth.jwt.tokens import compile_issuers
from gateway.auth.keyring import Keyring, profile_for
from gateway.config.settings import (
    KeySettings,
    LimitOverrides,
    ProfileSettings,
    RouteSettings,
    Settings,
    ShapeSettings,
    Upstream,
)
from gateway.http.public_origin import Origins
from gateway.limits.buckets import Rate, per_minute
from gateway.limits.prices import MILLION, Pricing, make_pricing
from gateway.model.networks import Networks
from gateway.model.request import Access, Identity, Kind, Profile, Route
from gateway.policy.routes import Routes, Rule, compile_pattern
from gateway.uploads.form import FormRules
from gateway.upstream.job_api import DeleteCall, JobShape

WEBHOOKS = Rule(Route("webhooks", Kind.PLAIN, Access.ANYONE, is_ours=True), frozenset({"POST"}),
                compile_pattern("/gateway/v1/webhooks/{name}"), None, Networks())  # fmt: skip
ME = Rule(Route("me", Kind.PLAIN, Access.KEY, is_ours=True), frozenset({"GET", "HEAD"}),
          compile_pattern("/gateway/v1/me"), None, Networks())  # fmt: skip
# As Datalab's cloud has them. They stand behind the file's own routes, one of which may lead to the container's.
HEALTHS = [Rule(Route(f"cloud_{name}", Kind.PLAIN, access, is_ours=True), frozenset({"GET", "HEAD"}),
                compile_pattern(f"/api/v1/{name}"), None, Networks())
           for name, access in (("health", Access.ANYONE), ("user_health", Access.KEY))]  # fmt: skip
ALIVE = frozenset(rule.route for rule in HEALTHS)


@dataclass(frozen=True, slots=True)
class Pace:
    """Deadlines and rates of the public listener that a reload may change; seconds, and bytes a second."""

    handshake: float
    head: float
    idle: float
    lifetime: float
    body_idle: float
    send_idle: float
    min_rate: int
    max_connections: int
    max_connections_per_address: int


@dataclass(frozen=True, slots=True)
class UpstreamTarget:
    """Where requests go and how long they may take; seconds."""

    scheme: str
    host: str
    port: int
    authority: str
    connect_timeout: float
    read_timeout: float
    idle_timeout: float
    health_path: str
    health_timeout: float


@dataclass(frozen=True, slots=True)
class State:
    """One compiled configuration, the ledger's keys and the issuers' as they were when it was made.

    A request takes it once and keeps it to its end. Whatever changes makes another State, so that nothing that was
    concluded from the old one (connections' passages, verified tokens) outlives it.
    """

    settings: Settings
    allow: Networks
    trusted_proxies: Networks
    routes: Routes
    api_keys_enabled: bool
    keys: Mapping[bytes, Key]
    ring: Keyring
    issuers: Mapping[str, Issuer]
    tokens: TokenCache
    certificates: CertificateRules | None
    needs_certificate: bool
    profiles: Mapping[str, Profile]
    pricing: Pricing
    form_rules: FormRules
    reservation_ttl: float
    anonymous: Profile
    bad_logins: Rate
    origins: Origins
    pace: Pace
    upstreams: Mapping[str, UpstreamTarget]
    shapes: Mapping[str, JobShape]


class Live:
    """The one reference to the State in force, and whether the process is on its way out.

    A request reads the state once; only a reload that succeeded writes it.
    """

    __slots__ = ("is_draining", "state")

    def __init__(self, state: State) -> None:
        self.state = state
        self.is_draining = False


def compile_settings(settings: Settings) -> State:
    """Makes the State of a valid configuration; does no I/O and can't fail."""
    profiles = {name: compile_profile(name, profile) for name, profile in settings.profiles.items()}
    keys = [_key(key, profiles) for key in settings.keys if not key.disabled]
    authentication = settings.authentication
    return State(
        settings=settings,
        allow=Networks(settings.network.allow),
        trusted_proxies=Networks(settings.network.trusted_proxies),
        routes=Routes([*_own_rules(settings), *map(_rule, settings.routes), *HEALTHS], settings.aliases),
        api_keys_enabled=authentication.api_keys.enabled,
        keys={key.digest: key for key in keys},
        ring=Keyring(profiles),
        issuers=compile_issuers(authentication.jwt, {}),
        tokens=TokenCache(),
        certificates=compile_certificate_rules(authentication.certificates, profiles),
        needs_certificate=settings.tls.client_certificates == "required",
        profiles=profiles,
        pricing=_pricing(settings),
        form_rules=_form_rules(settings),
        reservation_ttl=settings.ledger.reservation_ttl,
        anonymous=profiles["default"],
        bad_logins=per_minute(settings.network.login_failures_per_minute),
        origins=_origins(settings),
        pace=_pace(settings),
        upstreams={name: _target(upstream) for name, upstream in _upstreams(settings).items()},
        shapes={name: compile_shape(name, shape) for name, shape in settings.jobs.shapes.items()},
    )


def routed_upstreams(state: State) -> dict[str, UpstreamTarget]:
    """The upstreams that a route goes to, `default` first."""
    named = {route.upstream for route in state.settings.routes}
    return {name: target for name, target in state.upstreams.items() if name in named}


def compile_shape(name: str, settings: ShapeSettings) -> JobShape:
    """Makes what a job is."""
    status, delete = settings.status, settings.delete
    return JobShape(
        name=name,
        id_member=settings.id,
        id_pattern=None if settings.id_pattern is None else re.compile(settings.id_pattern),
        check_url_member=settings.check_url,
        read=settings.read,
        status_member=status.member,
        processing=_words(status.processing),
        complete=_words(status.complete),
        failed=_words(status.failed),
        success_member=settings.success,
        pages_member=settings.pages,
        delete=None if delete is None else DeleteCall(delete.method, delete.path, delete.body),
        page_fields=frozenset(settings.page_fields),
        checkpoint_field=settings.checkpoint_field,
        checkpoint_member=settings.checkpoint_member,
        options_field=settings.options_field,
        result=settings.result,
    )


def with_names(state: State, names: Iterable[str]) -> State:
    """The same configuration with the names that its certificates are for."""
    return replace(state, origins=state.origins.named(names))


def _origins(settings: Settings) -> Origins:
    hosts = [route.host for route in settings.routes if route.host is not None]
    origins = Origins(settings.public_url, port=settings.listen.port, signs=settings.webhooks.out.is_on)
    return origins.named(hosts)


def _words(words: Iterable[str]) -> frozenset[str]:
    return frozenset(word.casefold() for word in words)


def _upstreams(settings: Settings) -> dict[str, Upstream]:
    return {"default": settings.upstream, **settings.upstreams}


def with_ring(state: State, ring: Keyring) -> State:
    """The same configuration with the ledger's keys as they are now."""
    return replace(state, ring=ring.under(state.profiles))


def profile_of(state: State, account: str) -> Profile | None:
    """The limits of a key's account; None for an account of nobody we know."""
    key_id = account.removeprefix("key:")
    record = state.ring.records.get(key_id)
    if record is not None:
        return profile_for(record, state.profiles)
    return next((key.identity.profile for key in state.keys.values() if key.identity.key_id == key_id), None)


def clashes(state: State, ids: Iterable[str]) -> list[str]:
    """Ids of ledger keys that the configuration has, too."""
    return sorted({key.id for key in state.settings.keys} & set(ids))


def with_issuers_keys(state: State, keys: Mapping[str, KeySet]) -> State:
    """The same configuration with the keys of token issuers as they are now; no verified token outlives that."""
    issuers = compile_issuers(state.settings.authentication.jwt, keys)
    return replace(state, issuers=issuers, tokens=TokenCache())


def compile_profile(name: str, settings: ProfileSettings) -> Profile:
    """Makes the limits of a profile."""
    limits = {field: getattr(settings, field) for field in ProfileSettings.model_fields}
    networks, routes = tuple(limits.pop("networks")), frozenset(limits.pop("routes"))
    return Profile(name, **_in_units(limits), networks=networks, routes=routes)


def compile_overrides(overrides: LimitOverrides) -> dict[str, Any]:
    """Makes what differs from a profile, by the names of Profile's fields."""
    return _in_units(overrides.given())


def _in_units(limits: dict[str, Any]) -> dict[str, Any]:
    """Limits by the names, and in the units, of Profile."""
    if limits.get("spend_per_month") is not None:
        limits["spend_per_month"] = int(limits["spend_per_month"] * MILLION)
    if "page_range" in limits:
        limits["needs_page_range"] = limits.pop("page_range") == "required"
    return limits


def _pricing(settings: Settings) -> Pricing:
    prices = settings.prices
    return make_pricing({str(mode): price for mode, price in prices.per_1000_pages.items()}, prices.default_mode)


def _own_rules(settings: Settings) -> list[Rule]:
    return [ME, WEBHOOKS] if settings.webhooks.in_ else [ME]


def _form_rules(settings: Settings) -> FormRules:
    """webhook_url is taken out where the gateway sends webhooks itself; its secret is for the container never."""
    body, sends = settings.body, settings.webhooks.out.is_on
    allowed = {"file_url": body.allow_file_url, "webhook_url": body.allow_webhook_url or sends}
    removed = {"webhook_url", "webhook_secret"} if sends or not body.allow_webhook_url else set[str]()
    refused = frozenset(name for name, is_allowed in allowed.items() if not is_allowed)
    like = re.compile("|".join(map(fnmatch.translate, body.refused_fields))) if body.refused_fields else None
    return FormRules(refused, frozenset(removed) - refused, refused_like=like)


def _key(key: KeySettings, profiles: Mapping[str, Profile]) -> Key:
    identity = Identity(
        key_id=key.id,
        owner=f"key:{key.owner or key.id}",
        profile=replace(profiles[key.profile], **compile_overrides(key.limits)),
        scopes=frozenset(key.scopes),
        account=f"key:{key.id}",
        expires_at=key.expires.timestamp() if key.expires else None,
    )
    return Key(key.secret.digest, identity, Networks(key.networks))


def _rule(route: RouteSettings) -> Rule:
    return Rule(
        route=Route(
            route.name,
            route.kind,
            route.access,
            upstream=route.upstream,
            job=route.job,
            id_in=route.id.place,
            id_name=route.id.name,
            rewrites=route.rewrite_urls,
        ),
        methods=_methods(route),
        pattern=compile_pattern(route.path),
        host=route.host,
        networks=Networks(route.networks),
    )


def _methods(route: RouteSettings) -> frozenset[str]:
    """RFC 9110 9.3.2: HEAD is GET without the content. But where a GET starts or ends a job, it is not asked for."""
    takes_head = "GET" in route.methods and route.kind not in {Kind.SUBMIT, Kind.DELETE}
    return frozenset(route.methods) | ({"HEAD"} if takes_head else set())


def _pace(settings: Settings) -> Pace:
    listen = settings.listen
    return Pace(
        handshake=listen.handshake_timeout,
        head=listen.head_timeout,
        idle=listen.idle_timeout,
        lifetime=listen.connection_lifetime,
        body_idle=listen.body_idle_timeout,
        send_idle=listen.send_idle_timeout,
        min_rate=listen.body_min_rate,
        max_connections=listen.max_connections,
        max_connections_per_address=listen.max_connections_per_address,
    )


def _target(upstream: Upstream) -> UpstreamTarget:
    scheme, _, authority = upstream.url.partition("://")
    parts = urlsplit(upstream.url)
    return UpstreamTarget(
        scheme=scheme,
        host=parts.hostname or "",
        port=parts.port or {"http": 80, "https": 443}[scheme],
        authority=authority,
        connect_timeout=upstream.connect_timeout,
        read_timeout=upstream.read_timeout,
        idle_timeout=upstream.idle_timeout,
        health_path=upstream.health_path,
        health_timeout=upstream.health_timeout,
    )
