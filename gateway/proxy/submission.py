"""One submit: inspects its body, reserves its pages before the body's end is released, reads its answer."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, NamedTuple

from gateway.admission.admission import Lease
from gateway.errors import Refused
from gateway.jobs.checkpoints import Checkpoints
from gateway.ledger.jobs import NewJob
from gateway.limits.prices import Pricing
from gateway.limits.submit_decisions import Ask
from gateway.model.identity import Profile
from gateway.model.reasons import Reason
from gateway.model.request import Permit
from gateway.uploads.file_kind import FileKind
from gateway.uploads.form import Form
from gateway.uploads.pages.bound import check_choice, narrowing, page_bound
from gateway.uploads.submit_body import SubmitBody
from gateway.upstream.job_api import JobShape
from gateway.upstream.submit_answer import SubmitAnswer
from gateway.webhooks.egress.destination import Destination
from gateway.webhooks.outbound.planning import Planning

_KNOWN_MODES: Final = frozenset({"fast", "balanced", "accurate"})


class Intake(NamedTuple):
    """What happens to a job. `begin_job` is called once its owner is in the ledger.

    It gets the job's reservation, the job, and whether that failed at once. `end_another_owners` is called before:
    with upstream, id and owner.

    `checkpoints` knows the owner of a checkpoint that a submit may name.
    """

    shape: JobShape
    path: str
    begin_job: Callable[[str, NewJob, bool], None]
    end_another_owners: Callable[[str, str, str], None]
    webhooks: Planning
    checkpoints: Checkpoints


class Submission:
    """The checks and steps of a submit while it is forwarded.

    `permit_now` gives the sender's permit as it would be granted now, with the limits for the pages; raises Refused.
    """

    __slots__ = ("_body", "_checked", "_destination", "_intake", "_lease", "_permit_now", "_pricing")

    def __init__(
        self,
        lease: Lease,
        body: SubmitBody,
        permit_now: Callable[[], Permit],
        pricing: Pricing,
        intake: Intake,
    ) -> None:
        self._lease = lease
        self._body = body
        self._permit_now = permit_now
        self._pricing = pricing
        self._intake = intake
        self._checked: Profile | None = None
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
        return await self._body.take(data)

    async def reserve_pages(self, let_others: Callable[[], Awaitable[None]]) -> bytes:
        """Called after the last byte: reserves the pages, then returns the end that was held back.

        `let_others` gives all others a turn.

        Raises:
            Refused: the body is invalid, it has too many pages, or its sender may no longer submit.
        """
        form, counted, has_waited = await self._body.finish(let_others, self._check)
        profile = self._profile_now() if has_waited or self._checked is None else self._checked
        if await self._look_up(form):
            profile = self._profile_now()
        self._lease.judge_by(profile)
        obeyed = self._intake.shape.page_fields
        pages = page_bound(
            form, counted, profile.pages_per_request, obeyed=obeyed, page_range_required=profile.needs_page_range
        )
        mode = form.mode if form.mode in _KNOWN_MODES else ""
        try:
            await self._lease.reserve(Ask(pages, self._pricing.of(form.mode), mode))
        except Refused as refused:
            raise _explained(refused, form, counted, pages, narrowing(form, obeyed)) from None
        return self._body.tail

    async def _look_up(self, form: Form) -> bool:
        """Checks what the form names beside its document; returns whether that may have taken a wait.

        A webhook's host is looked up, for seconds.
        """
        webhook_url = form.removed.get("webhook_url")
        if form.checkpoint:
            await self._intake.checkpoints.check(self._lease.upstream, form.checkpoint, self._lease.owner)
        self._destination = await self._intake.webhooks.destination(webhook_url, self._lease.owner)
        return bool(form.checkpoint or webhook_url)

    def _check(self, form: Form) -> None:
        """Refuses a sender no longer permitted, or a form that asks for too much, before pages are counted for it."""
        profile = self._checked = self._profile_now()
        check_choice(
            form,
            profile.pages_per_request,
            obeyed=self._intake.shape.page_fields,
            page_range_required=profile.needs_page_range,
        )

    def _profile_now(self) -> Profile:
        return self._permit_now().profile

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
        self._body.close()
        self._lease.close()


def _explained(refused: Refused, form: Form, counted: int | None, pages: int, narrowed_by: list[str]) -> Refused:
    """Adds an explanation and help to the refusal of a document whose pages could not be counted."""
    is_chosen = any((getattr(form, name) or "").strip() for name in narrowed_by)
    is_image = form.document is not None and form.document.kind is FileKind.IMAGE
    if counted is not None or is_chosen or is_image or refused.denial.reason is Reason.LEDGER_UNAVAILABLE:
        return refused
    why = "The form names two documents" if form.has_two else "The document's pages can't be counted"
    why = why if form.file is not None else "The form has no field file"
    help_text = f": say which by {' or '.join(narrowed_by)}." if narrowed_by else "."
    hint = f" {why}, so it counts as {pages} (pages_per_request){help_text}"
    return Refused(replace(refused.denial, detail=refused.denial.detail + hint))
