"""Judges a request about a job: whose answer it may share, and what of the result its client was given."""

from typing import Final

from gateway.jobs.job import Job
from gateway.jobs.status_answer import Poll, StatusAnswer
from gateway.limits.job_cost import REPORTED
from gateway.model.routes import Kind
from gateway.model.statuses import OK
from gateway.proxy.forward_order import ForwardOrder

_SEEN: Final = frozenset({200, 206})


def poll_of(order: ForwardOrder) -> Poll | None:
    """What a request has to have in common with another to share its answer; None: it always asks for itself."""
    poll, job = order.prepared.poll, order.job
    return poll if poll is not None and job is not None and order.prepared.asks_status(job) else None


def may_share_ours(order: ForwardOrder, answer: StatusAnswer) -> bool:
    """Whether it can share an answer to our own request: one of the upstream that it would ask itself.

    A reload may have named another one since. One that changed nothing there makes an equal target.
    """
    poll = poll_of(order)
    return poll is not None and answer.target == poll.target and answer.is_for_all_with(poll.names)


def has_taken_result(order: ForwardOrder) -> bool:
    """Whether the client received any part of a job's result, whatever became of it then.

    Anything not examined completely may have been the result: a part, a range, an answer the client did not wait for.
    """
    delivery = order.delivery
    if delivery.gives_nothing:  # checked first: this is so for nearly every poll
        return False
    return delivery.sent > 0 and delivery.status in _SEEN and order.prepared.gives_content


def has_reported_end(job: Job) -> bool:
    """Whether the container has said that a job ended."""
    return bool(job.known & REPORTED)


def has_read_result(order: ForwardOrder, job: Job, *, had_reported_end: bool) -> bool:
    """Whether this request has read its job's result completely: it is the request for it, and the job has ended.

    `had_reported_end`: the container had said that the job ended before this request went to it.

    Where the status answer is the result, this answer must itself report the end: what is known of the job from other
    requests does not show what this client got. Where another request gives the result, the container has reported
    the end before.
    """
    prepared, route = order.prepared, order.prepared.permit.route
    is_result = route.kind is Kind.RESULT and prepared.method == "GET" and job.is_result(prepared.path_and_query)
    says_so = not job.is_result(job.target) and had_reported_end and not order.delivery.gives_nothing
    has_all = order.delivery.is_final or says_so
    return is_result and has_all and order.delivery.status == OK and not order.client.is_gone
