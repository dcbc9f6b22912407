"""Metrics that other modules keep, read at each scrape: numbers, counts by a label, issuers' keys, the versions."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric


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
