"""Submits, from the head on: a place in the ledger, the body, the pages before its end; given back on every path."""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

from gateway.admission.admission import Admission
from gateway.config.state import State
from gateway.errors import Refused
from gateway.proxy.forward_order import ForwardOrder
from gateway.proxy.forwarder import Forwarder
from gateway.proxy.job_access import JobAccess
from gateway.proxy.still_permitted import StillPermitted
from gateway.proxy.submission import Intake, Submission
from gateway.uploads.pages.counter import PageCounter
from gateway.uploads.spool import Spool
from gateway.uploads.submit_body import SubmitBody
from gateway.webhooks.outbound.planning import Planning


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
        prepared, permit = order.prepared, order.prepared.permit
        lease = await self.admission.admit(permit, permit.profile, state.reservation_ttl)
        shape = prepared.job_shape
        rules_now = partial(self.still_permitted.form_rules, shape, permit.profile.pages_per_request)
        boundary, whose = prepared.boundary or b"", (permit.account, permit.owner)
        body = SubmitBody(boundary, rules_now, self.spool, self.counter, *whose)
        begin_job = partial(self.jobs.begin_job, prepared)
        end = self.jobs.registry.end_another_owners
        intake = Intake(shape, permit.path, begin_job, end, self.webhooks, self.jobs.checkpoints)
        permit_now = partial(self.still_permitted.check, order)
        submission = Submission(lease, body, permit_now, state.pricing, intake)
        try:
            await self.forwarder.forward(order._replace(submit=submission))
        except Refused as refused:
            raise Refused(replace(refused.denial, lines=lease.lines)) from None
        finally:
            submission.close()
