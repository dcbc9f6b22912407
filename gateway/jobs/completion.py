"""What a job's end causes, once: the ledger settles its pages, its webhook becomes due, its long polls go on."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

import structlog
from sqlalchemy import Connection

from gateway.admission.admission import Admission, ledger_away
from gateway.config.state import State
from gateway.errors import LedgerUnavailable
from gateway.jobs.checkpoints import Checkpoints
from gateway.jobs.job import Job
from gateway.jobs.reading import Reader, is_answer
from gateway.jobs.registry import Registry
from gateway.ledger.jobs import Ended, end, find, forget, give_up, mend
from gateway.ledger.reservations import Settled
from gateway.upstream.job_api import Ending, Finding, Said
from gateway.upstream.response_head import ResponseHead

_SMALL: Final = 512
_FORGOTTEN: Final = 2
_APART: Final = 0.9
_SHARED: Final = 65_536
_MAX_SMALL: Final = 1024
_MAX_WORDS: Final = 100
_PLAIN_WORD: Final = re.compile(r"[\w .:-]{1,64}", re.ASCII)
log = structlog.get_logger()


class Completion:
    """Takes what status answers say, of clients' own polls and of the watcher's. `state` gives the one in force.

    `wait` is the iteration's; `ended` is told when a job's end stands in the ledger.
    """

    def __init__(
        self,
        admission: Admission,
        registry: Registry,
        state: Callable[[], State],
        wait: Callable[[Callable[[], None]], None],
        ended: Callable[[], None],
    ) -> None:
        self._admission = admission
        self._wait = wait
        self._ended = ended
        self.checkpoints = Checkpoints(
            admission.ledger, admission.wall, lambda: state().settings.jobs.result_ttl, admission.work
        )
        self._registry = registry
        self._state = state
        self._unfinished: set[tuple[int, bytes]] = set()  # by the very shape that an answer was read by
        self._shapes = state().shapes
        self._being_told: set[tuple[str, str]] = set()
        self._words: set[tuple[str, str]] = set()
        self.unreadable: Counter[str] = Counter()
        """How many answers could not be read, by why."""
        self.unknown_words = 0
        """How many answers had a status word that their shape does not know."""

    def __repr__(self) -> str:
        return f"<Completion unfinished={len(self._unfinished)} being_told={len(self._being_told)}>"

    def is_unfinished(self, job: Job, content: bytes) -> bool:
        """Whether this very answer was read before, and said that such a job still runs."""
        return self._state().shapes is self._shapes and (id(job.shape), content) in self._unfinished

    def unknown(self, job: Job) -> None:
        """Takes note that the upstream does not know a job; twice in a row, a second apart, and it is lost."""
        now = self._admission.wall()
        if job.misses and 0 <= now - job.missed_at < _APART:
            return
        job.misses, job.missed_at = job.misses + 1, now
        if job.misses >= _FORGOTTEN and job.is_running:
            log.warning("the upstream has forgotten a job", upstream=job.upstream)
            how = self._failure(job, is_lost=True)
            self.ended(job, how._replace(given_up=how.given_up or job.is_read))

    async def let_others_have_a_turn(self) -> None:
        """Waits for the next turn of the loop (Iteration.wait)."""
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wait(partial(_call, called))
        await called

    def watch(self, job: Job, *, is_own: bool = False) -> "StatusWatch":
        """What looks at one status answer as it passes; `is_own` says that no client has asked for it."""
        return StatusWatch(self, job, is_own=is_own)

    def learnt(self, job: Job, found: Finding, *, is_own: bool) -> None:
        """Takes what a whole answer said.

        What a client's headers may have brought about is no evidence: an answer that can't be read, or that does not
        know the job, counts only where we asked.
        """
        if found.said is Said.UNREADABLE:
            if is_own:
                self._could_not_read(job, found.why)
        elif found.said is Said.GONE:
            if is_own:
                job.unread = 0
                self.unknown(job)
        else:
            job.misses = job.unread = 0
            self.checkpoints.saw(job, found.checkpoint)
            if found.said is Said.RUNNING:
                self._note_word(job, found.unknown)
            elif job.is_running:
                how = (
                    self._failure(job, found.pages)
                    if found.said is Said.FAILED
                    else Ending(failed=False, pages=found.pages)
                )
                job.saw(how)
                self.ended(job, how)
            else:
                self._mend(job, found)

    def runs(self, job: Job, content: bytes) -> None:
        """Remembers an answer that said that its job runs, if it is small."""
        if len(content) <= _SMALL:
            shapes = self._state().shapes
            if len(self._unfinished) >= _MAX_SMALL or shapes is not self._shapes:  # words may mean something else
                self._unfinished.clear()
                self._shapes = shapes
            self._unfinished.add((id(job.shape), content))

    def _could_not_read(self, job: Job, why: str) -> None:
        self.unreadable[why] += 1
        job.unread, job.misses = job.unread + 1, 0
        if job.unread == 1:
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

    def _mend(self, job: Job, found: Finding) -> None:
        """Corrects what was settled for want of the truth: a job that counts as failed, and tells of its end now."""
        how, failed = job.how, found.said is Said.FAILED
        is_news = (
            how is not None
            and how.failed
            and not job.is_gone
            and (not failed or (how.given_up and self._is_free(job)))
        )
        if is_news and job.key not in self._being_told:
            self._being_told.add(job.key)
            self._admission.work(self._tell_truth(job, Ending(failed, found.pages)))

    def failed(self, job: Job) -> None:
        """Takes that a job failed, as its submit's answer said."""
        self.ended(job, self._failure(job))

    def was_seen(self, job: Job) -> None:
        """Takes that something of a job's result went to its owner: then the container has not lost it."""
        how = job.how
        if how is not None and how.is_lost and not how.given_up and job.key not in self._being_told:
            self._being_told.add(job.key)
            self._admission.work(self._tell_truth(job, Ending(failed=False, pages=None)))

    def _failure(self, job: Job, pages: int | None = None, *, is_lost: bool = False) -> Ending:
        return Ending(failed=True, pages=pages, given_up=not self._is_free(job), is_lost=is_lost)

    def _is_free(self, job: Job) -> bool:
        """Whether a failure costs nothing, by the shape that it began with and by the one in force."""
        now = self._state().shapes.get(job.shape.name, job.shape)
        return job.shape.failed_is_free and now.failed_is_free

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
            settled = await self._admission.ledger.write(
                lambda c: give_up(c, job.key, self._admission.wall()), of=job.owner
            )
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
            return _end(connection, job, how, now, ttl)

        try:
            ended = await admission.ledger.write(work, of=job.owner)
            if ended is None:  # another replica was first
                row = await admission.ledger.read(lambda c: find(c, *job.key), of=job.owner)
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
            job.how = how
            if not job.is_gone:  # it was deleted meanwhile
                job.ended(ended.expires_at)
            if ended.settled is not None:
                self._settled(ended.settled)
            self._ended()

    async def _tell_truth(self, job: Job, how: Ending) -> None:
        now = self._admission.wall()
        try:
            settled = await self._admission.ledger.write(
                lambda c: mend(c, job.key, how.pages, now, failed=how.failed), of=job.owner
            )
        except LedgerUnavailable:
            return  # the next answer tells it again
        finally:
            self._being_told.discard(job.key)
        job.how = how
        if settled is not None:
            log.warning("what a job was charged is corrected: it told of its end at last", upstream=job.upstream)
            self._settled(settled)

    def _settled(self, settled: Settled) -> None:
        self._admission.counts.pages(*settled)
        self._admission.throttle.given_back(settled.account)

    async def _forget(self, job: Job, how: Ending | None) -> None:
        now = self._admission.wall()

        def work(connection: Connection) -> Ended | None:
            ended = None
            if how is not None:
                ended = _end(connection, job, how, now, 0)
            forget(connection, job.key, now)
            return ended

        try:
            ended = await self._admission.ledger.write(work, of=job.owner)
        except LedgerUnavailable:
            log.warning("a job could not be forgotten yet; it will be when its time is over")
            return
        if ended is not None and ended.settled is not None:
            self._settled(ended.settled)


class StatusWatch:
    """Looks at one status answer as it passes."""

    __slots__ = (
        "_completion",
        "_is_own",
        "_job",
        "_most",
        "_reader",
        "content",
        "finding",
        "is_final",
        "is_unfinished",
    )

    def __init__(self, completion: Completion, job: Job, *, is_own: bool) -> None:
        self._completion = completion
        self._job = job
        self._is_own = is_own
        self._most = _SHARED if job.waiters else _SMALL
        self._reader: Reader | None = None
        self.content: bytes | None = b""
        """The answer so far; None when it is longer than is kept."""
        self.finding: Finding | None = None
        """What it said, once it was whole; None for what is no answer about a job."""
        self.is_final = False
        """Whether it said, once it was whole, that the job has ended."""
        self.is_unfinished = False
        """Whether it said, once it was whole, that the job still runs."""

    def begin(self, head: ResponseHead) -> None:
        """Takes the answer's head."""
        if is_answer(head.status):
            self._reader = Reader(self._job.shape, head)

    def take(self, data: bytes) -> None:
        """Takes the next bytes of the body."""
        if self._reader is not None:
            self._reader.take(data)
        if self.content is not None:
            self.content = self.content + data if len(self.content) + len(data) <= self._most else None

    async def end(self) -> None:
        """Called once the answer is whole: reads what is left of it, and lets follow what it means."""
        reader = self._reader
        if reader is None:
            return
        while reader.is_behind:
            await self._completion.let_others_have_a_turn()
            reader.go_on()
        self.finding = found = reader.finding()
        self.is_final = found.said in {Said.COMPLETE, Said.FAILED}
        self.is_unfinished = found.said is Said.RUNNING
        self._completion.learnt(self._job, found, is_own=self._is_own)
        if self.is_unfinished and reader.is_plain and self.content is not None:
            self._completion.runs(self._job, self.content)


def _call(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():  # whoever waited may have left
        waiting.set_result(None)


def _end(connection: Connection, job: Job, how: Ending, now: float, ttl: float) -> Ended | None:
    return end(
        connection, job.key, how.pages, now, ttl, failed=how.failed, given_up=how.given_up, is_lost=how.is_lost
    )
