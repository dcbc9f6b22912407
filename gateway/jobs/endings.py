"""What follows from a job's end, once: the ledger is told, pages are settled, those who wait go on."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog
from sqlalchemy import Connection

from gateway.admission import Admission, ledger_away
from gateway.errors import LedgerUnavailable
from gateway.forward.scalars import TopScalars
from gateway.jobs.checkpoints import Checkpoints
from gateway.jobs.job import Job
from gateway.jobs.registry import Registry
from gateway.jobs.shape import Ending, ending, wanted
from gateway.ledger.jobs import Ended, end, find, forget, give_up
from gateway.ledger.reservations import Settled
from gateway.state import State

_SMALL: Final = 512
_FORGOTTEN: Final = 2
_APART: Final = 0.9
_SHARED: Final = 65_536
_MOST_SMALL: Final = 1024
log = structlog.get_logger()


class Endings:
    """Takes what status answers say, of clients' own polls and of the watcher's. `state` gives the one in force."""

    def __init__(self, admission: Admission, registry: Registry, state: Callable[[], State]) -> None:
        self._admission = admission
        self.checkpoints = Checkpoints(
            admission.ledger, admission.wall, lambda: state().settings.jobs.result_ttl, admission.work
        )
        self._registry = registry
        self._state = state
        self._unfinished: set[tuple[str, bytes]] = set()
        self._being_told: set[tuple[str, str]] = set()
        self.on_ended: Callable[[], None] = _nothing

    def is_unfinished(self, job: Job, content: bytes) -> bool:
        """Whether this very answer was read before, and said that such a job still runs."""
        return (job.shape.name, content) in self._unfinished

    def unknown(self, job: Job) -> None:
        """Takes note that the upstream does not know a job; twice in a row, a second apart, and it is forgotten."""
        now = self._admission.wall()
        if job.misses and 0 <= now - job.missed_at < _APART:
            return
        job.misses, job.missed_at = job.misses + 1, now
        if job.misses >= _FORGOTTEN and job.is_running:
            log.warning("the upstream has forgotten a job", upstream=job.upstream)
            self.ended(job, Ending(failed=True, pages=None))

    def watch(self, job: Job) -> "Watch":
        """What looks at one status answer as it passes."""
        return Watch(self, job)

    def learnt(self, job: Job, content: bytes | None, values: dict[str, Any]) -> bool:
        """Takes what a whole answer said; `content` is itself, None when it is too long to be remembered.

        Tells whether it said that the job has ended.
        """
        job.misses = 0
        self.checkpoints.saw(job, values)
        how = ending(job.shape, values)
        if how is not None:
            job.saw(how)
            self.ended(job, how)
        elif content is not None and len(content) <= _SMALL:
            if len(self._unfinished) >= _MOST_SMALL:
                self._unfinished.clear()
            self._unfinished.add((job.shape.name, content))
        return how is not None

    def ended(self, job: Job, how: Ending) -> None:
        """Tells the ledger of a job's end, in the background; should that fail, the watcher finds it again."""
        if job.is_running and job.key not in self._being_told:
            self._being_told.add(job.key)
            self._admission.work(self._tell(job, how))

    def forget(self, job: Job) -> None:
        """Lets nobody read a job from now on."""
        job.ended(0)  # it stays in the registry: what was read of it in the ledger before would else bring it back
        self._admission.work(self._forget(job, job.how))

    async def forget_now(self, job: Job) -> None:
        """Lets nobody read a job from now on, before the upstream hears of it; one that runs is charged as reserved.

        Else who deletes a job that the ledger does not know to have ended would have its pages back: the upstream
        does not know it any more, which looks like one that was restarted.

        Raises:
            Refused: ledger_unavailable; then nothing may be deleted.
        """
        try:
            settled = await self._admission.ledger.write(lambda c: give_up(c, job.key, self._admission.wall()))
        except LedgerUnavailable:
            raise ledger_away() from None
        job.ended(0)
        if settled is not None:
            self._settled(settled)

    def work(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs what nobody waits for."""
        self._admission.work(work)

    async def _tell(self, job: Job, how: Ending) -> None:
        admission, now = self._admission, self._admission.wall()
        ttl = self._state().settings.jobs.result_ttl

        def work(connection: Connection) -> Ended | None:
            return end(connection, job.key, how.pages, now, ttl, failed=how.failed)

        try:
            ended = await admission.ledger.write(work)
            if ended is None:  # another replica was first
                row = await admission.ledger.read(lambda c: find(c, *job.key))
                if row is not None:
                    self._registry.learn(row)
                if job.is_running:  # the ledger does not have it: it is nobody's
                    job.ended(0)
                    self._registry.drop(job)
        except LedgerUnavailable:
            return
        finally:
            self._being_told.discard(job.key)
        if ended is not None:
            if not job.is_gone:  # it was deleted meanwhile
                job.ended(ended.expires_at)
            if ended.settled is not None:
                self._settled(ended.settled)
            self.on_ended()

    def _settled(self, settled: Settled) -> None:
        self._admission.counts.pages(*settled)
        self._admission.turnstile.given_back(settled.account)

    async def _forget(self, job: Job, how: Ending | None) -> None:
        now = self._admission.wall()

        def work(connection: Connection) -> Ended | None:
            ended = end(connection, job.key, how.pages, now, 0, failed=how.failed) if how is not None else None
            forget(connection, job.key, now)
            return ended

        try:
            ended = await self._admission.ledger.write(work)
        except LedgerUnavailable:
            log.warning("a job could not be forgotten yet; it will be when its time is over")
            return
        if ended is not None and ended.settled is not None:
            self._settled(ended.settled)


class Watch:
    """Looks at one status answer as it passes."""

    __slots__ = ("_endings", "_job", "_most", "_scalars", "content", "is_final", "is_unfinished")

    def __init__(self, endings: Endings, job: Job) -> None:
        self._endings = endings
        self._job = job
        self._most = _SHARED if job.waiters else _SMALL
        self._scalars: TopScalars | None = None
        self.content: bytes | None = b""
        """The answer so far; None when it is longer than is kept."""
        self.is_final = False
        """Whether it said, once it was whole, that the job has ended."""
        self.is_unfinished = False
        """Whether it said, once it was whole, that the job still runs."""

    def take(self, data: bytes) -> None:
        """Takes the next bytes of an answer."""
        if self._scalars is None:
            self._scalars = TopScalars(wanted(self._job.shape))
        self._scalars.take(data)
        if self.content is not None:
            self.content = self.content + data if len(self.content) + len(data) <= self._most else None

    def end(self) -> None:
        """Called once the answer is whole."""
        if self._scalars is not None and self._scalars.is_whole:
            self.is_final = self._endings.learnt(self._job, self.content, self._scalars.values)
            self.is_unfinished = not self.is_final


def _nothing() -> None:
    """Nobody wants to know."""
