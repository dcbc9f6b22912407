"""Reports each finished request once, whatever its outcome: in the metrics, and as one log event."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import NamedTuple

import structlog

from gateway.model.reasons import REFUSALS, Reason
from gateway.model.request import Exchange
from gateway.model.statuses import FIRST_ERROR, FIRST_FAILURE
from gateway.observe.log import LogStream, is_enabled
from gateway.observe.metrics import RequestMetrics
from gateway.observe.refusal_sampling import RefusalSampling, Sum
from gateway.observe.request_log import level_of, request_event

log = structlog.get_logger()


def _ignore(_: Exchange | Sum) -> None:
    """Does nothing."""


class ObserverHooks(NamedTuple):
    """Who hears of what. `on_refused` gets each refusal's key id and reason, `on_seen` every request.

    `on_failed` gets each request that was refused or failed, but those of strangers that are only summed up
    (`on_summed`).
    """

    on_refused: Callable[[str | None, Reason], None]
    on_seen: Callable[[Exchange], None] = _ignore
    on_failed: Callable[[Exchange], None] = _ignore
    on_summed: Callable[[Sum], None] = _ignore


class Observer:
    """Counts and logs finished requests. `now` returns UTC."""

    def __init__(
        self,
        metrics: RequestMetrics,
        stream: LogStream,
        level: str,
        now: Callable[[], datetime],
        hooks: ObserverHooks,
    ) -> None:
        self._metrics = metrics
        self._stream = stream
        self.level = level
        self._now = now
        self._hooks = hooks
        self._sampling = RefusalSampling()

    def count_started(self) -> None:
        """Counts a request as in flight."""
        self._metrics.in_flight += 1

    def record(self, exchange: Exchange) -> None:
        """Takes the record of a finished request."""
        self._metrics.in_flight -= 1
        self._metrics.add(exchange)
        self._hooks.on_seen(exchange)
        if exchange.reason in REFUSALS:
            self._hooks.on_refused(exchange.key_id, exchange.reason)
            is_stranger = exchange.key_id is None
            if is_stranger and not self._sampling.may_log(exchange.client_ip, exchange.reason, exchange.ended):
                return
        was_forwarded = exchange.reason is Reason.FORWARDED  # an upstream's own 4xx is between it and its client
        if exchange.status >= (FIRST_FAILURE if was_forwarded else FIRST_ERROR):
            self._hooks.on_failed(exchange)
        level = "info" if exchange.reason is Reason.FORWARDED else level_of(exchange)
        if is_enabled(level, self.level):
            self._stream.put(request_event(exchange, level, self._now()))

    def log_due_sums(self, now: float) -> None:
        """Logs the sums of refusals when they are due; `now` is by the clock of exchanges."""
        self._log_sums(self._sampling.due(now))

    def close(self) -> None:
        """Logs the remaining sums of refusals."""
        self._log_sums(self._sampling.all())

    def _log_sums(self, sums: Iterable[Sum]) -> None:
        for found in sums:
            log.info("refusals summed up", **found._asdict())
            self._hooks.on_summed(found)
