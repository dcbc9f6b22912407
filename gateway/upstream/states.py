"""The two state machines of an upstream connection, as in h11: pure.

    ours    IDLE -> SENDING_HEAD -> SENDING_BODY -> DONE        what we send: a request
    theirs  IDLE -> HEAD -> BODY -> DONE                        what the upstream sends: its answer
    both    -> CLOSED from every state

Only this file knows whether a request was sent completely, and so whether the connection may carry another one
(RFC 9112 9.3). It may when both sides are DONE, no byte came after the answer, and neither side said close.
Nothing else counts: that the *client's* body arrived, for example, proves nothing about what went upstream. So no
rest of a request is read as the beginning of the next caller's (request smuggling).

What can't happen:
- a request on a connection that is not IDLE on both sides;
- an answer that counts although it came before our head went out: such bytes are surplus and close the connection;
- more or fewer bytes of a body than its head announced: `StateError`, and the connection is never reused;
- reuse of a connection whose answer ended before its request did: our side is then CLOSED at once.
"""

from enum import Enum, auto


class Ours(Enum):
    """The progress of our request."""

    IDLE = auto()
    SENDING_HEAD = auto()
    SENDING_BODY = auto()
    DONE = auto()
    CLOSED = auto()


class Theirs(Enum):
    """The progress of the upstream's answer."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    DONE = auto()
    CLOSED = auto()


class StateError(Exception):
    """A transition that the states do not allow: a bug of ours."""


class States:
    """The states of both sides of one connection."""

    __slots__ = ("_has_body", "_keeps", "_left", "ours", "theirs")

    def __init__(self) -> None:
        self.ours = Ours.IDLE
        self.theirs = Theirs.IDLE
        self._keeps = True
        self._left: int | None = 0
        self._has_body = False

    def __repr__(self) -> str:
        return f"<States ours={self.ours.name} theirs={self.theirs.name}{'' if self._keeps else ' close'}>"

    # Our side

    def begin(self) -> None:
        """Begins a request; raises StateError unless both sides are IDLE."""
        if self.ours is not Ours.IDLE or self.theirs is not Theirs.IDLE:
            raise StateError(f"a request on a connection that is not idle: {self!r}")
        self.ours = Ours.SENDING_HEAD
        self.theirs = Theirs.HEAD

    def mark_head_sent(self, body_length: int | None) -> None:
        """Notes that the head was sent; `body_length` is the announced size in bytes (0: no body; None: chunks)."""
        if self.ours is not Ours.SENDING_HEAD:
            raise StateError(f"a head out of turn: {self!r}")
        self._left = body_length
        self._has_body = body_length != 0
        self.ours = Ours.DONE if body_length == 0 else Ours.SENDING_BODY

    def mark_body_sent(self, size: int) -> None:
        """Notes that `size` bytes of the body are sent; raises StateError for more than were announced."""
        if self.ours is not Ours.SENDING_BODY:
            raise StateError(f"a body out of turn: {self!r}")
        if self._left is not None:
            if size > self._left:
                raise StateError(f"{size - self._left} bytes more than the head announced")
            self._left -= size

    def mark_end_sent(self) -> None:
        """Notes that the body's end is sent; raises StateError when announced bytes are missing."""
        if self.ours is not Ours.SENDING_BODY or self._left:
            raise StateError(f"the end of a body out of turn, {self._left} bytes missing: {self!r}")
        self.ours = Ours.DONE

    @property
    def is_chunked(self) -> bool:
        """Whether the body goes in chunks."""
        return self._left is None

    @property
    def is_sending(self) -> bool:
        """Whether a body was announced to the upstream and its end is not sent yet."""
        return self.ours is Ours.SENDING_BODY

    # Their side

    def mark_head_read(self, *, keeps: bool) -> None:
        """Notes the head of the final answer; `keeps` is whether the upstream means to keep the connection."""
        if self.theirs is not Theirs.HEAD:
            raise StateError(f"a head out of turn: {self!r}")
        self._keeps = keeps
        self.theirs = Theirs.BODY

    def mark_end_read(self) -> None:
        """Notes that the answer ended. A request that is incomplete by then stays so: our side is CLOSED."""
        if self.theirs is not Theirs.BODY:
            raise StateError(f"the end of an answer out of turn: {self!r}")
        self.theirs = Theirs.DONE
        if self.ours is not Ours.DONE:
            self.ours = Ours.CLOSED

    @property
    def is_answering(self) -> bool:
        """Whether incoming bytes belong to an answer; all others are surplus."""
        return self.theirs is Theirs.HEAD or self.theirs is Theirs.BODY

    @property
    def is_answered(self) -> bool:
        """Whether the answer is complete."""
        return self.theirs is Theirs.DONE

    # Both

    @property
    def may_be_reset(self) -> bool:
        """Whether the upstream surely read all that was sent: a head without a body, whose answer is complete."""
        return self.ours is Ours.DONE and self.theirs is Theirs.DONE and not self._has_body

    def close(self) -> None:
        """Stops both sides: nothing more is sent or counted. A complete answer stays complete."""
        self.ours = Ours.CLOSED
        if self.theirs is not Theirs.DONE:
            self.theirs = Theirs.CLOSED

    def lose(self) -> None:
        """Notes that the connection is lost: nothing more is sent. Bytes that came before may still be read."""
        if self.ours is not Ours.DONE:
            self.ours = Ours.CLOSED

    @property
    def is_closed(self) -> bool:
        """Whether nothing more can be sent."""
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
        """Prepares for the next request; raises StateError unless the connection is reusable."""
        if not self.is_reusable:
            raise StateError(f"not reusable: {self!r}")
        self.ours = Ours.IDLE
        self.theirs = Theirs.IDLE
