"""The ledger away: submits are refused in time, known keys go on, and it all comes back by itself."""

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gateway.keys.validation import Wanted
from tests.support.backend import Backend, Connection, answer
from tests.support.forms import form, pdf
from tests.support.gateway import ADMIN_KEY, KEY, RESULT, Running, Start, request, submit
from tests.support.jobs import (
    ME,
    Jobs,
    Used,
    administering,
    comes_to,
    comes_true,
    complete,
    known,
    ledger_path,
    poll,
    used,
)
from tests.support.waiting import eventually

TIMEOUT = 2.0  # seconds; a ledger that is there answers within them on a busy machine, too
AWAY = {"timeout": "2s"}
PATIENT = {"timeout": "30s"}  # for those whose ledger is made anew


@contextmanager
def locked(gateway: Running, how: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
    """Holds a lock of the ledger, as a process that hangs would."""
    with closing(sqlite3.connect(ledger_path(gateway), isolation_level=None, timeout=5)) as other:
        other.execute(f"BEGIN {how}")
        yield other


async def is_ready(gateway: Running) -> bool:
    status, body = await gateway.admin("/readyz")
    reasons = body if status == 503 else ""
    assert status in {200, 503}
    assert (status == 503) == ("ledger" in reasons), body
    return status == 200


async def readiness(gateway: Running, wanted: bool) -> None:
    async def holds() -> bool:
        return await is_ready(gateway) is wanted

    await comes_true(holds, within=40)


async def refused(gateway: Running, key: str = KEY, *, chunked: bool = False) -> None:
    async with asyncio.timeout(15):
        response = await gateway.ask(submit(key=key, chunked=chunked), b"POST")
    problem = response.is_refusal(503, "ledger_unavailable")
    assert response.value(b"retry-after") == b"2"
    assert "sqlite" not in problem["detail"].lower()


@pytest.mark.parametrize("how", ["IMMEDIATE", "EXCLUSIVE"])
async def test_a_lock_that_is_held_too_long(how: str, start: Start, backend: Backend) -> None:
    backend.script = jobs = Jobs()
    gateway = await start(ledger=AWAY)
    async with administering(gateway) as admin:
        secret = await known(gateway, (await admin.create("tests", Wanted("led"))).secret)
    assert (await gateway.ask(submit(form(pdf(3))), b"POST")).status == 200
    for owner in ("root", "led"):
        gateway.own(f"job-{owner}", f"key:{owner}")
    await readiness(gateway, wanted=True)
    kept = await gateway.connect()
    with locked(gateway, how):
        await refused(gateway)
        await refused(gateway, secret, chunked=True)
        for job, key in (("job-root", ADMIN_KEY), ("job-led", secret), ("job-1", KEY)):
            assert (await kept.ask(poll(job, key))).status == 200
            assert (await gateway.ask(poll(job, key))).status == 200
        await readiness(gateway, wanted=False)
        assert gateway.metric("gateway_ledger_up") == 0
        (await gateway.ask(request(key="wrong"))).is_refusal(401, "unauthenticated")
    await readiness(gateway, wanted=True)
    assert gateway.metric("gateway_ledger_up") == 1
    assert (await gateway.ask(submit(form(pdf(2))), b"POST")).status == 200
    await comes_to(gateway, Used(0, 5, 5, 2))
    await comes_to(gateway, Used(), secret)
    told = [event["event"] for event in gateway.events if str(event["event"]).startswith("ledger is")]
    assert told[-2:] == ["ledger is unavailable", "ledger is available"]
    assert jobs.started == 2
    assert gateway.counted(status=503, reason="ledger_unavailable") == 2
    event = next(event for event in gateway.requests if event["reason"] == "ledger_unavailable")
    assert (event["level"], event["source"]) == ("error", "gateway")


async def test_a_lock_that_is_soon_let_go_is_waited_for(start: Start, backend: Backend) -> None:
    backend.script = Jobs()
    gateway = await start(ledger={"timeout": "5s"})
    with locked(gateway) as lock:
        asked = [asyncio.ensure_future(gateway.ask(submit(chunked=chunked), b"POST")) for chunked in (False, True)]
        await eventually(lambda: gateway.metric("gateway_requests_in_flight") == 2)
        lock.execute("COMMIT")
        assert [(await one).status for one in asked] == [200, 200]


async def test_a_ledger_that_goes_before_the_pages_are_reserved(start: Start, backend: Backend) -> None:
    gateway = await start(ledger=AWAY)
    body = form(pdf(3))
    client = await gateway.connect()
    sent = submit(body)
    client.send(sent[:-1])
    connection = await backend.connected()
    await backend.facts.until(lambda: b"filename" in connection.received)
    with locked(gateway):
        client.send(sent[-1:])
        (await client.response(b"POST")).is_refusal(503, "ledger_unavailable")
    await connection.end()
    assert backend.requests == []
    await comes_to(gateway, Used())


async def test_a_ledger_that_goes_before_the_job_is_noted(start: Start, backend: Backend) -> None:
    """The client never learns the id of a job that nobody could note; its pages stay charged."""
    gateway = await start(ledger=AWAY)
    answers = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        number = len(backend.requests)
        await answers.wait()
        connection.send(answer(b'{"success": true, "request_id": "job-%d"}' % number))
        await connection.end()

    backend.script = script
    clients = [await gateway.connect() for _ in range(2)]
    for number, client in enumerate(clients):
        client.send(submit(form(pdf(3)), chunked=bool(number)))
        await backend.got(number + 1)
    with locked(gateway):
        answers.set()
        for client in clients:
            response = await client.response(b"POST")
            response.is_refusal(503, "ledger_unavailable")
            assert b"job-" not in response.body
    await comes_to(gateway, Used(0, 6, 6, 2))


async def test_a_settlement_that_could_not_be_written_is_tried_at_the_next_poll(
    start: Start, backend: Backend
) -> None:
    backend.script = jobs = Jobs()
    gateway = await start(ledger=AWAY)
    assert (await gateway.ask(submit(form(pdf(3))), b"POST")).status == 200
    jobs.results["job-1"] = complete(1)
    with locked(gateway):
        assert (await gateway.ask(poll())).body == jobs.results["job-1"]
        await readiness(gateway, wanted=False)
        ends = time.monotonic() + 6 * TIMEOUT  # all tries of one settlement are over by then

        async def is_over() -> bool:
            assert (await gateway.ask(poll())).status == 200
            return time.monotonic() > ends

        await comes_true(is_over, within=6 * TIMEOUT + 15)

    async def is_settled() -> bool:
        await gateway.ask(poll())
        return await used(gateway) == Used(0, 0, 1, 1)

    await comes_true(is_settled, within=20)


async def test_what_is_given_back_is_given_back_later(start: Start, backend: Backend) -> None:
    gateway = await start(ledger=AWAY)
    client = await gateway.connect()
    client.send(submit(form(pdf(3)))[:-10])
    connection = await backend.connected()
    await backend.facts.until(lambda: b"filename" in connection.received)
    with locked(gateway):
        client.abort()
        await gateway.finished(1)
        await gateway.says("ledger is unavailable")
    await comes_to(gateway, Used(), within=20)


def replace(path: Path, content: bytes) -> None:
    """Puts another file in the place of this one."""
    other = path.with_name("other")
    other.write_bytes(content)
    other.replace(path)


def remove(path: Path) -> None:
    path.unlink()


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_a_damaged_file_is_no_ledger(start: Start) -> None:
    gateway = await start(ledger=AWAY)
    path = Path(ledger_path(gateway))
    replace(path, b"this is no database " * 1000)
    response = await gateway.ask(request("GET", ME))
    response.is_refusal(503, "ledger_unavailable")
    assert (await gateway.ask(request())).status == 200
    (await gateway.ask(poll("job-7"))).is_refusal(503, "ledger_unavailable")  # whose it is, nobody knows
    await readiness(gateway, wanted=False)
    remove(path)
    await readiness(gateway, wanted=True)
    assert (await gateway.ask(request("GET", ME))).status == 200


async def test_a_file_that_is_replaced_is_the_ledger_from_then_on(start: Start, backend: Backend) -> None:
    backend.script = Jobs()
    gateway = await start(ledger=PATIENT)
    path = Path(ledger_path(gateway))
    async with administering(gateway) as admin:
        secret = await known(gateway, (await admin.create("tests", Wanted("led"))).secret)
    assert (await gateway.ask(submit(form(pdf(3))), b"POST")).status == 200
    copy = path.with_name("copy.db")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    assert (await gateway.ask(submit(form(pdf(2))), b"POST")).status == 200
    assert await used(gateway) == Used(0, 5, 5, 2)
    copy.replace(path)  # an operator restores a backup
    await comes_to(gateway, Used(0, 3, 3, 1))
    gateway.own("job-led", "key:led")
    assert (await gateway.ask(poll("job-led", secret))).status == 200
    assert (await gateway.ask(submit(), b"POST")).status == 200
    await comes_to(gateway, Used(0, 4, 4, 2))
    await readiness(gateway, wanted=True)


async def test_a_file_that_is_gone_is_made_anew(start: Start, backend: Backend) -> None:
    backend.script = Jobs()
    gateway = await start(ledger=PATIENT)
    assert (await gateway.ask(submit(), b"POST")).status == 200
    path = Path(ledger_path(gateway))
    remove(path)
    assert (await gateway.ask(submit(), b"POST")).status == 200
    await comes_to(gateway, Used(0, 1, 1, 1))
    assert mode_of(path) == 0o600


async def test_a_gateway_starts_without_its_ledger(start: Start, tmp_path: Path, backend: Backend) -> None:
    backend.script = Jobs()
    directory = tmp_path / "not-there-yet"
    directory.write_text("a file where the directory should be")
    gateway = await start(ledger={"url": f"sqlite:///{directory}/ledger.db", **PATIENT})
    assert not await is_ready(gateway)
    await refused(gateway)
    assert (await gateway.ask(request("GET", RESULT))).status == 200
    directory.unlink()
    await readiness(gateway, wanted=True)
    response = await gateway.ask(submit(), b"POST")
    assert json.loads(response.body)["request_id"] == "job-1"


async def test_a_ledger_that_is_made_is_told_of_once(start: Start, tmp_path: Path) -> None:
    ledger = {"url": f"sqlite:///{tmp_path}/new/ledger.db", **PATIENT}
    gateway = await start(ledger=ledger)
    made = [event for event in gateway.events if event["event"] == "ledger made"]
    assert [event["ledger"] for event in made] == [f"{tmp_path}/new/ledger.db"]
    await gateway.end()
    again = await start(ledger=ledger)
    assert "ledger made" not in [event["event"] for event in again.events]
