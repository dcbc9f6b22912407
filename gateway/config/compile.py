"""Compiles settings into a State: pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from gateway.auth.api_keys import ApiKey
from gateway.auth.certificates import CertificateRules, folded, identity_named
from gateway.auth.jwt.cache import TokenCache
from gateway.auth.jwt.claims import Issuer
from gateway.auth.jwt.key_set import KeySet
from gateway.auth.keyring import Keyring
from gateway.config.own_routes import HEALTHS, ME, WEBHOOKS
from gateway.config.settings import (
    JwtIssuer,
    KeySettings,
    LimitOverrides,
    ProfileSettings,
    RouteSettings,
    Settings,
    ShapeSettings,
    Upstream,
)
from gateway.config.settings.access import CertificateIdentity
from gateway.config.state import ConnectionLimits, State
from gateway.http.public_origin import Origins
from gateway.limits.buckets import per_minute
from gateway.limits.job_cost import FailedCosts
from gateway.limits.prices import MILLION, Pricing, make_pricing
from gateway.model.account_names import key_account
from gateway.model.identity import Identity, Profile
from gateway.model.networks import Networks
from gateway.model.routes import Kind, Route
from gateway.policy.routes import Routes, Rule, compile_pattern
from gateway.uploads.form import FormRules
from gateway.uploads.name_patterns import compile_patterns
from gateway.upstream.job_api import DeleteCall, JobShape
from gateway.upstream.target import UpstreamTarget


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
        key_profiles={key.identity.key_id: key.identity.profile for key in keys},
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


def compile_shape(name: str, settings: ShapeSettings) -> JobShape:
    """Makes a JobShape."""
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
        failed_costs=FailedCosts.IF_TAKEN if settings.failed_costs is None else FailedCosts(settings.failed_costs),
        page_fields=frozenset(settings.page_fields),
        checkpoint_field=settings.checkpoint_field,
        checkpoint_member=settings.checkpoint_member,
        options_field=settings.options_field,
        options_members=frozenset(settings.options_members),
        result=settings.result,
    )


def _upstreams(settings: Settings) -> dict[str, Upstream]:
    return {"default": settings.upstream, **settings.upstreams}


def with_issuers_keys(state: State, keys: Mapping[str, KeySet]) -> State:
    """The same configuration with the current keys of token issuers, and an empty cache of verified tokens."""
    issuers = compile_issuers(state.settings.authentication.jwt, keys)
    return replace(state, issuers=issuers, tokens=TokenCache())


def compile_profile(name: str, settings: ProfileSettings) -> Profile:
    """Makes the limits of a profile."""
    limits = {field: getattr(settings, field) for field in ProfileSettings.model_fields}
    networks, routes = tuple(limits.pop("networks")), frozenset(limits.pop("routes"))
    return Profile(name, **_in_units(limits), networks=networks, routes=routes)


def compile_overrides(overrides: LimitOverrides) -> dict[str, Any]:
    """Makes the overrides of a profile, by the names of Profile's fields."""
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
    """Removes webhook_url when the gateway sends webhooks itself; webhook_secret unless webhook_url passes."""
    body, sends = settings.body, settings.webhooks.out.is_on
    allowed = {"file_url": body.allow_file_url, "webhook_url": body.allow_webhook_url or sends}
    removed = {"webhook_url", "webhook_secret"} if sends or not body.allow_webhook_url else set[str]()
    refused = frozenset(name for name, is_allowed in allowed.items() if not is_allowed)
    like = compile_patterns(pattern.replace(".", "_") for pattern in body.refused_fields)  # names are folded
    return FormRules(refused, frozenset(removed) - refused, refused_like=like)


def _key(key: KeySettings, profiles: Mapping[str, Profile]) -> ApiKey:
    identity = Identity(
        key_id=key.id,
        owner=key_account(key.owner or key.id),
        profile=replace(profiles[key.profile], **compile_overrides(key.limits)),
        scopes=frozenset(key.scopes),
        account=key_account(key.id),
        expires_at=key.expires.timestamp() if key.expires else None,
    )
    return ApiKey(key.secret.digest, identity, Networks(key.networks))


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


def _pace(settings: Settings) -> ConnectionLimits:
    listen = settings.listen
    return ConnectionLimits(
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


def compile_certificate_rules(
    settings: CertificateIdentity, profiles: Mapping[str, Profile]
) -> CertificateRules | None:
    """Makes the rules of a configuration; None when certificates are only a condition and give no identity."""
    kind = settings.identity
    if kind is None:
        return None
    names = {folded(kind, name): entry for name, entry in settings.names.items()}
    identities = {
        name: replace(identity_named(name, profiles[entry.profile]), scopes=frozenset(entry.scopes))
        for name, entry in names.items()
    }
    return CertificateRules(kind, profiles[settings.profile], identities)


def compile_issuers(issuers: Iterable[JwtIssuer], keys: Mapping[str, KeySet]) -> Mapping[str, Issuer]:
    """Makes the issuers of a valid configuration, by name; an issuer that `keys` lacks has no keys yet."""
    return {issuer.issuer: _compiled(issuer, keys.get(issuer.issuer)) for issuer in issuers}


def _compiled(issuer: JwtIssuer, keys: KeySet | None) -> Issuer:
    audience = [issuer.audience] if isinstance(issuer.audience, str) else issuer.audience
    return Issuer(
        name=issuer.issuer,
        audience=frozenset(audience),
        algorithms=frozenset(issuer.algorithms),
        leeway=issuer.leeway,
        owner_claim=issuer.owner_claim,
        profile_claim=issuer.profile_claim,
        profile=issuer.profile,
        required_claims=issuer.required_claims,
        required_scopes=frozenset(issuer.required_scopes),
        keys=keys,
    )


def _origins(settings: Settings) -> Origins:
    hosts = [route.host for route in settings.routes if route.host is not None]
    origins = Origins(settings.public_url, port=settings.listen.port, signs=settings.webhooks.out.is_on)
    return origins.with_names(hosts)


def _words(words: Iterable[str]) -> frozenset[str]:
    return frozenset(word.casefold() for word in words)


def _methods(route: RouteSettings) -> frozenset[str]:
    """RFC 9110 9.3.2: HEAD is GET without the content. Not allowed where a GET starts or ends a job."""
    takes_head = "GET" in route.methods and route.kind not in {Kind.SUBMIT, Kind.DELETE}
    return frozenset(route.methods) | ({"HEAD"} if takes_head else set())
