"""Jobs as a request meets them: taken, read by their owner, held for, deleted."""

from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.acquaintance import Acquaintance, Passage
from gateway.errors import refuse
from gateway.forward.courier import Order
from gateway.jobs.endings import Endings
from gateway.jobs.holds import Holds
from gateway.jobs.job import Job
from gateway.jobs.named import NamedInBody
from gateway.jobs.registry import Registry
from gateway.jobs.shape import Ending, JobShape
from gateway.jobs.watcher import Watcher
from gateway.ledger.jobs import NewJob
from gateway.model import Kind, Permit, Reason

_FIRST_GOOD: Final = 200
_PAST_GOOD: Final = 300


class JobDesk(NamedTuple):
    """What the handler asks about jobs. `wall` is in seconds since the epoch."""

    registry: Registry
    endings: Endings
    watcher: Watcher
    holds: Holds
    wall: Callable[[], float]

    def took(self, passage: Passage, new: NewJob, has_failed: bool) -> None:
        """Follows a job whose owner is in the ledger now."""
        permit = passage.permit
        job = Job(permit.route.upstream, new.request_id, owner_of(permit), shape_of(passage), new.path, self.wall())
        self.registry.add(job)
        if has_failed:
            self.endings.ended(job, Ending(failed=True, pages=None))
        self.watcher.begin(job)

    async def own(self, caller: Acquaintance, passage: Passage) -> Job:
        """The job that a request names, if it is its caller's.

        Raises:
            Refused: job_not_found or ledger_unavailable.
        """
        permit = passage.permit
        job = await self.registry.owned(permit.route.upstream, permit.request_id or "", owner_of(permit))
        caller.job, caller.job_of = job, passage
        return job

    def named_in_body(self, passage: Passage) -> NamedInBody:
        """What looks into the body of a request that names its job there.

        Raises:
            Refused: body_malformed, when there is no body.
        """
        permit = passage.permit
        if not passage.fields.has_body:
            raise refuse(Reason.BODY_MALFORMED, f"The body has to name the job ({permit.route.id_name}).")
        upstream, owner = permit.route.upstream, owner_of(permit)
        return NamedInBody(
            permit.route.id_name, shape_of(passage), lambda named: self.registry.owned(upstream, named, owner)
        )


def may_share(order: Order) -> bool:
    """Whether the answer that was asked for once is what this request would be answered, too."""
    passage = order.passage
    return order.job is not None and passage.asked == order.job.target and not passage.permit.route.rewrites


def owner_of(permit: Permit) -> str:
    """Whom a request's jobs belong to."""
    return permit.identity.owner if permit.identity else permit.account


def shape_of(passage: Passage) -> JobShape:
    """The shape of a route's jobs: a configuration with a route of an unknown one is refused."""
    if passage.shape is None:
        raise AssertionError
    return passage.shape


def is_over(order: Order, *, reads_once: bool, had_ended: bool) -> bool:
    """Whether this very request was the last for its job: it deleted it, or read its result whole."""
    route, status = order.passage.permit.route, order.delivery.status
    if route.kind is Kind.DELETE:
        return _FIRST_GOOD <= status < _PAST_GOOD
    is_result = route.kind is Kind.RESULT and order.passage.method == "GET" and status == _FIRST_GOOD
    return reads_once and is_result and (had_ended or order.delivery.is_final) and not order.client.is_gone
