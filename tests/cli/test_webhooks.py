"""`gateway webhooks` on a real ledger, in this process."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli.webhooks import webhooks
from gateway.keys.key_changes import user_name
from gateway.ledger.audit import recorded
from gateway.ledger.deliveries import DeliveryOutcome, Planned, make_due, mark_dead, mark_delivered, plan
from gateway.ledger.delivery_claims import Bounds, claim_due
from gateway.ledger.ledger import open_ledger
from tests.support.ledgers import NOON
from tests.support.pure import document, write

pytestmark = pytest.mark.usefixtures("restored_log")

Run = Callable[..., Result]
URL = "https://hooks.example/canary-path?token=canary-token"


@pytest.fixture
def config(tmp_path: Path, ledger_url: str) -> Path:
    return write(tmp_path, document(tmp_path, ledger={"url": ledger_url, "timeout": "30s"}))


@pytest.fixture
def run(config: Path) -> Run:
    def invoke(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(webhooks, [*arguments, "--config", str(config)], prog_name="gateway webhooks")
        assert result.exit_code == code, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert "canary" not in result.output
        return result

    return invoke


@pytest.fixture
def filled(ledger_url: str) -> None:
    """One webhook in each state."""

    async def fill() -> None:
        ledger = open_ledger(ledger_url, 30.0)
        for i, name in enumerate(("waiting", "due", "delivered", "dead")):
            planned = Planned(name, "default", f"job-{name}", "key:ci", URL, "hooks.example:443", None)
            await ledger.write(lambda c, p=planned, i=i: plan(c, p, NOON + i))  # type: ignore[misc] # its defaults are the values
        for name, end, outcome in (
            ("delivered", mark_delivered, DeliveryOutcome(204, None)),
            ("dead", mark_dead, DeliveryOutcome(404, "status")),
            ("due", None, None),
        ):
            await ledger.write(lambda c, n=name: make_due(c, "default", f"job-{n}", "complete", NOON + 9))  # type: ignore[misc] # likewise
            if end is not None and outcome is not None:
                (due,) = await ledger.write(lambda c: claim_due(c, "me", NOON + 9, NOON + 99, Bounds(9, 9)))
                await ledger.write(lambda c, e=end, d=due, o=outcome: e(c, d.lease, o, NOON + 10))  # type: ignore[misc] # likewise
        await ledger.close()

    asyncio.run(fill())


@pytest.mark.usefixtures("filled")
def test_they_are_listed_the_newest_first(run: Run) -> None:
    lines = run("list").output.splitlines()
    assert lines[0].split() == [
        "id", "state", "owner", "request", "id", "destination", "attempts", "trouble", "created", "next",
    ]  # fmt: skip
    assert [line.split()[:2] for line in lines[1:]] == [
        ["dead", "dead"], ["delivered", "delivered"], ["due", "due"], ["waiting", "waiting"],
    ]  # fmt: skip
    assert "hooks.example:443" in lines[1]
    assert "status 404" in lines[1]
    (only,) = json.loads(run("list", "--state", "dead", "--json").output)
    assert only["id"] == "dead"
    assert "url" not in only


def test_an_empty_list_is_one(run: Run) -> None:
    assert json.loads(run("list", "--json").stdout) == []


@pytest.mark.usefixtures("filled")
def test_one_is_shown(run: Run) -> None:
    shown = json.loads(run("show", "dead", "--json").output)
    assert shown == {
        "id": "dead", "state": "dead", "owner": "key:ci", "upstream": "default", "request_id": "job-dead",
        "destination": "hooks.example:443", "status": "complete", "attempts": 1, "last_status": 404,
        "trouble": "status", "created_at": "2026-11-23T12:00:03Z", "next_at": None,
        "ended_at": "2026-11-23T12:00:10Z",
    }  # fmt: skip
    text = run("show", "waiting").output
    assert "state        waiting\n" in text
    assert "None" not in text


@pytest.mark.usefixtures("filled")
def test_a_dead_letter_is_sent_once_more(run: Run, ledger_url: str) -> None:
    assert run("retry", "dead").output.startswith("Webhook dead is due now.")
    assert json.loads(run("show", "dead", "--json").output)["state"] == "due"
    assert run("retry", "due").output.startswith("Webhook due is due now.")

    async def audit() -> list[str]:
        ledger = open_ledger(ledger_url, 30.0)
        found = await ledger.read(recorded)
        await ledger.close()
        return [f"{entry.actor} {entry.action} {entry.subject}" for _, entry in found]

    actor = f"cli:{user_name()}"
    assert asyncio.run(audit()) == [f"{actor} webhook.retry due", f"{actor} webhook.retry dead"]


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("waiting", "waits for the end of its job"),
        ("delivered", "was delivered"),
        ("x\x1b[2J", "there is no webhook"),
    ],
)
def test_what_can_not_be_retried(run: Run, name: str, why: str) -> None:
    result = run("retry", name, code=1)
    assert why in result.stderr
    assert "\x1b" not in result.stderr


def test_there_is_no_such(run: Run) -> None:
    assert run("show", "nobody", code=1).stderr.endswith("gateway: there is no webhook nobody in the ledger\n")
