"""`gateway status` and `gateway top` beside a gateway that really runs."""

import asyncio
import json
import os
import re
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trustme
from click.testing import CliRunner, Result

from gateway import __version__
from gateway.cli import run_status
from gateway.cli.main import cli
from gateway.config.ledger_url import url_of
from gateway.errors import LedgerUnavailable
from tests.admin.filling import ledger_of
from tests.support.backend import HEALTH_PATH, Backend
from tests.support.gateway import Running, Start, request, submit
from tests.support.joblists import make_job
from tests.support.jobs import comes_true, ledger_path
from tests.support.pure import document, write
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("restored_log")


async def told(gateway: Running, directory: Path, *command: str, **sections: Any) -> Result:
    """What a command says of this gateway, called on a thread of its own."""
    settings = gateway.gateway.live.state.settings
    whole = document(directory, **{"ledger": {"url": url_of(settings)}, **sections})
    whole["admin"] = {**whole.get("admin", {}), "port": gateway.admin_port}
    path = write(directory, whole)
    return await asyncio.to_thread(CliRunner().invoke, cli, [*command, "--config", str(path)])


async def test_a_healthy_gateway_is_told_so(start: Start, tmp_path: Path) -> None:
    gateway = await start()
    await eventually(lambda: gateway.metric("gateway_upstream_up") == 1)
    (await gateway.ask(request("GET", "/nowhere"))).is_refusal(404, "route_not_found")

    async def found() -> dict[str, Any]:
        result = await told(gateway, tmp_path, "status", "--json")
        assert result.exit_code == 0, result.output
        status: dict[str, Any] = json.loads(result.stdout)
        return status

    status = await found()
    while not status["refusals"]:  # written within a second
        status = await found()
    assert (status["healthy"], status["problems"]) == (True, [])
    assert status["refusals"][0]["reason"] == "route_not_found"
    text = (await told(gateway, tmp_path, "status")).stdout
    assert text.startswith(f"healthy\ngateway {__version__} at http://127.0.0.1:{gateway.admin_port}\n")
    assert (status["version"], status["address"]) == (__version__, f"http://127.0.0.1:{gateway.admin_port}")
    assert "requests in flight 0" in text
    assert "route_not_found" in text


async def test_what_is_wrong_is_told_and_ends_with_1(start: Start, tmp_path: Path) -> None:
    gateway = await start()
    gateway.rewrite(lambda whole: whole.update(netwrok={}))
    gateway.gateway.reloader.force()
    await gateway.says("reload refused, the old configuration stays in force")
    result = await told(gateway, tmp_path, "status")
    assert result.exit_code == 1
    assert result.stdout.startswith("not healthy\n")
    assert "problem: the configuration on the disk is refused" in result.stdout
    assert "problem: configuration: netwrok: " in result.stdout


async def test_of_a_request_that_failed_it_is_told_how_the_container_is_now(start: Start, tmp_path: Path) -> None:
    gateway = await start(upstream={"url": "http://127.0.0.1:1"})
    failed = (await gateway.ask(submit())).is_refusal(502, "upstream_unreachable")["request_id"]
    await eventually(lambda: bool([event for event in gateway.events if event["event"] == "upstream is down"]))
    command = ("explain", "--request-id", failed)

    async def is_kept() -> bool:
        return (await told(gateway, tmp_path, *command)).exit_code == 0

    await comes_true(is_kept)
    found = json.loads((await told(gateway, tmp_path, *command, "--json")).stdout)
    assert found["means"].startswith("No connection came about within upstream.connect_timeout")
    now = found["container_now"]
    assert (now["up"], now["trouble"], now["last_trouble"]) == (False, *["no answer (no connection)"] * 2)
    text = (await told(gateway, tmp_path, *command)).stdout
    assert re.search(
        r"^container now +down since .* (ago|\(now)\): no answer \(no connection\)$", text, re.MULTILINE
    ), text
    settings = gateway.gateway.live.state.settings
    await gateway.end()
    path = write(tmp_path, document(tmp_path, ledger={"url": url_of(settings)}, admin={"port": gateway.admin_port}))
    gone = (await asyncio.to_thread(CliRunner().invoke, cli, [*command, "--config", str(path)])).stdout
    assert f"not known: no gateway answers at http://127.0.0.1:{gateway.admin_port}: Connection refused" in gone


async def test_a_faulty_file_hides_nothing_of_the_gateway_that_runs(start: Start, tmp_path: Path) -> None:
    gateway = await start()
    gateway.rewrite(lambda whole: whole.update(nope=1))
    gateway.gateway.reloader.force()
    await gateway.says("reload refused, the old configuration stays in force")
    result = await told(gateway, tmp_path, "status", "--json", nope=1)
    status = json.loads(result.stdout)
    assert (result.exit_code, status["version"]) == (1, __version__)
    assert any(text.startswith("configuration: nope: ") for text in status["problems"])
    assert "warning: nope: " in result.stderr
    assert (await told(gateway, tmp_path, "top", "--count", "1", nope=1)).exit_code == 0


async def test_a_ledger_that_is_away_is_a_problem_among_others(start: Start, tmp_path: Path) -> None:
    gateway = await start()
    url = "postgresql://gateway:canary@127.0.0.1:1/ledger"
    result = await told(gateway, tmp_path, "status", ledger={"url": url})
    assert result.exit_code == 1
    assert "problem: ledger: no connection to PostgreSQL\n" in result.stdout
    assert "(jobs as counted up to 10 s ago)\n" in result.stdout
    status = json.loads((await told(gateway, tmp_path, "status", "--json", ledger={"url": url})).stdout)
    assert (status["healthy"], status["problems"]) == (False, ["ledger: no connection to PostgreSQL"])
    assert (status["jobs_are_exact"], status["refusals"]) == (False, [])


@pytest.mark.parametrize("reference", [{"env": "LEDGER_URL_OF_THE_GATEWAY"}, {"file": "/not/there"}])
async def test_without_the_ledgers_url_all_else_is_told(
    start: Start, tmp_path: Path, reference: dict[str, str]
) -> None:
    """It stood in a variable of the service alone, and nothing was told."""
    gateway = await start()
    result = await told(gateway, tmp_path, "status", ledger={"url": reference})
    assert result.exit_code == 1
    assert result.stdout.startswith(f"not healthy\ngateway {__version__} at http://127.0.0.1:{gateway.admin_port}\n")
    assert "problem: ledger: ledger.url: the " in result.stdout
    assert f"{reference.get('env') or reference['file']}" in result.stdout
    assert "(jobs as counted up to 10 s ago)\n" in result.stdout
    status = json.loads((await told(gateway, tmp_path, "status", "--json", ledger={"url": reference})).stdout)
    assert (status["ledger"], status["jobs_are_exact"], len(status["problems"])) == (None, False, 1)
    assert (await told(gateway, tmp_path, "top", "--count", "1", ledger={"url": reference})).exit_code == 0
    faulty = await told(gateway, tmp_path, "status", ledger={"url": reference}, nope=1)
    assert "warning: nope: " in faulty.stderr
    assert "problem: ledger: ledger.url: " in faulty.stdout


async def test_the_ledger_is_named_without_its_password(start: Start, tmp_path: Path) -> None:
    gateway = await start()
    assert f"\nledger SQLite, {ledger_path(gateway)}\n" in (await told(gateway, tmp_path, "status")).stdout
    url = "postgresql://gateway:canary@127.0.0.1:1/ledger?application_name=x"
    result = await told(gateway, tmp_path, "status", "--json", ledger={"url": url})
    assert json.loads(result.stdout)["ledger"] == {"engine": "PostgreSQL", "name": "postgresql://127.0.0.1:1/ledger"}
    assert "canary" not in result.output


async def test_a_locked_ledger_is_told_with_its_why(start: Start, tmp_path: Path) -> None:
    gateway = await start(ledger={"timeout": "1s"})
    with closing(sqlite3.connect(ledger_path(gateway), isolation_level=None, timeout=5)) as other:
        other.execute("BEGIN IMMEDIATE")
        await comes_true(lambda: _is_away(gateway), within=40)
        result = await told(gateway, tmp_path, "status")
    assert result.exit_code == 1
    assert "problem: not ready: ledger: no answer within ledger.timeout\n" in result.stdout


async def _is_away(gateway: Running) -> bool:
    return (await gateway.admin("/readyz"))[0] == 503


async def test_a_container_that_is_down_is_told_with_its_address(
    start: Start, tmp_path: Path, backend: Backend
) -> None:
    await backend.hang_up()
    gateway = await start()
    upstream = {"url": f"http://127.0.0.1:{backend.port}", "health_path": HEALTH_PATH}
    problem = f"http://127.0.0.1:{backend.port}{HEALTH_PATH}: no answer (no connection)\n"

    async def holds() -> bool:
        told_now = (await told(gateway, tmp_path, "status", upstream=upstream)).stdout
        return f"problem: the container does not answer its health path: {problem}" in told_now

    await comes_true(holds)


async def test_jobs_are_counted_at_that_moment(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = await start()
    await eventually(lambda: gateway.metric("gateway_jobs", state="running") == 0)
    async with ledger_of(gateway) as write:
        await write(lambda connection: make_job(connection, "a-job", now=time.time()))
    status = json.loads((await told(gateway, tmp_path, "status", "--json")).stdout)
    assert (status["now"]["jobs_running"], status["jobs_are_exact"]) == (1, True)
    assert "jobs running 1, jobs complete 0, jobs failed 0\n" in (await told(gateway, tmp_path, "status")).stdout

    def away(_: object) -> None:
        raise LedgerUnavailable("it is away")

    monkeypatch.setattr(run_status, "count", away)
    assert "(jobs as counted up to 10 s ago)\n" in (await told(gateway, tmp_path, "status")).stdout
    assert not json.loads((await told(gateway, tmp_path, "status", "--json")).stdout)["jobs_are_exact"]
    assert "jobs as counted up to 10 s ago" in (await told(gateway, tmp_path, "top", "--count", "1")).stdout


async def test_top_draws_what_happens(start: Start, tmp_path: Path) -> None:
    gateway = await start()
    await gateway.ask(request("GET", "/nowhere"))
    result = await told(gateway, tmp_path, "top", "--count", "2", "--every", "500ms")
    assert result.exit_code == 0, result.output
    assert "requests a second" in result.stdout
    assert result.stdout.endswith("\n")
    assert not result.stdout.endswith("\n\n")
    assert "healthy" in result.stdout


async def test_top_tells_programs_what_it_draws(start: Start, tmp_path: Path) -> None:
    gateway = await start()
    before = await told(gateway, tmp_path, "top", "--count", "2", "--every", "500ms", "--json")
    first, second = map(json.loads, before.stdout.splitlines())
    assert (first["healthy"], first["requests_per_second"], first["mean_latency"]) == (True, 0, None)
    assert first["at"] <= second["at"]
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(told(gateway, tmp_path, "top", "--count", "1", "--every", "2s", "--json"))
        while not looking.done():
            await gateway.ask(request("GET", "/nowhere"))
    look = json.loads(looking.result().stdout)
    assert 0 < look["refused_per_second"] == look["requests_per_second"]
    assert look["mean_latency"] > 0
    status = json.loads((await told(gateway, tmp_path, "status", "--json")).stdout)
    assert (set(look["now"]), look["limits"]) == (set(status["now"]), status["limits"])


@pytest.mark.parametrize("wrong", ["0.1", "2 minutes", "61s"])
def test_a_wrong_span_is_told(wrong: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["top", "--every", wrong, "--config", str(tmp_path)])
    assert result.exit_code == 2
    assert "is not within 0.5s and 60s" in result.stderr or "(units: ms, s, m, h, d)" in result.stderr


def test_what_status_needs_has_to_be_right(tmp_path: Path) -> None:
    path = write(tmp_path, document(tmp_path, ledger={"url": {"env": "NOT_SET"}}, admin={"port": "x"}))
    result = CliRunner().invoke(cli, ["status", "--config", str(path)])
    assert result.exit_code == 1
    assert "gateway: admin.port: " in result.stderr
    assert "gateway: ledger.url: " in result.stderr


def test_nobody_there_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, document(tmp_path, admin={"port": 1}))
    for command in ("status", "top"):
        result = CliRunner().invoke(cli, [command, "--config", str(path)])
        assert result.exit_code == 1
        asked = f"Asked was the admin listener of {path}, on this machine: does it run?"
        assert result.stderr == f"gateway: no gateway answers at http://127.0.0.1:1: Connection refused. {asked}\n"


async def test_the_token_is_sent_and_a_wrong_one_is_told(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificates: Path
) -> None:
    for name in ("server.pem", "server.key"):
        shutil.copy(certificates / name, tmp_path / name)
    tls = {"certificate": str(tmp_path / "server.pem"), "private_key": str(tmp_path / "server.key")}
    token = {"file": str(tmp_path / "token")}
    (tmp_path / "token").write_text("a-token-that-is-long-enough-for-all\n")
    gateway = await start(admin={"token": token, "tls": tls})
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    sections = {"admin": {"token": token, "tls": tls}, "tls": tls}
    assert "healthy" in (await told(gateway, tmp_path, "status", **sections)).stdout
    (tmp_path / "token").write_text("another-token-that-is-long-enough\n")
    assert "refuses /metrics (401)" in (await told(gateway, tmp_path, "status", **sections)).stderr
    sections["admin"] = {"token": {"sha256": "0" * 64}, "tls": tls}
    assert "name it by env or file" in (await told(gateway, tmp_path, "status", **sections)).stderr


async def test_a_certificate_of_the_same_authority_gets_no_token(
    start: Start, tmp_path: Path, certificates: Path
) -> None:
    authority = trustme.CA()
    shutil.copy(certificates / "server.key", tmp_path / "server.key")
    ours, theirs = authority.issue_cert("localhost"), authority.issue_cert("localhost")
    pairs = {}
    for name, certificate in (("ours", ours), ("theirs", theirs)):
        certificate.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
        authority.cert_pem.write_to_path(tmp_path / f"{name}.pem", append=True)  # as an intermediate one stands there
        pairs[name] = {"certificate": str(tmp_path / f"{name}.pem"), "private_key": str(tmp_path / f"{name}.key")}
    token = {"file": str(tmp_path / "token")}
    (tmp_path / "token").write_text("a-token-that-is-long-enough-for-all")
    gateway = await start(admin={"token": token, "tls": pairs["theirs"]})
    result = await told(gateway, tmp_path, "status", tls=pairs["ours"], admin={"token": token, "tls": pairs["ours"]})
    assert result.exit_code == 1
    assert "has another certificate than admin.tls.certificate" in result.stderr
    healthy = await told(
        gateway, tmp_path, "status", tls=pairs["ours"], admin={"token": token, "tls": pairs["theirs"]}
    )
    assert "healthy" in healthy.stdout


async def test_a_process_of_a_stranger_gets_no_token(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = {"file": str(tmp_path / "token")}
    (tmp_path / "token").write_text("a-token-that-is-long-enough-for-all")
    gateway = await start(admin={"token": token})
    assert "healthy" in (await told(gateway, tmp_path, "status", admin={"token": token})).stdout
    monkeypatch.setattr("gateway.cli.running_gateway.listening_users", lambda *_: {4321})
    result = await told(gateway, tmp_path, "status", admin={"token": token})
    assert result.exit_code == 1
    assert "is held by the user 4321, who owns neither" in result.stderr
    assert (await told(gateway, tmp_path, "top", "--count", "1", admin={"token": token})).exit_code == 1
    if os.geteuid() == 0:
        os.chown(tmp_path / "token", 4321, -1)
        assert "healthy" in (await told(gateway, tmp_path, "status", admin={"token": token})).stdout
