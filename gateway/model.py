"""The nouns that all rooms speak in: frozen values, standard library only.

Nothing here knows a socket, a clock or a file. A noun that a stage of the way of a request makes is an
argument of the next one, so what a stage may rely on can be read from its signature.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple


class Source(StrEnum):
    """Who is to blame for an outcome; it picks the log level and the side that has to act."""

    CLIENT = "client"
    GATEWAY = "gateway"
    UPSTREAM = "upstream"


class Reason(StrEnum):
    """The one closed vocabulary: what the answer, the log, the metric and the tests call an outcome."""

    FORWARDED = "forwarded"
    BAD_REQUEST = "bad_request"
    BODY_MALFORMED = "body_malformed"
    UNAUTHENTICATED = "unauthenticated"
    ADDRESS_DENIED = "address_denied"
    FORBIDDEN = "forbidden"
    ROUTE_NOT_FOUND = "route_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    HEAD_TOO_SLOW = "head_too_slow"
    BODY_TOO_SLOW = "body_too_slow"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    EXPECTATION_FAILED = "expectation_failed"
    TOO_MANY_BAD_LOGINS = "too_many_bad_logins"
    HEADERS_TOO_LARGE = "headers_too_large"
    VERSION_NOT_SUPPORTED = "version_not_supported"
    CLIENT_GONE = "client_gone"
    CLIENT_TOO_SLOW = "client_too_slow"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    UPSTREAM_BROKE_OFF = "upstream_broke_off"
    UPSTREAM_TIMEOUT = "upstream_timeout"
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
    Reason.BAD_REQUEST: Verdict(400, "Malformed request", _CLIENT),
    Reason.BODY_MALFORMED: Verdict(400, "Malformed request body", _CLIENT),
    Reason.UNAUTHENTICATED: Verdict(401, "No valid credential", _CLIENT),
    Reason.ADDRESS_DENIED: Verdict(403, "Address not allowed", _CLIENT),
    Reason.FORBIDDEN: Verdict(403, "Not permitted for this key", _CLIENT),
    Reason.ROUTE_NOT_FOUND: Verdict(404, "No such route", _CLIENT),
    Reason.METHOD_NOT_ALLOWED: Verdict(405, "Method not allowed", _CLIENT),
    Reason.HEAD_TOO_SLOW: Verdict(408, "Request head too slow", _CLIENT),
    Reason.BODY_TOO_SLOW: Verdict(408, "Request body too slow", _CLIENT),
    Reason.BODY_TOO_LARGE: Verdict(413, "Request body too large", _CLIENT),
    Reason.UNSUPPORTED_MEDIA_TYPE: Verdict(415, "Unsupported media type", _CLIENT),
    Reason.EXPECTATION_FAILED: Verdict(417, "Expectation failed", _CLIENT),
    Reason.TOO_MANY_BAD_LOGINS: Verdict(429, "Too many bad logins", _CLIENT),
    Reason.HEADERS_TOO_LARGE: Verdict(431, "Request headers too large", _CLIENT),
    Reason.CLIENT_GONE: Verdict(499, "Client gone", _CLIENT),
    Reason.CLIENT_TOO_SLOW: Verdict(499, "Client reads too slowly", _CLIENT),
    Reason.INTERNAL: Verdict(500, "Internal error of the gateway", _GATEWAY),
    Reason.UPSTREAM_UNREACHABLE: Verdict(502, "Upstream unreachable", _UPSTREAM),
    Reason.UPSTREAM_BROKE_OFF: Verdict(502, "Upstream broke off", _UPSTREAM),
    Reason.UPSTREAM_TIMEOUT: Verdict(504, "Upstream timed out", _UPSTREAM),
    Reason.VERSION_NOT_SUPPORTED: Verdict(505, "HTTP version not supported", _CLIENT),
}


class Access(StrEnum):
    """What a route asks of its caller."""

    ANYONE = "anyone"
    KEY = "key"
    ADMIN = "admin"


class Kind(StrEnum):
    """What a route is for: a submit starts a job, a result reads one, a plain route does neither."""

    SUBMIT = "submit"
    RESULT = "result"
    PLAIN = "plain"

    __hash__ = str.__hash__  # as for Reason


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom the kernel (or a trusted PROXY header) says is at the other end of the connection."""

    ip: IPv4Address | IPv6Address
    port: int


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
    """Limits as data, shared by the keys that name it. `body_limit` is in bytes."""

    name: str
    body_limit: int


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls: an id that metrics and logs may show, an owner that jobs belong to, and what it may do.

    `label` says for the metrics how it was found: (method, result), words of closed sets.
    """

    key_id: str
    owner: str
    profile: Profile
    scopes: frozenset[str] = frozenset()
    label: tuple[str, str] = ("api_key", "accepted")


@dataclass(frozen=True, slots=True)
class Denial:
    """A refusal as a value: why, a sentence for the caller, and the headers that belong to it.

    `retry_after` is in whole seconds; `allow` holds the methods of a 405.
    """

    reason: Reason
    detail: str
    retry_after: int | None = None
    allow: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the default-deny table, compiled. `label` is what metrics and logs call it."""

    label: str
    kind: Kind
    access: Access
    upstream: str = "default"


class Permit(NamedTuple):
    """Proof that a request passed every rule; forwarding accepts nothing else.

    `path` is the path to send upstream: the very bytes that were matched. `body_limit` is in bytes.
    """

    route: Route
    path: str
    client: ClientAddress
    identity: Identity | None
    body_limit: int


class Trace(NamedTuple):
    """What identifies a request across hops: our request id and the W3C trace context to pass on."""

    request_id: bytes
    traceparent: bytes
    tracestate: bytes | None


@dataclass(slots=True)
class Delivery:
    """What forwarding did for one request: times in seconds of the loop's clock, sizes of bodies in bytes.

    `status` is 0 until an answer's head was written to the client.
    """

    connection: str | None = None
    retried: bool = False
    started: float | None = None
    ended: float | None = None
    status: int = 0
    received: int = 0
    sent: int = 0


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
