"""Commands that change a ledger beside a running gateway: they say that it follows only if it uses that ledger."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli.main import cli
from gateway.config.ledger_url import url_of
from gateway.ledger.watchers import has_living
from tests.admin.filling import ledger_of
from tests.support.gateway import Running, Start, request
from tests.support.jobs import comes_true
from tests.support.pure import document, write

pytestmark = pytest.mark.usefixtures("restored_log")

FOLLOWS = "A running gateway follows within 2 seconds."
ELSEWHERE = "the running gateway uses another ledger: ledger.url waits for a restart"
WARNED = f"warning: {ELSEWHERE}; nothing it serves changes\n"


async def run(gateway: Running, directory: Path, url: str, *command: str, port: int | None = None) -> Result:
    """Calls a command with a configuration that names this ledger."""
    admin = {"port": gateway.admin_port if port is None else port}
    path = write(directory, document(directory, ledger={"url": url}, admin=admin))
    result = await asyncio.to_thread(CliRunner().invoke, cli, [*command, "--config", str(path)])
    assert result.exit_code == 0, result.output
    return result


async def start_living(start: Start, **sections: Any) -> tuple[Running, str]:
    """A gateway that has sent its first heartbeat, and its ledger."""
    gateway = await start(**sections)
    url = url_of(gateway.gateway.live.state.settings)
    async with ledger_of(gateway) as work:
        await comes_true(lambda: work(lambda c: has_living(c, 0.0)))
    return gateway, url


async def test_a_gateway_that_uses_the_ledger_is_said_to_follow(start: Start, tmp_path: Path) -> None:
    gateway, url = await start_living(start)
    assert FOLLOWS in (await run(gateway, tmp_path, url, "keys", "create", "made")).stderr
    for command in (("disable",), ("enable",), ("change", "--owner", "somebody"), ("revoke", "--force")):
        result = await run(gateway, tmp_path, url, "keys", command[0], "made", *command[1:])
        assert result.stdout.endswith(f" {FOLLOWS}\n")
        assert "warning" not in result.stderr
    assert FOLLOWS in (await run(gateway, tmp_path, url, "keys", "rotate", "made")).stderr
    elsewhere = await run(gateway, tmp_path, url, "keys", "disable", "made", port=1)
    assert FOLLOWS in elsewhere.stdout  # its heartbeat is enough


async def test_a_gateway_that_waits_with_its_ledger_is_not(start: Start, tmp_path: Path) -> None:
    gateway, url = await start_living(start)
    new = f"sqlite:///{tmp_path}/new.db"
    gateway.rewrite(lambda whole: whole.update(ledger={"url": new}))
    gateway.gateway.reloader.force()
    await gateway.says("settings wait for a restart")
    created = await run(gateway, tmp_path, new, "keys", "create", "made")
    assert WARNED in created.stderr
    assert FOLLOWS not in created.stderr
    for command in (("disable",), ("grant", "--pages", "5", "--until", "7d"), ("reset",)):
        result = await run(gateway, tmp_path, new, "keys", command[0], "made", *command[1:], "--json")
        assert WARNED in result.stderr
        assert json.loads(result.stdout)
    assert (await run(gateway, tmp_path, new, "keys", "enable", "made")).stdout == "Key made is enabled.\n"
    (await gateway.ask(request("GET", "/nowhere"))).is_refusal(404, "route_not_found")
    status = await run(gateway, tmp_path, new, "status", "--json")
    told = json.loads(status.stdout)
    assert told["healthy"]
    assert f"{ELSEWHERE}; jobs are as it counted them, and its refusals are in that one" in told["warnings"]
    assert (told["jobs_are_exact"], told["refusals"]) == (False, [])
    assert url != new


async def test_a_gateway_that_has_no_heartbeat_in_the_ledger_is_warned_of(start: Start, tmp_path: Path) -> None:
    gateway, _ = await start_living(start)
    other = f"sqlite:///{tmp_path}/other.db"
    result = await run(gateway, tmp_path, other, "keys", "create", "made")
    assert f"warning: the gateway at http://127.0.0.1:{gateway.admin_port} has sent no heartbeat" in result.stderr
    assert FOLLOWS not in result.stderr


async def test_without_a_gateway_nothing_is_said(start: Start, tmp_path: Path) -> None:
    gateway = await start()
    other = f"sqlite:///{tmp_path}/other.db"
    result = await run(gateway, tmp_path, other, "keys", "create", "made", port=1)
    assert FOLLOWS not in result.stderr
    assert "warning" not in result.stderr
