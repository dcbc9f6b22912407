"""What a job's end causes, once: the ledger settles its pages, its webhook becomes due, its long polls go on."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from typing import Final, NamedTuple

import structlog
from sqlalchemy import Connection

from gateway.admission.admission import ledger_away
from gateway.config.state import State
from gateway.errors import LedgerUnavailable
from gateway.jobs.checkpoints import Checkpoints
from gateway.jobs.end_writer import EndWriter, Terms
from gateway.jobs.job import Job, job_not_found
from gateway.jobs.registry import Registry
from gateway.jobs.status_watch import SMALL, StatusWatch
from gateway.ledger.closing import Settled
from gateway.ledger.jobs import Deleted, Recorded, delete_for_owner, record_facts
from gateway.ledger.replica import Replica
from gateway.ledger.schema import JobState
from gateway.ledger.unfollowed import give_up
from gateway.limits.job_cost import ENDS, Facts, FailedCosts, Known, stricter
from gateway.model.jobs import JobRef
from gateway.upstream.job_api import Finding, Said

_FORGOTTEN: Final = 2
MAX_SMALL: Final = 1024
_MAX_WORDS: Final = 100
_CUT: Final = "cut"
_PLAIN_WORD: Final = re.compile(r"[\w .:-]{1,64}", re.ASCII)
log = structlog.get_logger()


class Effects(NamedTuple):
    """Called with each settlement, and once the ledger has recorded a job's end."""

    settled: Callable[[Settled], None]
    ended: Callable[[], None]


class Completion:
    """Processes status answers, of clients' polls and of the watcher's requests. `state` returns the State in force.

    `call_in_turn` is the iteration's.
    """

    def __init__(
        self,
        replica: Replica,
        registry: Registry,
        state: Callable[[], State],
        call_in_turn: Callable[[Callable[[], None]], None],
        effects: Effects,
    ) -> None:
        self._ledger = replica.ledger
        self._wall = replica.wall
        self._background = replica.background
        self._call_in_turn = call_in_turn
        self._effects = effects
        self.checkpoints = Checkpoints(replica, lambda: state().settings.jobs.result_ttl)
        self._registry = registry
        self._state = state
        self._unfinished: set[tuple[int, bytes]] = set()  # by the id of the shape that parsed the answer
        self._shapes = state().shapes
        terms = Terms(self.failed_costs, lambda: state().settings.jobs.result_ttl)
        self._end_writer = EndWriter(replica, terms, self._apply_recorded)
        self._words: set[tuple[str, str]] = set()
        self.unreadable: Counter[str] = Counter()
        """How many answers were unreadable, by reason."""
        self.unknown_words = 0
        """How many answers had a status word unknown to their shape."""

    def __repr__(self) -> str:
        return f"<Completion unfinished={len(self._unfinished)} pending={len(self._end_writer)}>"

    def is_unfinished(self, job: Job, content: bytes) -> bool:
        """Whether this very answer was parsed before, and said that a job of this shape still runs."""
        return self._state().shapes is self._shapes and (id(job.shape), content) in self._unfinished

    def count_miss(self, job: Job) -> None:
        """Called when the upstream does not know a job; twice in a row, a second apart, makes it lost."""
        if job.note_miss(self._wall()) >= _FORGOTTEN and job.is_running:
            log.warning("the upstream has forgotten a job", upstream=job.upstream)
            self.add_facts(job, Facts(Known.LOST))

    async def let_others_have_a_turn(self) -> None:
        """Waits for the next turn of the loop (Iteration.call_in_turn)."""
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._call_in_turn(partial(_call, called))
        await called

    def watch(self, job: Job) -> StatusWatch:
        """Returns a watch for the answer to our own request."""
        return StatusWatch(self, job, is_own=True)

    def watch_read(self, job: Job, asked: str) -> StatusWatch | None:
        """Returns a watch for the answer to a client's request as it passes; None if nothing depends on it any more.

        An answer from another target than the job's own, as under another operation, says nothing of the job, only
        whether its client was given anything.
        """
        if not job.is_open and not self._state().settings.jobs.delete_after_read:
            return None
        return StatusWatch(self, job, is_own=False, teaches=job.is_open and asked == job.target)

    def apply_finding(self, job: Job, found: Finding, *, is_own: bool) -> None:
        """Processes a whole answer.

        A client's headers may have caused an unreadable answer, or one that does not know the job. So these count
        only if we made the request.
        """
        if found.said is Said.UNREADABLE:
            if is_own:
                self._count_unreadable(job, found.why)
        elif found.said is Said.GONE:
            if is_own:
                self.count_miss(job)
        else:
            job.note_known()
            self.checkpoints.record(job, found.checkpoint)
            if found.said is Said.RUNNING:
                self._note_word(job, found.unknown)
            else:
                has_failed = found.said is Said.FAILED
                self.add_facts(job, Facts(Known.FAILED) if has_failed else Facts(Known.COMPLETE, found.pages))

    def remember_unfinished(self, job: Job, content: bytes) -> None:
        """Caches an answer that said that its job runs, if it is small."""
        if len(content) <= SMALL:
            shapes = self._state().shapes
            if len(self._unfinished) >= MAX_SMALL or shapes is not self._shapes:  # words may mean something else
                self._unfinished.clear()
                self._shapes = shapes
            self._unfinished.add((id(job.shape), content))

    def note_cut(self, job: Job) -> None:
        """Called when a long answer to our own request did not come to its end in time."""
        self._count_unreadable(job, _CUT)

    def _count_unreadable(self, job: Job, why: str) -> None:
        self.unreadable[why] += 1
        if job.note_unreadable() == 1:
            log.warning(
                "an answer about a job can't be read; it is asked ever more seldom", upstream=job.upstream, why=why
            )

    def _note_word(self, job: Job, word: str | None) -> None:
        if word is None:
            return
        self.unknown_words += 1
        if (job.shape.name, word) not in self._words and len(self._words) < _MAX_WORDS:
            self._words.add((job.shape.name, word))
            said = word if _PLAIN_WORD.fullmatch(word) else "(no plain word)"
            log.warning(
                "a status word is in no list of its shape; such a job runs on", shape=job.shape.name, word=said
            )

    def mark_failed(self, job: Job) -> None:
        """Called when a submit's answer said that its job failed."""
        self.add_facts(job, Facts(Known.FAILED))

    def mark_taken(self, job: Job) -> None:
        """Called when something that may be part of a job's result went to its owner."""
        if Known.COMPLETE not in job.known:  # else it costs its own pages in any case
            self.add_facts(job, Facts(Known.TAKEN))

    def add_facts(self, job: Job, facts: Facts) -> None:
        """Adds facts about a job's end, and writes them to the ledger in the background, with retries."""
        self._end_writer.add(job, facts)

    def retry_pending(self) -> None:
        """Retries writes that the ledger has not taken; called each second while it answers."""
        self._end_writer.retry()

    def failed_costs(self, job: Job) -> FailedCosts:
        """The stricter of the shape that the job began with and the one in force."""
        now = self._state().shapes.get(job.shape.name, job.shape)
        return stricter(job.shape.failed_costs, now.failed_costs)

    def forget(self, job: Job) -> None:
        """Makes a job unreadable from now on."""
        job.end(0)  # it stays cached: an older read of the ledger would revive it
        self._background.start(self._forget(job))

    async def forget_now(self, job: Job) -> None:
        """Makes a job unreadable before the upstream gets the delete; a running job is charged as reserved.

        Otherwise an owner could get pages back by deleting a job whose end the ledger has not recorded: the upstream
        would not know it any more, which looks like an upstream that was restarted.

        Raises:
            Refused: ledger_unavailable, or job_not_found if another request deleted it first; then nothing may be
                deleted upstream: its id may be another job's.
        """
        try:
            recorded, deleted = await self._forget_in_ledger(job)
        except LedgerUnavailable:
            raise ledger_away() from None
        job.end(0)
        self._report_settled(recorded, deleted.settled)
        if not deleted.was_readable:
            raise job_not_found()

    async def give_up(self, jobs: Collection[JobRef]) -> None:
        """Ends jobs in the ledger that have run for too long, and that nobody follows.

        Raises:
            LedgerUnavailable: they may not have ended.
        """
        ttl = self._state().settings.jobs.result_ttl
        for ref, recorded in await self._ledger.write(lambda c: give_up(c, jobs, self._wall(), ttl)):
            log.warning("a job has run for too long and was given up", upstream=ref.upstream)
            job = self._registry.get(ref.key)
            if job is not None and job.ref == ref:
                self._apply_recorded(job, recorded)
            else:
                self._report(recorded)

    def _apply_recorded(self, job: Job, recorded: Recorded | None) -> None:
        """Takes over a job's state in the ledger, whatever caused it."""
        if recorded is None:  # ended, but not in the ledger: it has no owner
            if job.is_running and job.known & ENDS:
                job.end(0)
                self._registry.drop(job)
            return
        job.add_known(recorded.known)
        if recorded.state is JobState.GONE:
            job.end(0)
        elif job.is_gone:  # the ledger was away when it was forgotten
            self._background.start(self._forget(job))
        elif recorded.state is not JobState.RUNNING and not job.is_gone and recorded.expires_at is not None:
            job.end(recorded.expires_at)
        if recorded.settled is not None and not recorded.is_end:
            log.warning("what a job was charged is corrected: it told of its end at last", upstream=job.upstream)
        self._report(recorded)

    def _report(self, recorded: Recorded) -> None:
        self._report_settled(recorded.settled)
        if recorded.is_end:
            self._effects.ended()

    def _report_settled(self, *settlements: Settled | None) -> None:
        for settled in settlements:
            if settled is not None:
                self._effects.settled(settled)

    async def _forget(self, job: Job) -> None:
        try:
            recorded, deleted = await self._forget_in_ledger(job)
        except LedgerUnavailable:
            log.warning("a job could not be forgotten yet; it will be when its time is over")
            return
        self._report_settled(recorded, deleted.settled)

    async def _forget_in_ledger(self, job: Job) -> tuple[Settled | None, Deleted]:
        """Forgets a job in the ledger, after its pending facts; returns what came of both."""
        end = self._end_writer.pending(job)
        new_facts = None if end is None else self._end_writer.new_facts(end)

        def work(connection: Connection) -> tuple[Settled | None, Deleted]:
            now, ttl = self._wall(), self._state().settings.jobs.result_ttl
            recorded = None if new_facts is None else record_facts(connection, *new_facts, now, ttl)
            forgotten = delete_for_owner(connection, job.ref, now)
            return None if recorded is None else recorded.settled, forgotten

        came_of = await self._ledger.write(work, in_turn_of=job.owner)
        if end is not None:
            self._end_writer.drop(end)
        return came_of


def _call(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():  # the waiter may have left
        waiting.set_result(None)
