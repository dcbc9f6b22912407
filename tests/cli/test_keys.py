"""The commands of keys and usage on a real ledger, called as the command line calls them, in this process."""

import json
import os
import pwd
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.auth.key_secrets import is_secret
from gateway.cli.main import cli
from gateway.keys.key_changes import user_name
from gateway.ledger.accounts import add_to_windows, locked_counts
from gateway.ledger.ledger import open_ledger
from gateway.ledger.schema import usage, usage_by_mode
from gateway.limits.quotas import Used
from gateway.limits.windows import day_of, month_of
from tests.support.pure import document, write

pytestmark = pytest.mark.usefixtures("restored_log")

Run = Callable[..., Result]
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
CANARY = "canary-secret-of-the-file-1a2b3c"


@pytest.fixture
def config(tmp_path: Path, ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CI_KEY", CANARY)
    monkeypatch.chdir(tmp_path)
    sections = {
        "keys": [{"id": "ci", "secret": {"env": "CI_KEY"}, "limits": {"pages_per_day": 7, "spend_per_month": "1.5"}}],
        "profiles": {"premium": {"pages_per_month": 100}},
        "ledger": {"url": ledger_url, "timeout": "30s"},
    }
    return write(tmp_path, document(tmp_path, **sections))


@pytest.fixture
def run(config: Path) -> Run:
    def invoke(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(cli, [*arguments, "--config", str(config)], prog_name="gateway")
        assert result.exit_code == code, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert "Traceback" not in result.output
        assert CANARY not in result.output
        return result

    return invoke


def made(run: Run, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("keys", *arguments, "--json").stdout)
    return found


def test_the_secret_stands_alone_on_standard_output(run: Run) -> None:
    result = run("keys", "create", "a", "--profile", "premium", "--expires", "90d")
    secret = result.stdout.removesuffix("\n")
    assert is_secret(secret.encode())
    assert secret not in result.stderr
    assert re.search(rf"Key a is in the ledger .*: profile premium, until {TIME}\.", result.stderr)


def test_a_key_is_shown_as_it_was_made(run: Run) -> None:
    limits = ("--limit", "pages_per_month=500", "--limit", "page_range=required", "--limit", "body_limit=5MB",
              "--limit", "spend_per_month=12.50", "--limit", "pages_per_day=none")  # fmt: skip
    new = made(run, "create", "a", "--owner", "team", "--scope", "admin", "--network", "10.0.0.0/8", *limits)
    assert (new["id"], new["generation"], new["expires_at"]) == ("a", 1, None)
    shown = made(run, "show", "a")
    assert new["secret"] not in json.dumps(shown)
    assert (shown["source"], shown["state"], shown["owner"], shown["scopes"]) == ("ledger", "live", "team", ["admin"])
    assert shown["limits"] == {
        "body_limit": "5242880B", "page_range": "required", "pages_per_day": None, "pages_per_month": 500,
        "spend_per_month": "12.50",
    }  # fmt: skip
    assert shown["last_used_is_noted_every_seconds"] == 10
    assert shown["account"]["limits"]["pages_per_month"]["remaining"] == 500
    (generation,) = shown["generations"]
    assert re.fullmatch(TIME, generation.pop("created_at"))
    assert generation == {
        "generation": 1,
        "state": "live",
        "live_until": None,
        "revoked_at": None,
        "last_used_at": None,
    }
    text = run("keys", "show", "a").stdout
    for word in ("noted", "never", "pages_per_month", "500", "page_range=required", "pages_per_day=none"):
        assert word in text.replace("notes", "noted")


NONE = "is not a network, such as 10.0.0.0/8 or ::1/128"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("create", "a"), "there is a key a already; rotate it, or take another id"),
        (("create", "ci"), "ci is a key of the configuration: change it there"),
        (("create", "b", "--profile", "premum"), "there is no profile premum; did you mean premium?"),
        (("create", "b", "--expires", "2020-01-31"), "the expiry is in the past"),
        (("create", "b", "--expires", "999999999d"), "the expiry is too far away"),
        (("create", "b", "--limit", "page_per_day=5"), "there is no limit page_per_day; did you mean pages_per_day?"),
        (("create", "b", "--limit", "pages_per_day=-5"), "pages_per_day: must be at least 0"),
        (("create", "b", "--limit", "polls_per_minute=none"),
         "polls_per_minute can't be none (null), as budgets of a day or a month can: leave it out"),
        (("create", "b", "--network", "10.0.0.1/8"),
         f"10.0.0.1/8 {NONE}: 10.0.0.1 is within one, so write 10.0.0.0/8, or 10.0.0.1 alone"),
        (("create", "B"), "an id has 1 to 63 characters of a-z, 0-9 and -"),
        (("show", "b"), "there is no key b in the ledger"),
        (("rotate", "b"), "there is no key b in the ledger"),
        (("rotate", "a", "--overlap", "999999999999d"), "an overlap is not negative, and ends before the year 10000"),
        (("revoke", "a"),
         "that is the last live secret of a: nobody could use it any more; with force (--force) it is done"),
        (("revoke", "a", "--generation", "2"), "key a has no generation 2"),
        (("disable", "ci"), "ci is a key of the configuration: change it there"),
        (("enable", "b"), "there is no key b in the ledger"),
        (("change", "ci", "--owner", "x"), "ci is a key of the configuration: change it there"),
        (("grant", "b", "--pages", "1", "--until", "1d"), "there is no key b in the ledger"),
        (("reset", "b"), "there is no key b in the ledger"),
    ],
)  # fmt: skip
def test_what_fails_says_why_in_one_line(config: Path, arguments: tuple[str, ...], told: str, run: Run) -> None:
    del config
    run("keys", "create", "a")
    result = run("keys", *arguments, code=1)
    assert result.stdout == ""
    assert result.stderr == f"gateway: {told}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "a", "--expires", "never"),
        ("create", "a", "--limit", "pages_per_day"),
        ("create", "a", "--limit", "pages_per_day="),
        ("create", "a", "--limit", "pages_per_day=1", "--limit", "pages_per_day=2"),
        ("create",),
        ("rotate", "a", "--overlap", "24"),
        ("revoke", "a", "--generation", "0"),
        ("change", "a"),
        ("change", "a", "--expires", "tomorrow"),
        ("grant", "a", "--pages", "0", "--until", "1d"),
        ("grant", "a", "--pages", "1"),
    ],
)
def test_wrong_usage_is_two_and_touches_no_ledger(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    config = write(tmp_path, document(tmp_path, ledger={"url": f"sqlite:///{tmp_path}/ledger.db"}))
    result = CliRunner().invoke(cli, ["keys", *arguments, "--config", str(config)])
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")
    assert not (tmp_path / "ledger.db").exists()


def test_an_operation_is_done_once(run: Run) -> None:
    run("keys", "create", "a")
    first = made(run, "rotate", "a", "--operation", "deploy-7", "--overlap", "1h")
    assert (first["generation"], first["was_done"]) == (2, False)
    again = made(run, "rotate", "a", "--operation", "deploy-7", "--overlap", "1h")
    assert again == {**first, "secret": None, "was_done": True}
    told = run("keys", "rotate", "a", "--operation", "deploy-7")
    assert told.stdout == ""
    assert "was done before: it made secret 2 of a, which was shown then" in told.stderr
    plain = run("keys", "rotate", "a")
    assert is_secret(plain.stdout.strip().encode())
    states = {found["generation"]: found["state"] for found in made(run, "show", "a")["generations"]}
    assert states == {1: "ended", 2: "live", 3: "live"}


def test_a_key_is_changed_and_told_of(run: Run) -> None:
    run("keys", "create", "a", "--scope", "admin", "--network", "10.0.0.0/8", "--limit", "pages_per_day=5")
    told = run("keys", "change", "a", "--profile", "premium", "--limit", "page_range=required", "--expires", "1d")
    assert "limits of its own page_range=required pages_per_day=5" in told.stdout
    run(
        "keys",
        "change",
        "a",
        "--scope",
        "",
        "--network",
        "",
        "--limit",
        "pages_per_day=default",
        "--expires",
        "never",
    )
    shown = made(run, "show", "a")
    assert (shown["profile"], shown["scopes"], shown["networks"]) == ("premium", [], [])
    assert (shown["limits"], shown["expires_at"]) == ({"page_range": "required"}, None)
    run("keys", "disable", "a")
    assert made(run, "show", "a")["state"] == "disabled"
    run("keys", "enable", "a")
    run("keys", "revoke", "a", "--force")
    assert made(run, "show", "a")["state"] == "without a secret"


def test_the_list_tells_of_both_sources_and_of_no_secret(run: Run) -> None:
    new = made(run, "create", "a")
    listed = run("keys", "list", "--json").stdout
    assert new["secret"] not in listed
    assert [(key["id"], key["source"]) for key in json.loads(listed)] == [("ci", "file"), ("a", "ledger")]
    heading, *rows = run("keys", "list").stdout.splitlines()
    assert heading.split() == [
        "id",
        "source",
        "state",
        "profile",
        "owner",
        "scopes",
        "live",
        "secrets",
        "expires",
        "last",
        "used",
    ]
    assert [row.split()[:3] for row in rows] == [["ci", "file", "live"], ["a", "ledger", "live"]]
    shown = made(run, "show", "ci")
    assert (shown["source"], shown["limits"]) == ("file", {"pages_per_day": 7, "spend_per_month": "1.5"})
    assert shown["account"]["limits"]["spend_per_month"]["limit"] == 1.5


def test_the_audit_says_who_did_what(run: Run) -> None:
    run("keys", "create", "a")
    run("keys", "grant", "ci", "--pages", "5", "--until", "2099-01-31")
    entries = json.loads(run("keys", "audit", "--json").stdout)
    assert [(entry["action"], entry["subject"]) for entry in entries] == [("key.grant", "ci"), ("key.create", "a")]
    assert {entry["actor"] for entry in entries} == {f"cli:{pwd.getpwuid(os.getuid()).pw_name}"}
    assert all(re.fullmatch(TIME, entry["at"]) for entry in entries)
    assert "key.grant" not in run("keys", "audit", "a").stdout


def test_a_grant_that_changes_nothing_says_so(run: Run) -> None:
    made(run, "create", "a")
    made(run, "create", "b", "--profile", "premium")
    grant = ("--pages", "5", "--until", "2099-01-31")
    assert "warning: a has neither pages_per_day nor pages_per_month" in run("keys", "grant", "a", *grant).stderr
    assert "more" not in run("keys", "grant", "a", *grant).stdout
    for key in ("b", "ci"):
        assert "warning" not in run("keys", "grant", key, *grant).stderr


@pytest.mark.parametrize(
    ("budgets", "told"),
    [
        (("pages_per_month",), "Key a has 1 page more each month, until "),
        (("pages_per_day",), "Key a has 1 page more each day, until "),
        (("pages_per_day", "pages_per_month"), "Key a has 1 page more each day and each month, until "),
        ((), "Key a is granted 1 page until 2099-01-31T00:00:00Z; it has no budget of pages: nothing changes now."),
    ],
)
def test_a_grant_names_the_budgets_that_there_are(budgets: tuple[str, ...], told: str, run: Run) -> None:
    limits = [word for name in budgets for word in ("--limit", f"{name}=9")]
    run("keys", "create", "a", *limits)
    assert told in run("keys", "grant", "a", "--pages", "1", "--until", "2099-01-31").stdout


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert user_name() == str(os.getuid())


@pytest.fixture
def used(ledger_url: str, run: Run) -> str:
    """Usage of three accounts on one day; the day."""
    run("keys", "create", "a")
    now = time.time()
    day, month = day_of(now).period, month_of(now).period

    def work(connection: Any) -> None:
        for account, pages in (("key:a", 7), ("key:ci", 3), ("jwt:https://idp#=cmd", 1)):
            row = {"account": account, "day": day, "requests": 2, "failed": 1, "pages": pages, "refunded": 4}
            connection.execute(usage.insert(), {**row, "spend": 1_250_000})
            connection.execute(usage_by_mode.insert(), {**row, "mode": "fast", "spend": 1_250_000})
        locked_counts(connection, "key:a", now)
        add_to_windows(connection, "key:a", (day, month), Used(2, 7, 1_250_000))

    async def add() -> None:
        ledger = open_ledger(ledger_url, 30)
        await ledger.write(work)
        await ledger.close()

    import asyncio  # noqa: PLC0415 -- nothing else here has a loop

    asyncio.run(add())
    return f"{day // 10000}-{day // 100 % 100:02}-{day % 100:02}"


def test_usage_is_told_in_three_forms(run: Run, used: str) -> None:
    told = json.loads(run("usage", "--json").stdout)
    assert told["total"] == {"requests": 6, "failed": 3, "pages": 11, "refunded": 12, "spend": 3.75}
    assert told["rows"][1] == {
        "day": used, "key": "a", "account": "key:a", "requests": 2, "failed": 1, "pages": 7, "refunded": 4,
        "spend": 1.25,
    }  # fmt: skip
    assert run("usage", "--csv", "--key", "a").stdout_bytes.decode() == (
        f"day,key,requests,failed,pages,refunded,spend\r\n{used},a,2,1,7,4,1.25\r\n"
    )
    lines = run("usage").stdout.splitlines()
    assert [line.split() for line in lines[2:]] == [
        [used, "a", "2", "1", "7", "4", "1.25"],
        [used, "ci", "2", "1", "3", "4", "1.25"],
        ["total", "6", "3", "11", "12", "3.75"],
    ]
    assert json.loads(run("usage", "--json", "--key", "ci", "--since", "2099-01-01").stdout)["rows"] == []
    assert "there is no key b" in run("usage", "--key", "b", code=1).stderr
    run("usage", "--json", "--csv", code=2)
    by_mode = json.loads(run("usage", "--json", "--by-mode").stdout)["rows"]
    assert [(row["account"], row["mode"], row["pages"]) for row in by_mode] == [
        ("jwt:https://idp#=cmd", "fast", 1), ("key:a", "fast", 7), ("key:ci", "fast", 3),
    ]  # fmt: skip
    assert run("usage", "--csv", "--by-mode").stdout.startswith("day,key,mode,requests")


def test_grants_are_ended_before_their_time(run: Run) -> None:
    run("keys", "create", "a")
    for pages in ("5", "7"):
        run("keys", "grant", "a", "--pages", pages, "--until", "9d")
    assert made(run, "show", "a")["account"]["granted_pages"] == 12
    assert (
        "The grants of a are ended: 12 pages less; what was used stays used." in run("keys", "end-grants", "a").stdout
    )
    assert made(run, "show", "a")["account"]["granted_pages"] == 0
    assert made(run, "end-grants", "a") == {"id": "a", "grants": []}
    audit = json.loads(run("keys", "audit", "a", "--json").stdout)
    assert [row["action"] for row in audit][:2] == ["key.end_grant"] * 2
    assert "there is no key b" in run("keys", "end-grants", "b", code=1).stderr


def test_a_reset_forgets_windows_and_keeps_usage(run: Run, used: str) -> None:
    del used
    assert made(run, "show", "a")["account"]["usage"]["month"]["pages"] == 7
    assert "forgotten of this month: 2 requests, 7 pages, spend 1.25" in run("keys", "reset", "a").stdout
    assert made(run, "show", "a")["account"]["usage"]["month"]["pages"] == 0
    assert json.loads(run("usage", "--json", "--key", "a").stdout)["total"]["pages"] == 7


def test_explain_tells_text_and_json(run: Run) -> None:
    asked = ("explain", "--key", "ci", "--ip", "10.1.2.3", "POST", "/api/v1/marker", "--pages")
    refused = json.loads(run(*asked, "8", "--json").stdout)
    assert (refused["allowed"], refused["status"], refused["reason"]) == (False, 403, "budget_exhausted")
    assert refused["steps"][-1]["name"] == "pages"
    assert refused["limits"]["pages_per_day"]["remaining"] == 7
    text = run(*asked, "8").stdout
    assert re.search(r"^refused: 403 budget_exhausted: Page budget too small for this until ", text, re.MULTILINE)
    assert "what would help: " in text
    made(run, "create", "c", "--profile", "premium")
    command = run("explain", "--key", "c", "--ip", "10.1.2.3", "POST", "/api/v1/marker", "--pages", "101").stdout
    assert re.search(r"gateway keys grant c --pages N --until WHEN --config /\S+/gateway.yaml; or", command)
    assert re.search(r"gateway keys change c --limit NAME=VALUE --config /\S+/gateway.yaml; or", command)
    run("keys", "change", "c", "--network", "10.9.0.0/16")
    command = run("explain", "--key", "c", "--ip", "10.1.2.3", "POST", "/api/v1/marker").stdout
    assert re.search(r"--network 10\.1\.2\.3 --config /\S+/gateway.yaml \(and all others it is to have\)", command)
    allowed = json.loads(run(*asked, "7", "--json").stdout)
    assert (allowed["allowed"], allowed["status"], allowed["help"]) == (True, None, None)
    assert "\nallowed\n" in run(*asked, "7").stdout
    assert "there is no key b" in run("explain", "--key", "b", "--ip", "10.1.2.3", "GET", "/x", code=1).stderr
    run("explain", "--ip", "10.1.2.3.4", "GET", "/x", code=2)
    anonymous = json.loads(run("explain", "--ip", "10.1.2.3", "GET", "/health_check", "--json").stdout)
    assert anonymous["allowed"] is True


def test_an_id_of_both_is_told(run: Run, config: Path) -> None:
    run("keys", "create", "a")
    config.write_text(config.read_text().replace("id: ci", "id: a"))
    assert (
        "a is in the configuration and in the ledger"
        in run("explain", "--key", "a", "--ip", "10.0.0.1", "GET", "/x", code=1).stderr
    )
    states = {(key["source"], key["state"]) for key in json.loads(run("keys", "list", "--json").stdout)}
    assert states == {("file", "live"), ("ledger", "in the file, too")}


def test_who_only_looks_makes_no_ledger(tmp_path: Path) -> None:
    config = write(tmp_path, document(tmp_path, ledger={"url": f"sqlite:///{tmp_path}/new/ledger.db"}))
    for arguments in (("keys", "list"), ("keys", "audit"), ("usage",), ("explain", "--ip", "10.0.0.1", "GET", "/x")):
        result = CliRunner().invoke(cli, [*arguments, "--config", str(config)])
        assert result.exit_code == 0
        assert "There is no ledger " in result.stderr
    assert not (tmp_path / "new").exists()
    result = CliRunner().invoke(cli, ["keys", "create", "a", "--config", str(config)])
    assert f"The ledger {tmp_path}/new/ledger.db was made." in result.stderr
    assert (tmp_path / "new/ledger.db").stat().st_mode & 0o777 == 0o600


def test_a_ledger_that_is_away_is_one_line_without_its_password(tmp_path: Path) -> None:
    url = "postgresql://me:canary-pw@127.0.0.1:1/db"
    config = write(tmp_path, document(tmp_path, ledger={"url": url, "timeout": "10s"}))
    for arguments in (("keys", "list"), ("keys", "create", "a"), ("usage",)):
        result = CliRunner().invoke(cli, [*arguments, "--config", str(config)])
        assert result.exit_code == 1
        assert result.stderr.startswith("gateway: the ledger postgresql://127.0.0.1:1/db can't be used: ")
        assert result.stderr.count("\n") == 1
        assert "may have been done" not in result.stderr  # it was never reached
        assert "canary" not in result.output


def test_a_scope_that_opens_nothing_is_told(run: Run) -> None:
    assert (
        "warning: scope amdin opens nothing; the only scope is admin"
        in run("keys", "create", "a", "--scope", "amdin").stderr
    )
    assert "opens nothing" not in run("keys", "change", "a", "--scope", "admin").stderr


def test_a_secret_that_was_revoked_keeps_its_moment(run: Run) -> None:
    run("keys", "create", "a")
    run("keys", "rotate", "a")
    run("keys", "revoke", "a", "--generation", "1")
    before = made(run, "show", "a")
    told = run("keys", "revoke", "a", "--generation", "1").stdout
    assert re.fullmatch(rf"Secret 1 of a: it was revoked at {TIME}; nothing has changed\.\n", told)
    assert made(run, "show", "a")["generations"] == before["generations"]


def test_who_rotates_a_key_whose_secrets_are_all_revoked_is_told_that_none_works(run: Run) -> None:
    run("keys", "create", "a")
    run("keys", "revoke", "a", "--force")
    assert "Key a has secret 2 now; no other secret of it works." in run("keys", "rotate", "a").stderr
    run("keys", "revoke", "a", "--force")
    assert made(run, "rotate", "a")["previous_ends_at"] is None


def test_too_many_pages_are_no_matter_of_waiting(run: Run) -> None:
    asked = ("explain", "--key", "ci", "--ip", "10.1.2.3", "POST", "/api/v1/marker", "--pages", "5001", "--json")
    told = json.loads(run(*asked).stdout)
    assert told["reason"] == "too_many_pages"
    assert told["help"].startswith("Ask for fewer by page_range or max_pages; ")


def test_the_audit_tells_moments_and_its_json_seconds(run: Run) -> None:
    run("keys", "create", "a")
    run("keys", "rotate", "a", "--overlap", "1h")
    run("keys", "rotate", "a", "--overlap", "0s")
    run("keys", "grant", "a", "--pages", "5", "--until", "2031-02-03")
    text = run("keys", "audit", "a").stdout
    assert '"until": "2031-02-03T00:00:00Z"' in text
    assert re.search(rf'"previous_ends_at": "{TIME}"', text)
    assert "until=2031-02-03T00:00:00Z" in run("audit").stdout
    rows = json.loads(run("keys", "audit", "a", "--json").stdout)
    assert rows[0]["detail"]["until"] == 1927843200
