"""The rows: what is measured stands in the tables, and every name leads somewhere."""

import pytest

from bench.metrics import METRICS
from bench.options import LEDGER_MEASURES, MEASURES, parse
from bench.rows import ALONE, TIMED
from bench.targets import targets
from bench.watched import Used, named


def test_every_name_of_a_measure_has_one() -> None:
    assert sorted(MEASURES) == sorted([*TIMED, *ALONE])
    assert set(MEASURES) >= LEDGER_MEASURES


def test_every_figure_has_one_key_and_one_title() -> None:
    assert len({metric.key for metric in METRICS}) == len(METRICS)
    assert len({metric.title for metric in METRICS}) == len(METRICS)


def test_a_postgresql_is_started_only_for_what_is_measured_on_it() -> None:
    assert parse(["--only", "polls,submits-one"]).wants_postgres
    assert not parse(["--only", "polls,submits"]).wants_postgres
    assert not parse(["--only", "submits-one", "--peers", "nginx"]).wants_postgres


def test_each_of_fifty_submitters_has_a_key() -> None:
    assert parse(["--quick", "--keys", "1"]).keys > 50


def test_what_a_job_uses_is_what_lies_beyond_rest() -> None:
    rest = Used(103.0, 1.3, 0.0).since(Used(100.0, 1.0, 0.0))
    whole = Used(123.0, 7.3, 0.5).since(Used(103.0, 1.3, 0.0)).beyond(rest)
    assert (whole.at, whole.proxy, whole.container) == pytest.approx((20.0, 4.0, 0.5))
    sample = named("held", whole, Used(10.0, 1.0, 0.5), {"late": 50.0, "asked": 12.0})
    keys = {metric.key for metric in METRICS}
    assert sample.keys() <= keys
    assert sample["held_cpu"] == pytest.approx(40)
    assert sample["held_after_cpu"] == pytest.approx(15)


def test_the_promise_about_a_held_job_is_of_both_sides_together() -> None:
    figures = {
        "watched_cpu": {"nginx": 3.0},
        "watched_container_cpu": {"nginx": 1.0},
        "held_cpu": {"gateway": 0.6},
        "held_container_cpu": {"gateway": 0.2},
    }
    verdicts = {target.title: verdict for target in targets() if (verdict := target.verdict(figures))}
    ((title, (value, met)),) = verdicts.items()
    assert (title, met) == ("CPU of a held job, both sides, relative to that through nginx", True)
    assert value == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("metric", "value", "met"),
    [("start_time", 900, True), ("help_time", 151, False), ("rest_cpu", 0.3, True), ("rest_mb", 76, False)],
)
def test_what_is_promised_of_start_and_rest(metric: str, value: float, met: bool) -> None:
    verdicts = [verdict for target in targets() if (verdict := target.verdict({metric: {"gateway": value}}))]
    assert verdicts == [(value, met)]
