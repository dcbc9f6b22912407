from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from gateway.model.reasons import Reason
from gateway.model.request import Delivery
from gateway.observe.collectors import BuildInfo, ByLabel, Number, Numbers
from gateway.observe.metrics import BOUNDS, Histogram, RequestMetrics
from tests.support.pure import PROPERTY, make_exchange

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(*collectors: object) -> tuple[Samples, dict[str, str]]:
    """What Prometheus reads: values by name and labels, and the type of each family."""
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)  # type: ignore[arg-type]
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    samples: Iterable[Sample] = [sample for family in families for sample in family.samples]
    values = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}
    assert all(family.documentation.endswith(".") for family in families)
    return values, {family.name: family.type for family in families}


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


def test_a_fresh_start_has_every_family_and_no_request() -> None:
    samples, types = scraped(RequestMetrics())
    assert types == {
        "gateway_requests": "counter",
        "gateway_request_duration_seconds": "histogram",
        "gateway_upstream_duration_seconds": "histogram",
        "gateway_overhead_duration_seconds": "histogram",
        "gateway_requests_in_flight": "gauge",
        "gateway_authentications": "counter",
        "gateway_credentials_refused": "counter",
        "gateway_key_refusals": "counter",
        "gateway_upstream_retries": "counter",
    }
    assert samples == {("gateway_requests_in_flight", ()): 0.0, ("gateway_upstream_retries_total", ()): 0.0}


def test_counts_requests_by_what_became_of_them() -> None:
    metrics = RequestMetrics()
    for method, status, reason in (
        ("GET", 200, Reason.FORWARDED),
        ("GET", 200, Reason.FORWARDED),
        ("POST", 401, Reason.UNAUTHENTICATED),
    ):
        metrics.add(make_exchange(method=method, route="result", status=status, reason=reason))
    metrics.add(make_exchange(method="PROPFIND"))
    metrics.add(make_exchange(method="CANARY"))
    samples, _ = scraped(metrics)
    name = "gateway_requests_total"
    assert value(samples, name, route="result", method="GET", status="200", reason="forwarded") == 2
    assert value(samples, name, route="result", method="POST", status="401", reason="unauthenticated") == 1
    assert value(samples, name, route="unmatched", method="OTHER", status="0", reason="forwarded") == 2
    assert sum(count for (found, _), count in samples.items() if found == name) == 5
    assert "CANARY" not in str(samples)


def test_counts_logins_in_flight_and_retries() -> None:
    metrics = RequestMetrics()
    metrics.in_flight = 3
    metrics.add(make_exchange(authentication=("api_key", "accepted")))
    metrics.add(
        make_exchange(authentication=("api_key", "accepted"), delivery=Delivery(started=1.0, ended=2.0, retried=True))
    )
    metrics.add(make_exchange(authentication=("none", "missing"), delivery=Delivery(retried=True)))
    samples, _ = scraped(metrics)
    assert value(samples, "gateway_requests_in_flight") == 3
    assert value(samples, "gateway_authentications_total", method="api_key", result="accepted") == 2
    assert value(samples, "gateway_authentications_total", method="none", result="missing") == 1
    assert value(samples, "gateway_upstream_retries_total") == 1


def test_measures_the_request_and_the_upstream_apart() -> None:
    metrics = RequestMetrics()
    metrics.add(make_exchange(route="a", delivery=Delivery(started=100.1, ended=100.2)))
    metrics.add(make_exchange(route="a", delivery=Delivery(started=100.25)))  # cut off: measured to the request's end
    metrics.add(make_exchange(route="a"))
    samples, _ = scraped(metrics)
    assert value(samples, "gateway_request_duration_seconds_count", route="a") == 3
    assert value(samples, "gateway_request_duration_seconds_sum", route="a") == pytest.approx(1.5)
    assert value(samples, "gateway_upstream_duration_seconds_count", route="a") == 2
    assert value(samples, "gateway_upstream_duration_seconds_sum", route="a") == pytest.approx(0.35)


def test_what_the_gateway_adds_is_neither_the_upstreams_time_nor_what_a_client_waits_for() -> None:
    metrics = RequestMetrics()
    metrics.add(make_exchange(route="a", delivery=Delivery(started=100.1, ended=100.2)))  # 0.5 s, 0.1 s of it there
    metrics.add(make_exchange(route="a", ended=130.0, delivery=Delivery(started=129.5, ended=129.75, held=29.25)))
    metrics.add(make_exchange(route="a", delivery=Delivery(started=100.0)))  # broken off there: none of it is ours
    metrics.add(make_exchange(route="a", ended=109.0, delivery=Delivery(held=9.0)))  # never went upstream
    metrics.add(make_exchange(route="a"))
    samples, _ = scraped(metrics)
    name = "gateway_overhead_duration_seconds"
    assert value(samples, f"{name}_count", route="a") == 3
    assert value(samples, f"{name}_sum", route="a") == pytest.approx(0.4 + 0.5)
    assert value(samples, f"{name}_bucket", route="a", le="0.1") == 1
    assert value(samples, f"{name}_bucket", route="a", le="0.5") == 3


@PROPERTY
@given(st.lists(st.floats(0, 1e6) | st.sampled_from(BOUNDS), max_size=30))
def test_buckets_are_cumulative(durations: list[float]) -> None:
    metrics = RequestMetrics()
    for duration in durations:
        metrics.add(make_exchange(route="a", started=0.0, ended=duration))
    samples, _ = scraped(metrics)
    name = "gateway_request_duration_seconds"
    buckets = {float(labels[0][1]): count for (found, labels), count in samples.items() if found == f"{name}_bucket"}
    if not durations:
        assert buckets == {}
        return
    assert list(buckets) == [*BOUNDS, inf]
    assert buckets == {bound: sum(duration <= bound for duration in durations) for bound in (*BOUNDS, inf)}
    assert all(before <= after for before, after in pairwise(buckets.values()))
    assert value(samples, f"{name}_count", route="a") == len(durations)
    assert value(samples, f"{name}_sum", route="a") == pytest.approx(sum(durations))


def test_an_empty_histogram_is_all_zeros() -> None:
    assert {count for _, count in Histogram().buckets()} == {0.0}
    assert Histogram().total == 0.0


def test_numbers_are_looked_up_at_each_scrape() -> None:
    now = [1.0]
    numbers = Numbers(
        Number("gateway_up", "Up.", lambda: now[0]),
        Number("gateway_bytes", "Bytes.", lambda: now[0] * 2, is_counter=True),
        Number("gateway_good", "Good.", lambda: True),
    )
    assert scraped(numbers)[1] == {"gateway_up": "gauge", "gateway_bytes": "counter", "gateway_good": "gauge"}
    now[0] = 21.0
    samples, _ = scraped(numbers)
    assert samples == {("gateway_up", ()): 21.0, ("gateway_bytes_total", ()): 42.0, ("gateway_good", ()): 1.0}


def test_a_counter_by_label_follows_its_table() -> None:
    counts = Counter({"a": 0, 'b"\n\\': 2})
    refused = ByLabel("gateway_refused", "Refused.", "why", counts)
    counts["a"] += 1
    samples, types = scraped(refused)
    assert types == {"gateway_refused": "counter"}
    assert value(samples, "gateway_refused_total", why="a") == 1
    assert value(samples, "gateway_refused_total", why='b"\n\\') == 2


def test_says_what_runs() -> None:
    samples, _ = scraped(BuildInfo("1.2", "3.11", "OpenSSL 3"))
    assert value(samples, "gateway_build_info", version="1.2", python="3.11", openssl="OpenSSL 3") == 1


def test_refusals_are_counted_by_key() -> None:
    metrics = RequestMetrics()
    for key_id, reason in (
        ("ci", Reason.RATE_LIMITED),
        ("ci", Reason.RATE_LIMITED),
        ("ci", Reason.BUDGET_EXHAUSTED),
        ("jwt:https://id.example#ann", Reason.FORBIDDEN),
        ("cert:host.example", Reason.FORBIDDEN),
        ("ci", Reason.FORWARDED),
        ("ci", Reason.UPSTREAM_TIMEOUT),
        ("ci", Reason.CLIENT_GONE),
        (None, Reason.UNAUTHENTICATED),
    ):
        metrics.add(make_exchange(key_id=key_id, reason=reason))
    samples, _ = scraped(metrics)
    found = {labels: number for (name, labels), number in samples.items() if name == "gateway_key_refusals_total"}
    assert found == {
        (("key", "ci"), ("reason", "budget_exhausted")): 1,
        (("key", "ci"), ("reason", "rate_limited")): 2,
        (("key", "other"), ("reason", "forbidden")): 2,
    }


def test_the_keys_that_are_labels_are_bounded() -> None:
    metrics = RequestMetrics()
    for number in range(1500):
        metrics.add(make_exchange(key_id=f"key-{number}", reason=Reason.RATE_LIMITED))
    metrics.add(make_exchange(key_id="key-0", reason=Reason.RATE_LIMITED))
    samples, _ = scraped(metrics)
    found = [labels for name, labels in samples if name == "gateway_key_refusals_total"]
    assert len(found) == 1001
    assert value(samples, "gateway_key_refusals_total", key="other", reason="rate_limited") == 500
    assert value(samples, "gateway_key_refusals_total", key="key-0", reason="rate_limited") == 2


def test_a_status_that_is_none_is_counted_with_its_class() -> None:
    """A container may answer with any number: each was a series for ever."""
    metrics = RequestMetrics()
    for status in range(200, 600):
        metrics.add(make_exchange(status=status))
    samples, _ = scraped(metrics)
    shown = {dict(labels)["status"] for name, labels in samples if name == "gateway_requests_total"}
    assert len(shown) < 70
    assert {"200", "404", "2xx", "4xx", "5xx"} <= shown
    assert sum(value for (name, _), value in samples.items() if name == "gateway_requests_total") == 400
