"""Metrics and log events of outbound webhooks: attempts by result, and how many were given up."""

from collections import Counter
from collections.abc import Iterator, Mapping

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from gateway.ledger.deliveries import Due
from gateway.ledger.schema import DeliveryState
from gateway.webhooks.outbound.outcome import DeliveryAttempt, Result

log = structlog.get_logger()


class WebhookMetrics:
    """Counts for the dispatcher."""

    def __init__(self) -> None:
        self._results: Counter[Result] = Counter(dict.fromkeys(Result, 0))
        self._states: Mapping[DeliveryState, int] = {}

    def count_attempt(self, result: Result) -> None:
        """Counts one attempt."""
        self._results[result] += 1

    def set_states(self, states: Mapping[DeliveryState, int]) -> None:
        """Sets how many deliveries the ledger has in each state."""
        self._states = states

    @property
    def states(self) -> Mapping[DeliveryState, int]:
        """How many deliveries the ledger has in each state, as of the last count."""
        return self._states

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at each scrape."""
        results = CounterMetricFamily(
            "gateway_webhook_deliveries", "Attempts to deliver a webhook, by what came of them.", labels=("result",)
        )
        for result, count in self._results.items():
            results.add_metric((result.value,), count)
        states = GaugeMetricFamily(
            "gateway_webhooks",
            "Webhooks of the ledger that are not delivered, by state: waiting for the job, due, dead letters.",
            labels=("state",),
        )
        for state, number in self._states.items():
            if state is not DeliveryState.DELIVERED:
                states.add_metric((state.name.lower(),), number)
        yield from (results, states)


def log_attempt(due: Due, attempt: DeliveryAttempt, result: Result, retry_in: float | None) -> None:
    """Logs one event per attempt: never the URL, which may hold a secret, nor what was sent or answered."""
    facts = {
        "delivery": due.lease.id,
        "destination": due.destination,
        "attempt": due.lease.attempt,
        "status": attempt.status,
        "trouble": attempt.trouble,
    }
    known = {name: value for name, value in facts.items() if value is not None}
    if result is Result.DELIVERED:
        log.info("webhook delivered", **known)
    elif result is Result.RETRIED:
        log.warning("webhook failed", **known, retry_in=round(retry_in or 0))
    else:
        log.error("webhook given up", **known)
