"""What answers about jobs say, and what follows: the end of a job, a miss, a checkpoint, or only a word to count."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Final

import structlog

from gateway.aio.in_turn import run_in_later_turn
from gateway.aio.iteration import Iteration
from gateway.config.state import State
from gateway.jobs.checkpoints import Checkpoints
from gateway.jobs.completion import Completion
from gateway.jobs.job import Job
from gateway.jobs.status_watch import StatusWatch
from gateway.jobs.unfinished_answers import UnfinishedAnswers
from gateway.limits.job_cost import Facts, Known
from gateway.model.times import Times
from gateway.upstream.job_api import Finding, Said

_FORGOTTEN: Final = 2
_MAX_WORDS: Final = 100
_CUT: Final = "cut"
_PLAIN_WORD: Final = re.compile(r"[\w .:-]{1,64}", re.ASCII)
log = structlog.get_logger()


class Findings:
    """Applies the answers to clients' polls and to the watcher's requests. `state` returns the State in force."""

    def __init__(
        self,
        completion: Completion,
        checkpoints: Checkpoints,
        state: Callable[[], State],
        times: Times,
        iteration: Iteration,
    ) -> None:
        self._completion = completion
        self._checkpoints = checkpoints
        self._state = state
        self._wall = times.wall
        self.clock = times.monotonic
        self._iteration = iteration
        self.unfinished = UnfinishedAnswers(state)
        self._words: set[tuple[str, str]] = set()
        self.unreadable: Counter[str] = Counter()
        """How many answers were unreadable, by reason."""
        self.unknown_words = 0
        """How many answers had a status word unknown to their shape."""

    def __repr__(self) -> str:
        return f"<Findings {self.unfinished!r} unknown_words={self.unknown_words}>"

    async def do_in_later_turn(self, work: Callable[[], None]) -> None:
        """Does a piece of work in a later turn of the loop, whose time it takes: tens of answers may end at once."""
        await run_in_later_turn(self._iteration, work)

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

    def apply(self, job: Job, found: Finding, *, is_own: bool) -> None:
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
            self._checkpoints.record(job, found.checkpoint)
            if found.said is Said.RUNNING:
                self._note_word(job, found.unknown)
            else:
                has_failed = found.said is Said.FAILED
                self._completion.add_facts(
                    job, Facts(Known.FAILED) if has_failed else Facts(Known.COMPLETE, found.pages)
                )

    def note_cut(self, job: Job) -> None:
        """Called when a long answer to our own request did not come to its end in time."""
        self._count_unreadable(job, _CUT)

    def count_miss(self, job: Job) -> None:
        """Called when the upstream does not know a job; twice in a row, a second apart, makes it lost."""
        if job.note_miss(self._wall()) >= _FORGOTTEN and job.is_running:
            log.warning("the upstream has forgotten a job", upstream=job.upstream)
            self._completion.add_facts(job, Facts(Known.LOST))

    def give_up(self, job: Job) -> None:
        """Called when a job has run for too long: no answer is waited for any more."""
        self._completion.mark_given_up(job)

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
