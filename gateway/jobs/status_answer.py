"""Answers about a job that are kept, and which polls each may serve: values, no I/O."""

from typing import Final, NamedTuple

from gateway.upstream.response_head import ResponseHead
from gateway.upstream.target import UpstreamTarget

MAX_CONTENT: Final = 512  # bytes: an answer that says that a job runs is short; a longer one is not kept
MAX_HEADERS: Final = 4096  # bytes, of an answer or of a poll: they are kept with the job
_MAX_VARY: Final = 1024  # bytes: each name between commas costs time
_EACH: Final = frozenset({
    b"*", b"x-forwarded-for", b"x-gateway-key-id", b"x-request-id", b"traceparent", b"tracestate", b"via",
})  # fmt: skip
"""What the container may see otherwise of each of two requests that are alike: we add it, the client does not."""
_NOT_AS_OURS: Final = _EACH | {b"accept", b"x-forwarded-host", b"x-forwarded-proto"}
"""What our own questions may have otherwise than those of a client that sends none of it: they ask for JSON."""
Lines = list[tuple[bytes, bytes]]


class StatusAnswer(NamedTuple):
    """A whole status answer that several clients may share: head, content, and what it said.

    `varies` are the names of the request's headers on which it depends, as its Vary says; in small letters. One that
    sets a cookie is its client's alone: it varies by `*`. `target` is whom we asked, of an answer to our own request
    that long polls may share.
    """

    head: ResponseHead
    content: bytes
    is_final: bool
    gives_nothing: bool
    varies: frozenset[bytes]
    target: UpstreamTarget | None = None

    @classmethod
    def of(
        cls,
        head: ResponseHead,
        content: bytes,
        *,
        is_final: bool,
        gives_nothing: bool,
        target: UpstreamTarget | None = None,
    ) -> "StatusAnswer":
        """One that said so much."""
        return cls(head, content, is_final, gives_nothing, _varies(head), target)

    @classmethod
    def of_running(cls, head: ResponseHead, content: bytes) -> "StatusAnswer":
        """One that said that its job runs, and no more."""
        return cls.of(head, content, is_final=False, gives_nothing=True)

    @property
    def is_short(self) -> bool:
        """Whether it may be kept with its job: there may be many jobs, and a head may have 64 KB."""
        headers = sum(len(name) + len(value) for name, value in self.head.headers)
        return len(self.content) <= MAX_CONTENT and headers <= MAX_HEADERS

    @property
    def is_for_like_polls(self) -> bool:
        """Whether all polls that are alike would get it, whatever the key and the address they come from."""
        return _EACH.isdisjoint(self.varies)

    def is_for_all_with(self, names: frozenset[bytes]) -> bool:
        """Whether a client that sends these headers would get the same as our own question, which had none of them.

        Not if the Vary names one of them, or one that we add for clients only, or an Accept (ours asks for JSON); nor
        with an Origin: a browser gives its page only an answer that allows that origin (CORS), and what has none to
        allow need not say so in Vary.
        """
        return _NOT_AS_OURS.isdisjoint(self.varies) and b"origin" not in names and names.isdisjoint(self.varies)


class Poll(NamedTuple):
    """What two polls of one job have to have in common: where they go, and what of the client is passed on.

    `origin` is ours, by which the client came; `headers` are the client's that are passed on, `names` theirs, in
    small letters. Keys and addresses may differ: an answer whose Vary names them is shared with nobody
    (`is_for_like_polls`).
    """

    target: UpstreamTarget
    origin: str
    headers: Lines
    names: frozenset[bytes]

    @classmethod
    def of(cls, target: UpstreamTarget, origin: str, headers: Lines) -> "Poll":
        """One that goes there with these headers."""
        return cls(target, origin, headers, frozenset(name.lower() for name, _ in headers))

    def is_like(self, other: "Poll") -> bool:
        """Whether both would get the same answer."""
        if self is other:  # the same client polls again
            return True
        return self.target is other.target and self.origin == other.origin and self.headers == other.headers


class RunningAnswer(NamedTuple):
    """A whole answer that said that a job runs, and when it (its head) came, in seconds of the loop's clock.

    `poll` is the client's that asked; None: we asked, with no client's headers (`is_for_all_with`).
    """

    answer: StatusAnswer
    target: UpstreamTarget
    poll: Poll | None
    at: float

    def may_serve(self, poll: Poll) -> bool:
        """Whether that poll would get the same answer."""
        if self.poll is not None:
            return self.poll.is_like(poll)
        return self.target is poll.target and self.answer.is_for_all_with(poll.names)


def _varies(head: ResponseHead) -> frozenset[bytes]:
    """What the answer depends on by its Vary; a long one counts as `*`, and so does a cookie."""
    vary = b",".join(value for name, value in head.headers if name == b"vary")
    if len(vary) > _MAX_VARY or any(name == b"set-cookie" for name, _ in head.headers):
        return frozenset({b"*"})
    return frozenset(part.strip().lower() for part in vary.split(b","))
