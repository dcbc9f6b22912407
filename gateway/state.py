"""What a configuration means, compiled once: immutable, looked at by every request, swapped whole on reload."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.auth.apikey import Key
from gateway.limits.buckets import Rate, per_minute
from gateway.model import Identity, Profile, Route
from gateway.networks import Networks
from gateway.policy import Routes, Rule, compile_pattern
from gateway.settings import KeySettings, RouteSettings, Settings


@dataclass(frozen=True, slots=True)
class Pace:
    """Deadlines and rates of the public listener that a reload may change; seconds, and bytes a second."""

    handshake: float
    head: float
    idle: float
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


@dataclass(frozen=True, slots=True)
class State:
    """One compiled configuration. A request takes it once and keeps it to its end."""

    settings: Settings
    allow: Networks
    trusted_proxies: Networks
    routes: Routes
    api_keys_enabled: bool
    keys: Mapping[bytes, Key]
    anonymous: Profile
    bad_logins: Rate
    public_url: str | None
    pace: Pace
    upstreams: Mapping[str, UpstreamTarget]


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
    profiles = {name: Profile(name, profile.body_limit) for name, profile in settings.profiles.items()}
    keys = [_key(key, profiles) for key in settings.keys]
    return State(
        settings=settings,
        allow=Networks(settings.network.allow),
        trusted_proxies=Networks(settings.network.trusted_proxies),
        routes=Routes(map(_rule, settings.routes), settings.aliases),
        api_keys_enabled=settings.authentication.api_keys.enabled,
        keys={key.digest: key for key in keys},
        anonymous=profiles["default"],
        bad_logins=per_minute(settings.network.login_failures_per_minute),
        public_url=settings.public_url,
        pace=_pace(settings),
        upstreams={"default": _target(settings)},
    )


def _key(key: KeySettings, profiles: Mapping[str, Profile]) -> Key:
    owner = f"key:{key.owner or key.id}"
    identity = Identity(key.id, owner, profiles[key.profile], frozenset(key.scopes))
    return Key(key.secret.digest, identity, Networks(key.networks))


def _rule(route: RouteSettings) -> Rule:
    return Rule(
        route=Route(route.name, route.kind, route.access),
        methods=frozenset(route.methods),
        pattern=compile_pattern(route.path),
        host=route.host,
        networks=Networks(route.networks),
    )


def _pace(settings: Settings) -> Pace:
    listen = settings.listen
    return Pace(
        handshake=listen.handshake_timeout,
        head=listen.head_timeout,
        idle=listen.idle_timeout,
        body_idle=listen.body_idle_timeout,
        send_idle=listen.send_idle_timeout,
        min_rate=listen.body_min_rate,
        max_connections=listen.max_connections,
        max_connections_per_address=listen.max_connections_per_address,
    )


def _target(settings: Settings) -> UpstreamTarget:
    upstream = settings.upstream
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
    )
