"""Jobs as a request meets them: taken, read by their owner, held for, deleted."""

from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from gateway.authorize.caller import Acquaintance, Passage
from gateway.errors import refuse
from gateway.jobs.completion import Endings
from gateway.jobs.job import Job
from gateway.jobs.long_polls import Holds
from gateway.jobs.registry import Registry
from gateway.jobs.watcher import Watcher
from gateway.ledger.jobs import NewJob
from gateway.model.reasons import Reason
from gateway.model.request import Permit
from gateway.model.routes import Kind
from gateway.proxy.forwarder import Order
from gateway.proxy.job_in_body import NamedInBody
from gateway.upstream.job_api import Ending, JobShape

_OK: Final = 200
_SEEN: Final = frozenset({200, 206})
_GIVEN: Final = frozenset({Kind.RESULT, Kind.ASSET})


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

    def named_in_body(self, passage: Passage, look_again: Callable[[], None]) -> NamedInBody:
        """What looks into the body of a request that names its job there; `look_again` judges its sender once more.

        Raises:
            Refused: body_malformed, when there is no body.
        """
        permit = passage.permit
        if not passage.fields.has_body:
            raise refuse(Reason.BODY_MALFORMED, f"The body has to name the job ({permit.route.id_name}).")
        return NamedInBody(permit.route.id_name, shape_of(passage), partial(self._let_through, permit, look_again))

    async def _let_through(self, permit: Permit, look_again: Callable[[], None], named: str) -> Job:
        """The job that a body names, if it is its sender's; if it is to be deleted, it is nobody's from here on."""
        look_again()
        job = await self.registry.owned(permit.route.upstream, named, owner_of(permit))
        if permit.route.kind is Kind.DELETE:
            await self.endings.forget_now(job)
        return job


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


def is_seen(order: Order, *, had_ended: bool) -> bool:
    """Whether anything of a job's result went to the client of this request, whatever became of it then.

    Whatever was not looked at whole may have been its result: what is asked elsewhere than at the job's own target, a
    range of it, what its client did not wait for.
    """
    delivery = order.delivery
    if delivery.is_unfinished and not had_ended:  # first of all, for nearly every poll is one of these
        return False
    passage = order.passage
    return delivery.status in _SEEN and passage.permit.route.kind in _GIVEN and passage.method != "HEAD"


def is_read(order: Order, job: Job, *, had_ended: bool) -> bool:
    """Whether this very request has read its job's result whole: it is the one that gives it, of a job that ended."""
    passage = order.passage
    is_result = passage.permit.route.kind is Kind.RESULT and passage.method == "GET" and job.is_result(passage.asked)
    was_told = had_ended or order.delivery.is_final
    return is_result and was_told and order.delivery.status == _OK and not order.client.is_gone
