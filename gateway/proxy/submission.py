"""One submit while it is forwarded: its form, its slot and pages, and the job that its answer tells of."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from gateway.admission.lease import Lease, PagesRefused
from gateway.ledger.jobs import NewJob
from gateway.proxy.judged_form import FormJudge
from gateway.upstream.job_api import JobShape
from gateway.upstream.submit_answer import SubmitAnswer
from gateway.webhooks.egress.destination import Destination
from gateway.webhooks.outbound.planning import Planning


class Intake(NamedTuple):
    """What happens to a job. `begin_job` is called once its owner is in the ledger.

    It gets the job's reservation, the job, and whether that failed at once. `end_another_owners` is called before:
    with upstream, id and owner.
    """

    shape: JobShape
    path: str
    begin_job: Callable[[str, NewJob, bool], None]
    end_another_owners: Callable[[str, str, str], None]
    webhooks: Planning


class Submission:
    """The checks and steps of a submit while it is forwarded."""

    __slots__ = ("_destination", "_form", "_intake", "_lease")

    def __init__(self, lease: Lease, form: FormJudge, intake: Intake) -> None:
        self._lease = lease
        self._form = form
        self._intake = intake
        self._destination: Destination | None = None

    @property
    def lines(self) -> tuple[bytes, ...]:
        """Header lines for the client: the state of its limits."""
        return self._lease.lines

    async def take(self, data: bytes) -> bytes:
        """Inspects the next bytes of the body; returns those that may go upstream now.

        Raises:
            Refused: they are invalid.
        """
        return await self._form.take(data)

    async def reserve_pages(self, let_others: Callable[[], Awaitable[None]]) -> bytes:
        """Called after the last byte: takes the pages, and the slot where there is none; returns the body's end.

        `let_others` gives all others a turn.

        Raises:
            Refused: the body is invalid, it has too many pages, or its sender may no longer submit.
        """
        judged = await self._form.judge(let_others)
        self._lease.judge_by(judged.profile)
        self._destination = judged.destination
        try:
            await self._lease.reserve(judged.ask)
        except PagesRefused as refused:
            raise judged.explained(refused) from None
        return self._form.tail

    async def until_known(self) -> None:
        """Called before an answer that is no job is passed on: it may have come before the slot was asked for.

        Raises:
            Refused: the account has reached a limit, or ledger_unavailable.
        """
        await self._lease.until_known()

    @property
    def is_released(self) -> bool:
        """Whether the end of the body went upstream."""
        return self._lease.is_released

    def mark_released(self) -> None:
        """Notes that the end of the body goes upstream now."""
        self._lease.mark_released()

    def mark_refused(self) -> None:
        """Notes that the upstream refused the job: its answer is not a 2xx."""
        self._lease.mark_refused()

    async def take_answer(self, answer: SubmitAnswer) -> None:
        """Takes the upstream's 2xx answer before the client sees it.

        Raises:
            Refused: ledger_unavailable.
            UpstreamBrokeOff: the answer has another job's id.
        """
        request_id, check_url = answer.request_id, answer.check_url
        if request_id is None and answer.has_failed:
            self._lease.mark_refused()
        elif request_id is None:
            await self._lease.accept(None)
        else:
            intake, where = self._intake, self._destination
            new = NewJob(request_id, intake.shape.name, intake.path, check_url)
            job = self._lease.upstream, request_id
            planned = None if where is None else intake.webhooks.planned(where, job, self._lease.owner, check_url)
            intake.end_another_owners(*job, self._lease.owner)  # the upstream has said whose the id is now
            await self._lease.accept(new, planned)
            intake.begin_job(self._lease.reservation, new, answer.has_failed)

    def close(self) -> None:
        """Releases everything held; called on every path."""
        self._form.close()
        self._lease.close()
