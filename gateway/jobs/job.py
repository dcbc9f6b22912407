"""One job as this process knows it, and how often it is asked about: values and arithmetic, no I/O."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

from gateway.errors import Refused, refuse
from gateway.model.endings import ENDS, Known
from gateway.model.reasons import Reason
from gateway.upstream.job_api import JobShape, read_target, result_target

HELD_INTERVAL: Final = 0.1
_SHORTEST: Final = 1.0
_MAX_LENGTH: Final = 30.0
_SHARE: Final = 0.05
_MAX_UNREAD: Final = 900.0
_MAX_DOUBLED: Final = 20
_MAX_A_SECOND: Final = 200
_MAX_HELD_A_SECOND: Final = 1000


class Answer(NamedTuple):
    """An answer to a question of ours that all get who wait: head and content, and what it said."""

    head: Any
    content: bytes
    is_final: bool
    gives_nothing: bool


class Job:
    """A job. Times are seconds since the epoch, but for `asked_at`, which is of the loop's clock.

    `target` is what its status is asked at. `expires_at` is None while it runs, and 0 once it is nobody's;
    `asked_at` is when its status was last learnt, by whomever; `misses` counts how often in a row the upstream
    did not know it, `unread` how often its answer could not be read; `is_followed` says that this process watches
    it, `is_read` that it noted who read it, `ticket` which of the watcher's dates is the one that counts. `waiters`
    are called once it has ended: those of the clients whose polls are held for it.
    `answer` is the last one to a question of ours, for a moment, when it is small and somebody waits; once the job
    has ended, it is final. `known` is what is known of its end, here or in the ledger.
    """

    __slots__ = (
        "__weakref__",
        "answer",
        "asked_at",
        "created_at",
        "expires_at",
        "is_followed",
        "is_read",
        "is_running",
        "known",
        "missed_at",
        "misses",
        "owner",
        "path",
        "request_id",
        "shape",
        "target",
        "ticket",
        "unread",
        "upstream",
        "waiters",
    )

    def __init__(
        self, upstream: str, request_id: str, owner: str, shape: JobShape, path: str, created_at: float
    ) -> None:
        self.upstream = upstream
        self.request_id = request_id
        self.owner = owner
        self.shape = shape
        self.path = path
        self.target = read_target(shape, path, request_id)
        self.created_at = created_at
        self.expires_at: float | None = None
        self.is_running = True
        self.is_followed = False
        self.is_read = False
        self.asked_at = 0.0
        self.misses = 0
        self.unread = 0
        self.missed_at = 0.0
        self.ticket = 0
        self.answer: Answer | None = None
        self.known = Known.NOTHING
        self.waiters: dict[object, Callable[[], None]] = {}

    @property
    def key(self) -> tuple[str, str]:
        """What the ledger knows it by."""
        return self.upstream, self.request_id

    @property
    def is_gone(self) -> bool:
        """Whether it was deleted or is forgotten: it is nobody's."""
        return self.expires_at == 0

    @property
    def is_open(self) -> bool:
        """Whether an answer can say anything new of it: nobody has said that it went well, whatever else is known."""
        return Known.COMPLETE not in self.known and not self.is_gone

    def is_result(self, asked: str) -> bool:
        """Whether a target is the one that gives its result, in whichever order its parameters stand."""
        return _parts(asked) == _parts(result_target(self.shape, self.path, self.request_id))

    def is_for(self, owner: str, now: float) -> bool:
        """Whether an owner may read it."""
        return owner == self.owner and (self.expires_at is None or now < self.expires_at)

    def saw(self, known: Known) -> None:
        """Adds what is known of its end: what an answer said before that holds no more."""
        if known & ENDS & ~self.known:
            self.answer = None
        self.known |= known

    def ended(self, expires_at: float) -> None:
        """Notes its end, and lets all that wait for it go on."""
        self.is_running = False
        self.expires_at = expires_at
        waiters, self.waiters = self.waiters, {}
        for wake in waiters.values():
            wake()


def _parts(target: str) -> tuple[str, list[tuple[str, str]]]:
    path, _, query = target.partition("?")
    return path, sorted(parse_qsl(query, keep_blank_values=True))


def after_unread(unread: int, *, held: bool) -> float:
    """Seconds to wait after so many answers in a row that could not be read: twice as long each time, 15 minutes."""
    first = HELD_INTERVAL if held else _SHORTEST
    return min(first * 2.0 ** min(unread, _MAX_DOUBLED), _MAX_UNREAD) if unread else 0.0


def interval(age: float, *, held: bool, followed: int = 0) -> float:
    """Seconds between two questions about a job of this age, in seconds: a twentieth of it, from 1 s to 30 s.

    A job that is held is asked about each 100 ms. Where very many are `followed`, of those that are held or of the
    others, it is longer, so that all together are asked about some 1000 times a second, or 200 times.
    """
    if held:
        return max(HELD_INTERVAL, followed / _MAX_HELD_A_SECOND)
    return max(min(max(age * _SHARE, _SHORTEST), _MAX_LENGTH), followed / _MAX_A_SECOND)


def job_not_found() -> Refused:
    """What is said of every id that the caller has no job of."""
    detail = "There is no job of yours with this id, or its time is over (jobs.result_ttl)."
    return refuse(Reason.JOB_NOT_FOUND, detail)
