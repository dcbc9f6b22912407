"""The metrics of requests (docs/metrics.md), in prometheus_client's exposition; those of others: collectors.py.

Requests increment plain numbers in one table row, found by route; prometheus_client makes metric families of them at
each scrape. Its own children would cost a lock and a look-up for each of the five metrics of a request. The number of
labels is limited: routes and keys are configured, the rest are closed sets.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from operator import attrgetter
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from gateway.model.reasons import REFUSALS, Reason, Why
from gateway.model.request import Exchange
from gateway.observe.exposition import in_portions
from gateway.observe.key_labels import KeyLabels
from gateway.observe.methods import method_named

BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

_STATUSES: Final = {status: str(status) for status in (0, 499, *map(int, HTTPStatus))}
"""Those that are labels; 0: none; 499: the client has gone (reasons.py)."""


class Histogram:
    """Counts by upper bound, and their sum; in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Counts one duration."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts by bound, in Prometheus's form."""
        cumulated, rows = 0, []
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self.counts, strict=True):
            cumulated += count
            rows.append((bound, float(cumulated)))
        return rows


class RouteTally:
    """The metrics of one route's requests."""

    __slots__ = ("duration", "outcomes", "overhead", "upstream_duration")

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str, Reason]] = Counter()
        self.duration = Histogram()
        self.upstream_duration = Histogram()
        self.overhead = Histogram()


_HISTOGRAMS: Final[tuple[tuple[str, str, Callable[[RouteTally], Histogram]], ...]] = (
    (
        "gateway_request_duration_seconds",
        "From a request's head to the end of its answer.",
        attrgetter("duration"),
    ),
    (
        "gateway_upstream_duration_seconds",
        "From a request's first byte upstream to the end of the upstream's answer.",
        attrgetter("upstream_duration"),
    ),
    (
        "gateway_overhead_duration_seconds",
        "What the gateway itself adds to a request that goes upstream.",
        attrgetter("overhead"),
    ),
)


class RequestMetrics:
    """The metrics of all requests. `add` is called once for each, with its finished record."""

    def __init__(self) -> None:
        self.routes: dict[str, RouteTally] = {}
        self.authentications: Counter[tuple[str, str]] = Counter()
        self.refused_credentials: Counter[tuple[str, Why]] = Counter()
        self.refused_keys: Counter[tuple[str, Reason]] = Counter()
        self._labels = KeyLabels()
        self.in_flight = 0
        self.retries = 0

    def add(self, exchange: Exchange) -> None:
        """Counts one request."""
        tally = self.routes.get(exchange.route)
        if tally is None:
            tally = self.routes[exchange.route] = RouteTally()
        method = method_named(exchange.method)
        tally.outcomes[method, _status_label(exchange.status), exchange.reason] += 1
        duration = exchange.ended - exchange.started
        tally.duration.observe(duration)
        if exchange.authentication is not None:
            self.authentications[exchange.authentication] += 1
        if exchange.why is not None:
            self.refused_credentials[_method_of(exchange), exchange.why] += 1
        if exchange.key_id is not None and exchange.reason in REFUSALS:
            self.refused_keys[self._labels.of(exchange.key_id), exchange.reason] += 1
        delivery = exchange.delivery
        if delivery is not None and delivery.started is not None:
            upstream = (delivery.ended or exchange.ended) - delivery.started
            tally.upstream_duration.observe(upstream)
            tally.overhead.observe(max(0.0, duration - upstream - delivery.held))
            self.retries += delivery.retried

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at each scrape."""
        yield from in_portions(_requests, self._outcomes())
        yield from self._histograms()
        yield GaugeMetricFamily("gateway_requests_in_flight", "Requests being handled.", self.in_flight)
        yield from self._credentials()
        yield CounterMetricFamily(
            "gateway_upstream_retries",
            "Requests sent again because the connection they rode on had ended before it.",
            self.retries,
        )

    def _outcomes(self) -> Iterator[tuple[tuple[str, str, str, str], int]]:
        for route, tally in list(self.routes.items()):
            for (method, status, reason), count in list(tally.outcomes.items()):
                yield (route, method, status, reason.value), count

    def _histograms(self) -> Iterator[Metric]:
        for name, documentation, histogram_of in _HISTOGRAMS:
            family = HistogramMetricFamily(name, documentation, labels=("route",))
            for route, tally in self.routes.items():
                histogram = histogram_of(tally)
                family.add_metric((route,), histogram.buckets(), histogram.total)
            yield family

    def _credentials(self) -> Iterator[Metric]:
        yield _counted(
            CounterMetricFamily(
                "gateway_authentications", "Credentials looked at, by method and result.", labels=("method", "result")
            ),
            self.authentications.items(),
        )
        yield _counted(
            CounterMetricFamily(
                "gateway_credentials_refused",
                "Credentials refused, by method and what was wrong.",
                labels=("method", "why"),
            ),
            self.refused_credentials.items(),
        )
        refused = list(self.refused_keys.items())
        yield from in_portions(_key_refusals, (((key, reason.value), count) for (key, reason), count in refused))


def _requests() -> CounterMetricFamily:
    return CounterMetricFamily(
        "gateway_requests", "Requests by what became of them.", labels=("route", "method", "status", "reason")
    )


def _status_label(status: int) -> str:
    """The status, if it is a known one: a container may answer with any number, and each would be a series."""
    return _STATUSES.get(status) or f"{status // 100}xx"


def _key_refusals() -> CounterMetricFamily:
    return CounterMetricFamily(
        "gateway_key_refusals", "Refused requests of callers that were recognized.", labels=("key", "reason")
    )


def _counted(family: CounterMetricFamily, counts: Iterable[tuple[tuple[str, str], int]]) -> Metric:
    """A family with two labels, filled."""
    for labels, count in counts:
        family.add_metric(tuple(map(str, labels)), count)
    return family


def _method_of(exchange: Exchange) -> str:
    """How the caller logged in; a certificate that is required is looked at before that."""
    return exchange.authentication[0] if exchange.authentication else "certificate"
