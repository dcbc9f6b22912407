"""A request's dealings with jobs: one begins, the caller's own is found, a running one's state is learnt at last."""

from collections.abc import Callable
from typing import NamedTuple

from gateway.authorize.cached_headers import CachedHeaders
from gateway.authorize.prepared_request import PreparedRequest
from gateway.jobs.checkpoints import Checkpoints
from gateway.jobs.completion import Completion
from gateway.jobs.deletion_questions import DeletionQuestions
from gateway.jobs.job import Job
from gateway.jobs.long_polls import LongPolls
from gateway.jobs.registry import Registry
from gateway.jobs.shared_polls import SharedPolls
from gateway.jobs.watcher import Watcher
from gateway.ledger.jobs import NewJob
from gateway.model.jobs import JobRef
from gateway.proxy.job_in_body import named_in


class JobAccess(NamedTuple):
    """What requests need of jobs. `wall` is in seconds since the epoch."""

    registry: Registry
    completion: Completion
    checkpoints: Checkpoints
    watcher: Watcher
    questions: DeletionQuestions
    long_polls: LongPolls
    shared_polls: SharedPolls
    wall: Callable[[], float]

    def begin_job(self, prepared: PreparedRequest, reservation: str, new: NewJob, has_failed: bool) -> None:
        """Begins to follow a job whose owner is now in the ledger."""
        permit = prepared.permit
        ref = JobRef(permit.route.upstream, new.request_id, reservation)
        job = Job(ref, permit.owner, prepared.job_shape, new.path, self.wall(), permit.account)
        self.registry.add(job)
        if has_failed:
            self.completion.mark_failed(job)
        self.watcher.begin(job)

    async def own(self, cached: CachedHeaders, prepared: PreparedRequest) -> Job:
        """Returns the job that a request names, if it belongs to the caller.

        Raises:
            Refused: job_not_found or ledger_unavailable.
        """
        permit = prepared.permit
        job = await self.registry.owned(permit.route.upstream, permit.job_id or "", permit.owner)
        cached.job, cached.job_of = job, prepared
        return job

    async def own_named_in(self, body: bytes, prepared: PreparedRequest) -> Job:
        """Returns the job that a body names, if it belongs to the caller.

        Raises:
            Refused: body_malformed, job_not_found or ledger_unavailable.
        """
        permit = prepared.permit
        request_id = named_in(body, permit.route.id_name, prepared.job_shape)
        return await self.registry.owned(permit.route.upstream, request_id, permit.owner)

    async def learn_end(self, job: Job) -> None:
        """Asks the upstream how a running job stands: after its deletion nobody can learn what it has to cost.

        Raises:
            Refused: no_room, if it could not be asked in time.
        """
        if job.is_running:
            await self.questions.ask(job)
