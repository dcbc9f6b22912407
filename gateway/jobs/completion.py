"""What a job's end causes, once: the ledger settles its pages, its webhook becomes due, its long polls go on."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Final, NamedTuple

import structlog
from sqlalchemy import Connection

from gateway.admission.admission import ledger_away
from gateway.config.state import State
from gateway.errors import LedgerUnavailable
from gateway.jobs.checkpoints import Checkpoints
from gateway.jobs.job import Job
from gateway.jobs.reading import Reader, is_answer
from gateway.jobs.registry import Registry
from gateway.ledger.jobs import JobKey, Learnt, give_up, learn
from gateway.ledger.replica import Replica
from gateway.ledger.reservations import Settled
from gateway.ledger.schema import JobState
from gateway.model.endings import ENDS, Facts, FailedCosts, Known, stricter
from gateway.upstream.job_api import Finding, Said
from gateway.upstream.response_head import ResponseHead

_SMALL: Final = 512
_FORGOTTEN: Final = 2
_APART: Final = 0.9
_SAME: Final = 2.0  # seconds between the beginnings of one job as two look-ups have it, at the most
_SHARED: Final = 65_536
_MAX_SMALL: Final = 1024
_MAX_WORDS: Final = 100
_MAX_UNTOLD: Final = 20_000
"""With the ledger away for long, what is learnt beyond is learnt again: of a job that runs there, by the watcher."""

_AT_ONCE: Final = 200
_PLAIN_WORD: Final = re.compile(r"[\w .:-]{1,64}", re.ASCII)
log = structlog.get_logger()


class Effects(NamedTuple):
    """Called with each settlement, and when a job's end stands in the ledger."""

    settled: Callable[[Settled], None]
    ended: Callable[[], None]


class Completion:
    """Takes what status answers say, of clients' own polls and of the watcher's. `state` gives the one in force.

    `wait` is the iteration's.
    """

    def __init__(
        self,
        replica: Replica,
        registry: Registry,
        state: Callable[[], State],
        wait: Callable[[Callable[[], None]], None],
        effects: Effects,
    ) -> None:
        self._ledger = replica.ledger
        self._wall = replica.wall
        self._background = replica.background
        self._wait = wait
        self._effects = effects
        self.checkpoints = Checkpoints(replica, lambda: state().settings.jobs.result_ttl)
        self._registry = registry
        self._state = state
        self._unfinished: set[tuple[int, bytes]] = set()  # by the very shape that an answer was read by
        self._shapes = state().shapes
        self._untold: dict[tuple[str, str], Untold] = {}
        self._being_told: set[tuple[str, str]] = set()
        self._words: set[tuple[str, str]] = set()
        self.unreadable: Counter[str] = Counter()
        """How many answers could not be read, by why."""
        self.unknown_words = 0
        """How many answers had a status word that their shape does not know."""

    def __repr__(self) -> str:
        return f"<Completion unfinished={len(self._unfinished)} untold={len(self._untold)}>"

    def is_unfinished(self, job: Job, content: bytes) -> bool:
        """Whether this very answer was read before, and said that such a job still runs."""
        return self._state().shapes is self._shapes and (id(job.shape), content) in self._unfinished

    def unknown(self, job: Job) -> None:
        """Takes note that the upstream does not know a job; twice in a row, a second apart, and it is lost."""
        now = self._wall()
        if job.misses and 0 <= now - job.missed_at < _APART:
            return
        job.misses, job.missed_at = job.misses + 1, now
        if job.misses >= _FORGOTTEN and job.is_running:
            log.warning("the upstream has forgotten a job", upstream=job.upstream)
            self.learn(job, Facts(Known.LOST))

    async def let_others_have_a_turn(self) -> None:
        """Waits for the next turn of the loop (Iteration.wait)."""
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wait(partial(_call, called))
        await called

    def watch(self, job: Job) -> "StatusWatch":
        """What looks at the answer to a question of ours."""
        return StatusWatch(self, job, is_own=True)

    def watch_read(self, job: Job, asked: str) -> "StatusWatch | None":
        """What looks at the answer to a client's question as it passes; None when nothing hangs on it any more.

        What is answered elsewhere than at the job's own target, as under another operation, says nothing of the job,
        only of whether its client was given anything.
        """
        if not job.is_open and not self._state().settings.jobs.delete_after_read:
            return None
        return StatusWatch(self, job, is_own=False, teaches=job.is_open and asked == job.target)

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
            else:
                has_failed = found.said is Said.FAILED
                self.learn(job, Facts(Known.FAILED) if has_failed else Facts(Known.COMPLETE, found.pages))

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

    def failed(self, job: Job) -> None:
        """Takes that a job failed, as its submit's answer said."""
        self.learn(job, Facts(Known.FAILED))

    def taken(self, job: Job) -> None:
        """Takes that something that may be of a job's result went to its owner."""
        if Known.COMPLETE not in job.known:  # then it costs what it had, whoever read it
            self.learn(job, Facts(Known.TAKEN))

    def learn(self, job: Job, facts: Facts) -> None:
        """Takes what is known of a job's end, and tells the ledger in the background, until it has taken it."""
        untold = self._untold.get(job.key)
        if untold is not None and abs(untold.job.created_at - job.created_at) > _SAME:
            untold = None  # of another one that had this id
        if untold is None and (facts.known in job.known or len(self._untold) >= _MAX_UNTOLD):
            return
        job.saw(facts.known)
        self._untold[job.key] = Untold(job, facts if untold is None else untold.facts.plus(facts))
        self._tell_soon(job.key)

    def tell_again(self) -> None:
        """Tells the ledger what it has not taken so far, some at once; called each second while it answers."""
        for key in list(islice(self._untold, _AT_ONCE)):
            self._tell_soon(key)

    def _tell_soon(self, key: tuple[str, str]) -> None:
        if key not in self._being_told:
            self._being_told.add(key)
            self._background.start(self._tell(key))

    def _failed_costs(self, job: Job) -> FailedCosts:
        """By the shape that it began with and by the one in force."""
        now = self._state().shapes.get(job.shape.name, job.shape)
        return stricter(job.shape.failed_costs, now.failed_costs)

    def forget(self, job: Job) -> None:
        """Lets nobody read a job from now on."""
        job.ended(0)  # it stays in the registry: what was read of it in the ledger before would else bring it back
        self._background.start(self._forget(job))

    async def forget_now(self, job: Job) -> None:
        """Lets nobody read a job from now on, before the upstream hears of it; one that runs is charged as reserved.

        Else who deletes a job that the ledger does not know to have ended would have its pages back: the upstream
        does not know it any more, which looks like one that was restarted.

        Raises:
            Refused: ledger_unavailable; then nothing may be deleted.
        """
        try:
            settled = await self._forgotten(job)
        except LedgerUnavailable:
            raise ledger_away() from None
        job.ended(0)
        self._settled(*settled)

    async def _tell(self, key: tuple[str, str]) -> None:
        """Tells all that is untold of a job, also what is learnt meanwhile; what the ledger does not take stays."""
        try:
            while (untold := self._untold.get(key)) is not None:
                learnt = await self._ledger.write(self._learning(untold), of=untold.job.owner)
                self._was_told(untold)
                self._take_over(untold.job, learnt)
        except LedgerUnavailable:
            return
        finally:
            self._being_told.discard(key)

    def _learning(self, untold: "Untold") -> Callable[[Connection], Learnt | None]:
        job, now = untold.job, self._wall()
        named, failed_costs = JobKey(*job.key, job.created_at), self._failed_costs(job)
        ttl = self._state().settings.jobs.result_ttl
        return lambda connection: learn(connection, named, untold.facts, failed_costs, now, ttl)

    def _was_told(self, untold: "Untold") -> None:
        """Unless more was learnt of the job meanwhile."""
        if self._untold.get(untold.job.key) is untold:
            del self._untold[untold.job.key]

    def _take_over(self, job: Job, learnt: Learnt | None) -> None:
        """Takes over how a job stands in the ledger, whoever brought that about."""
        if learnt is None:  # what has ended and is not there is nobody's
            if job.is_running and job.known & ENDS:
                job.ended(0)
                self._registry.drop(job)
            return
        job.saw(learnt.known)
        if learnt.state is JobState.GONE:
            job.ended(0)
        elif job.is_gone:  # the ledger could not take that when it was forgotten
            self._background.start(self._forget(job))
        elif learnt.state is not JobState.RUNNING and not job.is_gone and learnt.expires_at is not None:
            job.ended(learnt.expires_at)
        if learnt.settled is not None and not learnt.is_end:
            log.warning("what a job was charged is corrected: it told of its end at last", upstream=job.upstream)
        self._settled(learnt.settled)
        if learnt.is_end:
            self._effects.ended()

    def _settled(self, *settlements: Settled | None) -> None:
        for settled in settlements:
            if settled is not None:
                self._effects.settled(settled)

    async def _forget(self, job: Job) -> None:
        try:
            settled = await self._forgotten(job)
        except LedgerUnavailable:
            log.warning("a job could not be forgotten yet; it will be when its time is over")
            return
        self._settled(*settled)

    async def _forgotten(self, job: Job) -> tuple[Settled | None, Settled | None]:
        """Forgets a job in the ledger, behind all that is known of its end; what was charged for either."""
        untold = self._untold.get(job.key)
        learning = None if untold is None else self._learning(untold)

        def work(connection: Connection) -> tuple[Settled | None, Settled | None]:
            learnt = None if learning is None else learning(connection)
            forgotten = give_up(connection, JobKey(*job.key, job.created_at), self._wall())
            return None if learnt is None else learnt.settled, forgotten

        settled = await self._ledger.write(work, of=job.owner)
        if untold is not None:
            self._was_told(untold)
        return settled


class Untold(NamedTuple):
    """What the ledger has not taken so far of a job's end."""

    job: Job
    facts: Facts


class StatusWatch:
    """Looks at one status answer as it passes."""

    __slots__ = (
        "_completion",
        "_is_own",
        "_job",
        "_most",
        "_reader",
        "_teaches",
        "content",
        "finding",
        "gives_nothing",
        "is_final",
        "is_unfinished",
    )

    def __init__(self, completion: Completion, job: Job, *, is_own: bool, teaches: bool = True) -> None:
        self._completion = completion
        self._job = job
        self._is_own = is_own
        self._teaches = teaches
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
        self.gives_nothing = False
        """Whether it said, once it was whole, that there is no result, or none yet."""

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
        self.gives_nothing = found.gives_nothing
        if not self._teaches:
            return
        self._completion.learnt(self._job, found, is_own=self._is_own)
        if found.is_processing and reader.is_plain and self.content is not None:
            self._completion.runs(self._job, self.content)


def _call(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():  # whoever waited may have left
        waiting.set_result(None)
