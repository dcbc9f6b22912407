"""Metrics of accounts: pages settled and refunded, the used share of each limit, soft limits crossed."""

from collections import Counter
from collections.abc import Iterable, Iterator

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from gateway.model.account_names import key_account, key_id_of, unqualified
from gateway.observe.exposition import in_portions
from gateway.observe.key_labels import OTHER, KeyLabels

log = structlog.get_logger()


class AccountMetrics:
    """Updated by settlements and admissions; `settled` are the pages of all accounts."""

    def __init__(self) -> None:
        self._labels = KeyLabels()
        self._pages: Counter[tuple[str, str]] = Counter()
        self._crossings: Counter[tuple[str, str]] = Counter()
        self._ratios: dict[str, dict[str, float]] = {}
        self.settled = 0

    def pages(self, account: str, settled: int, refunded: int) -> None:
        """Counts one settlement. A correction downwards counts as refunded alone: counters never fall."""
        label = self._label(account)
        self._pages[label, "settled"] += max(0, settled)
        self.settled += max(0, settled)
        self._pages[label, "refunded"] += refunded

    def set_ratios(self, account: str, ratios: dict[str, float]) -> None:
        """Sets how much of each limit an account has used, as a share."""
        label = self._label(account)
        if label != OTHER:
            self._ratios[label] = ratios

    def shown(self) -> list[str]:
        """The accounts whose limits are in the metrics."""
        return [key_account(label) for label in self._ratios]

    def forget(self, account: str) -> None:
        """Removes an account's limits from the metrics."""
        self._ratios.pop(unqualified(account), None)

    def count_crossed(self, account: str, limits: frozenset[str]) -> None:
        """Counts and logs soft limits that an account has just crossed."""
        for limit in sorted(limits):
            self._crossings[self._label(account), limit] += 1
            log.warning("soft limit crossed", account=account, limit=limit)

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at each scrape."""
        yield from in_portions(_pages, list(self._pages.items()))
        yield from in_portions(_ratios, _rows_of(list(self._ratios.items())))
        yield from in_portions(_crossings, list(self._crossings.items()))

    def _label(self, account: str) -> str:
        return self._labels.of(key_id_of(account))


def _pages() -> CounterMetricFamily:
    return CounterMetricFamily("gateway_pages", "Pages by what became of them.", labels=("key", "kind"))


def _ratios() -> GaugeMetricFamily:
    return GaugeMetricFamily(
        "gateway_limit_used_ratio", "Share of a limit that is used, 1 being all.", labels=("key", "limit")
    )


def _crossings() -> CounterMetricFamily:
    return CounterMetricFamily(
        "gateway_soft_limit_crossings", "How often the soft limit of a budget was crossed.", labels=("key", "limit")
    )


def _rows_of(ratios: Iterable[tuple[str, dict[str, float]]]) -> Iterator[tuple[tuple[str, str], float]]:
    """Each account's ratios are replaced as a whole, and never changed."""
    return (((label, limit), ratio) for label, limits in ratios for limit, ratio in limits.items())
