"""Reports each finished request once, whatever its outcome: in the metrics, and as one log event."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

import structlog

from gateway.model.reasons import REFUSALS, Reason
from gateway.model.request import Exchange
from gateway.observe.log import LogStream, is_enabled
from gateway.observe.metrics import RequestMetrics
from gateway.observe.refusal_sampling import RefusalSampling, Sum
from gateway.observe.request_log import level_of, request_event

_BAD: Final = 400
_FAILED: Final = 500  # an upstream's own 4xx is between it and its client
log = structlog.get_logger()


def _not_noted(_: Exchange) -> None:
    """Does nothing."""


def _not_summed(_: Sum) -> None:
    """Does nothing."""


class Observer:
    """Counts and logs finished requests. `now` returns UTC; `refused` gets each refusal's key id and reason."""

    def __init__(
        self,
        metrics: RequestMetrics,
        stream: LogStream,
        level: str,
        now: Callable[[], datetime],
        refused: Callable[[str | None, Reason], None],
        noted: Callable[[Exchange], None] = _not_noted,
        summed: Callable[[Sum], None] = _not_summed,
    ) -> None:
        self._metrics = metrics
        self._stream = stream
        self.level = level
        self._now = now
        self._refused = refused
        self._noted = noted
        self._summed = summed
        self._sampling = RefusalSampling()

    def began(self) -> None:
        """Counts a request as in flight."""
        self._metrics.in_flight += 1

    def ended(self, exchange: Exchange) -> None:
        """Takes the record of a finished request."""
        self._metrics.in_flight -= 1
        self._metrics.add(exchange)
        if exchange.reason in REFUSALS:
            self._refused(exchange.key_id, exchange.reason)
            is_stranger = exchange.key_id is None
            if is_stranger and not self._sampling.is_told(exchange.client_ip, exchange.reason, exchange.ended):
                return
        if exchange.status >= _BAD and (exchange.reason is not Reason.FORWARDED or exchange.status >= _FAILED):
            self._noted(exchange)
        level = "info" if exchange.reason is Reason.FORWARDED else level_of(exchange)
        if is_enabled(level, self.level):
            self._stream.put(request_event(exchange, level, self._now()))

    def tell(self, now: float) -> None:
        """Logs the sums of refusals when they are due; `now` is by the clock of exchanges."""
        self._tell(self._sampling.due(now))

    def close(self) -> None:
        """Logs the remaining sums of refusals."""
        self._tell(self._sampling.all())

    def _tell(self, sums: Iterable[Sum]) -> None:
        for found in sums:
            log.info("refusals summed up", **found._asdict())
            self._summed(found)
