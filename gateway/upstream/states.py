"""The two state machines of a connection to the upstream, as h11 has them: pure.

    ours    IDLE -> SENDING_HEAD -> SENDING_BODY -> DONE        what we send: a request
    theirs  IDLE -> HEAD -> BODY -> DONE                        what the upstream sends: its answer
    both    -> CLOSED from every state

This is the one place that knows whether a request was sent whole, and so whether the connection may carry another
(RFC 9112 9.3). It may when both sides are DONE, no byte came beyond the answer, and neither side said close.
Nothing else may be asked: that the *client's* body has come, say, proves nothing about what went upstream.

What can't happen:
- a request on a connection that is not IDLE on both sides;
- an answer that counts before our head went out: bytes that come then are a surplus, and close the connection;
- more or fewer bytes of a body than its head announced: `StateError`, and the connection is never used again;
- a connection that is used again though its answer ended before its request did: then our side is CLOSED at once.
"""

from enum import Enum, auto


class Ours(Enum):
    """How far our request is."""

    IDLE = auto()
    SENDING_HEAD = auto()
    SENDING_BODY = auto()
    DONE = auto()
    CLOSED = auto()


class Theirs(Enum):
    """How far the upstream's answer is."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    DONE = auto()
    CLOSED = auto()


class StateError(Exception):
    """A move that the states do not allow: a fault of ours."""


class States:
    """Where both sides of one connection stand."""

    __slots__ = ("_keeps", "_left", "ours", "theirs")

    def __init__(self) -> None:
        self.ours = Ours.IDLE
        self.theirs = Theirs.IDLE
        self._keeps = True
        self._left: int | None = 0

    def __repr__(self) -> str:
        return f"<States ours={self.ours.name} theirs={self.theirs.name}{'' if self._keeps else ' close'}>"

    # Our side

    def begin(self) -> None:
        """A request begins; raises StateError unless both sides are IDLE."""
        if self.ours is not Ours.IDLE or self.theirs is not Theirs.IDLE:
            raise StateError(f"a request on a connection that is not idle: {self!r}")
        self.ours = Ours.SENDING_HEAD
        self.theirs = Theirs.HEAD

    def mark_head_sent(self, body_length: int | None) -> None:
        """The head went out; it announced a body of so many bytes (0: none; None: it goes in chunks)."""
        if self.ours is not Ours.SENDING_HEAD:
            raise StateError(f"a head out of turn: {self!r}")
        self._left = body_length
        self.ours = Ours.DONE if body_length == 0 else Ours.SENDING_BODY

    def mark_body_sent(self, size: int) -> None:
        """So many bytes of the body go out; raises StateError for more than were announced."""
        if self.ours is not Ours.SENDING_BODY:
            raise StateError(f"a body out of turn: {self!r}")
        if self._left is not None:
            if size > self._left:
                raise StateError(f"{size - self._left} bytes more than the head announced")
            self._left -= size

    def mark_end_sent(self) -> None:
        """The body's end goes out; raises StateError when bytes are missing that were announced."""
        if self.ours is not Ours.SENDING_BODY or self._left:
            raise StateError(f"the end of a body out of turn, {self._left} bytes missing: {self!r}")
        self.ours = Ours.DONE

    @property
    def is_chunked(self) -> bool:
        """Whether the body goes in chunks."""
        return self._left is None

    @property
    def is_sending(self) -> bool:
        """Whether the upstream was promised a body whose end has not gone out."""
        return self.ours is Ours.SENDING_BODY

    # Their side

    def mark_head_read(self, *, keeps: bool) -> None:
        """The head of the final answer came; `keeps` is whether the upstream means to keep the connection."""
        if self.theirs is not Theirs.HEAD:
            raise StateError(f"a head out of turn: {self!r}")
        self._keeps = keeps
        self.theirs = Theirs.BODY

    def mark_end_read(self) -> None:
        """The answer ended. A request that was not sent whole by then never will be: our side is CLOSED."""
        if self.theirs is not Theirs.BODY:
            raise StateError(f"the end of an answer out of turn: {self!r}")
        self.theirs = Theirs.DONE
        if self.ours is not Ours.DONE:
            self.ours = Ours.CLOSED

    @property
    def is_answering(self) -> bool:
        """Whether what comes belongs to an answer; all else is a surplus."""
        return self.theirs is Theirs.HEAD or self.theirs is Theirs.BODY

    @property
    def is_answered(self) -> bool:
        """Whether the answer came whole."""
        return self.theirs is Theirs.DONE

    # Both

    def close(self) -> None:
        """Nothing more goes out, nothing more counts. An answer that came whole stays whole."""
        self.ours = Ours.CLOSED
        if self.theirs is not Theirs.DONE:
            self.theirs = Theirs.CLOSED

    def lose(self) -> None:
        """The connection is lost: nothing more goes out. What came before that may still be read."""
        if self.ours is not Ours.DONE:
            self.ours = Ours.CLOSED

    @property
    def is_closed(self) -> bool:
        """Whether nothing more goes out."""
        return self.ours is Ours.CLOSED

    @property
    def is_reusable(self) -> bool:
        """Whether another request may follow."""
        return self.ours is Ours.DONE and self.theirs is Theirs.DONE and self._keeps

    @property
    def is_idle(self) -> bool:
        """Whether a request may begin."""
        return self.ours is Ours.IDLE and self.theirs is Theirs.IDLE

    def recycle(self) -> None:
        """Makes ready for the next request; raises StateError unless the connection is reusable."""
        if not self.is_reusable:
            raise StateError(f"not reusable: {self!r}")
        self.ours = Ours.IDLE
        self.theirs = Theirs.IDLE
