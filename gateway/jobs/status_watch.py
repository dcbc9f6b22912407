"""Reads one status answer as it passes: of a client's poll, or of the watcher's own request."""

from collections.abc import Callable
from typing import Final, Protocol

from gateway.jobs.job import Job
from gateway.jobs.reading import StatusReader, has_no_text, is_answer
from gateway.jobs.status_answer import MAX_CONTENT
from gateway.jobs.unfinished_answers import UnfinishedAnswers
from gateway.upstream.body_sink import GoOn
from gateway.upstream.job_api import Finding, Said
from gateway.upstream.response_head import ResponseHead

_SHARED: Final = 65_536


class Informed(Protocol):
    """Who hears what an answer means (Findings)."""

    async def do_in_later_turn(self, work: Callable[[], None]) -> None:
        """Does a piece of work in a later turn of the loop, and returns after that."""

    def apply(self, job: Job, found: Finding, *, is_own: bool) -> None:
        """Processes a whole answer."""

    @property
    def clock(self) -> Callable[[], float]:
        """The loop's clock, in seconds."""

    @property
    def unfinished(self) -> UnfinishedAnswers:
        """The answers that are not parsed again."""


class StatusWatch:
    """Reads one status answer as it passes."""

    __slots__ = (
        "_findings",
        "_is_own",
        "_job",
        "_most",
        "_teaches",
        "began_at",
        "content",
        "finding",
        "gives_nothing",
        "is_final",
        "is_unfinished",
        "reader",
    )

    def __init__(self, findings: Informed, job: Job, *, is_own: bool, teaches: bool = True) -> None:
        self._findings = findings
        self._job = job
        self._is_own = is_own
        self._teaches = teaches
        self._most = _SHARED if job.is_held else MAX_CONTENT
        self.began_at = 0.0
        """When its head came, by the loop's clock: what it says is no newer."""
        self.reader: StatusReader | None = None
        self.content: bytes | None = b""
        """The answer so far; None if it is too long to keep."""
        self.finding: Finding | None = None
        """What it said, once whole; None if it is not an answer about a job."""
        self.is_final = False
        """Whether it said, once whole, that the job has ended."""
        self.is_unfinished = False
        """Whether it said, once whole, that the job still runs."""
        self.gives_nothing = False
        """Whether it said, once whole, that no result exists, or none yet."""

    def begin(self, head: ResponseHead) -> None:
        """Takes the answer's head."""
        self.began_at = self._findings.clock()
        if is_answer(head.status):
            self.reader = StatusReader(self._job.shape, head)

    def take(self, data: bytes) -> GoOn | None:
        """Takes the next bytes of the body; gives what undoes the rest of its coding, in steps, if any is left."""
        reader = self.reader
        if reader is not None:
            reader.take(data)
        if self.content is not None:
            self.content = self.content + data if len(self.content) + len(data) <= self._most else None
        return reader.catch_up if reader is not None and reader.is_behind else None

    async def end(self) -> None:
        """Called once the answer is whole: parses the rest of it, and processes what it means."""
        reader = self.reader
        if reader is None:
            return
        while reader.is_behind:
            await self._findings.do_in_later_turn(reader.go_on)
        self.finding = found = reader.finding()
        self.is_final = found.said in {Said.COMPLETE, Said.FAILED}
        self.is_unfinished = found.said is Said.RUNNING
        self.gives_nothing = found.gives_nothing
        if not self._teaches:
            return
        if found.has_no_word and reader.is_plain and self.content is not None:
            self.gives_nothing = has_no_text(self.content)
        self._findings.apply(self._job, found, is_own=self._is_own)
        teaches_no_more = found.is_processing and found.checkpoint is None  # that is its owner's, and for a time
        if teaches_no_more and reader.is_plain and self.content is not None:
            self._findings.unfinished.remember(self._job, self.content)
