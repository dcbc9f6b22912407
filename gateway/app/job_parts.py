"""Creates and closes the parts for jobs and webhooks, in order. Part of the composition root."""

from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from random import SystemRandom
from typing import Any, Final

from prometheus_client.registry import Collector
from sqlalchemy import Connection

from gateway.admission.unverified_bodies import UnverifiedBodies
from gateway.aio.iteration import Iteration
from gateway.app.job_metrics import JobMetrics
from gateway.app.ledger_parts import LedgerParts
from gateway.config.settings.webhooks import WebhooksOut
from gateway.config.state import Live, State
from gateway.jobs.checkpoints import Checkpoints
from gateway.jobs.completion import Completion, Effects
from gateway.jobs.deletion_questions import DeletionQuestions
from gateway.jobs.failover import Failover
from gateway.jobs.findings import Findings
from gateway.jobs.housekeeping import Housekeeping
from gateway.jobs.kept_answers import KeptAnswers
from gateway.jobs.long_polls import LongPolls
from gateway.jobs.registry import Registry
from gateway.jobs.retention import Retention
from gateway.jobs.shared_polls import SharedPolls
from gateway.jobs.status_queue import StatusQueue
from gateway.jobs.watcher import Watcher
from gateway.ledger import checkpoints, deliveries
from gateway.ledger import inbound_webhooks as received
from gateway.ledger.jobs import Recorded
from gateway.ledger.ledger import Ledger
from gateway.ledger.purging import purge_all
from gateway.model.times import Times
from gateway.proxy.job_access import JobAccess
from gateway.upstream.client import UpstreamClient
from gateway.upstream.pool import Upstreams
from gateway.webhooks.egress.resolver import Resolver
from gateway.webhooks.inbound.inbound_receiver import Receiver
from gateway.webhooks.outbound.dispatcher import Chance, Dispatcher
from gateway.webhooks.outbound.planning import Planning

_LAST_WORDS: Final = 5.0


class JobParts:
    """Creates the parts; `new_id` makes request ids."""

    def __init__(
        self,
        live: Live,
        ledger_parts: LedgerParts,
        upstreams: Upstreams,
        times: Times,
        new_id: Callable[[], str],
        iteration: Iteration,
    ) -> None:
        replica, out, state = ledger_parts.replica, partial(_out, live), partial(_state, live)
        ledger, wall = replica.ledger, replica.wall
        self.planning = Planning(out, Resolver(), wall, new_id)
        # A resolver of its own: slow look-ups for submits delay no delivery, and the reverse.
        chance = Chance(times, SystemRandom().random)
        self.dispatcher = Dispatcher(ledger, out, Resolver(), replica.name, iteration, chance)
        self.metrics = self.dispatcher.metrics
        self._registry = Registry(replica, times.monotonic, state)
        effects = Effects(ledger_parts.admission.settled, partial(_note_end, self.dispatcher))
        self.completion = Completion(replica, self._registry, state, effects)
        checkpoints = Checkpoints(replica, lambda: live.state.settings.jobs.result_ttl)
        self.findings = Findings(self.completion, checkpoints, state, times, iteration)
        self._upstream_client = UpstreamClient(upstreams, times.monotonic, new_id)
        self._queue = queue = StatusQueue(self.findings, self._upstream_client, state, iteration)
        self.kept_answers = KeptAnswers(lambda: live.state.settings.jobs.status_age)
        self.watcher = Watcher(replica, queue, self.findings, state, times, self.kept_answers)
        self.failover = Failover(replica, self._registry, self.completion, self.watcher, state)
        self.long_polls = LongPolls(self.watcher, iteration)
        questions = DeletionQuestions(queue, state, times.monotonic)
        self.access = JobAccess(
            registry=self._registry,
            completion=self.completion,
            checkpoints=checkpoints,
            watcher=self.watcher,
            questions=questions,
            long_polls=self.long_polls,
            shared_polls=SharedPolls(iteration, self.kept_answers, times.monotonic),
            wall=wall,
        )
        retention = Retention(replica, self._registry, self._upstream_client, state, times.monotonic, iteration)
        self.receiver = Receiver(ledger, lambda: live.state.settings.webhooks.in_, wall, iteration)
        self.unverified = UnverifiedBodies(lambda: live.state.settings.body.unverified_limit)
        self.housekeeping = Housekeeping(
            ledger, self.failover, retention, self.completion.retry_pending, *_purges(ledger, out, wall)
        )

    def work(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """What runs in the background until the gateway ends."""
        housekeeping = self.housekeeping
        return (
            housekeeping.run_changes(), housekeeping.run_heartbeat(), housekeeping.run_purges(), housekeeping.run(),
            self.dispatcher.run(),
        )  # fmt: skip

    async def close(self) -> None:
        """Stops polling upstreams, releases its jobs to other replicas; running deliveries get a few seconds."""
        self.watcher.close()
        self._upstream_client.close()
        await self.receiver.close(_LAST_WORDS)
        await self.dispatcher.close(_LAST_WORDS)
        await self.failover.leave()

    def collectors(self) -> tuple[Collector, ...]:
        """The collectors of these parts' metrics."""
        asking = self._queue, self.watcher, self.findings
        jobs = JobMetrics(self.housekeeping, *asking, self.unverified, self.long_polls)
        return jobs, self.metrics


def _out(live: Live) -> WebhooksOut:
    return live.state.settings.webhooks.out


def _note_end(dispatcher: Dispatcher, recorded: Recorded) -> None:
    """Wakes the dispatcher for a webhook alone: it asks the ledger twice, and most jobs have none."""
    if recorded.makes_due:
        dispatcher.nudge()


def _purges(
    ledger: Ledger, out: Callable[[], WebhooksOut], wall: Callable[[], float]
) -> Iterator[Callable[[], Awaitable[object]]]:
    """What deletes old records of received and sent webhooks, and expired checkpoints."""

    def purge(work: Callable[[Connection], int]) -> Callable[[], Awaitable[object]]:
        return partial(purge_all, ledger, work)

    yield purge(lambda c: checkpoints.purge(c, wall()))
    yield purge(lambda c: received.purge(c, wall()))
    yield purge(lambda c: deliveries.purge(c, wall() - out().keep))


def _state(live: Live) -> State:
    return live.state
