"""Who calls: a peer, his certificate, his address, his identity and its limits."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from gateway.model.networks import Networks


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """The names in a client certificate that tls.client_ca has signed: its subjectAltName, its subject's CN.

    `not_after` is when it ends, in seconds since the epoch; it makes no other bearer of one.
    """

    uri: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    email: tuple[str, ...] = ()
    cn: tuple[str, ...] = ()
    not_after: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom the kernel (or a trusted PROXY header) says is at the other end of the connection.

    `certificate` is what it showed in the handshake, verified; None when it showed none. One that `speaks_for_itself`
    began with a PROXY header that names nobody: it is the client, whatever is claimed behind that header.
    """

    ip: IPv4Address | IPv6Address
    port: int
    certificate: ClientCertificate | None = None
    speaks_for_itself: bool = False

    def is_proxy(self, trusted: Networks) -> bool:
        """Whether it is believed whom its requests are from."""
        return not self.speaks_for_itself and self.ip in trusted


@dataclass(frozen=True, slots=True)
class ClientAddress:
    """Whom we believe the request comes from, and which evidence says so (peer, x-forwarded-for, forwarded)."""

    ip: IPv4Address | IPv6Address
    via: str


@dataclass(frozen=True, slots=True)
class Profile:
    """Limits as data, shared by the keys that name it; each account has them for itself.

    `body_limit` is in bytes, `spend_per_month` in millionths of the currency that prices are in; None is no limit.
    `networks` and `routes` are where and for what its keys may be used; empty: everywhere, for everything.
    """

    name: str
    body_limit: int
    requests_per_minute: int = 200
    polls_per_minute: int = 6000
    concurrent_requests: int = 400
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


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls: an id that logs may show, an owner that jobs belong to, and what it may do.

    `key_id` is the id of a key, or the owner of who came with a token or a certificate. `account` is what limits are
    counted by: `key:<id>` for a key, else the owner. Owners are namespaced (`key:`, `jwt:`, `cert:`), so that nobody
    comes to another's jobs by a chosen name. `expires_at` is in seconds since the epoch. `label` says for the metrics
    how it was found: (method, result), words of closed sets.
    """

    key_id: str
    owner: str
    profile: Profile
    scopes: frozenset[str] = frozenset()
    label: tuple[str, str] = ("api_key", "accepted")
    account: str = ""
    generation: int = 0
    expires_at: float | None = None
