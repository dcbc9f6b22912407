"""Submits, from the head on: a place in the ledger, the body, the pages before its end; given back on every path.

A small body comes with its head. So it is waited for, shortly, and its submit goes ahead without a slot: where its
pages are reserved, one transaction takes both. What fails before that asks for the slot all the same: a limit of the
account is said first, and a form that can't be read has spent its token of the rate.
"""

from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

from gateway.admission.admission import Admission
from gateway.admission.lease import Lease
from gateway.config.state import State
from gateway.errors import Refused, UpstreamFailed
from gateway.proxy.forward_order import ForwardOrder
from gateway.proxy.forwarder import Forwarder
from gateway.proxy.job_access import JobAccess
from gateway.proxy.judged_form import FormJudge, FormRoom
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


class SubmitRequests(NamedTuple):
    """What submits work with."""

    admission: Admission
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
        permit = order.prepared.permit
        goes_ahead = await self._may_go_ahead(order)
        form, intake = self._form(state, order), self._intake(order)
        lease = self.admission.lease(permit, permit.profile, state.reservation_ttl)
        submission = Submission(lease, form, intake)
        try:
            if not goes_ahead:
                await lease.admit()
            await self._forward(order._replace(submit=submission), lease)
        except Refused as refused:
            raise Refused(replace(refused.denial, lines=lease.lines)) from None
        finally:
            submission.close()

    async def _may_go_ahead(self, order: ForwardOrder) -> bool:
        """Whether its whole body is here, or comes shortly, and nothing is known that would refuse it a slot."""
        permit, headers = order.prepared.permit, order.prepared.headers
        length = headers.content_length
        if length is None or not 0 < length <= SMALL or headers.expects_continue:
            return False
        may = self.admission.may_go_ahead
        if not may(permit.account, permit.profile):
            return False
        return await order.client.has_come(order.body, length, SHORTLY) and may(permit.account, permit.profile)

    def _form(self, state: State, order: ForwardOrder) -> FormJudge:
        prepared, permit = order.prepared, order.prepared.permit
        shape = prepared.job_shape
        rules_now = partial(self.still_permitted.form_rules, shape, permit.profile.pages_per_request)
        boundary, whose = prepared.boundary or b"", (permit.account, permit.owner)
        body = SubmitBody(boundary, rules_now, self.spool, self.counter, *whose)
        room = FormRoom(shape.page_fields, state.pricing, self.jobs.checkpoints, self.webhooks)
        return FormJudge(body, permit, partial(self.still_permitted.check, order), room)

    def _intake(self, order: ForwardOrder) -> Intake:
        prepared = order.prepared
        begin_job = partial(self.jobs.begin_job, prepared)
        end = self.jobs.registry.end_another_owners
        return Intake(prepared.job_shape, prepared.permit.path, begin_job, end, self.webhooks)

    async def _forward(self, order: ForwardOrder, lease: Lease) -> None:
        try:
            await self.forwarder.forward(order)
        except (Refused, UpstreamFailed):
            await lease.until_known()
            raise
