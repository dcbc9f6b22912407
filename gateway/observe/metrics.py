"""The metrics of docs/metrics.md, in prometheus_client's exposition.

Requests increment plain numbers in one table row, found by route; prometheus_client makes metric families of them at
each scrape. Its own children would cost a lock and a look-up for each of the five metrics of a request. The number of
labels is limited: routes and keys are configured, the rest are closed sets.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from gateway.model.reasons import REFUSALS, Reason, Why
from gateway.model.request import Exchange
from gateway.observe.key_labels import KeyLabels
from gateway.observe.methods import method_named

BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


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
        self.outcomes: Counter[tuple[str, int, Reason]] = Counter()
        self.duration = Histogram()
        self.upstream_duration = Histogram()
        self.overhead = Histogram()


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
        tally.outcomes[method, exchange.status, exchange.reason] += 1
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
        requests = CounterMetricFamily(
            "gateway_requests",
            "Requests by what became of them.",
            labels=("route", "method", "status", "reason"),
        )
        durations = HistogramMetricFamily(
            "gateway_request_duration_seconds", "From a request's head to the end of its answer.", labels=("route",)
        )
        upstream_durations = HistogramMetricFamily(
            "gateway_upstream_duration_seconds",
            "From a request's first byte upstream to the end of the upstream's answer.",
            labels=("route",),
        )
        overheads = HistogramMetricFamily(
            "gateway_overhead_duration_seconds",
            "What the gateway itself adds to a request that goes upstream.",
            labels=("route",),
        )
        for route, tally in self.routes.items():
            for (method, status, reason), count in tally.outcomes.items():
                requests.add_metric((route, method, str(status), reason.value), count)
            durations.add_metric((route,), tally.duration.buckets(), tally.duration.total)
            upstream_durations.add_metric((route,), tally.upstream_duration.buckets(), tally.upstream_duration.total)
            overheads.add_metric((route,), tally.overhead.buckets(), tally.overhead.total)
        yield from (requests, durations, upstream_durations, overheads)
        yield GaugeMetricFamily("gateway_requests_in_flight", "Requests being handled.", self.in_flight)
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
        yield _counted(
            CounterMetricFamily(
                "gateway_key_refusals", "Refused requests of callers that were recognized.", labels=("key", "reason")
            ),
            self.refused_keys.items(),
        )
        yield CounterMetricFamily(
            "gateway_upstream_retries",
            "Requests sent again because the connection they rode on had ended before it.",
            self.retries,
        )


def _counted(family: CounterMetricFamily, counts: Iterable[tuple[tuple[str, str], int]]) -> Metric:
    """A family with two labels, filled."""
    for labels, count in counts:
        family.add_metric(tuple(map(str, labels)), count)
    return family


def _method_of(exchange: Exchange) -> str:
    """How the caller logged in; a certificate that is required is looked at before that."""
    return exchange.authentication[0] if exchange.authentication else "certificate"


@dataclass(frozen=True, slots=True)
class Number:
    """A metric without labels whose value is looked up when it is scraped."""

    name: str
    documentation: str
    read: Callable[[], float]
    is_counter: bool = False


class Numbers:
    """Metrics kept by other modules: connections, bytes, reloads, certificates."""

    def __init__(self, *numbers: Number) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at each scrape."""
        for number in self._numbers:
            family = CounterMetricFamily if number.is_counter else GaugeMetricFamily
            yield family(number.name, number.documentation, number.read())


class ByLabel:
    """A counter of another module, by one label with a closed set of values."""

    def __init__(self, name: str, documentation: str, label: str, counts: Counter[str]) -> None:
        self._name = name
        self._documentation = documentation
        self._label = label
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at each scrape."""
        family = CounterMetricFamily(self._name, self._documentation, labels=(self._label,))
        for value, count in self._counts.items():
            family.add_metric((value,), count)
        yield family


class Named:
    """A gauge with one label: 1 for each name that exists at the scrape."""

    def __init__(self, name: str, documentation: str, label: str, names: Callable[[], Iterable[str]]) -> None:
        self._name = name
        self._documentation = documentation
        self._label = label
        self._names = names

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at each scrape."""
        family = GaugeMetricFamily(self._name, self._documentation, labels=(self._label,))
        for name in self._names():
            family.add_metric((name,), 1)
        yield family


class NumbersByName:
    """A gauge with one label: what is there at the scrape, by name."""

    def __init__(
        self, name: str, documentation: str, label: str, read: Callable[[], Iterable[tuple[str, float]]]
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._label = label
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at each scrape."""
        family = GaugeMetricFamily(self._name, self._documentation, labels=(self._label,))
        for name, value in self._read():
            family.add_metric((name,), value)
        yield family


class KeySetsShown(Protocol):
    """The keys (JWKS) of token issuers, as the metrics need them."""

    @property
    def results(self) -> Mapping[str, int]:
        """Number of fetches so far, by result."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of keys in use, by issuer."""

    def ages(self) -> Mapping[str, float]:
        """Seconds since the last successful fetch, by issuer."""


class KeySetMetrics:
    """The age and number of token issuers' keys (JWKS), and the results of their fetches."""

    def __init__(self, key_sets: KeySetsShown) -> None:
        self._key_sets = key_sets

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at each scrape."""
        ages = GaugeMetricFamily(
            "gateway_jwks_age_seconds", "Seconds since an issuer's keys were fetched.", labels=("issuer",)
        )
        for issuer, age in self._key_sets.ages().items():
            ages.add_metric((issuer,), age)
        keys = GaugeMetricFamily("gateway_jwks_keys", "Keys of a token issuer that are in use.", labels=("issuer",))
        for issuer, count in self._key_sets.counts.items():
            keys.add_metric((issuer,), count)
        fetches = CounterMetricFamily("gateway_jwks_fetches", "Fetches of issuers' keys.", labels=("result",))
        for result, count in self._key_sets.results.items():
            fetches.add_metric((result,), count)
        yield from (ages, keys, fetches)


class BuildInfo:
    """gateway_build_info: the versions that run."""

    def __init__(self, version: str, python: str, openssl: str) -> None:
        self._labels = {"version": version, "python": python, "openssl": openssl}

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at each scrape."""
        family = GaugeMetricFamily("gateway_build_info", "What runs; always 1.", labels=tuple(self._labels))
        family.add_metric(tuple(self._labels.values()), 1)
        yield family
