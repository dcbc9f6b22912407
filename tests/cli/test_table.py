"""Tables fit the terminal: what tells rows apart stays whole, the rest gives way."""

import pytest
from click.testing import CliRunner
from rich.console import Console

from gateway.cli import table
from gateway.cli.main import cli
from gateway.cli.table import fitting

HEADINGS = ("request id", "upstream", "owner", "key", "state")


def test_the_last_columns_give_way_first_and_ids_never() -> None:
    widths = [32, 10, 20, 10, 10]
    assert fitting(HEADINGS, widths, 200) == [0, 1, 2, 3, 4]
    assert fitting(HEADINGS, widths, 90) == [0, 1, 2, 3]
    assert fitting(HEADINGS, widths, 65) == [0, 1, 3]
    assert fitting(HEADINGS, widths, 20) == [0, 3]


@pytest.mark.parametrize("is_wide", [False, True])
def test_a_narrow_terminal_breaks_no_id(
    is_wide: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr(table, "is_wide", lambda: is_wide)
    monkeypatch.setattr(table, "Console", lambda width=60: Console(width=width))
    table.show_table(
        HEADINGS, [("0" * 32, "default", "key:somebody", "somebody", "running")], total=["total", *[""] * 4]
    )
    told = capsys.readouterr()
    assert "0" * 32 in told.out
    assert ("running" in told.out) == is_wide
    assert ("Left out, for want of room: " in told.err) == (not is_wide)


def test_wide_is_an_option_of_what_lists() -> None:
    assert "--wide" in CliRunner().invoke(cli, ["jobs", "list", "--help"]).output
