"""Every error that the gateway raises on purpose.

    GatewayError
    ├── SetupError                 one line for the operator; the process does not start (exit 1)
    │   └── ConfigurationError     every fault of a configuration at once, each with its path
    ├── FileUnusable               why a named file can't be read; the message follows its path
    ├── Refused                    carries a Denial: the gateway answers, the upstream never sees the whole request
    ├── LedgerUnavailable          the ledger failed or timed out; it may have done its work all the same
    │   ├── LedgerEmpty            it answers, and has no tables yet
    │   ├── ValueNotKept           it can't store a value; this does not mean that the ledger is down
    │   └── OwnerWaited            one owner's transaction waited in vain: for a lock or a turn, or the ledger is down
    ├── ClientGone                 the client's connection ended before its exchange did (499 in log and metric)
    │   └── ClientTooSlow          we ended it: the client read or sent too slowly
    └── UpstreamFailed             the upstream's fault; the reason picks 502, 503 or 504
        ├── UpstreamUnreachable    no connection could be made
        ├── OutOfFiles             no descriptor left for a connection: our fault, a 503
        ├── UpstreamBrokeOff       the connection ended, or bytes that are not HTTP; `arrived`: whether any bytes came
        └── UpstreamTimeout        silence

The code that detects a fault names its reason. handler.py catches it; responses.py answers, observer.py logs and
counts it.
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, TypeVar

from gateway.model.reasons import RETRY_SOON, Denial, Reason, Why

# The errors of the kernel when descriptors, or memory for one more, have run out.
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
MASK: Final = "***"
_RETRY_AFTER: Final = 2  # seconds: a ledger that is away is often back soon
_ROOT: Final = __file__.rpartition("/")[0] + "/"
_OURS: Final = "gateway/"
_NOTE: Final = "raised at "  # a note of ours, before the place: libraries have notes of their own
_Error = TypeVar("_Error", bound=BaseException)


class GatewayError(Exception):
    """Root of the tree above; never raised itself."""


class SetupError(GatewayError):
    """Why the gateway can't start: one line that says what to correct."""

    @property
    def for_log(self) -> str:
        """The same without what may be a secret in the wrong place."""
        return str(self)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a configuration: the path of the key (`listen.port`) and what is wrong with it.

    `where` is the line, or the variable, `value` what stands there, for the operator's eyes and not for the log
    unless it `is_for_log`: a misplaced secret may be there. `says_value`: the message has all that may be shown.
    `plain` is the message without what repeats a value, where there is such a thing.
    """

    path: str
    message: str
    where: str = ""
    value: str = ""
    says_value: bool = False
    plain: str = ""
    is_for_log: bool = False

    def __str__(self) -> str:
        return self._told(self.message, self.value)

    @property
    def for_log(self) -> str:
        """The same line with the value masked, unless it is no secret, also where a mend would repeat it."""
        return self._told(self.plain or self.message, self.value if self.is_for_log or not self.value else MASK)

    def _told(self, message: str, value: str) -> str:
        where = f"{self.where}: {value}" if self.where and value else self.where
        place = f" ({where})" if where else ""
        return f"{self.path}: {message}{place}" if self.path else message


class ConfigurationError(SetupError):
    """All faults of one configuration."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))

    @property
    def for_log(self) -> str:
        """All faults, the values that stand there masked where they may be secrets."""
        return "\n".join(fault.for_log for fault in self.faults)


class FileUnusable(GatewayError):
    """What is wrong with a named file: the end of a sentence that begins with the file's path."""


class Refused(GatewayError):
    """A request that the gateway answers itself. `denial` says why."""

    def __init__(self, denial: Denial) -> None:
        self.denial = denial
        super().__init__(denial.detail)


class LedgerUnavailable(GatewayError):
    """The ledger failed or did not answer in time. The message is for the log: what failed, in words of ours."""


class LedgerEmpty(LedgerUnavailable):
    """The ledger has no tables yet, and the caller may not create them."""


class ValueNotKept(LedgerUnavailable):
    """The ledger can't store a value or look it up. The fault is in the value: the ledger may be fine."""


class OwnerWaited(LedgerUnavailable):
    """One owner's transaction did not end in time: it may wait for others of that owner, or the ledger is away."""


class ClientGone(GatewayError):
    """The client's connection ended while its exchange was under way."""

    reason = Reason.CLIENT_GONE


class ClientTooSlow(ClientGone):
    """The client took fewer bytes of its answer than listen.body_min_rate, or none for listen.send_idle_timeout."""

    reason = Reason.CLIENT_TOO_SLOW


class UpstreamFailed(GatewayError):
    """The upstream's fault. The message is for the log and the caller alike: it never holds upstream bytes."""

    reason = Reason.UPSTREAM_BROKE_OFF
    retry_after: int | None = None


class UpstreamUnreachable(UpstreamFailed):
    """No connection within upstream.connect_timeout."""

    reason = Reason.UPSTREAM_UNREACHABLE


class OutOfFiles(UpstreamFailed):
    """The gateway has no file descriptor left for a connection; `retry_after` is in seconds."""

    reason = Reason.OUT_OF_FILES
    retry_after = RETRY_SOON

    def __init__(self) -> None:
        super().__init__("The gateway has no file descriptors left; it may have too few (ulimit -n, LimitNOFILE).")


class UpstreamBrokeOff(UpstreamFailed):
    """The upstream closed, reset, or sent what is not HTTP; `arrived` is true once any byte of an answer came."""

    def __init__(self, message: str, *, arrived: bool) -> None:
        self.arrived = arrived
        super().__init__(message)


class UpstreamTimeout(UpstreamFailed):
    """No head came within upstream.read_timeout, or nothing more of an answer; or no more of the body was taken."""

    reason = Reason.UPSTREAM_TIMEOUT


def refuse(reason: Reason, detail: str, why: Why | None = None) -> Refused:
    """Makes the exception for the plain case: a reason and a sentence, and of a credential what was wrong with it."""
    return Refused(Denial(reason, detail, why=why))


def ledger_unavailable(detail: str, retry_after: int = _RETRY_AFTER, title: str | None = None) -> Refused:
    """Makes the refusal of what needs the ledger while it does not answer; `retry_after` is in seconds."""
    return Refused(Denial(Reason.LEDGER_UNAVAILABLE, detail, retry_after=retry_after, title=title))


def whereabouts(error: BaseException) -> str:
    """Type and place of an error; not its message, which may hold what a client sent.

    The place is the last line of the gateway's own code in the traceback (`gateway/upstream/pool.py:66`), even when a
    library raised the error; without such a line it is the place where the error was raised.
    """
    place = _noted(error) or _place(error.__traceback__)
    return f"{type(error).__name__} at {place}" if place else type(error).__name__


def without_calls(error: _Error) -> _Error:
    """The error without the calls in which it was raised: those whom it is handed to may be held by them.

    An error that is kept by what its calls hold waits for a garbage collection. `whereabouts` still tells its place.
    """
    place = _place(error.__traceback__)
    if place and not _noted(error):
        error.add_note(_NOTE + place)
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


def _noted(error: BaseException) -> str:
    """The place, of an error without its calls."""
    notes = (note for note in getattr(error, "__notes__", ()) if isinstance(note, str) and note.startswith(_NOTE))
    return next(notes, "").removeprefix(_NOTE)


def _place(trace: TracebackType | None) -> str:
    place = ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        is_ours = file.startswith(_ROOT)
        if is_ours or not place.startswith(_OURS):
            place = f"{_OURS + file.removeprefix(_ROOT) if is_ours else file.rpartition('/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
