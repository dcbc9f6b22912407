"""One answer of the container serves all polls of a running job that would get the same one."""

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from gateway.jobs.job import Job
from gateway.jobs.registry import Registry
from gateway.keys.validation import Wanted
from gateway.ledger.schema import JobState
from gateway.limits.job_cost import Facts, Known
from tests.flows.test_jobs import Container, started
from tests.support.backend import Backend, Connection, Script, answer
from tests.support.client import Client, Response
from tests.support.gateway import ADMIN_KEY, KEY, Running, Start, request
from tests.support.jobs import PROCESSING, administering, complete, known, ledger_path
from tests.support.waiting import eventually

AGE = "10s"  # the longest: no test depends on how fast it runs
NO_WATCH = {"status_age": AGE, "watch": False}


@pytest.fixture
def container(backend: Backend) -> Container:
    backend.script = made = Container()
    return made


@pytest.fixture
async def gateway(start: Start, container: Container) -> Running:
    del container
    return await start(jobs=NO_WATCH)


def poll(job: str, *headers: str, key: str = KEY, query: str = "", method: str = "GET") -> bytes:
    return request(method, f"/api/v1/marker/{job}{query}", *headers, key=key)


async def asked(gateway: Running, container: Container, sent: bytes, method: bytes = b"GET") -> tuple[Response, int]:
    """The answer to one request on a connection of its own, and how often the container was asked for it."""
    before = len(container.asked)
    response = await gateway.ask(sent, method)
    return response, len(container.asked) - before


async def together(gateway: Running, job: str, polls: int) -> tuple[list[Client], Job]:
    """So many polls of one job, of which one asks and the others wait for it."""
    clients = [await gateway.connect() for _ in range(polls)]
    for client in clients:
        client.send(poll(job))
    found = gateway.gateway.jobs.registry.get(("default", job))
    assert found is not None
    await eventually(lambda: repr(found.asking_poll) == f"<AskingPoll waiting={polls - 1}>")
    return clients, found


async def test_a_second_poll_has_the_answer_of_the_first(gateway: Running, container: Container) -> None:
    job = await started(gateway)
    first, times = await asked(gateway, container, poll(job))
    assert times == 1
    second, times = await asked(gateway, container, poll(job))
    assert times == 0
    assert (first.status, first.body) == (second.status, second.body) == (200, PROCESSING)
    assert [name for name, _ in first.headers] == [name for name, _ in second.headers]
    assert first.value(b"x-request-id") != second.value(b"x-request-id")
    events = await gateway.finished(3)
    assert [event["upstream_connection"] for event in events][1:] == ["reused", "shared"]
    assert [event["status"] for event in events] == [200] * 3


async def test_without_an_age_each_poll_asks(start: Start, container: Container) -> None:
    gateway = await start(jobs={"watch": False, "status_age": "0s"})
    job = await started(gateway)
    assert [(await asked(gateway, container, poll(job)))[1] for _ in range(3)] == [1, 1, 1]


async def test_an_answer_is_let_go_though_its_job_runs_on(start: Start, container: Container) -> None:
    gateway = await start(jobs={"watch": False, "status_age": "100ms"})
    job = await started(gateway)
    assert (await asked(gateway, container, poll(job)))[1] == 1
    found = gateway.gateway.jobs.registry.get(("default", job))
    assert found is not None
    await eventually(lambda: found.running_answer is None)
    assert found.is_running


async def test_polls_that_come_together_share_one_question(gateway: Running, container: Container) -> None:
    job = await started(gateway)
    container.slowly = asyncio.Event()
    clients, found = await together(gateway, job, 20)
    container.slowly.set()
    assert {(await client.response()).body for client in clients} == {PROCESSING}
    assert len(container.asked) == 1
    assert found.asking_poll is None


async def test_an_end_is_for_each_to_fetch(gateway: Running, container: Container) -> None:
    job = await started(gateway)
    container.slowly = asyncio.Event()
    clients = [await gateway.connect() for _ in range(5)]
    for client in clients:
        client.send(poll(job))
    found = gateway.gateway.jobs.registry.get(("default", job))
    await eventually(
        lambda: repr(found and found.asking_poll) == "<AskingPoll waiting=4>" and len(container.asked) == 1
    )
    container.results[job] = complete(2)
    container.slowly.set()
    # One was asked about while it ran; whoever waited shares that, or asks and gets the end.
    bodies = {(await client.response()).body for client in clients}
    assert PROCESSING in bodies <= {PROCESSING, complete(2)}
    assert found is not None
    gateway.gateway.jobs.completion.add_facts(found, Facts(Known.COMPLETE, 2))
    assert (await asked(gateway, container, poll(job)))[0].body == complete(2)


async def test_no_poll_has_an_old_answer_once_an_end_was_seen(gateway: Running, container: Container) -> None:
    job = await started(gateway)
    await gateway.ask(poll(job))
    container.results[job] = complete(2)
    assert (await asked(gateway, container, poll(job)))[1] == 0
    assert (await asked(gateway, container, poll(job, "Cache-Control: no-cache")))[0].body == complete(2)
    response, times = await asked(gateway, container, poll(job))
    assert (response.body, times) == (complete(2), 1)


async def test_an_end_that_the_ledger_tells_while_the_job_is_looked_up_again_counts(
    gateway: Running, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another replica has seen it, and this one has not heard of changes for a while."""
    job = await started(gateway)
    await gateway.ask(poll(job))
    container.results[job] = complete(2)
    ended = JobState.COMPLETE, Known.COMPLETE.value, int(time.time()) + 60, job
    with closing(sqlite3.connect(ledger_path(gateway))) as ledger, ledger:
        ledger.execute("UPDATE jobs SET state = ?, known = ?, expires_at = ? WHERE request_id = ?", ended)
    is_sure = iter([True])  # when it was claimed, and no longer
    monkeypatch.setattr(Registry, "is_sure", lambda *_: next(is_sure, False))
    assert (await gateway.ask(poll(job))).body == complete(2)


async def test_an_answer_is_as_old_as_when_it_came_though_its_job_was_looked_up_again_before_it_was_kept(
    start: Start, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger took its time: whoever polled next was told what the container had said that long ago."""
    took = iter([0.6])

    async def confirm(*_: object) -> None:
        await asyncio.sleep(next(took, 0.0))

    monkeypatch.setattr(Registry, "confirm", confirm)
    gateway = await start(jobs={"watch": False, "status_age": "500ms"})
    job = await started(gateway)
    assert (await asked(gateway, container, poll(job)))[0].body == PROCESSING
    container.results[job] = complete(2)
    assert (await asked(gateway, container, poll(job)))[0].body == complete(2)


async def test_one_asks_for_all_whose_answer_grew_too_old_while_their_job_was_looked_up_again(
    start: Start, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them asked at once, just when the ledger is slow."""
    is_first, is_sure = True, False

    async def confirm(*_: object) -> None:
        nonlocal is_first, is_sure
        if not (is_first or is_sure):
            await asyncio.sleep(0.6)
            is_sure = True
        is_first = False

    monkeypatch.setattr(Registry, "confirm", confirm)
    gateway = await start(jobs={"watch": False, "status_age": "500ms"})
    job = await started(gateway)
    container.slowly = asyncio.Event()
    clients, _ = await together(gateway, job, 9)
    container.slowly.set()
    assert {(await client.response()).body for client in clients} == {PROCESSING}
    assert len(container.asked) == 2


@pytest.mark.parametrize(
    ("sets", "status"), [("state = 3, expires_at = 0", 404), ("state = 1, known = 1, expires_at = 4102444800", 200)]
)
async def test_a_connection_that_polls_again_has_no_old_answer_while_the_job_is_not_sure(
    sets: str, status: int, gateway: Running, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another replica may have deleted it, and given its id to another owner; or it has ended."""
    job = await started(gateway)
    client = await gateway.connect()
    for _ in range(2):
        client.send(poll(job))
        assert (await client.response()).body == PROCESSING
    assert len(container.asked) == 1
    container.results[job] = complete(2)
    with closing(sqlite3.connect(ledger_path(gateway))) as ledger, ledger:
        ledger.execute(f"UPDATE jobs SET {sets} WHERE request_id = ?", [job])  # noqa: S608 -- constants
    monkeypatch.setattr(Registry, "is_sure", lambda *_: False)
    client.send(poll(job))
    response = await client.response()
    assert response.status == status
    assert response.body != PROCESSING


async def test_the_gateways_own_question_answers_polls(
    start: Start, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.jobs.poll_interval.SHORTEST", 0.02)
    gateway = await start(jobs={"status_age": AGE})
    job = await started(gateway)
    await eventually(lambda: len(container.asked) > 0)
    found = gateway.gateway.jobs.registry.get(("default", job))
    await eventually(lambda: found is not None and found.running_answer is not None)
    response = await gateway.ask(poll(job, "User-Agent: other"))
    assert (response.status, response.body) == (200, PROCESSING)
    assert (await gateway.finished(2))[-1]["upstream_connection"] == "shared"
    await gateway.ask(poll(job, "Origin: https://app.example"))  # its answer is to allow that origin (CORS)
    assert (await gateway.finished(3))[-1]["upstream_connection"] != "shared"


async def test_an_answer_that_depends_on_the_coding_serves_whatever_coding_a_client_takes(
    start: Start, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The container is asked for none, by us and for all clients: each SDK sends this header, and had to ask."""
    monkeypatch.setattr("gateway.jobs.poll_interval.SHORTEST", 0.02)

    async def script(connection: Connection) -> None:
        while True:
            is_submit = (await connection.request()).method == b"POST"
            content = b'{"success": true, "request_id": "job-1"}' if is_submit else PROCESSING
            connection.send(answer(content, b"Content-Type: application/json", b"Vary: Accept-Encoding"))

    backend.script = script
    gateway = await start(jobs={"status_age": AGE})
    job = await started(gateway)
    found = gateway.gateway.jobs.registry.get(("default", job))
    await eventually(lambda: found is not None and found.running_answer is not None)
    await gateway.ask(poll(job, "Accept-Encoding: gzip, deflate"))
    await gateway.ask(poll(job, "Accept-Encoding: gzip", "Cache-Control: no-cache"))
    await gateway.ask(poll(job, "Accept-Encoding: br", query="?output=html"))
    events = (await gateway.finished(4))[1:]
    assert [event["upstream_connection"] == "shared" for event in events] == [True, False, False]
    assert {arrived.value(b"accept-encoding") for arrived in backend.requests} == {b"identity"}


async def test_a_browser_that_waited_has_an_answer_of_its_own(start: Start, container: Container) -> None:
    gateway = await start(jobs={"hold": "20s"})
    job = await started(gateway)
    clients = [await gateway.connect() for _ in range(4)]
    for number, client in enumerate(clients):
        client.send(poll(job, *(["Origin: https://app.example"] if number % 2 else [])))
    await eventually(lambda: gateway.metric("gateway_polls_held") == len(clients))
    container.results[job] = complete(3)
    assert {(await client.response()).body for client in clients} == {complete(3)}
    events = (await gateway.finished(1 + len(clients)))[1:]
    assert [event["upstream_connection"] == "shared" for event in events].count(True) == 2
    assert container.finals == 3


@pytest.mark.parametrize(
    "header", ["Cache-Control: no-cache", "Range: bytes=0-3", 'If-Match: "other"', f"X-Large: {'a' * 5000}"]
)
async def test_who_waited_for_the_end_and_asks_for_something_of_his_own_asks(
    start: Start, container: Container, header: str
) -> None:
    """They had the answer of all who waited, though `no-cache` asks the container in any case."""
    gateway = await start(jobs={"hold": "20s"})
    job = await started(gateway)
    clients = [await gateway.connect() for _ in range(2)]
    clients[0].send(poll(job, header))
    clients[1].send(poll(job))
    await eventually(lambda: gateway.metric("gateway_polls_held") == len(clients))
    container.results[job] = complete(3)
    assert {(await client.response()).body for client in clients} == {complete(3)}
    events = (await gateway.finished(3))[1:]
    assert sorted(event["upstream_connection"] == "shared" for event in events) == [False, True]
    assert container.finals == 2


@pytest.mark.parametrize(
    "other",
    [
        lambda job: poll(job, "Range: bytes=0-3"),
        lambda job: poll(job, 'If-None-Match: "a"'),
        lambda job: poll(job, "cache-control: no-store"),
        lambda job: poll(job, "Accept: text/html"),
        lambda job: poll(job, query="?download=true"),
        lambda job: request("GET", f"/api/v1/marker/{job}", body=b"{}"),
    ],
    ids=["range", "condition", "no-store", "headers", "query", "body"],
)
async def test_what_may_get_another_answer_asks(
    other: Callable[[str], bytes], gateway: Running, container: Container
) -> None:
    job = await started(gateway)
    assert (await asked(gateway, container, poll(job)))[1] == 1
    assert (await asked(gateway, container, other(job)))[1] == 1


async def test_nobody_has_the_cookie_of_another(start: Start, backend: Backend) -> None:
    """Keys of one owner are different clients, and so are strangers who share their jobs."""
    asked = 0

    async def script(connection: Connection) -> None:
        nonlocal asked
        while True:
            if (await connection.request()).method == b"POST":
                connection.send(answer(b'{"success": true, "request_id": "job-1"}'))
            else:
                asked += 1
                connection.send(answer(PROCESSING, b"Set-Cookie: session=%d" % asked))

    backend.script = script
    gateway = await start(jobs=NO_WATCH)
    job = await started(gateway)
    assert [(await gateway.ask(poll(job))).value(b"set-cookie") for _ in range(2)] == [b"session=1", b"session=2"]


async def test_only_the_owner_has_it(gateway: Running, container: Container) -> None:
    job = await started(gateway)
    await gateway.ask(poll(job))
    response, times = await asked(gateway, container, poll(job, key=ADMIN_KEY))
    response.is_refusal(404, "job_not_found")
    assert times == 0


async def test_a_reload_ends_it(gateway: Running, container: Container) -> None:
    job = await started(gateway)
    await gateway.ask(poll(job))

    def change(sections: dict[str, Any]) -> None:
        sections["upstream"]["read_timeout"] = "50s"

    gateway.rewrite(change)
    gateway.gateway.reloader.force()
    await gateway.says("configuration reloaded")
    assert [(await asked(gateway, container, poll(job)))[1] for _ in range(2)] == [1, 0]


async def test_who_waits_has_no_answer_of_a_container_that_a_reload_has_replaced(
    start: Start, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would name the address of the old one, which is ours no more, and which nobody would hide."""
    monkeypatch.setattr("gateway.jobs.watcher.KEPT", 60.0)

    def telling(port: int) -> Script:
        there = f"Content-Location: http://127.0.0.1:{port}/there".encode()
        started, ended = answer(b'{"success": true, "request_id": "job-1"}'), answer(complete(), there)

        async def script(connection: Connection) -> None:
            while True:
                is_submit = (await connection.request()).method == b"POST"
                connection.send(started if is_submit else ended)

        return script

    async with Backend() as other:
        backend.script, other.script = telling(backend.port), telling(other.port)
        gateway = await start(jobs={"hold": "20s"})
        job = await started(gateway)
        public = (await gateway.ask(poll(job))).value(b"content-location")
        gateway.rewrite(lambda document: document["upstream"].update(url=f"http://127.0.0.1:{other.port}"))
        gateway.gateway.reloader.force()
        await gateway.says("configuration reloaded")
        assert (await gateway.ask(poll(job))).value(b"content-location") == public
        assert [arrived.method for arrived in other.requests] == [b"GET"]


async def test_one_of_those_that_wait_asks_for_all_when_the_first_leaves(
    gateway: Running, container: Container
) -> None:
    """All of them asked at once, just when the container is slow."""
    job = await started(gateway)
    container.slowly = asyncio.Event()
    clients = [await gateway.connect() for _ in range(9)]
    clients[0].send(poll(job))
    await eventually(lambda: len(container.asked) == 1)
    for client in clients[1:]:
        client.send(poll(job))
    found = gateway.gateway.jobs.registry.get(("default", job))
    await eventually(lambda: repr(found and found.asking_poll) == "<AskingPoll waiting=8>")
    clients[0].abort()
    await eventually(lambda: len(container.asked) > 1)
    await eventually(lambda: repr(found and found.asking_poll) == "<AskingPoll waiting=7>")
    container.slowly.set()
    assert {(await client.response()).body for client in clients[1:]} == {PROCESSING}
    assert len(container.asked) == 2


async def test_who_has_waited_for_as_many_that_left_as_he_may_asks(
    gateway: Running, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.jobs.shared_polls.ROUNDS", 2)
    job = await started(gateway)
    container.slowly = asyncio.Event()
    clients = [await gateway.connect() for _ in range(5)]
    found = gateway.gateway.jobs.registry.get(("default", job))
    for place, client in enumerate(clients):
        client.send(poll(job))
        await eventually(lambda: repr(found and found.asking_poll) == f"<AskingPoll waiting={place}>")  # noqa: B023
    for left in range(2):
        clients[left].abort()
        await eventually(lambda: len(container.asked) >= 2 + left)  # noqa: B023
    await eventually(lambda: len(container.asked) == 5)
    container.slowly.set()
    assert {(await client.response()).body for client in clients[2:]} == {PROCESSING}


async def test_one_that_hangs_in_the_container_holds_no_other_up(
    gateway: Running, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may hang as long as upstream.read_timeout, five minutes: those that wait ask in its place, once for all."""
    monkeypatch.setattr("gateway.jobs.shared_polls.PATIENCE", 0.1)
    asked = 0

    async def script(connection: Connection) -> None:
        nonlocal asked
        while (await connection.request()).method == b"GET":
            asked += 1
            if asked == 1:
                await connection.end()
            connection.send(answer(PROCESSING))
        connection.send(answer(b'{"success": true, "request_id": "job-1"}'))
        await script(connection)

    backend.script = script
    job = await started(gateway)
    first = await gateway.connect()
    first.send(poll(job))
    await eventually(lambda: asked == 1)
    assert {(await gateway.ask(poll(job))).body for _ in range(5)} == {PROCESSING}
    assert asked == 2
    first.abort()


async def test_hundreds_of_polls_of_a_container_that_hangs_ask_it_one_after_the_other(
    gateway: Running, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When their patience was over all of them asked at once, and held a connection each."""
    monkeypatch.setattr("gateway.jobs.shared_polls.PATIENCE", 0.2)
    monkeypatch.setattr("gateway.jobs.shared_polls.ROUNDS", 1000)
    asked = 0

    async def script(connection: Connection) -> None:
        nonlocal asked
        if (await connection.request()).method == b"GET":
            asked += 1
            await connection.end()
        connection.send(answer(b'{"success": true, "request_id": "job-1"}'))
        await script(connection)

    backend.script = script
    job = await started(gateway)
    clients = [await gateway.connect() for _ in range(40)]
    for client in clients:
        client.send(poll(job))
    await eventually(lambda: asked == 1)
    await eventually(lambda: asked >= 3)
    assert asked < 10
    for client in clients:
        client.abort()


async def test_one_that_leaves_while_it_waits_is_forgotten(gateway: Running, container: Container) -> None:
    job = await started(gateway)
    container.slowly = asyncio.Event()
    first, second = await gateway.connect(), await gateway.connect()
    first.send(poll(job))
    await eventually(lambda: len(container.asked) == 1)
    second.send(poll(job))
    found = gateway.gateway.jobs.registry.get(("default", job))
    await eventually(lambda: repr(found and found.asking_poll) == "<AskingPoll waiting=1>")
    second.abort()
    await eventually(lambda: repr(found and found.asking_poll) == "<AskingPoll waiting=0>")
    container.slowly.set()
    assert (await first.response()).body == PROCESSING


async def test_who_has_many_headers_shares_nothing(gateway: Running, container: Container) -> None:
    """They would be kept with the job: 72 KB for each job that one key has polled so."""
    job = await started(gateway)
    many = poll(job, *(f"X-{number}: {'a' * 1000}" for number in range(5)))
    assert [(await asked(gateway, container, many))[1] for _ in range(2)] == [1, 1]


async def test_a_long_answer_is_not_kept(gateway: Running, container: Container) -> None:
    job = await started(gateway)
    container.results[job] = json.dumps({"status": "processing", "progress": "x" * 600}).encode()
    assert [(await asked(gateway, container, poll(job)))[1] for _ in range(2)] == [1, 1]


async def test_an_answer_that_comes_in_pieces_is_kept(gateway: Running, backend: Backend) -> None:
    """As uvicorn sends it: the head, then the body."""
    polls = 0

    async def script(connection: Any) -> None:
        nonlocal polls
        while True:
            arrived = await connection.request()
            content = PROCESSING
            if arrived.method == b"POST":
                content = b'{"success": true, "request_id": "job-1"}'
            polls += arrived.method == b"GET"
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
            connection.send(head.encode())
            await asyncio.sleep(0.01)  # two reads of the gateway, or one: both are right
            connection.send(content)

    backend.script = script
    job = await started(gateway)
    assert {(await gateway.ask(poll(job))).body for _ in range(3)} == {PROCESSING}
    assert polls == 1


async def test_who_waits_for_anothers_answer_is_judged_again(
    gateway: Running, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.proxy.handler.RECHECK_AFTER", 0.0)
    async with administering(gateway) as admin:
        secret = await known(gateway, (await admin.create("tests", Wanted("led"))).secret)
        job = await started(gateway, key=secret)
        container.slowly = asyncio.Event()
        clients = [await gateway.connect() for _ in range(2)]
        for client in clients:
            client.send(poll(job, key=secret))
        found = gateway.gateway.jobs.registry.get(("default", job))
        await eventually(lambda: repr(found and found.asking_poll) == "<AskingPoll waiting=1>")
        live = gateway.gateway.live
        before = live.state
        await admin.set_disabled("tests", "led", disabled=True)
        await eventually(lambda: live.state is not before)
    container.slowly.set()
    for client in clients:
        (await client.response()).is_refusal(401, "unauthenticated")


async def test_one_of_those_that_wait_asks_for_all_when_the_first_is_no_longer_permitted(
    gateway: Running, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them asked at once: what refused the first is no reason to refuse them."""
    monkeypatch.setattr("gateway.proxy.handler.RECHECK_AFTER", 0.0)
    async with administering(gateway) as admin:
        secret = await known(gateway, (await admin.create("tests", Wanted("led", owner="ci"))).secret)
        job = await started(gateway)
        container.slowly = asyncio.Event()
        first, *others = [await gateway.connect() for _ in range(9)]
        first.send(poll(job, key=secret))
        await eventually(lambda: len(container.asked) == 1)
        for client in others:
            client.send(poll(job))
        found = gateway.gateway.jobs.registry.get(("default", job))
        await eventually(lambda: repr(found and found.asking_poll) == "<AskingPoll waiting=8>")
        live = gateway.gateway.live
        before = live.state
        await admin.set_disabled("tests", "led", disabled=True)
        await eventually(lambda: live.state is not before)
    container.slowly.set()
    (await first.response()).is_refusal(401, "unauthenticated")
    assert {(await client.response()).body for client in others} == {PROCESSING}
    assert len(container.asked) == 2


async def test_each_poll_counts_for_the_limit(start: Start, container: Container) -> None:
    gateway = await start(jobs=NO_WATCH, profiles={"default": {"polls_per_minute": 3}})
    job = await started(gateway)
    statuses = [(await gateway.ask(poll(job))).status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    assert len(container.asked) == 1
