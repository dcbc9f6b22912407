"""Requests about a job: claimed by its owner, held until its end if wished, answered, and forgotten once read."""

from collections.abc import Callable
from typing import Final

from gateway.admission.unverified_bodies import UnverifiedBodies
from gateway.audit.trail import AuditTrail
from gateway.authorize.cached_headers import CachedHeaders
from gateway.config.state import State
from gateway.errors import Refused, refuse
from gateway.http.media_type import BodyFormat, body_format
from gateway.jobs.job import Job
from gateway.jobs.status_answer import Poll, StatusAnswer
from gateway.ledger.jobs import DELETED_WITHIN
from gateway.model.reasons import Reason
from gateway.model.routes import Kind
from gateway.proxy.forward_order import ForwardOrder
from gateway.proxy.forwarder import Forwarder
from gateway.proxy.job_access import JobAccess
from gateway.proxy.job_in_body import LIMIT, check_names_none
from gateway.proxy.poll_rules import has_read_result, has_reported_end, has_taken_result, may_share_ours, poll_of
from gateway.proxy.request_body import read_whole
from gateway.proxy.still_permitted import StillPermitted

_HELD_WITH: Final = 4096  # bytes of a body, which is kept while its client waits
_TRIES: Final = 2  # an answer grows too old while jobs are looked up, but then it is sure whose they are


class JobRequests:
    """Serves requests about jobs. `clock` is the loop's, in seconds."""

    def __init__(
        self,
        jobs: JobAccess,
        forwarder: Forwarder,
        still_permitted: StillPermitted,
        unverified: UnverifiedBodies,
        trail: AuditTrail,
        clock: Callable[[], float],
    ) -> None:
        self._jobs = jobs
        self._forwarder = forwarder
        self._still_permitted = still_permitted
        self._unverified = unverified
        self._trail = trail
        self._clock = clock

    async def serve(self, state: State, cached: CachedHeaders, order: ForwardOrder) -> None:
        """Steps 7 to 9 of a request that names its job in its target.

        Raises:
            Refused: the caller has no such job, or the body is not one that it may have.
        """
        at_hand = self._answer_at_hand(order, state.settings.jobs.status_age)
        if at_hand is None:
            await self._serve_in_steps(state, cached, order)
        else:
            self._still_permitted.check_both(order)
            self._forwarder.share(order, at_hand)

    async def _serve_in_steps(self, state: State, cached: CachedHeaders, order: ForwardOrder) -> None:
        order, job = await self._claim(cached, order)
        order = await self._read_body(order)
        await self._wait(order, job)
        order = await self._before_delete(order, job)
        settings = state.settings.jobs
        had_reported_end = settings.delete_after_read and has_reported_end(job)
        await self._answer(order, job, settings.status_age)
        if settings.delete_after_read and has_read_result(order, job, had_reported_end=had_reported_end):
            await self._forget(order, job)

    async def serve_named_in_body(self, order: ForwardOrder) -> None:
        """Steps 7 to 9 of a request that names its job in its body: reads that, finds the owner, then forwards.

        Raises:
            Refused: the caller has no such job, or the body names none.
        """
        prepared = order.prepared
        if not prepared.headers.has_body:
            raise refuse(Reason.BODY_MALFORMED, f"The body has to name the job ({prepared.permit.route.id_name}).")
        body_format(prepared.headers.known, BodyFormat.JSON)
        content = await read_whole(order, LIMIT, self._unverified)
        self._still_permitted.check_if_stale(order)
        job = await self._jobs.own_named_in(content, prepared)
        order = await self._before_delete(order._replace(content=content, job=job), job)
        try:
            await self._forwarder.forward(order)
        finally:
            self._note_taken(order, job)

    def _answer_at_hand(self, order: ForwardOrder, age: float) -> StatusAnswer | None:
        """What another poll got in the last `age` seconds, for one that has to wait for nothing; else None.

        Nearly all polls are of this kind, and the steps would come to the same: it is sure whose the job is, and it
        runs; there is no body, no deletion, and nothing of a result in the answer.
        """
        job, poll = order.job, poll_of(order)
        if job is None or poll is None or order.prepared.hold:
            return None
        answer = self._jobs.shared_polls.find(job, poll, age)
        return answer if answer is not None and self._jobs.registry.is_sure(job) else None

    # The steps, in order

    async def _claim(self, cached: CachedHeaders, order: ForwardOrder) -> tuple[ForwardOrder, Job]:
        """The job, once it is sure that the caller owns it, and the order with it."""
        job = order.job
        if job is None or not self._jobs.registry.is_sure(job):
            job = await self._jobs.own(cached, order.prepared)
            order = order._replace(job=job)
        return order, job

    async def _read_body(self, order: ForwardOrder) -> ForwardOrder:
        """Reads the body, if there is one: it may not name a job, too."""
        prepared = order.prepared
        if not prepared.headers.has_body:
            return order
        written_in = body_format(prepared.headers.known, BodyFormat.JSON, BodyFormat.FORM)
        content = await read_whole(order, LIMIT, self._unverified)
        check_names_none(content, prepared.permit.route.id_name, written_in)
        return order._replace(content=content)

    async def _wait(self, order: ForwardOrder, job: Job) -> None:
        """Waits for a job's end, some seconds at most, if its client wishes so; then the caller is judged again."""
        prepared = order.prepared
        if not (prepared.hold and job.is_running and len(order.content or b"") <= _HELD_WITH):
            return
        began = self._clock()
        await self._jobs.long_polls.until_ended(job, prepared.hold, order.client.prefix)
        order.delivery.held = self._clock() - began
        self._still_permitted.check(order)

    async def _before_delete(self, order: ForwardOrder, job: Job) -> ForwardOrder:
        """Makes a job unreadable before the upstream gets the delete, once it is known how a running one stands."""
        if order.prepared.permit.route.kind is not Kind.DELETE:
            return order
        await self._jobs.learn_end(job)
        self._still_permitted.check_both(order)
        before = self._clock() + DELETED_WITHIN  # from here on: the ledger's answer may take its time
        await self._jobs.completion.forget_now(job)
        return order._replace(delete_before=before)

    async def _answer(self, order: ForwardOrder, job: Job, age: float) -> None:
        """Answers by what a long poll waited for, or another poll got in the last `age` seconds, or by asking."""
        try:
            if await self._share_ours(order, job):
                return
            if job.is_running and age and (poll := poll_of(order)) is not None:
                await self._answer_poll(order, job, poll, age)
            else:
                await self._forwarder.forward(order)
        finally:
            self._note_taken(order, job)

    async def _answer_poll(self, order: ForwardOrder, job: Job, poll: Poll, age: float) -> None:
        """Answers a poll of a running job by an answer that another one got just now, else asks the upstream."""
        polls = self._jobs.shared_polls
        for _ in range(_TRIES):
            if await polls.wait(job, poll, age, order.client.prefix) is None:
                break
            await self._make_sure(order, job)
            answer = polls.find(job, poll, age)  # to make sure may have taken seconds, or have told of the end
            if answer is not None:
                self._forwarder.share(order, answer)
                return
        await self._ask_for_all(order, job, poll)

    async def _ask_for_all(self, order: ForwardOrder, job: Job, poll: Poll) -> None:
        """Asks the upstream; those that wait for the answer go on then, whatever came of it."""
        asking, is_refused = self._jobs.shared_polls.begin(job, poll), False
        try:
            await self._forwarder.forward(order._replace(asking_poll=asking))
        except Refused as refused:
            is_refused = refused.denial.reason is not Reason.LEDGER_UNAVAILABLE  # that would refuse the others, too
            raise
        finally:
            if asking is not None:
                asking.close(has_left=is_refused or order.client.is_gone)

    async def _share_ours(self, order: ForwardOrder, job: Job) -> bool:
        """Answers a long poll by what our own request got, if it may have that; returns whether it did."""
        ours = job.answer if order.prepared.hold else None
        if ours is None or not may_share_ours(order, ours):
            return False
        await self._make_sure(order, job)
        if not ours.is_final:  # to make sure may have taken seconds, or have told of the end
            ours = job.answer
        if ours is None or job.has_outlived(ours) or not may_share_ours(order, ours):
            return False
        self._forwarder.share(order, ours)
        return True

    async def _make_sure(self, order: ForwardOrder, job: Job) -> None:
        """Makes sure that the caller, and whoever got an answer that he is to share, still own the job."""
        await self._jobs.registry.confirm(job)
        self._still_permitted.check_both(order)

    def _note_taken(self, order: ForwardOrder, job: Job) -> None:
        """Lets the audit trail know who was given a job's result first, and the ledger that somebody was."""
        if not has_taken_result(order):
            return
        self._jobs.completion.mark_taken(job)
        if not job.read_is_noted:
            permit = order.prepared.permit
            self._trail.read(job, permit.account, str(permit.client))

    async def _forget(self, order: ForwardOrder, job: Job) -> None:
        """Makes a job unreadable, once its client has taken all of the result that it was sent."""
        await order.client.out.until_all_taken()
        if not order.client.is_gone:
            self._jobs.completion.forget(job)
