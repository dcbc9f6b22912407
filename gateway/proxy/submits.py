"""Submits, from the head on: a place in the ledger, the body, the pages before its end; given back on every path.

A small body comes with its head. So it is waited for, shortly, and judged first: then one transaction takes slot and
pages. What is refused before the slot is taken asks for the slot all the same: a limit of the account is said first,
and whoever sends forms that can't be read has spent his rate.
"""

from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

from gateway.admission.admission import Admission, Lease, PagesRefused
from gateway.config.state import State
from gateway.errors import Refused
from gateway.limits.concurrency import Concurrency
from gateway.proxy.forward_order import ForwardOrder
from gateway.proxy.forwarder import Forwarder
from gateway.proxy.job_access import JobAccess
from gateway.proxy.judged_form import FormJudge, FormRoom, JudgedForm
from gateway.proxy.request_body import read_at_hand
from gateway.proxy.still_permitted import StillPermitted
from gateway.proxy.submission import Intake, Submission
from gateway.uploads.pages.counter import PageCounter
from gateway.uploads.spool import Spool
from gateway.uploads.submit_body import SubmitBody
from gateway.webhooks.outbound.planning import Planning

SMALL: Final = 65_536
"""Bytes of a body that is waited for before the slot is taken."""

SHORTLY: Final = 0.01
"""Seconds for which it is: its client has sent it with the head, or has a slow line."""


class Admitted(NamedTuple):
    """A slot, and what was judged before it was taken: the pages are reserved, and `content` may go upstream."""

    lease: Lease
    judged: JudgedForm | None = None
    content: bytes | None = None


class SubmitRequests(NamedTuple):
    """What submits work with. `ahead` bounds how many forms of an account are judged before they have a slot."""

    admission: Admission
    ahead: Concurrency
    spool: Spool
    counter: PageCounter
    forwarder: Forwarder
    still_permitted: StillPermitted
    jobs: JobAccess
    webhooks: Planning

    async def serve(self, state: State, order: ForwardOrder) -> None:
        """Steps 7 to 10 of a submit.

        Forwarder.forward -> Upload.run -> Submission.take for each piece, then .reserve_pages, which returns the
        body's end, and .mark_released; once the upstream has taken the job, Submission.take_answer.

        Raises:
            Refused: with the state of the account's limits, whatever the reason.
        """
        form = self._form(state, order)
        try:
            admitted = await self._admit(state, order, form)
            await self._forward(order, form, admitted)
        finally:
            form.close()

    def _form(self, state: State, order: ForwardOrder) -> FormJudge:
        prepared, permit = order.prepared, order.prepared.permit
        shape = prepared.job_shape
        rules_now = partial(self.still_permitted.form_rules, shape, permit.profile.pages_per_request)
        boundary, whose = prepared.boundary or b"", (permit.account, permit.owner)
        body = SubmitBody(boundary, rules_now, self.spool, self.counter, *whose)
        permit_now = partial(self.still_permitted.check, order)
        room = FormRoom(shape.page_fields, state.pricing, self.jobs.checkpoints, self.webhooks)
        return FormJudge(body, permit, permit_now, room)

    async def _admit(self, state: State, order: ForwardOrder, form: FormJudge) -> Admitted:
        """Takes the slot, and the pages with it where the whole body is here."""
        permit = order.prepared.permit
        admit = partial(self.admission.admit, permit, reservation_ttl=state.reservation_ttl)
        if not await self._is_at_hand(order) or self.ahead.take(permit.account, permit.profile) is not None:
            return Admitted(await admit(permit.profile))
        try:
            content = await form.take(await read_at_hand(order))
            judged = await form.judge(order.client.let_others)
        except Refused as refused:
            lease = await admit(permit.profile)
            lease.close()
            raise Refused(replace(refused.denial, lines=lease.lines)) from None
        finally:
            self.ahead.give_back(permit.account)
        try:
            return Admitted(await admit(judged.profile, ask=judged.ask), judged, content + form.tail)
        except PagesRefused as refused:
            raise judged.explained(refused) from None

    async def _is_at_hand(self, order: ForwardOrder) -> bool:
        """Whether the whole body is here, or comes shortly, and its account was not refused just now."""
        permit, headers = order.prepared.permit, order.prepared.headers
        length = headers.content_length
        if length is None or not 0 < length <= SMALL or headers.expects_continue:
            return False
        if self.admission.has_refused(permit.account, permit.profile):
            return False
        return await order.client.has_come(order.body, length, SHORTLY)

    async def _forward(self, order: ForwardOrder, form: FormJudge, admitted: Admitted) -> None:
        prepared, permit, (lease, judged, content) = order.prepared, order.prepared.permit, admitted
        begin_job = partial(self.jobs.begin_job, prepared)
        end = self.jobs.registry.end_another_owners
        intake = Intake(prepared.job_shape, permit.path, begin_job, end, self.webhooks)
        submission = Submission(lease, form, intake, judged and judged.destination)
        try:
            await self.forwarder.forward(order._replace(submit=submission, content=content))
        except Refused as refused:
            raise Refused(replace(refused.denial, lines=lease.lines)) from None
        finally:
            submission.close()
