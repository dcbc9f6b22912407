"""The nouns that all rooms speak in: frozen values, standard library only.

Nothing here knows a socket, a clock or a file. A noun that a stage of the way of a request makes is an
argument of the next one, so what a stage may rely on can be read from its signature.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from gateway.model.caller import ClientAddress, Identity, Profile
from gateway.model.reasons import Reason, Source
from gateway.model.routes import Route


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
    `is_unfinished` that it was looked at whole and told that the job still runs; `gives_nothing` says that its client
    was given nothing of a result by that.
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
    gives_nothing: bool = False
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
