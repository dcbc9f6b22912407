"""The values that describe a request, shared by all parts: frozen, standard library only.

Nothing here uses a socket, a clock or a file. Each stage of a request returns a value that is an argument of the next
stage, so a stage's signature shows what it may rely on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from gateway.model.identity import Identity, Profile
from gateway.model.reasons import VERDICTS, Bearer, Reason, Source, Why
from gateway.model.routes import Route


@dataclass(frozen=True, slots=True)
class Headers:
    """The headers of a request, after every check that needs no configuration.

    `known` holds the values of the headers that we rely on, by lower-case name, in the order sent; `kept` the pairs
    that may go upstream unchanged. `content_length` is None if the body is chunked or missing.
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


class BodyLimit(NamedTuple):
    """The most bytes that a body may have, and what says so: a setting, or why it is fixed."""

    most: int
    named_by: str


class Permit(NamedTuple):
    """Proof that a request passed every rule; forwarding accepts nothing else.

    `path` is the path to send upstream: the very bytes that were matched. `client` is the address that we believe.
    Limits are counted by `account`, which also exists without an identity; `job_id` is the job that path or query
    name, if the route reads one there.
    """

    route: Route
    path: str
    client: IPv4Address | IPv6Address
    identity: Identity | None
    body_limit: BodyLimit
    account: str
    profile: Profile
    job_id: str | None = None

    @property
    def owner(self) -> str:
        """Who owns its jobs."""
        return self.identity.owner if self.identity else self.account

    @property
    def names_job_in_body(self) -> bool:
        """Whether the request has to name its job in its body: that is read before anything else is done."""
        return self.route.kind.is_of_a_job and self.route.id_in == "body"


class Trace(NamedTuple):
    """What identifies a request across hops: our request id and the W3C trace context.

    `trace_id` has 32 hexadecimal digits; `parent` and `tracestate` are the client's, None if the trace starts here.
    """

    request_id: bytes
    trace_id: str
    parent: bytes | None = None
    tracestate: bytes | None = None

    @property
    def traceparent(self) -> bytes:
        """The header that goes upstream: made for a request that does, which polls that share an answer do not."""
        return self.parent or f"00-{self.trace_id}-{self.trace_id[16:]}-00".encode("ascii")


@dataclass(slots=True)
class Delivery:
    """What forwarding did for one request: times in seconds of the loop's clock, sizes of bodies in bytes.

    The modules of proxy/ write it as the request goes. `status` is 0 until an answer's head was written to the
    client. `is_final`: the answer reported a job's end;
    `is_unfinished`: the answer was parsed whole and reported that the job still runs; `gives_nothing`: the answer
    gave its client no part of a result. `held` is how long the request waited for the job's end (long poll);
    `answered` is when the head of the answer came.
    """

    connection: str | None = None
    retried: bool = False
    started: float | None = None
    answered: float = 0.0
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
    """The mutable record of a request: only handler.py and responses.py write it, only observe reads all of it.

    Times are seconds of the loop's clock. `keep_alive`: the head was sound, so the connection may go on.
    `waits_for_invitation`: the client holds its body back for a 100 Continue: nothing is to be drained. `title` is
    what the refusal was headed, if not by its reason's own. `owner` is known with the permit. `bearer` is nobody
    whom we know: nothing is counted for him, and he is bounded as strangers are.
    """

    request_id: str
    started: float
    peer_ip: str
    client_ip: str
    method: str = "-"
    route: str = "unmatched"
    key_id: str | None = None
    owner: str | None = None
    profile: str | None = None
    authentication: tuple[str, str] | None = None
    status: int = 0
    reason: Reason = Reason.FORWARDED
    source: Source = Source.UPSTREAM
    detail: str | None = None
    title: str | None = None
    why: Why | None = None
    bearer: Bearer | None = None
    trace: Trace | None = None
    keep_alive: bool = False
    waits_for_invitation: bool = False
    delivery: Delivery | None = None
    ended: float = 0.0

    def note_permit(self, permit: Permit) -> None:
        """Takes over what was permitted, and to whom."""
        self.route = permit.route.label
        identity = permit.identity
        if identity is not None:
            self.key_id, self.owner, self.profile = identity.key_id, identity.owner, identity.profile.name
            self.authentication = identity.label

    def note_outcome(self, reason: Reason, detail: str) -> None:
        """Notes why the request did not end as it should."""
        verdict = VERDICTS[reason]
        self.status = self.delivery.status if self.delivery is not None and self.delivery.status else verdict.status
        self.reason, self.source, self.detail = reason, verdict.source, detail

    @property
    def name(self) -> str | None:
        """Who it was, to be shown: the caller, or the bearer of a refused token."""
        return self.key_id or (self.bearer.owner if self.bearer else None)
