"""Tables fit the terminal: what tells rows apart stays whole, the rest gives way."""

import io
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from gateway.cli import run_status, table
from gateway.cli.main import cli
from gateway.cli.rates import Pace
from gateway.cli.run_top import picture
from gateway.cli.samples import Samples
from gateway.cli.table import fitting
from tests.support.commands import CALLER, HOOK, JOB, KEY, LOST, REFUSED, call_of, leaves, takes, write_filled
from tests.support.ledgers import write_sqlite_ledger
from tests.support.pure import document, write

pytestmark = pytest.mark.usefixtures("restored_log")

HEADINGS = ("request id", "upstream", "owner", "key", "state")


def test_the_last_columns_give_way_first_and_ids_never() -> None:
    widths = [32, 10, 20, 10, 10]
    assert fitting(HEADINGS, widths, 200) == [0, 1, 2, 3, 4]
    assert fitting(HEADINGS, widths, 90) == [0, 1, 2, 3]
    assert fitting(HEADINGS, widths, 65) == [0, 1, 3]
    assert fitting(HEADINGS, widths, 60) == [0, 3]
    assert fitting(HEADINGS, widths, 36) == [0]
    assert fitting(HEADINGS, widths, 35) == []


def test_what_has_room_when_others_are_gone_is_shown() -> None:
    assert fitting(("request id", "upstream", "owner", "key", "state"), [32, 10, 67, 63, 10], 80) == [0, 1, 4]


def test_why_stays_and_beside_it_who_and_with_what_status_go_last() -> None:
    headings = ("request id", "at", "status", "why", "key", "client", "route")
    widths = [32, 10, 6, 24, 12, 15, 10]
    assert fitting(headings, widths, 200) == [0, 1, 2, 3, 4, 5, 6]
    assert fitting(headings, widths, 105) == [0, 1, 2, 3, 4]
    assert fitting(headings, widths, 90) == [0, 2, 3, 4]
    assert fitting(headings, widths, 80) == [0, 2, 3]
    assert fitting(headings, widths, 71) == [0, 3]
    assert fitting(headings, widths, 62) == []


def test_at_80_columns_a_refusal_has_who_and_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its reason takes two lines, and no id is broken."""
    monkeypatch.setattr(table, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    row = ("0" * 32, "2 h 20 min ago", "401", "token_invalid: audience", "a-team", "203.0.113.9", "submit")
    table.show_table(("request id", "at", "status", "why", "key", "client", "route"), [row])
    told = capsys.readouterr()
    assert all(word in told.out for word in ("0" * 32, "401", "token_invalid:", "audience", "a-team"))
    assert told.err == "Left out, for want of room: at, client (--wide shows all).\n"
    assert max(map(len, told.out.splitlines())) <= 80


def test_at_80_columns_an_audit_record_says_what_was_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its moment takes two lines, and what it says besides gives way before who did it."""
    monkeypatch.setattr(table, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    moment, detail = "2026-11-23 17:31:22+01:00", "count=3 reason=unauthenticated since=yesterday"
    headings = ("at", "actor", "action", "subject", "detail")
    table.show_table(headings, [(moment, "cli:operator", "requests.refused", "0" * 32, detail)])
    told = capsys.readouterr()
    assert all(word in told.out for word in ("2026-11-23", "17:31:22+01:00", "requests.refused", "0" * 32))
    assert told.err == "Left out, for want of room: actor, detail (--wide shows all).\n"
    table.show_table(headings, [(moment, "cli:op", "key.rotate", "ci", detail)])
    told = capsys.readouterr()
    assert "key.rotate" in told.out
    assert told.err == ""
    assert max(map(len, told.out.splitlines())) <= 80


def test_what_folds_is_not_left_out() -> None:
    assert fitting(("setting", "value", "from"), [40, 500, 20], 80) == [0, 1]
    assert fitting(("setting", "value", "from"), [40, 500, 20], 60) == []
    assert fitting(("at", "actor", "subject", "detail"), [25, 10, 32, 500], 120) == [0, 1, 2, 3]
    assert fitting(("at", "actor", "subject", "detail"), [25, 10, 32, 500], 80) == [0, 1, 2]
    assert fitting(("at", "actor", "subject", "detail"), [25, 10, 63, 500], 80) == []


@pytest.mark.parametrize("is_wide", [False, True])
def test_a_narrow_terminal_breaks_no_id(
    is_wide: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(table, "is_terminal", lambda: True)
    monkeypatch.setattr(table, "is_wide", lambda: is_wide)
    monkeypatch.setattr(table, "Console", lambda width=60: Console(width=width))
    table.show_table(
        HEADINGS, [("0" * 32, "default", "key:somebody", "somebody", "running")], total=["total", *[""] * 4]
    )
    told = capsys.readouterr()
    assert "0" * 32 in told.out
    assert ("running" in told.out) == is_wide
    assert ("Left out, for want of room: " in told.err) == (not is_wide)


# Every command that prints a table of rows with ids, and the ids that must stand in it, whole.
TABLES = {
    "audit": (HOOK,),
    "callers list": (CALLER,),
    "config show": ("profiles.default.requests_per_minute",),
    "jobs list": (JOB, LOST),
    "jobs list --lost": (LOST,),
    "keys audit": (KEY,),
    "keys list": (KEY,),
    "refusals": (REFUSED,),
    "status": (REFUSED, KEY),
    "usage": (KEY,),
    "webhooks list": (HOOK,),
    # Of these, lines beside the table have the id.
    "explain": (KEY, "concurrent_requests"),
    "keys show": (KEY, "concurrent_requests"),
    "webhooks show": (HOOK, JOB),
    "jobs show": (JOB, HOOK),
}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    near = {frozenset({("key", KEY), ("limit", "pages_per_month")}): 0.97}

    async def ask(*_: object) -> Samples:
        return Samples({}, {"gateway_limit_used_ratio": near})

    monkeypatch.setattr(run_status, "ask", ask)
    write_filled(tmp_path)
    run(tmp_path, "keys create", KEY)
    run(tmp_path, "webhooks retry", HOOK)
    run(tmp_path, "callers block", CALLER)
    return tmp_path


def run(directory: Path, name: str, *words: str) -> Result:
    result = CliRunner().invoke(cli, [*name.split(), *words, "--config", str(directory / "gateway.yaml")])
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_table_of_a_command_fits_and_breaks_no_id(
    name: str, columns: int, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    command = name.removesuffix(" --lost")
    words = [*call_of(command, directory), *(["--lost"] if command != name else [])]
    told = run(directory, "", *words)
    for wanted in TABLES[name]:
        assert any(wanted in line for line in told.stdout.splitlines()), told.stdout
    framed = [line for line in told.stdout.splitlines() if line[:1] in "┏┃┡│└├"]
    assert all(len(line) <= columns for line in framed), told.stdout
    if name in {"refusals", "status"} and columns >= 80:
        assert "token_invalid:" in told.stdout
        assert "audience" in told.stdout
        assert "401" in told.stdout
    if "Left out, for want of room" in told.stderr:
        wide = run(directory, "", *words, "--wide")
        assert "Left out" not in wide.stderr
        assert max(map(len, wide.stdout.splitlines())) > columns


@pytest.mark.parametrize("columns", [80, 120])
def test_a_live_picture_breaks_no_id(columns: int) -> None:
    near = {frozenset({("key", KEY), ("limit", "pages_per_month")}): 0.97}
    console = Console(width=columns, record=True, file=io.StringIO())
    console.print(picture(Samples({}, {"gateway_limit_used_ratio": near}), Pace(0, 0, 0, None, 0), 0.0))
    text = console.export_text()
    assert KEY in text
    assert max(map(len, text.splitlines())) <= columns


def test_every_command_with_a_table_is_looked_at() -> None:
    wide = {name for name, command in leaves() if takes(command, "--wide")}
    assert wide <= {name.removesuffix(" --lost") for name in TABLES}


def test_without_room_for_ids_a_row_is_a_block(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")
    told = run(directory, "webhooks list")
    assert f"id           {HOOK}" in told.stdout.splitlines()
    assert "destination  hooks.example:443" in told.stdout.splitlines()
    assert told.stderr == ""


EMPTY = {
    "audit --since 1s": "audit trail",
    "callers list": "who has submitted, or is blocked",
    "jobs list": "each submit that the container accepts is one",
    "jobs list --state gone": "--state gone",
    "jobs list --lost": "Nothing to refund",
    "keys audit": "gateway keys create",
    "keys list": "gateway keys create ID makes one",
    "refusals": "notes what is within some seconds",
    "usage": "when its end was seen",
    "webhooks list": "webhook_url",
}


@pytest.mark.parametrize("is_terminal", [False, True])
@pytest.mark.parametrize("name", sorted(EMPTY))
def test_a_list_without_entries_says_what_would_be_in_it(
    name: str, is_terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sqlite_ledger(tmp_path / "ledger.db")
    write(tmp_path, document(tmp_path, ledger={"url": f"sqlite:///{tmp_path}/ledger.db"}))
    monkeypatch.setattr(table, "is_terminal", lambda: is_terminal)
    told = run(tmp_path, name)
    assert EMPTY[name] in told.stderr
    assert len(told.stderr.splitlines()) == 1
    headings = ["day"] if name == "usage" else [] if is_terminal else ["caller", "id", "request", "at"]
    assert any(word in told.stdout for word in headings) == bool(headings)
    if name != "usage":
        assert run(tmp_path, name, "--json").stdout.split() == ["[]"] or name.startswith("audit")


def test_every_list_says_what_would_be_in_it() -> None:
    lists = {
        name for name, _ in leaves() if name.endswith(" list") or name in {"audit", "keys audit", "refusals", "usage"}
    }
    assert {name.split(" --")[0] for name in EMPTY} == lists
