"""The caller: a peer, its certificate, its address, its identity and its limits."""

from dataclasses import dataclass, field, fields
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final

from gateway.model.networks import Networks


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """The names in a client certificate signed by tls.client_ca: subjectAltName, and the subject's CN.

    `not_after` is when it ends, in seconds since the epoch; `chain` has the SHA-256 digests of the certificates by
    which it was verified, its own and the CA's among them. Neither counts when certificates are compared.
    """

    uri: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    email: tuple[str, ...] = ()
    cn: tuple[str, ...] = ()
    not_after: float | None = field(default=None, compare=False)
    chain: frozenset[bytes] = field(default=frozenset(), compare=False)


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of the connection, according to the kernel or a trusted PROXY header.

    `certificate` is what it showed in the TLS handshake, verified; None if it showed none. One that
    `speaks_for_itself` began with a PROXY header without an address: it is the client, whatever is claimed after that
    header. `named_by` is the proxy whose PROXY header named this address; None: the kernel did.
    """

    ip: IPv4Address | IPv6Address
    port: int
    certificate: ClientCertificate | None = None
    speaks_for_itself: bool = False
    named_by: IPv4Address | IPv6Address | None = None

    def with_certificate(self, certificate: ClientCertificate | None) -> "Peer":
        """The same peer as one that showed this; `replace` takes twice as long, and thousands may lose theirs."""
        return Peer(self.ip, self.port, certificate, self.speaks_for_itself, self.named_by)

    def is_proxy(self, trusted: Networks) -> bool:
        """Whether it is a trusted proxy, whose headers about the client we believe."""
        return not self.speaks_for_itself and self.address(trusted) in trusted

    def address(self, trusted: Networks) -> IPv4Address | IPv6Address:
        """Its address: that of the proxy that named it, where that is trusted no more."""
        return self.ip if self.named_by is None or self.named_by in trusted else self.named_by


@dataclass(frozen=True, slots=True)
class Profile:
    """Limits as data, shared by the keys that name the profile; each account has them for itself.

    `body_limit` is in bytes, `spend_per_month` in millionths of the currency of the prices; None is no limit.
    `networks` and `routes` restrict where and for what its keys may be used; empty: everywhere, for everything.
    """

    name: str
    body_limit: int
    requests_per_minute: int = 200
    polls_per_minute: int = 6000
    concurrent_requests: int = 400
    concurrent_downloads: int = 100
    pages_in_flight: int = 20_000
    pages_per_request: int = 5000
    pages_per_day: int | None = None
    pages_per_month: int | None = None
    requests_per_day: int | None = None
    requests_per_month: int | None = None
    spend_per_month: int | None = None
    soft_limit: float = 0.8
    needs_page_range: bool = False
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    routes: frozenset[str] = frozenset()

    @property
    def has_budgets(self) -> bool:
        """Whether any of its limits is for a day or a month."""
        return not (
            self.pages_per_day is None
            and self.pages_per_month is None
            and self.requests_per_day is None
            and self.requests_per_month is None
            and self.spend_per_month is None
        )


_LIMITS: Final = {
    limit.name: limit.default for limit in fields(Profile) if limit.name not in {"name", "networks", "routes"}
}


def is_override(name: str, value: Any) -> bool:
    """Whether this is a limit of a profile and a value that it can have; other releases may know others."""
    if name not in _LIMITS:
        return False
    default = _LIMITS[name]
    if value is None:
        return default is None
    return isinstance(value, int | float) and isinstance(value, bool) == isinstance(default, bool)


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller: an id that logs may show, an owner that jobs belong to, and what it may do.

    `key_id` is the id of a key, or the owner of a token or certificate. Limits are counted by `account`: `key:<id>`
    for a key, else the owner. Owners are namespaced (`key:`, `jwt:`, `cert:`), so that a chosen name can't give
    access to another's jobs. `expires_at` is in seconds since the epoch; `replaced_until`, of a secret that ends
    because its key has a newer one, until when that one works. `label` shows the metrics how the caller was
    authenticated: (method, result), words of closed sets.
    """

    key_id: str
    owner: str
    profile: Profile
    scopes: frozenset[str] = frozenset()
    label: tuple[str, str] = ("api_key", "accepted")
    account: str = ""
    generation: int = 0
    expires_at: float | None = None
    replaced_until: float | None = None
