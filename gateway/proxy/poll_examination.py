"""Examines answers to polls: what each says of its job, noted in the request's record and kept for others who ask.

Only this file writes the three flags of a Delivery: `is_final`, `is_unfinished` and `gives_nothing`.
"""

from collections.abc import Callable

from gateway.jobs.findings import Findings
from gateway.jobs.job import Job
from gateway.jobs.status_answer import StatusAnswer
from gateway.jobs.status_watch import StatusWatch
from gateway.model.request import Delivery
from gateway.model.routes import Kind
from gateway.model.statuses import OK
from gateway.proxy.forward_order import ForwardOrder
from gateway.upstream.body_sink import GoOn
from gateway.upstream.response_head import ResponseHead


class PollExamination:
    """Examines one answer as it passes: `take` for each piece, `end` once it is whole, `close` whatever became of it.

    While it runs, nobody else has to ask for the job's state.
    """

    __slots__ = ("_answer", "_asked_before", "_clock", "_job", "_order", "_watch")

    def __init__(
        self, order: ForwardOrder, job: Job, answer: ResponseHead, watch: StatusWatch, clock: Callable[[], float]
    ) -> None:
        self._order = order
        self._job = job
        self._answer = answer
        self._watch = watch
        self._clock = clock
        self._asked_before = job.mark_asked(clock()) if order.prepared.asks_status(job) else None
        watch.begin(answer)

    def take(self, data: bytes) -> GoOn | None:
        """Takes the next bytes; gives what it does, in turns, before it takes more, if anything."""
        return self._watch.take(data)

    async def end(self) -> None:
        """Called once the answer is whole: notes what it said."""
        watch, delivery = self._watch, self._order.delivery
        await watch.end()
        delivery.is_final = watch.is_final
        delivery.is_unfinished = watch.is_unfinished
        delivery.gives_nothing = watch.gives_nothing
        if watch.content is not None:
            _keep_running(self._order, self._answer, watch.content)

    def close(self) -> None:
        """Lets others ask, if the answer said nothing of the job's state: the client may have caused that."""
        watch = self._watch
        if self._asked_before is not None and not (watch.is_final or watch.is_unfinished):
            self._job.unmark_asked(self._asked_before)


class PollExaminer:
    """Examines answers, where anything depends on them. `clock` is the loop's, in seconds."""

    def __init__(self, findings: Findings, clock: Callable[[], float]) -> None:
        self._findings = findings
        self._clock = clock

    async def examine(self, order: ForwardOrder, answer: ResponseHead, content: bytes) -> None:
        """Examines a whole answer."""
        job = order.job
        if job is None:
            return
        if answer.status == OK and job.is_running and self._findings.unfinished.has(job, content):
            self._note_unfinished(order, job, answer, content)
            return
        examination = self.begin(order, answer)
        if examination is not None:
            try:
                examination.take(content)
                await examination.end()
            finally:
                examination.close()

    def begin(self, order: ForwardOrder, answer: ResponseHead) -> PollExamination | None:
        """Begins to examine an answer that comes in pieces; None: nothing depends on what it says."""
        job, prepared = order.job, order.prepared
        is_result = prepared.permit.route.kind is Kind.RESULT and prepared.method != "HEAD"
        if job is None or not is_result or answer.status != OK:
            return None
        watch = self._findings.watch_read(job, prepared.path_and_query)
        return None if watch is None else PollExamination(order, job, answer, watch, self._clock)

    def _note_unfinished(self, order: ForwardOrder, job: Job, answer: ResponseHead, content: bytes) -> None:
        """Notes an answer that was examined before: nearly all are of this kind."""
        order.delivery.is_unfinished = order.delivery.gives_nothing = True
        if order.prepared.asks_status(job):
            job.mark_asked(self._clock())
            job.note_known()
            _keep_running(order, answer, content)


def note_shared(delivery: Delivery, answer: StatusAnswer) -> None:
    """Notes what an answer said that another request got."""
    delivery.is_final, delivery.is_unfinished = answer.is_final, not answer.is_final
    delivery.gives_nothing = answer.gives_nothing


def _keep_running(order: ForwardOrder, answer: ResponseHead, content: bytes) -> None:
    """Keeps an answer that said that the job runs, and no more, for others who ask; it is as old as its head.

    It may have waited here since then, while its job was looked up again: seconds, where the ledger is slow.
    """
    delivery = order.delivery
    if order.asking_poll is not None and delivery.is_unfinished and delivery.gives_nothing:
        order.asking_poll.keep(StatusAnswer.of_running(answer, content), delivery.answered)
