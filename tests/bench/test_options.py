"""The command line of the bench."""

from pathlib import Path

import pytest

from bench.options import DOCS, HERE, MEASURES, PEERS, parse


def test_a_complete_run_is_written_down() -> None:
    plan = parse([])
    assert (plan.peers, plan.measures, plan.rounds, plan.out) == (PEERS, MEASURES, 3, DOCS)


@pytest.mark.parametrize("part", [["--quick"], ["--only", "polls"], ["--peers", "nginx"], ["--compare", str(HERE)]])
def test_a_run_of_a_part_is_not_written_down(part: list[str]) -> None:
    assert parse(part).out is None


def test_a_comparison_is_of_gateways_alone_unless_peers_are_named() -> None:
    plan = parse(["--compare", str(HERE)])
    assert (plan.peers, plan.rounds, plan.compare) == (("gateway",), 6, HERE)
    assert parse(["--compare", str(HERE), "--peers", "nginx,gateway"]).peers == ("gateway", "nginx")
    assert parse(["--compare", str(HERE), "--rounds", "9"]).rounds == 9
    assert parse(["--compare", str(HERE), "--peers", ",".join(PEERS)]).out is None


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--compare", "/nonexistent"], "no gateway is in /nonexistent"),
        (["--compare", str(HERE), "--peers", "nginx"], "--compare wants gateway among --peers"),
        (["--only", "pols"], "unknown name: pols"),
        (["--peers", "apache"], "unknown name: apache"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(wrong)
    assert told in capsys.readouterr().err


def test_names_keep_the_order_of_the_tables() -> None:
    plan = parse(["--only", "memory,polls", "--peers", "envoy,gateway", "--json", "x.json"])
    assert (plan.measures, plan.peers, plan.json) == (("polls", "memory"), ("gateway", "envoy"), Path("x.json"))
