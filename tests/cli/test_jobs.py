"""`gateway jobs` on a real ledger, in this process."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Connection, select

from gateway.cli.main import cli
from gateway.ledger.accounts import read_counts
from gateway.ledger.jobs import forget
from gateway.ledger.ledger import open_ledger
from gateway.ledger.reservations import Claim, admit, charge_one, reserve
from gateway.ledger.schema import reservations
from gateway.limits.submit_decisions import Ask
from tests.support.endings import end, job_of
from tests.support.joblists import CANARY, make_job
from tests.support.ledgers import NOON, make_profile
from tests.support.pure import document, write

pytestmark = pytest.mark.usefixtures("restored_log")

Run = Callable[..., Result]
NOW = time.time()
BELL = "evil\x1b[2J"


@pytest.fixture
def config(tmp_path: Path, ledger_url: str) -> Path:
    return write(tmp_path, document(tmp_path, ledger={"url": ledger_url, "timeout": "30s"}))


@pytest.fixture
def run(config: Path) -> Run:
    def invoke(*arguments: str, code: int = 0) -> Result:
        # Options first: what stands behind -- is no option.
        command, *rest = arguments
        result = CliRunner().invoke(cli, ["jobs", command, "--config", str(config), *rest], prog_name="gateway")
        assert result.exit_code == code, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert CANARY not in result.output
        assert "\x1b" not in result.output
        return result

    return invoke


def fill(connection: Connection) -> None:
    """A job in each state, one that has the id of another, and one whose owner was named by somebody hostile."""
    for number, name in enumerate(("done", "bad", "gone", "run")):
        make_job(connection, name, now=NOON + number, webhook=f"of-{name}")
    make_job(connection, "run", upstream="staging", now=NOON + 4)
    make_job(connection, "evil", owner=f"jwt:idp#{BELL}", now=NOON + 5)
    make_job(connection, "-x", owner="key:acme", now=NOON + 6)
    end(connection, ("default", "done"), 2, NOON + 10, 3600, failed=False)
    end(connection, ("default", "bad"), None, NOON + 10, 3600, failed=True)
    forget(connection, job_of(connection, ("default", "gone")), NOON + 11)


def put(ledger_url: str, make: Callable[[Connection], None]) -> None:
    async def work() -> None:
        ledger = open_ledger(ledger_url, 30.0)
        await ledger.write(make)
        await ledger.close()

    asyncio.run(work())


@pytest.fixture
def filled(ledger_url: str) -> None:
    put(ledger_url, fill)


def listed(run: Run, *arguments: str) -> list[tuple[str, str]]:
    rows: list[dict[str, Any]] = json.loads(run("list", "--json", *arguments).output)
    return [(row["request_id"], row["state"]) for row in rows]


@pytest.mark.usefixtures("filled")
def test_they_are_listed_the_newest_first(run: Run) -> None:
    lines = run("list").output.splitlines()
    assert lines[0].split() == [
        "request", "id", "upstream", "owner", "key", "state", "created", "ended", "expires", "pages", "webhook",
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[1:]] == ["-x", "evil", "run", "run", "bad", "done"]
    assert lines[-1].split() == [
        "done", "default", "key:ci", "ci", "complete", "2026-11-23T12:00:00Z", "2026-11-23T12:00:10Z",
        "2026-11-23T13:00:10Z", "2", "settled", "due",
    ]  # fmt: skip
    assert lines[4].split()[4:] == ["running", "2026-11-23T12:00:03Z", "-", "-", "3", "reserved", "waiting"]


@pytest.mark.usefixtures("filled")
def test_what_is_listed_can_be_narrowed(run: Run) -> None:
    assert listed(run, "--state", "gone") == [("gone", "gone")]
    assert listed(run, "--state", "failed") == [("bad", "failed")]
    assert listed(run, "--owner", "acme") == listed(run, "--owner", "key:acme") == [("-x", "running")]
    assert listed(run, "--owner", "ci", "--state", "complete") == [("done", "complete")]
    assert listed(run, "--limit", "2") == [("-x", "running"), ("evil", "running")]
    assert listed(run, "--owner", "nobody") == []
    told = run("list", "--owner", "nobody")
    assert len(told.stdout.splitlines()) == len(told.stderr.splitlines()) == 1


def test_a_wrong_call_is_one(run: Run) -> None:
    for wrong in (["list", "--limit", "0"], ["list", "--limit", "1001"], ["list", "--state", "x"], ["show"]):
        run(*wrong, code=2)


def test_without_jobs_the_list_is_empty(run: Run) -> None:
    assert json.loads(run("list", "--json").stdout) == []


@pytest.mark.usefixtures("filled")
def test_one_is_shown(run: Run) -> None:
    assert json.loads(run("show", "done", "--json").output) == {
        "request_id": "done", "upstream": "default", "owner": "key:ci", "account": "key:ci", "key": "ci",
        "state": "complete", "created_at": "2026-11-23T12:00:00Z", "ended_at": "2026-11-23T12:00:10Z",
        "expires_at": "2026-11-23T13:00:10Z", "pages": 2, "pages_are": "settled", "check_path": "/api/v1/marker/done",
        "webhook": {"id": "of-done", "state": "due", "destination": "hooks.example:443", "attempts": 0},
    }  # fmt: skip
    lines = run("show", "bad").output.splitlines()
    assert lines[0] == "request id  bad"
    assert lines[5] == "state       failed"
    assert lines[-1] == "webhook     due, to hooks.example:443, 0 attempts; its id is of-bad"
    assert "None" not in run("show", "--", "-x").output
    assert json.loads(run("show", "gone", "--json").output)["state"] == "gone"
    assert run("show", "evil").output.count("jwt:idp#evil\N{REPLACEMENT CHARACTER}[2J") == 2


@pytest.mark.parametrize("name", ["-x", "-ehj-c_5", "-h-", "-ab=c", "--ab=c", "--x", "-", "-1"])
def test_an_id_may_look_like_an_option(name: str, ledger_url: str, run: Run) -> None:
    put(ledger_url, lambda connection: make_job(connection, name, now=NOON))
    for arguments in ([name, "--json"], ["--json", name], ["--json", "--", name]):
        assert json.loads(run("show", *arguments).output)["request_id"] == name


def test_help_is_no_id(run: Run) -> None:
    for asked in ("-h", "--help"):
        assert run("show", asked).output.startswith("Usage: gateway jobs show [OPTIONS] REQUEST_ID")
    assert "Usage: gateway jobs show" in CliRunner().invoke(cli, ["jobs", "show", "-h"], prog_name="gateway").output
    assert "unexpected extra argument (--jsn)" in run("show", "x", "--jsn", code=2).stderr


@pytest.mark.usefixtures("filled")
def test_an_id_of_two_upstreams_needs_one_of_them(run: Run) -> None:
    assert run("show", "run", code=1).stderr == (
        "gateway: there are jobs run of default, staging: say which with --upstream\n"
    )
    assert json.loads(run("show", "run", "--upstream", "staging", "--json").output)["upstream"] == "staging"


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("name", ["nobody", "", BELL, "x" * 3000, "\udc80"])
def test_there_is_no_such(name: str, run: Run) -> None:
    assert "gateway: there is no job " in run("show", "--", name, code=1).stderr
    assert "of the upstream else in the ledger" in run("show", "--upstream", "else", "--", "run", code=1).stderr
    assert listed(run, "--owner", name) == []


def test_nothing_is_made_where_no_ledger_is(tmp_path: Path) -> None:
    path = tmp_path / "none" / "ledger.db"
    config = write(tmp_path, document(tmp_path, ledger={"url": f"sqlite:///{path}"}))
    result = CliRunner().invoke(cli, ["jobs", "list", "--config", str(config), "--json"])
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])
    assert not path.exists()


# What was charged without an answer


def lose(connection: Connection) -> None:
    """One lost job of each upstream, and a submit that never got its job's id; all charged three pages."""
    for upstream in ("default", "staging"):
        make_job(connection, "lost", upstream=upstream, now=NOW)
    make_job(connection, "well", now=NOW)
    end(connection, ("default", "well"), 2, NOW + 10, 3600, failed=False)
    for row in list(connection.execute(select(reservations).where(reservations.c.request_id == "lost"))):
        charge_one(connection, row.account, row.id, NOW + 20)
    claim = Claim("a-submit", "key:ci", "key:ci", "default")
    admit(connection, claim, make_profile(), NOW, NOW + 60)
    reserve(connection, claim, make_profile(), Ask(3, 0, "fast"), NOW, NOW + 60)
    charge_one(connection, "key:ci", "a-submit", NOW + 20)


@pytest.fixture
def with_lost(ledger_url: str) -> None:
    put(ledger_url, lose)


def pages_used(ledger_url: str) -> int:
    found: list[int] = []
    put(ledger_url, lambda c: found.append(read_counts(c, "key:ci", NOW + 30).day.pages))
    return found[0]


@pytest.mark.usefixtures("with_lost")
def test_what_was_charged_without_an_answer_is_listed_and_given_back(run: Run, config: Path, ledger_url: str) -> None:
    rows = json.loads(run("list", "--lost", "--json").output)
    assert sorted((row["request_id"], row["upstream"], row["pages"]) for row in rows if row["request_id"]) == [
        ("lost", "default", 3),
        ("lost", "staging", 3),
    ]
    assert [row["submit"] for row in rows if row["request_id"] is None] == ["a-submit"]
    assert "request id  submit" in run("list", "--lost").output
    assert len(json.loads(run("list", "--lost", "--json", "--owner", "nobody").output)) == 0
    told = CliRunner().invoke(cli, ["usage", "--config", str(config), "--since", "2026-01-01"])
    assert "3 jobs with 9 pages had no answer: see gateway jobs list --lost" in told.stderr
    used = pages_used(ledger_url)
    assert "lost is lost of several upstreams: say which" in run("refund", "lost", code=1).stderr
    assert json.loads(run("refund", "--upstream", "staging", "--json", "lost").stdout)["pages"] == 3
    assert run("refund", "a-submit").stdout == "3 pages were given back to key:ci.\n"
    assert run("refund", "lost").stdout == "3 pages were given back to key:ci.\n"
    assert pages_used(ledger_url) == used - 9
    assert run("list", "--lost", "--json").output == "[]\n"
    told = CliRunner().invoke(cli, ["audit", "--config", str(config), "--json"])
    assert told.output.count('"job.refund"') == 3
    assert "no answer" not in CliRunner().invoke(cli, ["usage", "--config", str(config)]).output


@pytest.mark.usefixtures("with_lost")
def test_what_can_not_be_given_back_is_said(run: Run) -> None:
    run("refund", "a-submit")
    assert "a-submit cost nothing: it was refunded" in run("refund", "a-submit", code=1).stderr
    assert "well was settled by what its result says" in run("refund", "well", code=1).stderr
    assert "nobody is not a job or submit" in run("refund", "nobody", code=1).stderr
    assert "Take --lost or --state" in run("list", "--lost", "--state", "gone", code=2).stderr
