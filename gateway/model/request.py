"""The nouns that all rooms speak in: frozen values, standard library only.

Nothing here knows a socket, a clock or a file. A noun that a stage of the way of a request makes is an
argument of the next one, so what a stage may rely on can be read from its signature.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple


class Source(StrEnum):
    """Who is to blame for an outcome; it picks the log level and the side that has to act."""

    CLIENT = "client"
    GATEWAY = "gateway"
    UPSTREAM = "upstream"


class Reason(StrEnum):
    """The one closed vocabulary: what the answer, the log, the metric and the tests call an outcome."""

    FORWARDED = "forwarded"
    ANSWERED = "answered"
    TRAILING_SLASH = "trailing_slash"
    BAD_REQUEST = "bad_request"
    BODY_MALFORMED = "body_malformed"
    BAD_PAGE_RANGE = "bad_page_range"
    UNAUTHENTICATED = "unauthenticated"
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 -- a reason
    TOKEN_INVALID = "token_invalid"  # noqa: S105 -- a reason
    ADDRESS_DENIED = "address_denied"
    FORBIDDEN = "forbidden"
    BUDGET_EXHAUSTED = "budget_exhausted"
    ROUTE_NOT_FOUND = "route_not_found"
    JOB_NOT_FOUND = "job_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    HEAD_TOO_SLOW = "head_too_slow"
    BODY_TOO_SLOW = "body_too_slow"
    BODY_TOO_LARGE = "body_too_large"
    TOO_MANY_PAGES = "too_many_pages"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    EXPECTATION_FAILED = "expectation_failed"
    FIELD_REFUSED = "field_refused"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_REQUESTS_IN_FLIGHT = "too_many_requests_in_flight"
    TOO_MANY_PAGES_IN_FLIGHT = "too_many_pages_in_flight"
    TOO_MANY_BAD_LOGINS = "too_many_bad_logins"
    MISDIRECTED = "misdirected"
    HEADERS_TOO_LARGE = "headers_too_large"
    VERSION_NOT_SUPPORTED = "version_not_supported"
    CLIENT_GONE = "client_gone"
    CLIENT_TOO_SLOW = "client_too_slow"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    UPSTREAM_BROKE_OFF = "upstream_broke_off"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    LEDGER_UNAVAILABLE = "ledger_unavailable"
    SPOOL_FULL = "spool_full"
    NO_ROOM = "no_room"
    OUT_OF_FILES = "out_of_files"
    INTERNAL = "internal"

    # Enum's own hash is a Python function, and a reason is looked up several times for each request.
    __hash__ = str.__hash__


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reason looks like from outside: its status, its title and who is to blame."""

    status: int
    title: str
    source: Source


_CLIENT, _GATEWAY, _UPSTREAM = Source.CLIENT, Source.GATEWAY, Source.UPSTREAM

# The title is also the reason phrase of the status line: short ASCII, for the SDK shows its user nothing else.
VERDICTS: Mapping[Reason, Verdict] = {
    Reason.ANSWERED: Verdict(200, "Answered by the gateway", _GATEWAY),
    Reason.TRAILING_SLASH: Verdict(307, "See the path without the slash", _CLIENT),
    Reason.BAD_REQUEST: Verdict(400, "Malformed request", _CLIENT),
    Reason.BODY_MALFORMED: Verdict(400, "Malformed request body", _CLIENT),
    Reason.BAD_PAGE_RANGE: Verdict(400, "Malformed page range", _CLIENT),
    Reason.UNAUTHENTICATED: Verdict(401, "No valid credential", _CLIENT),
    Reason.TOKEN_EXPIRED: Verdict(401, "Token expired", _CLIENT),
    Reason.TOKEN_INVALID: Verdict(401, "Token not valid here", _CLIENT),
    Reason.ADDRESS_DENIED: Verdict(403, "Address not allowed", _CLIENT),
    Reason.FORBIDDEN: Verdict(403, "Not permitted for this key", _CLIENT),
    Reason.BUDGET_EXHAUSTED: Verdict(403, "Budget used up", _CLIENT),
    Reason.ROUTE_NOT_FOUND: Verdict(404, "No such route", _CLIENT),
    Reason.JOB_NOT_FOUND: Verdict(404, "No such job", _CLIENT),
    Reason.METHOD_NOT_ALLOWED: Verdict(405, "Method not allowed", _CLIENT),
    Reason.HEAD_TOO_SLOW: Verdict(408, "Request head too slow", _CLIENT),
    Reason.BODY_TOO_SLOW: Verdict(408, "Request body too slow", _CLIENT),
    Reason.BODY_TOO_LARGE: Verdict(413, "Request body too large", _CLIENT),
    Reason.TOO_MANY_PAGES: Verdict(413, "Too many pages for one request", _CLIENT),
    Reason.UNSUPPORTED_MEDIA_TYPE: Verdict(415, "Unsupported media type", _CLIENT),
    Reason.EXPECTATION_FAILED: Verdict(417, "Expectation failed", _CLIENT),
    Reason.FIELD_REFUSED: Verdict(422, "Form field refused", _CLIENT),
    Reason.MISDIRECTED: Verdict(421, "Misdirected request", _CLIENT),
    Reason.RATE_LIMITED: Verdict(429, "Too many requests", _CLIENT),
    Reason.TOO_MANY_REQUESTS_IN_FLIGHT: Verdict(429, "Too many requests in flight", _CLIENT),
    Reason.TOO_MANY_PAGES_IN_FLIGHT: Verdict(429, "Too many pages in flight", _CLIENT),
    Reason.TOO_MANY_BAD_LOGINS: Verdict(429, "Too many bad logins", _CLIENT),
    Reason.HEADERS_TOO_LARGE: Verdict(431, "Request headers too large", _CLIENT),
    Reason.CLIENT_GONE: Verdict(499, "Client gone", _CLIENT),
    Reason.CLIENT_TOO_SLOW: Verdict(499, "Client reads too slowly", _CLIENT),
    Reason.INTERNAL: Verdict(500, "Internal error of the gateway", _GATEWAY),
    Reason.UPSTREAM_UNREACHABLE: Verdict(502, "Upstream unreachable", _UPSTREAM),
    Reason.UPSTREAM_BROKE_OFF: Verdict(502, "Upstream broke off", _UPSTREAM),
    Reason.LEDGER_UNAVAILABLE: Verdict(503, "Ledger unavailable", _GATEWAY),
    Reason.SPOOL_FULL: Verdict(503, "No room to count pages", _GATEWAY),
    Reason.NO_ROOM: Verdict(503, "No room for this body", _GATEWAY),
    Reason.OUT_OF_FILES: Verdict(503, "No file descriptors left", _GATEWAY),
    Reason.UPSTREAM_TIMEOUT: Verdict(504, "Upstream timed out", _UPSTREAM),
    Reason.VERSION_NOT_SUPPORTED: Verdict(505, "HTTP version not supported", _CLIENT),
}


class Access(StrEnum):
    """What a route asks of its caller."""

    ANYONE = "anyone"
    KEY = "key"
    ADMIN = "admin"


class Kind(StrEnum):
    """What a route is for: a submit starts a job, a result reads it, an asset belongs to it, a delete ends it."""

    SUBMIT = "submit"
    RESULT = "result"
    ASSET = "asset"
    DELETE = "delete"
    PLAIN = "plain"

    @property
    def is_of_a_job(self) -> bool:
        """Whether a request names a job, which has to be its caller's."""
        return self in _OF_A_JOB

    __hash__ = str.__hash__  # as for Reason


_OF_A_JOB = frozenset({Kind.RESULT, Kind.ASSET, Kind.DELETE})


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

    `certificate` is what it showed in the handshake, verified; None when it showed none.
    """

    ip: IPv4Address | IPv6Address
    port: int
    certificate: ClientCertificate | None = None


@dataclass(frozen=True, slots=True)
class ClientAddress:
    """Whom we believe the request comes from, and which evidence says so (peer, x-forwarded-for, forwarded)."""

    ip: IPv4Address | IPv6Address
    via: str


@dataclass(frozen=True, slots=True)
class Fields:
    """What the headers of a request say, after every check that needs no configuration.

    `known` holds the values of the headers we rely on, by lower-case name, in the order sent; `kept` the pairs
    that may go upstream as they came. `content_length` is None when the body is chunked or there is none.
    """

    host: str
    known: Mapping[bytes, list[bytes]]
    kept: list[tuple[bytes, bytes]]
    content_length: int | None
    chunked: bool
    expects_continue: bool
    keep_alive: bool
    http_1_1: bool

    @property
    def has_body(self) -> bool:
        """Whether body bytes follow the head."""
        return self.chunked or bool(self.content_length)


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


@dataclass(frozen=True, slots=True)
class Denial:
    """A refusal as a value: why, a sentence for the caller, and the headers that belong to it.

    `retry_after` is in whole seconds; `allow` holds the methods of a 405. `title` stands for the reason's own where
    it can say more ("Page budget used up until 2026-12-01"): short ASCII. `lines` are whole header lines.
    """

    reason: Reason
    detail: str
    retry_after: int | None = None
    allow: tuple[str, ...] = ()
    title: str | None = None
    lines: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the default-deny table, compiled. `label` is what metrics and logs call it.

    `is_ours` says that the gateway answers itself. `job` names the shape of its jobs; `id_in` (path, query or body)
    and `id_name` say where a request for one names it. `rewrites`: the upstream's own URLs in answers become ours.
    """

    label: str
    kind: Kind
    access: Access
    upstream: str = "default"
    is_ours: bool = False
    job: str = "default"
    id_in: str = "path"
    id_name: str = "request_id"
    rewrites: bool = False


class Permit(NamedTuple):
    """Proof that a request passed every rule; forwarding accepts nothing else.

    `path` is the path to send upstream: the very bytes that were matched. `body_limit` is in bytes. `account` is what
    limits are counted by, without an identity, too; `request_id` is the job's, where the route reads one.
    """

    route: Route
    path: str
    client: ClientAddress
    identity: Identity | None
    body_limit: int
    account: str
    profile: Profile
    request_id: str | None = None


class Trace(NamedTuple):
    """What identifies a request across hops: our request id and the W3C trace context to pass on."""

    request_id: bytes
    traceparent: bytes
    tracestate: bytes | None


@dataclass(slots=True)
class Delivery:
    """What forwarding did for one request: times in seconds of the loop's clock, sizes of bodies in bytes.

    `status` is 0 until an answer's head was written to the client; `is_final` says that it told of a job's end, and
    `is_unfinished` that it was looked at whole and told that the job still runs.
    `held` is how long the request waited for that end, as its client wished.
    """

    connection: str | None = None
    retried: bool = False
    started: float | None = None
    ended: float | None = None
    status: int = 0
    received: int = 0
    sent: int = 0
    is_final: bool = False
    is_unfinished: bool = False
    held: float = 0.0


@dataclass(slots=True)
class Exchange:
    """The one mutable record of a request: only handler.py writes it, only observe reads it whole.

    Times are seconds of the loop's clock. `keep_alive` says that the head was sound and the connection may go on.
    """

    request_id: str
    started: float
    peer_ip: str
    client_ip: str
    method: str = "-"
    route: str = "unmatched"
    key_id: str | None = None
    authentication: tuple[str, str] | None = None
    status: int = 0
    reason: Reason = Reason.FORWARDED
    source: Source = Source.UPSTREAM
    detail: str | None = None
    trace: Trace | None = None
    keep_alive: bool = False
    delivery: Delivery | None = None
    ended: float = 0.0
