"""One job as this process knows it: values, no I/O."""

from collections.abc import Callable, Hashable
from enum import Enum, auto
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

from gateway.aio.iteration import Iteration
from gateway.errors import Refused, refuse
from gateway.jobs.status_answer import Poll, RunningAnswer, StatusAnswer
from gateway.limits.job_cost import ENDS, Known
from gateway.model.jobs import JobRef
from gateway.model.reasons import Reason
from gateway.upstream.job_api import JobShape, result_target, status_target

_APART: Final = 0.9  # seconds; two misses within it are one


class Waited(Enum):
    """What becomes of a wait for an asking poll."""

    KEPT = auto()
    """It has an answer that is kept for polls like it."""
    FOR_ITSELF = auto()
    """It has none that others may have: another poll like it would be answered likewise."""
    LEFT = auto()
    """Its client left or was refused: the first of those who waited asks."""
    LATE = auto()
    """It still waits itself, and that for long."""


class Asking(Protocol):
    """A client's poll that waits for the container, and those that wait for its answer: shared_polls.AskingPoll."""

    def is_like(self, poll: Poll) -> bool:
        """Whether its answer may serve that poll."""

    def is_in_vain(self, now: float) -> bool:
        """Whether it hangs, and nobody waits for it."""

    async def wait(self, iteration: Iteration, peer: Hashable) -> Waited:
        """Waits for its end, but not for ever."""

    def step_aside(self) -> None:
        """Lets another be the one that is waited for."""


class Job:
    """A job. Times are seconds since the epoch, except `asked_at`, `cached_at` and `sure_at`: the loop's clock.

    `ref` says which job it is, also once its id has gone to another one. `account` is charged for it, None for the
    one that is named as its owner.
    `target` is where its status is requested. `expires_at` is None while it runs, and 0 once it has no owner;
    `asked_at` is when anyone here last learnt its status; `misses` counts how often in a row the upstream did not
    know it, `unread` how often in a row its answer was unreadable. `is_followed`: this process watches it;
    `read_is_noted`: this process noted who read it first; `ticket`: which of the watcher's dates counts.
    `waiters` are callbacks, one for each long poll; they run when the job ends.
    `cached_at` is when the registry cached it, `sure_at` when the ledger was last asked about this one job.
    `answer` is the last answer to our own request. It is kept for a moment, if it is small and a client waits; once
    the job has ended, it is final. `running_answer` and `asking_poll` are shared_polls.py's. `known` is what this
    process or the ledger knows of the job's end, `has_known_end` whether any of it is an end.
    Only `add_known` writes them. `has_seen_end`: an end was seen, though there may have been no room to note it:
    nobody is told any more that it runs. `heard` is what the ledger said of it when changes were last read
    (registry.py).
    """

    __slots__ = (
        "__weakref__",
        "account",
        "answer",
        "asked_at",
        "asking_poll",
        "cached_at",
        "created_at",
        "expires_at",
        "has_known_end",
        "has_seen_end",
        "heard",
        "is_followed",
        "is_running",
        "known",
        "missed_at",
        "misses",
        "owner",
        "path",
        "read_is_noted",
        "ref",
        "request_id",
        "running_answer",
        "shape",
        "sure_at",
        "target",
        "ticket",
        "unread",
        "upstream",
        "waiters",
    )

    def __init__(
        self, ref: JobRef, owner: str, shape: JobShape, path: str, created_at: float, account: str | None = None
    ) -> None:
        self.ref = ref
        self.upstream, self.request_id, _ = ref
        self.owner = owner
        self.account = owner if account is None else account
        self.shape = shape
        self.path = path
        self.target = status_target(shape, path, ref.request_id)
        self.created_at = created_at
        self.expires_at: float | None = None
        self.heard: tuple[Any, ...] | None = None
        self.is_running = True
        self.is_followed = False
        self.read_is_noted = False
        self.asked_at = 0.0
        self.cached_at = self.sure_at = 0.0
        self.misses = 0
        self.unread = 0
        self.missed_at = 0.0
        self.ticket = 0
        self.answer: StatusAnswer | None = None
        self.running_answer: RunningAnswer | None = None
        self.asking_poll: Asking | None = None
        self.known = Known.NOTHING
        self.has_known_end = self.has_seen_end = False
        self.waiters: dict[object, Callable[[], None]] = {}

    @property
    def key(self) -> tuple[str, str]:
        """Upstream and id, by which it is asked for."""
        return self.ref.key

    @property
    def is_gone(self) -> bool:
        """Whether it was deleted or has expired: it has no owner any more."""
        return self.expires_at == 0

    @property
    def is_held(self) -> bool:
        """Whether a long poll waits for its end."""
        return bool(self.waiters)

    @property
    def is_open(self) -> bool:
        """Whether an answer can say anything new of it: not once its success is known or it is gone."""
        return Known.COMPLETE not in self.known and not self.is_gone

    def is_result(self, asked: str) -> bool:
        """Whether a target is the one that gives the job's result; the order of query parameters does not matter."""
        return _parts(asked) == _parts(result_target(self.shape, self.path, self.request_id))

    def is_for(self, owner: str, now: float) -> bool:
        """Whether an owner may read it."""
        return owner == self.owner and (self.expires_at is None or now < self.expires_at)

    # What an answer about it says

    def mark_asked(self, now: float) -> float:
        """Notes that its status is being learnt now, so that no one else has to ask; returns the previous time."""
        before, self.asked_at = self.asked_at, now
        return before

    def unmark_asked(self, before: float) -> None:
        """Restores that time: the answer said nothing of its status."""
        self.asked_at = before

    def note_known(self) -> None:
        """Called when an answer tells of it: the times before, when it did not, are over."""
        self.misses = self.unread = 0

    def note_miss(self, now: float) -> int:
        """Called when the upstream does not know it; returns how often in a row, and 0 when that was just counted."""
        self.unread = 0
        if self.misses and 0 <= now - self.missed_at < _APART:
            return 0
        self.misses, self.missed_at = self.misses + 1, now
        return self.misses

    def forget_misses(self) -> None:
        """Called when an answer says nothing of it: what came before is not in a row any more."""
        self.misses = 0

    def note_unreadable(self) -> int:
        """Called when the answer can't be read; returns how often in a row."""
        self.unread, self.misses = self.unread + 1, 0
        return self.unread

    def keep(self, running: RunningAnswer) -> None:
        """Keeps an answer that said that it runs, unless an end was seen meanwhile or it is too long."""
        if not self.has_seen_end and running.answer.is_short:
            self.running_answer = running

    def has_outlived(self, answer: StatusAnswer) -> bool:
        """Whether the answer says that it runs, and an end was seen since."""
        return not answer.is_final and self.has_seen_end

    def add_known(self, known: Known) -> None:
        """Adds what is known of its end, and drops a cached answer that this makes outdated."""
        self.see(known)
        self.known |= known
        self.has_known_end = bool(self.known & ENDS)

    def see(self, known: Known) -> None:
        """Drops the cached answers, if this is an end that was not known; none that says that it runs is kept."""
        if known & ENDS & ~self.known:
            self.answer = self.running_answer = None
            self.has_seen_end = True

    def end(self, expires_at: float) -> None:
        """Records its end and wakes all waiters."""
        self.is_running, self.has_seen_end = False, True
        self.running_answer = None
        self.expires_at = expires_at
        waiters, self.waiters = self.waiters, {}
        for wake in waiters.values():
            wake()


def _parts(target: str) -> tuple[str, list[tuple[str, str]]]:
    path, _, query = target.partition("?")
    return path, sorted(parse_qsl(query, keep_blank_values=True))


def job_not_found() -> Refused:
    """The same refusal for every id under which the caller has no job."""
    detail = "There is no job of yours with this id, or its time is over (jobs.result_ttl)."
    return refuse(Reason.JOB_NOT_FOUND, detail)
