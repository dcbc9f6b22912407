"""A compiled configuration: immutable, read by every request, swapped as a whole on reload."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from gateway.auth.api_keys import ApiKey
from gateway.auth.certificates import CertificateRules
from gateway.auth.jwt.cache import TokenCache
from gateway.auth.jwt.claims import Issuer
from gateway.auth.keyring import Keyring, profile_for
from gateway.config.settings import Settings
from gateway.http.public_origin import Origins
from gateway.limits.buckets import Rate
from gateway.limits.prices import Pricing
from gateway.model.account_names import unqualified
from gateway.model.identity import Profile
from gateway.model.networks import Networks
from gateway.policy.routes import Routes
from gateway.uploads.form import FormRules
from gateway.upstream.job_api import JobShape
from gateway.upstream.target import UpstreamTarget


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
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
class State:
    """One compiled configuration, with the keys of the ledger and the issuers as of when it was made.

    `blocked` are accounts of tokens and certificates that an administrator has blocked; None while that is not known.

    A request takes it once and keeps it to its end. Every change makes a new State, so that nothing derived from the
    old one (prepared requests, verified tokens) outlives it.
    """

    settings: Settings
    allow: Networks
    trusted_proxies: Networks
    routes: Routes
    api_keys_enabled: bool
    keys: Mapping[bytes, ApiKey]
    key_profiles: Mapping[str, Profile]
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
    pace: ConnectionLimits
    upstreams: Mapping[str, UpstreamTarget]
    shapes: Mapping[str, JobShape]
    blocked: frozenset[str] | None = frozenset()


class Live:
    """The one reference to the State in force, and whether the process is draining.

    A request reads the state once. Each change puts a new one here, whole: a reload (app/configuration_swap.py), and
    what the ledger says anew of keys and blocks, or an issuer of its keys (app/ledger_parts.py).
    """

    __slots__ = ("is_draining", "state")

    def __init__(self, state: State) -> None:
        self.state = state
        self.is_draining = False


def routed_upstreams(state: State) -> dict[str, UpstreamTarget]:
    """The upstreams that routes go to, `default` first."""
    named = {route.upstream for route in state.settings.routes}
    return {name: target for name, target in state.upstreams.items() if name in named}


def with_names(state: State, names: Iterable[str]) -> State:
    """The same configuration with the host names of its certificates."""
    return replace(state, origins=state.origins.with_names(names))


def with_ring(state: State, ring: Keyring) -> State:
    """The same configuration with the ledger's current keys."""
    return replace(state, ring=ring.under(state.profiles))


def with_blocked(state: State, accounts: frozenset[str] | None) -> State:
    """The same configuration with the accounts of tokens and certificates that are blocked now."""
    return state if accounts == state.blocked else replace(state, blocked=accounts)


def profile_of(state: State, account: str) -> Profile | None:
    """The limits of a key's account; None for an unknown account."""
    key_id = unqualified(account)
    record = state.ring.records.get(key_id)
    if record is not None:
        return profile_for(record, state.profiles)
    return state.key_profiles.get(key_id)


def clashes(state: State, ids: Iterable[str]) -> list[str]:
    """Ids of ledger keys that the configuration has, too."""
    return sorted({key.id for key in state.settings.keys} & set(ids))
