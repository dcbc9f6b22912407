"""docs/monitoring.md, by symptom: every name in its table is one of the gateway's."""

import re
import shlex
from collections.abc import Iterator
from typing import Final

import click
import pytest

from gateway.cli.main import cli
from gateway.model.reasons import Reason
from tests.support.alertrules import ALERTS
from tests.support.process import ROOT

DOCS: Final = ROOT / "docs"
SECTION: Final = (DOCS / "monitoring.md").read_text().partition("## By symptom\n")[2].partition("\n## ")[0]
ROWS: Final = [line for line in SECTION.splitlines() if line.startswith('| "')]
WORDS: Final = {"why", "client", "detail", "duration", "upstream_duration"}  # fields of events and answers
HEADERS: Final = {"X-Request-Id", "X-Gateway-Reason"}
# What the issue of this page asked for, and the statuses that the gateway itself answers with.
ASKED: Final = [
    "502", "503", "429 for one key", "slow", "certificate", "webhook did not come", "disk full", "ledger",
]  # fmt: skip


def listed(page: str) -> set[str]:
    """The code in the first cells of a page's tables."""
    return set(re.findall(r"^\| `([^`]+)` \|", (DOCS / page).read_text(), re.MULTILINE))


def code() -> Iterator[str]:
    """What stands between backticks in the section."""
    yield from re.findall(r"`([^`]+)`", SECTION)


def is_command(text: str) -> bool:
    """Whether the words name a command of the gateway, and its options and arguments fit."""
    words = shlex.split(text)
    if words.pop(0) != "gateway":
        return False
    command: click.Command = cli
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        if found is None:
            return False
        command = found
    options = {name for option in command.params if isinstance(option, click.Option) for name in option.opts}
    return all(word in options for word in words if word.startswith("--"))


KNOWN: Final = {
    *listed("metrics.md"),
    *listed("log.md"),
    *listed("configuration.md"),
    *map(str, Reason),
    *WORDS,
    *HEADERS,
    "df",
}


@pytest.mark.parametrize("text", sorted(set(code())))
def test_every_name_is_one_of_the_gateways(text: str) -> None:
    assert text in KNOWN or is_command(text), text


def test_every_alert_that_is_named_is_there() -> None:
    named = re.findall(r"\[(Gateway\w+)\]\(#(\w+)\)", SECTION)
    assert named
    assert {name for name, _ in named} <= set(ALERTS)
    assert all(anchor == name.lower() for name, anchor in named)


def test_what_wakes_somebody_is_named_under_a_symptom() -> None:
    """But for alerts that say themselves what the symptom is: nothing answers Prometheus."""
    critical = {name for name, rule in ALERTS.items() if rule["labels"]["severity"] == "critical"}
    assert {name for name in critical if f"[{name}]" not in SECTION} == {"GatewayAbsent"}


@pytest.mark.parametrize("symptom", ASKED)
def test_a_symptom_has_a_row(symptom: str) -> None:
    assert [row for row in ROWS if f'"{symptom}"' in row.split("|")[1]]


def test_every_row_has_a_place_to_look_and_a_reason() -> None:
    for row in ROWS:
        cells = re.split(r"\s*\|\s*", row.strip("| "))
        assert len(cells) == 3, row
        assert all(cells), row


def test_it_begins_with_what_users_of_the_sdk_can_be_asked_for() -> None:
    """They see no header, and so no request id."""
    first = SECTION.strip().partition("\n\n")[0]
    assert first.index("gateway refusals --key ID --since 1h") < first.index("X-Request-Id")
