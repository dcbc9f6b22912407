"""Jobs through the whole gateway: only the owner reads, polls are held, and nothing needs the client to come back."""

import asyncio
import json
import re
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import pytest

from gateway.app import build
from gateway.keys.key_changes import KeyService
from gateway.keys.validation import Wanted
from gateway.ledger.schema import JobState
from gateway.limits.job_cost import Facts, Known
from tests.support.backend import Backend, Connection, answer, obliging
from tests.support.forms import form, pdf
from tests.support.gateway import ADMIN_KEY, ENVIRON, KEY, PLAIN, ROUTES, Running, Start, request, submit
from tests.support.jobs import (
    PROCESSING,
    Used,
    administering,
    comes_to,
    comes_true,
    complete,
    known,
    ledger_path,
    used,
)
from tests.support.waiting import eventually

_JSON = b"Content-Type: application/json"
OWNERS = {f"KEY_{number}": f"canary-key-{number:03}-9e1b7c" for number in range(100)}
MORE_ROUTES = [
    {"name": "query", "methods": ["GET"], "path": "/results", "kind": "result", "access": "key",
     "id": {"in": "query", "name": "job"}},
    {"name": "asset", "methods": ["GET"], "path": "/static/{job}/{name*}", "kind": "asset", "access": "key",
     "id": {"in": "path", "name": "job"}},
    {"name": "delete", "methods": ["DELETE"], "path": "/api/v1/marker/{job}", "kind": "delete", "access": "key",
     "id": {"in": "path", "name": "job"}},
    {"name": "clear", "methods": ["POST"], "path": "/clear", "kind": "delete", "access": "key",
     "id": {"in": "body", "name": "job"}},
    *ROUTES,
]  # fmt: skip
DELETES = {"default": {"delete": {"method": "DELETE", "path": "{path}/{id}"}}}


class Container:
    """Runs jobs; `results` says how they end, `unknown` which of them it has forgotten.

    `asked` are the times of all questions about jobs. What names no job of its own is answered with its target.
    """

    def __init__(self) -> None:
        self.started = 0
        self.results: dict[str, bytes] = {}
        self.unknown: set[str] = set()
        self.asked: list[float] = []
        self.targets: list[str] = []
        self.finals = 0
        self.deleted: list[str] = []
        self.slowly: asyncio.Event | None = None
        self.told: dict[str, str] = {}

    async def __call__(self, connection: Connection) -> None:
        while True:
            arrived = await connection.request()
            target = arrived.target.decode()
            if arrived.method == b"POST" and target == "/api/v1/marker":
                self.started += 1
                content = json.dumps({"success": True, "request_id": f"job-{self.started}"}).encode()
                connection.send(answer(content, _JSON))
            elif arrived.method == b"DELETE":
                self.deleted.append(target.rpartition("/")[2])
                connection.send(answer(b"{}", _JSON))
            elif target.startswith("/api/v1/"):
                await self._tell(connection, target.rpartition("/")[2], bodiless=arrived.method == b"HEAD")
            else:
                connection.send(answer(json.dumps({"asked": target, **self.told}).encode(), _JSON))

    async def _tell(self, connection: Connection, job: str, *, bodiless: bool) -> None:
        self.asked.append(time.monotonic())
        self.targets.append(job)
        content = self.results.get(job, PROCESSING)
        self.finals += job in self.results
        if self.slowly is not None:
            await self.slowly.wait()
        whole = answer(content, _JSON)
        if job in self.unknown:
            whole = answer(b'{"detail": "Request not found"}', _JSON, status=b"404 Not Found")
        connection.send(whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if bodiless else whole)


class Wall:
    """The time module as build.py sees it: hours may pass at once."""

    def __init__(self) -> None:
        self.later = 0.0
        self.monotonic, self.perf_counter = time.monotonic, time.perf_counter

    def time(self) -> float:
        return time.time() + self.later


@pytest.fixture
def container(backend: Backend) -> Container:
    backend.script = made = Container()
    return made


@pytest.fixture
async def gateway(start: Start, container: Container) -> Running:
    """A gateway that follows its jobs, as it does by default."""
    del container
    return await start(jobs={})


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    """A clock that tests move; whatever is done each second is done more often."""
    made = Wall()
    monkeypatch.setattr(build, "time", made)
    monkeypatch.setattr("gateway.aio.periodic.PAUSE", 0.05)
    return made


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that nobody polls are asked about at once."""
    monkeypatch.setattr("gateway.jobs.poll_interval.SHORTEST", 0.02)


def poll(job: str = "job-1", *headers: str, key: str | None = KEY, method: str = "GET") -> bytes:
    return request(method, f"/api/v1/marker/{job}", *headers, key=key)


def keys(count: int, owner: Callable[[int], str]) -> dict[str, Any]:
    """Sections that configure so many keys."""
    return {
        "keys": [{"id": f"k{n}", "secret": {"env": f"KEY_{n}"}, "owner": owner(n)} for n in range(count)],
        "environ": {**ENVIRON, **OWNERS},
    }


def key(number: int) -> str:
    return OWNERS[f"KEY_{number}"]


async def started(gateway: Running, pages: int = 5, *, key: str = KEY) -> str:
    """Starts a job; its id."""
    response = await gateway.ask(submit(form(pdf(pages), mode="fast"), key=key), b"POST")
    assert response.status == 200, response.body
    job: str = json.loads(response.body)["request_id"]
    return job


def in_ledger(gateway: Running, statement: str, *values: int) -> None:
    """Changes the ledger, as another replica would."""
    with closing(sqlite3.connect(ledger_path(gateway), isolation_level=None)) as connection:
        connection.execute(statement, values)


async def raw(gateway: Running, asked: bytes) -> bytes:
    """An answer, byte for byte, but for what tells each answer from any other."""
    head, _, rest = asked.partition(b"\r\n\r\n")
    client = await gateway.connect()
    client.send(head + b"\r\nConnection: close\r\n\r\n" + rest)
    answered = await client.rest()
    answered = re.sub(rb"(?i)\r\ndate: [^\r]*", b"", answered)
    return re.sub(rb"[0-9a-f]{32}", b"<id>", answered)


# Whose a job is


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/api/v1/marker/{}", ""),
        ("HEAD", "/api/v1/marker/{}", ""),
        ("GET", "/api/v1/ocr/{}", ""),
        ("GET", "/results?job={}&download=true", ""),
        ("GET", "/static/{}/picture.png", ""),
        ("DELETE", "/api/v1/marker/{}", ""),
        ("POST", "/clear", '{{"job": "{}"}}'),
    ],
)
async def test_unknown_foreign_and_expired_are_one_answer(
    start: Start, backend: Backend, container: Container, wall: Wall, method: str, target: str, body: str
) -> None:
    routes = [route if route["name"] != "result" else {**route, "methods": ["GET", "HEAD"]} for route in MORE_ROUTES]
    gateway = await start(routes=routes, jobs={})
    foreign, expired = await started(gateway, key=ADMIN_KEY), await started(gateway)
    for job in (foreign, expired):
        container.results[job] = complete(1)
    assert (await gateway.ask(poll(expired))).status == 200
    assert (await gateway.ask(poll(foreign, key=ADMIN_KEY))).status == 200
    await comes_to(gateway, Used(0, 0, 1, 1))
    wall.later += 3601.0
    await gateway.ask(poll(expired))
    foreign = await started(gateway, key=ADMIN_KEY)
    before = [arrived for arrived in backend.requests if b"/job-" in arrived.target or b"clear" in arrived.target]
    asked = [
        request(method, target.format(job), body=body.format(job).encode()) for job in ("job-9", foreign, expired)
    ]
    unknown, *others = [await raw(gateway, one) for one in asked]
    assert others == [unknown] * 2
    assert unknown.startswith(b"HTTP/1.1 404 No such job\r\n")
    assert (b'"reason":"job_not_found"' in unknown) == (method != "HEAD")
    await backend.settled()
    after = [arrived for arrived in backend.requests if b"/job-" in arrived.target or b"clear" in arrived.target]
    own = [arrived for arrived in after[len(before) :] if arrived.value(b"x-gateway-key-id") is not None]
    assert own == []  # the watcher's questions name no key


@pytest.mark.parametrize("name", ["", ".", "..", "%00", "a" * 257, "%ff", "%0d%0a", "job%201"])
async def test_what_is_no_id_never_reaches_the_upstream(gateway: Running, container: Container, name: str) -> None:
    await started(gateway)
    before = len(container.asked)
    response = await gateway.ask(poll(name))
    assert response.status in {307, 400, 404}
    assert response.reason in {"trailing_slash", "bad_request", "job_not_found", "route_not_found"}
    assert len(container.asked) == before


async def test_another_key_of_the_same_owner_reads_and_others_do_not(start: Start, container: Container) -> None:
    gateway = await start(**keys(3, lambda number: "acme" if number < 2 else "other"))
    job = await started(gateway, key=key(0))
    container.results[job] = complete(1, markdown="canary-of-a-result")
    assert (await gateway.ask(poll(job, key=key(1)))).body == container.results[job]
    (await gateway.ask(poll(job, key=key(2)))).is_refusal(404, "job_not_found")
    (await gateway.ask(poll(job, key=None))).is_refusal(401, "unauthenticated")


async def test_a_rotated_key_reads_on(gateway: Running, container: Container) -> None:
    async with administering(gateway) as admin:
        old = await known(gateway, (await admin.create("tests", Wanted("turning"))).secret)
        job = await started(gateway, key=old)
        new = await known(gateway, (await admin.rotate("tests", "turning", 60.0, None)).secret)
    container.results[job] = complete(1)
    assert (await gateway.ask(poll(job, key=new))).body == container.results[job]
    (await gateway.ask(poll(job))).is_refusal(404, "job_not_found")


async def test_an_admins_key_does_not_read_others_jobs(gateway: Running, container: Container) -> None:
    job = await started(gateway)
    container.results[job] = complete(1)
    (await gateway.ask(poll(job, key=ADMIN_KEY))).is_refusal(404, "job_not_found")
    assert (await gateway.ask(poll(job))).status == 200


async def test_of_a_hundred_clients_not_one_byte_crosses(start: Start, container: Container) -> None:
    limits = {"default": {"requests_per_minute": 1000, "polls_per_minute": 1_000_000}}
    gateway = await start(jobs={}, **keys(100, lambda number: f"owner-{number % 10}"), profiles=limits)
    jobs = {number: await started(gateway, 1, key=key(number)) for number in range(20)}
    for number, job in jobs.items():
        container.results[job] = complete(1, markdown=f"canary-of-owner-{number % 10}-")
    crossed, read = [], 0

    async def poll_all(number: int) -> None:
        nonlocal read
        client = await gateway.connect()
        for other, job in jobs.items():
            response = await client.ask(poll(job, key=key(number)))
            mine = other % 10 == number % 10
            read += mine
            content = container.results[job] if mine else b""
            if (response.status, response.body == content) != (200 if mine else 404, mine):
                crossed.append((number, job, response.status))
            if not mine and (b"canary" in response.body or json.loads(response.body)["reason"] != "job_not_found"):
                crossed.append((number, job, response.status))
        client.abort()

    for first in range(0, 100, 25):
        await asyncio.gather(*(poll_all(number) for number in range(first, first + 25)))
    assert crossed == []
    assert read == 200


async def test_an_id_that_the_ledger_did_not_take_is_not_told(start: Start, backend: Backend) -> None:
    """Two jobs of one id: the second's client never learns it, and the first's reads nothing of the second."""
    gateway = await start()

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            connection.send(answer(b'{"success": true, "request_id": "canary-of-an-id"}', _JSON))

    backend.script = script
    assert b"canary-of-an-id" in (await gateway.ask(submit(), b"POST")).body
    (await gateway.ask(submit(), b"POST")).is_refusal(502, "upstream_broke_off")
    assert (await gateway.ask(poll("canary-of-an-id"))).status == 200  # both are its own
    refused = await gateway.ask(submit(key=ADMIN_KEY), b"POST")
    refused.is_refusal(502, "upstream_broke_off")
    assert b"canary-of-an-id" not in refused.body
    await gateway.says("the upstream gave the id of an owner's job to another's")
    (await gateway.ask(poll("canary-of-an-id"))).is_refusal(404, "job_not_found")
    (await gateway.ask(poll("canary-of-an-id", key=ADMIN_KEY))).is_refusal(404, "job_not_found")


async def test_a_poll_at_another_path_gives_no_pages_back(
    start: Start, backend: Backend, container: Container
) -> None:
    """The upstream knows the job where it was submitted alone, and says 404 elsewhere."""
    gateway = await start(jobs={"watch": False})
    job = await started(gateway)
    container.unknown.add(job)
    for _ in range(4):
        assert (await gateway.ask(request("GET", f"/api/v1/ocr/{job}"))).status == 404
    container.unknown.clear()
    container.results[job] = complete(5, status="failed", success=False)
    assert (await gateway.ask(request("GET", f"/api/v1/ocr/{job}"))).status == 200
    container.results[job] = complete(4)
    await backend.settled()
    assert await used(gateway) == Used(0, 5, 5, 1)
    assert (await gateway.ask(poll(job))).status == 200
    await comes_to(gateway, Used(0, 0, 4, 1))


# Until when


async def test_an_hour_after_its_end_a_job_is_nobodys(start: Start, container: Container, wall: Wall) -> None:
    gateway = await start(jobs={"shapes": DELETES})
    job = await started(gateway)
    container.results[job] = complete(1)
    client = await gateway.connect()
    assert (await client.ask(poll(job))).body == container.results[job]
    await comes_to(gateway, Used(0, 0, 1, 1))
    wall.later += 3590.0
    assert (await client.ask(poll(job))).body == container.results[job]
    wall.later += 20.0
    (await client.ask(poll(job))).is_refusal(404, "job_not_found")
    (await gateway.ask(poll(job))).is_refusal(404, "job_not_found")
    await eventually(lambda: container.deleted == [job])


async def test_a_result_that_was_read_is_gone(start: Start, container: Container) -> None:
    gateway = await start(jobs={"delete_after_read": True, "shapes": DELETES}, routes=MORE_ROUTES)
    job = await started(gateway)
    client = await gateway.connect()
    assert (await client.ask(poll(job))).body == PROCESSING
    assert (await client.ask(poll(job))).body == PROCESSING
    container.results[job] = complete(2)
    assert (await client.ask(request("GET", f"/static/{job}/picture.png"))).status == 200
    assert (await client.ask(poll(job))).body == container.results[job]
    (await client.ask(poll(job))).is_refusal(404, "job_not_found")
    (await gateway.ask(poll(job))).is_refusal(404, "job_not_found")
    await eventually(lambda: container.deleted == [job])
    await comes_to(gateway, Used(0, 0, 2, 1))


@pytest.mark.usefixtures("_soon")
async def test_a_result_that_the_watcher_saw_is_gone_once_its_owner_has_read_it(
    start: Start, container: Container
) -> None:
    gateway = await start(jobs={"delete_after_read": True}, routes=MORE_ROUTES)
    job = await started(gateway)
    container.results[job] = complete(2)
    await comes_to(gateway, Used(0, 0, 2, 1))
    assert (await gateway.ask(request("GET", f"/static/{job}/picture.png"))).status == 200
    assert (await gateway.ask(poll(job))).body == container.results[job]
    (await gateway.ask(poll(job))).is_refusal(404, "job_not_found")


async def test_an_answer_from_before_the_end_is_no_result_that_was_read(start: Start, container: Container) -> None:
    """The end is seen while an answer that says otherwise is on its way: the result is still to be read."""
    gateway = await start(jobs={"delete_after_read": True})
    job = await started(gateway)
    container.slowly = asyncio.Event()
    client = await gateway.connect()
    client.send(poll(job))
    await eventually(lambda: len(container.asked) == 1)
    held = gateway.gateway.jobs.registry.get(("default", job))
    assert held is not None
    gateway.gateway.jobs.completion.add_facts(held, Facts(Known.COMPLETE, 2))
    await comes_to(gateway, Used(0, 0, 2, 1))
    container.results[job] = complete(2)
    container.slowly.set()
    assert (await client.response()).body == PROCESSING
    container.slowly = None
    assert (await client.ask(poll(job))).body == container.results[job]
    (await client.ask(poll(job))).is_refusal(404, "job_not_found")


async def test_only_the_request_that_gives_the_result_deletes_it(start: Start, container: Container) -> None:
    """The open-source container tells how far a job is at one target, and gives the result at another."""
    shape = {**DELETES["default"], "read": "{path}/{id}", "result": "/results?job={id}&download=true"}
    jobs = {"delete_after_read": True, "shapes": {"default": shape}}
    gateway = await start(jobs=jobs, routes=MORE_ROUTES)
    job = await started(gateway)
    container.results[job] = complete(2)
    client = await gateway.connect()
    for target in (f"/api/v1/marker/{job}", f"/results?job={job}", f"/results?job={job}&download=false"):
        for _ in range(2):
            assert (await client.ask(request("GET", target))).status == 200
    await comes_to(gateway, Used(0, 0, 2, 1))
    assert container.deleted == []
    assert (await client.ask(request("GET", f"/results?download=true&job={job}"))).status == 200
    (await client.ask(poll(job))).is_refusal(404, "job_not_found")
    await eventually(lambda: container.deleted == [job])


async def test_a_result_that_tells_of_its_end_is_read_before_anybody_else_was_told(
    start: Start, container: Container
) -> None:
    shape = {**DELETES["default"], "read": "{path}/{id}", "result": "/results?job={id}&download=true"}
    jobs = {"delete_after_read": True, "watch": False, "shapes": {"default": shape}}
    gateway = await start(jobs=jobs, routes=MORE_ROUTES)
    job = await started(gateway)
    client = await gateway.connect()
    result = request("GET", f"/results?download=true&job={job}")
    assert (await client.ask(result)).status == 200  # it may be anything: nobody has said that the job ended
    assert (await client.ask(poll(job))).status == 200
    container.told = {"status": "complete"}
    assert (await client.ask(result)).status == 200
    (await client.ask(poll(job))).is_refusal(404, "job_not_found")


async def test_a_client_that_left_has_not_read(start: Start, backend: Backend, container: Container) -> None:
    gateway = await start(jobs={"delete_after_read": True, "watch": False})
    job = await started(gateway)
    container.results[job] = complete(2, markdown="x" * 20_000_000)
    client = await gateway.connect(receive_buffer=4096)
    client.send(poll(job))
    await backend.facts.until(lambda: container.finals == 1)
    client.abort()
    await eventually(lambda: gateway.metric("gateway_requests_in_flight") == 0)
    again = await gateway.ask(poll(job))
    assert len(again.body) > 20_000_000
    await comes_to(gateway, Used(0, 0, 2, 1))
    (await gateway.ask(poll(job))).is_refusal(404, "job_not_found")


async def test_nothing_is_deleted_that_the_ledger_does_not_hear_of(start: Start, container: Container) -> None:
    """Else the job would look like one that the container has forgotten, whose pages are given back."""
    gateway = await start(jobs={}, routes=MORE_ROUTES, ledger={"timeout": "2s"})
    job = await started(gateway)
    with closing(sqlite3.connect(ledger_path(gateway), isolation_level=None)) as thief:
        thief.execute("BEGIN IMMEDIATE")
        (await gateway.ask(request("DELETE", f"/api/v1/marker/{job}"), b"DELETE")).is_refusal(
            503, "ledger_unavailable"
        )
    assert container.deleted == []
    assert (await gateway.ask(poll(job))).status == 200
    assert (await gateway.ask(request("DELETE", f"/api/v1/marker/{job}"), b"DELETE")).status == 200
    container.unknown.add(job)
    await comes_to(gateway, Used(0, 0, 5, 1))


@pytest.mark.parametrize("how", ["delete", "clear"])
@pytest.mark.parametrize(
    ("result", "expected"),
    [(complete(2), Used(0, 0, 2, 1)), (complete(9), Used(0, 0, 9, 1)), (b'{"status": "failed"}', Used(0, 0, 0, 1))],
)
async def test_a_job_that_is_deleted_before_its_end_was_seen_costs_what_the_container_says(
    start: Start, container: Container, how: str, result: bytes, expected: Used
) -> None:
    """Its owner may have been told, by an answer that teaches nothing; after the delete nobody could ask."""
    gateway = await start(jobs={"watch": False}, routes=MORE_ROUTES)
    job = await started(gateway)
    container.results[job] = result
    assert (await gateway.ask(deleting(job, how), deleting(job, how).partition(b" ")[0])).status == 200
    await comes_to(gateway, expected)
    assert len(container.asked) == 1
    (await gateway.ask(poll(job))).is_refusal(404, "job_not_found")


def deleting(job: str, how: str, *headers: str) -> bytes:
    if how == "delete":
        return request("DELETE", f"/api/v1/marker/{job}", *headers)
    return request("POST", "/clear", *headers, body=json.dumps({"job": job}).encode())


@pytest.mark.usefixtures("container")
async def test_a_get_that_deletes_is_sent_once_on_a_new_connection(start: Start) -> None:
    """A used connection could lose it after it was carried out: sent again, it would be answered with a 404."""
    route = {"name": "end", "methods": ["GET"], "path": "/end/{request_id}", "kind": "delete", "access": "key"}
    gateway = await start(jobs={"watch": False}, routes=[route, *ROUTES])
    job = await started(gateway)
    assert (await gateway.ask(poll(job))).status == 200
    assert (await gateway.ask(request("GET", f"/end/{job}"))).status == 200
    told = [(event["route"], event["upstream_connection"]) for event in await gateway.finished(3)]
    assert told == [("submit", "new"), ("result", "reused"), ("end", "new")]


@pytest.mark.parametrize("body", [b"{", b'{"job": "other"}', b" " * 70_000])
async def test_a_delete_that_is_refused_for_its_body_deletes_nothing(
    start: Start, container: Container, body: bytes
) -> None:
    """Nor is its head sent: a container may act on that alone."""
    gateway = await start(jobs={"watch": False}, routes=MORE_ROUTES)
    job = await started(gateway)
    refused = await gateway.ask(request("DELETE", f"/api/v1/marker/{job}", body=body), b"DELETE")
    assert refused.status in {400, 413}
    if refused.status == 413:
        assert refused.is_refusal(413, "body_too_large")["detail"].endswith("(fixed for a body about a job).")
    assert (await gateway.ask(poll(job))).status == 200
    assert container.deleted == []


async def test_a_delete_whose_client_leaves_within_its_body_deletes_nothing(
    start: Start, container: Container
) -> None:
    gateway = await start(jobs={"watch": False}, routes=MORE_ROUTES)
    job = await started(gateway)
    client = await gateway.connect()
    client.send(request("DELETE", f"/api/v1/marker/{job}", body=b"{}")[:-1])
    await eventually(lambda: gateway.metric("gateway_requests_in_flight") == 1)
    client.abort()
    await eventually(lambda: gateway.metric("gateway_requests_in_flight") == 0)
    assert (await gateway.ask(poll(job))).status == 200
    assert container.deleted == []


async def test_an_answer_to_a_delete_that_drips_ends_with_its_client(start: Start, backend: Backend) -> None:
    """Each byte gave it another read_timeout, though nobody was there any more."""

    async def script(connection: Connection) -> None:
        while (arrived := await connection.request()).method != b"DELETE":
            is_submit = arrived.method == b"POST"
            connection.send(answer(b'{"success": true, "request_id": "job-1"}' if is_submit else PROCESSING, _JSON))
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not connection.ended:
            connection.send(b" ")
            await asyncio.sleep(0.02)  # the upstream's pace, not the test's

    backend.script = script
    gateway = await start(jobs={"watch": False}, routes=MORE_ROUTES)
    job = await started(gateway)
    client = await gateway.connect()
    client.send(deleting(job, "delete"))
    assert b"200 OK" in await client.read_some()
    client.abort()
    await eventually(lambda: gateway.metric("gateway_requests_in_flight") == 0)
    await eventually(lambda: all(one.ended for one in backend.connections if b"DELETE" in one.received))
    (await gateway.ask(poll(job))).is_refusal(404, "job_not_found")


async def test_a_delete_with_a_body_goes_upstream_with_it(gateway: Running, start: Start, backend: Backend) -> None:
    del gateway
    deleting_gateway = await start(jobs={"watch": False}, routes=MORE_ROUTES)
    job = await started(deleting_gateway)
    sent = request("DELETE", f"/api/v1/marker/{job}", "Expect: 100-continue", body=b'{"why": "done"}')
    response = await deleting_gateway.ask(sent, b"DELETE")
    assert (response.status, response.interim) == (200, [100])
    assert [one.body for one in backend.requests if one.method == b"DELETE"] == [b'{"why": "done"}']


async def test_a_job_that_is_deleted_while_a_body_is_held_back_is_neither_read_nor_deleted_again(
    start: Start, container: Container
) -> None:
    """Its id may be another owner's by then."""
    gateway = await start(jobs={"watch": False}, routes=MORE_ROUTES)
    job = await started(gateway)
    held = []
    for method in ("GET", "DELETE"):
        sent = request(method, f"/api/v1/marker/{job}", body=b"{}")
        client = await gateway.connect()
        client.send(sent[:-1])
        held.append((client, method, sent[-1:]))
    await eventually(lambda: gateway.metric("gateway_requests_in_flight") == 2)
    assert (await gateway.ask(request("DELETE", f"/api/v1/marker/{job}"), b"DELETE")).status == 200
    asked = len(container.asked)
    for client, method, rest in held:
        client.send(rest)
        (await client.response(method.encode())).is_refusal(404, "job_not_found")
    assert (len(container.asked), container.deleted) == (asked, [job])


async def test_an_answer_that_comes_after_its_job_was_deleted_is_not_passed_on(
    start: Start, backend: Backend, container: Container
) -> None:
    gateway = await start(jobs={"watch": False}, routes=MORE_ROUTES)
    job = await started(gateway)
    container.slowly = asyncio.Event()
    client = await gateway.connect()
    client.send(poll(job))
    await backend.facts.until(lambda: len(container.asked) == 1)
    found = gateway.gateway.jobs.registry.get(("default", job))
    assert found is not None
    found.end(0)  # as another replica says
    container.slowly.set()
    (await client.response()).is_refusal(404, "job_not_found")


@pytest.mark.parametrize("way", ["at once", "answer", "held", "body"])
async def test_a_replica_that_does_not_hear_of_deletions_serves_nothing_that_was_deleted(
    start: Start, container: Container, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The id may be another owner's by then: a replica that was busy gave the next owner's result to the last one."""
    monkeypatch.setattr("gateway.jobs.registry.HEARD_WITHIN", 0.0)
    monkeypatch.setattr("gateway.aio.periodic.PAUSE", 0.05)
    gateway = await start(jobs={"watch": False, "hold_limit": "500ms"}, routes=MORE_ROUTES)
    registry = gateway.gateway.jobs.registry
    await eventually(lambda: registry.is_alone)
    in_ledger(gateway, "INSERT INTO replicas VALUES ('other', 9999999999)")
    await eventually(lambda: not registry.is_alone)

    async def nothing() -> list[Any]:
        return []

    monkeypatch.setattr(registry, "read_changes", nothing)
    job = await started(gateway)
    client = await gateway.connect()
    assert (await client.ask(poll(job))).body == PROCESSING
    asked = {"held": poll(job, "Prefer: wait=60"), "body": request("GET", f"/api/v1/marker/{job}", body=b"{}")}
    sent = asked.get(way, poll(job))
    if way in {"answer", "held"}:
        container.slowly = asyncio.Event()
        client.send(sent)
        await eventually(lambda: len(container.asked) >= 2)
    elif way == "body":
        client.send(sent[:-1])
    in_ledger(gateway, "UPDATE jobs SET state = ?, expires_at = 9999999999", int(JobState.GONE))
    if container.slowly is not None:
        container.slowly.set()
    else:
        client.send(sent[-1:] if way == "body" else sent)
    (await client.response()).is_refusal(404, "job_not_found")


async def test_one_delete_of_two_at_once_goes_upstream(start: Start, backend: Backend, container: Container) -> None:
    gateway = await start(jobs={"watch": False}, routes=MORE_ROUTES)
    job = await started(gateway)
    container.slowly = asyncio.Event()
    sent = request("DELETE", f"/api/v1/marker/{job}")
    answers = [asyncio.ensure_future(gateway.ask(sent, b"DELETE")) for _ in range(5)]
    await backend.facts.until(lambda: len(container.asked) == 1)
    await eventually(lambda: gateway.metric("gateway_requests_in_flight") == 5)
    container.slowly.set()
    statuses = sorted([(await answer).status for answer in answers])
    assert (statuses, container.deleted) == ([200, 404, 404, 404, 404], [job])
    assert len(container.asked) == 1  # one question serves them all


async def test_a_deletion_that_can_not_ask_first_is_refused_and_deletes_nothing(
    start: Start, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that has failed was charged as reserved, because nobody could be asked how it stood."""
    monkeypatch.setattr("gateway.jobs.deletion_questions.WITHIN", 0.2)
    gateway = await start(jobs={"watch": False, "most_status_requests": 1}, routes=MORE_ROUTES)
    other, job = await started(gateway), await started(gateway)
    container.results[job] = complete(3, success=False)
    container.slowly = asyncio.Event()
    client = await gateway.connect()
    client.send(poll(other, "Prefer: wait=5"))
    await eventually(lambda: len(container.asked) == 1)
    sent = request("DELETE", f"/api/v1/marker/{job}")
    refused = await gateway.ask(sent, b"DELETE")
    refused.is_refusal(503, "no_room")
    assert refused.value(b"retry-after") == b"5"
    container.slowly.set()
    container.slowly = None
    assert (await gateway.ask(sent, b"DELETE")).status == 200
    client.abort()
    await comes_to(gateway, Used(0, 5, 5, 2))


@pytest.mark.parametrize("body", [b"", b"{}"])
async def test_a_poll_whose_client_left_ends_the_upstreams_work(
    start: Start, container: Container, backend: Backend, body: bytes
) -> None:
    gateway = await start(jobs={"watch": False})
    job = await started(gateway)
    container.slowly = asyncio.Event()
    client = await gateway.connect()
    client.send(request("GET", f"/api/v1/marker/{job}", body=body) if body else poll(job))
    await backend.facts.until(lambda: len(container.asked) == 1)
    client.abort()
    await eventually(lambda: gateway.metric("gateway_requests_in_flight") == 0)
    container.slowly.set()


@pytest.mark.parametrize("how", ["delete", "clear"])
async def test_what_its_owner_deletes_is_gone(start: Start, container: Container, how: str) -> None:
    gateway = await start(routes=MORE_ROUTES)
    job = await started(gateway)
    client = await gateway.connect()
    assert (await client.ask(poll(job))).status == 200
    asked = (
        request("DELETE", f"/api/v1/marker/{job}")
        if how == "delete"
        else request("POST", "/clear", body=json.dumps({"job": job}).encode())
    )
    assert (await client.ask(asked, asked.partition(b" ")[0])).status == 200
    (await client.ask(poll(job))).is_refusal(404, "job_not_found")
    await comes_to(gateway, Used(0, 0, 5, 1))  # the upstream may work on: it costs what it might
    container.results[job] = complete(1)
    (await gateway.ask(poll(job))).is_refusal(404, "job_not_found")


# Held polls


@pytest.mark.parametrize("how", ["prefer", "setting"])
async def test_many_that_wait_are_answered_at_the_end_by_one_question_at_a_time(
    start: Start, container: Container, how: str
) -> None:
    gateway = await start(jobs={"hold": "20s"} if how == "setting" else {})
    prefer = ["Prefer: respond-async, wait=20"] if how == "prefer" else []
    job = await started(gateway)
    clients = [await gateway.connect() for _ in range(40)]
    for client in clients:
        client.send(poll(job, *prefer))
    await eventually(lambda: gateway.metric("gateway_polls_held") == 40)
    await eventually(lambda: len(container.asked) >= 4)
    container.results[job] = complete(3)
    began = time.monotonic()
    responses = await asyncio.gather(*(client.response() for client in clients))
    assert time.monotonic() - began < 5
    assert {(response.status, response.body) for response in responses} == {(200, container.results[job])}
    assert container.finals == 1
    gaps = [later - earlier for earlier, later in zip(container.asked, container.asked[1:], strict=False)]
    assert min(gaps) > 0.08
    assert gateway.metric("gateway_polls_held") == 0
    assert gateway.metric("gateway_job_status_requests_total") == len(container.asked)
    await comes_to(gateway, Used(0, 0, 3, 1))
    heads = {tuple(name for name, _ in response.headers) for response in responses}
    assert len(heads) == 1
    for client in clients[:3]:
        assert (await client.ask(poll(job))).body == container.results[job]


async def _shut_out(_: KeyService, gateway: Running) -> None:
    gateway.rewrite(lambda document: document["network"].update(allow=["10.0.0.0/8"]))


async def _expire(admin: KeyService, _: Running) -> None:
    """Its end is a second ahead, as no key may be given one that is over; the moment itself makes no new State."""
    ends_at = int(time.time()) + 2
    await admin.change("tests", "led", expires_at=ends_at)
    await eventually(lambda: time.time() >= ends_at)


# What becomes of a caller while its request waits, and what it is answered then.
ENDINGS: dict[str, tuple[Callable[[KeyService, Running], Awaitable[object]], int, str]] = {
    "revoked": (lambda admin, _: admin.revoke("tests", "led", None, force=True), 401, "unauthenticated"),
    "disabled": (lambda admin, _: admin.set_disabled("tests", "led", disabled=True), 401, "unauthenticated"),
    "elsewhere": (lambda admin, _: admin.change("tests", "led", networks=("10.0.0.0/8",)), 403, "address_denied"),
    "expired": (_expire, 401, "unauthenticated"),
    "moved": (lambda admin, _: admin.change("tests", "led", owner="other"), 404, "job_not_found"),
    "shut-out": (_shut_out, 403, "address_denied"),
}


async def ended(gateway: Running, name: str, admin: KeyService) -> None:
    """Lets that become of the key `led`, and waits until the gateway knows."""
    live = gateway.gateway.live
    before = live.state
    await ENDINGS[name][0](admin, gateway)
    await eventually(lambda: live.state is not before)


@pytest.mark.parametrize("name", ENDINGS)
async def test_a_held_poll_is_judged_again_before_it_is_answered(
    name: str, gateway: Running, container: Container
) -> None:
    async with administering(gateway) as admin:
        secret = await known(gateway, (await admin.create("tests", Wanted("led"))).secret)
        job = await started(gateway, key=secret)
        client = await gateway.connect()
        client.send(poll(job, "Prefer: wait=50", key=secret))
        await eventually(lambda: gateway.metric("gateway_polls_held") == 1)
        await ended(gateway, name, admin)
    container.results[job] = complete(1)
    (await client.response()).is_refusal(*ENDINGS[name][1:])


@pytest.mark.parametrize("name", ENDINGS)
async def test_whoever_waits_for_the_upstream_is_judged_again_too(
    name: str, gateway: Running, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.proxy.handler.RECHECK_AFTER", 0.0)
    async with administering(gateway) as admin:
        secret = await known(gateway, (await admin.create("tests", Wanted("led"))).secret)
        job = await started(gateway, key=secret)
        container.slowly = asyncio.Event()
        asked = len(container.asked)
        client = await gateway.connect()
        client.send(poll(job, key=secret))
        await eventually(lambda: len(container.asked) > asked)
        await ended(gateway, name, admin)
    container.results[job] = complete(1)
    container.slowly.set()
    (await client.response()).is_refusal(*ENDINGS[name][1:])


async def test_a_body_without_a_job_is_not_released_for_who_is_gone_by_then(
    gateway: Running, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.proxy.handler.RECHECK_AFTER", 0.0)
    async with administering(gateway) as admin:
        secret = await known(gateway, (await admin.create("tests", Wanted("led"))).secret)
        client = await gateway.connect()
        client.send(request("POST", PLAIN, "Content-Length: 10", key=secret) + b"hello")
        await backend.connected()
        await ended(gateway, "revoked", admin)
    client.send(b"world")
    (await client.response(b"POST")).is_refusal(401, "unauthenticated")
    assert backend.requests == []


async def test_a_large_result_is_fetched_by_each_that_waits(start: Start, container: Container) -> None:
    gateway = await start(jobs={"hold": "20s"})
    job = await started(gateway)
    clients = [await gateway.connect() for _ in range(5)]
    for client in clients:
        client.send(poll(job))
    await eventually(lambda: gateway.metric("gateway_polls_held") == 5)
    began = time.monotonic()
    await eventually(lambda: len(container.asked) >= 2)
    waited = time.monotonic() - began
    container.results[job] = complete(3, markdown="x" * 300_000)
    responses = await asyncio.gather(*(client.response() for client in clients))
    assert {(response.status, response.body) for response in responses} == {(200, container.results[job])}
    assert container.finals == 6
    await eventually(lambda: gateway.metric("gateway_overhead_duration_seconds_count", route="result") == 5)
    whole, there, ours = (
        gateway.metric(f"gateway_{name}_duration_seconds_sum", route="result")
        for name in ("request", "upstream", "overhead")
    )
    assert whole - there - ours >= 5 * waited  # what a client wishes to wait is nobody's delay


async def test_when_the_time_is_up_it_runs_on(start: Start, container: Container) -> None:
    gateway = await start(jobs={"hold_limit": "300ms"})
    job = await started(gateway)
    client = await gateway.connect()
    began = time.monotonic()
    response = await client.ask(poll(job, "Prefer: wait=3600"))
    assert 0.25 < time.monotonic() - began < 5
    assert (response.status, response.body) == (200, PROCESSING)
    container.results[job] = complete(3)
    assert (await client.ask(poll(job, "Prefer: wait=3600"))).body == container.results[job]


async def test_a_poll_that_asks_for_more_waits_as_well(start: Start, container: Container) -> None:
    gateway = await start(jobs={})
    job = await started(gateway)
    client = await gateway.connect()
    client.send(request("GET", f"/api/v1/marker/{job}?download=true", "Prefer: wait=20"))
    await eventually(lambda: gateway.metric("gateway_polls_held") == 1)
    container.results[job] = container.results[f"{job}?download=true"] = complete(3)
    assert (await client.response()).body == container.results[job]
    assert container.targets.count(f"{job}?download=true") == 1


async def test_who_sends_a_long_body_is_not_kept_waiting_with_it(start: Start, container: Container) -> None:
    """It would be kept meanwhile, 64 KB of each."""
    gateway = await start(jobs={"watch": False})
    job = await started(gateway)

    def asking(size: int) -> bytes:
        body = json.dumps({"pad": "x" * size}).encode()
        return request("GET", f"/api/v1/marker/{job}", "Prefer: wait=20", body=body)

    assert (await gateway.ask(asking(5000))).body == PROCESSING
    client = await gateway.connect()
    client.send(asking(3000))
    await eventually(lambda: gateway.metric("gateway_polls_held") == 1)
    container.results[job] = complete(3)
    assert (await client.response()).body == container.results[job]


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("HEAD", ()),
        ("HEAD", ("Prefer: wait=20",)),
        ("GET", ("Prefer: wait=0",)),
        ("GET", ("Prefer: wait=-1, wait=0",)),
    ],
)
async def test_what_does_not_want_to_wait_does_not(
    start: Start, container: Container, method: str, headers: tuple[str, ...]
) -> None:
    routes = [{**route, "methods": ["GET", "HEAD"]} if route["name"] == "result" else route for route in ROUTES]
    gateway = await start(jobs={"hold": "20s", "watch": False}, routes=routes)
    job = await started(gateway)
    response = await gateway.ask(poll(job, *headers, method=method), method.encode())
    assert response.status == 200
    assert len(container.asked) == 1


async def test_one_that_leaves_is_forgotten_and_the_others_wait_on(start: Start, container: Container) -> None:
    gateway = await start(jobs={"hold": "20s", "watch": False})
    job = await started(gateway)
    clients = [await gateway.connect() for _ in range(3)]
    for client in clients:
        client.send(poll(job))
    await eventually(lambda: gateway.metric("gateway_polls_held") == 3)
    clients[0].abort()
    await eventually(lambda: gateway.metric("gateway_polls_held") == 2)
    await eventually(lambda: gateway.counted(reason="client_gone") == 1)
    container.results[job] = complete(3)
    for client in clients[1:]:
        assert (await client.response()).body == container.results[job]
    assert container.finals == 1


async def test_when_all_have_left_nobody_asks_on(start: Start, container: Container) -> None:
    gateway = await start(jobs={"hold": "20s", "watch": False})
    job = await started(gateway)
    clients = [await gateway.connect() for _ in range(3)]
    for client in clients:
        client.send(poll(job))
    await eventually(lambda: len(container.asked) >= 2)
    for client in clients:
        client.abort()
    held = gateway.gateway.jobs.registry.get(("default", job))
    assert held is not None
    await eventually(lambda: not held.is_followed)
    assert not held.waiters


async def test_a_drain_answers_all_that_wait_at_once(start: Start, container: Container) -> None:
    gateway = await start(jobs={"hold": "60s"}, shutdown={"drain_delay": "0s", "drain_timeout": "20s"})
    job = await started(gateway)
    clients = [await gateway.connect() for _ in range(10)]
    for client in clients:
        client.send(poll(job))
    await eventually(lambda: gateway.metric("gateway_polls_held") == 10)
    await eventually(lambda: len(container.asked) >= 1)
    began = time.monotonic()
    await gateway.gateway.drain(asyncio.Event())
    assert time.monotonic() - began < 5
    for client in clients:
        response = await client.response()
        assert (response.status, response.body, response.value(b"connection")) == (200, PROCESSING, b"close")
        await client.is_closed()
    assert (await gateway.says("drained"))["cut_off"] == 0


async def test_a_job_that_is_deleted_while_it_is_waited_for_is_nobodys(start: Start, container: Container) -> None:
    gateway = await start(jobs={"hold": "20s"}, routes=MORE_ROUTES)
    job = await started(gateway)
    client = await gateway.connect()
    client.send(poll(job))
    await eventually(lambda: gateway.metric("gateway_polls_held") == 1)
    assert (await gateway.ask(request("DELETE", f"/api/v1/marker/{job}"), b"DELETE")).status == 200
    (await client.response()).is_refusal(404, "job_not_found")
    assert container.finals == 0


# Nobody comes back


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize(
    ("result", "pages"),
    [(complete(3), 3), (complete(3, success=False), 0), (complete(3, status="failed"), 0), (None, 0)],
    ids=["complete", "unsuccessful", "failed", "forgotten"],
)
async def test_a_job_that_nobody_polls_is_settled(
    gateway: Running, container: Container, result: bytes | None, pages: int
) -> None:
    job = await started(gateway)
    assert await used(gateway) == Used(0, 5, 5, 1)
    if result is None:
        container.unknown.add(job)
    else:
        container.results[job] = result
    await comes_to(gateway, Used(0, 0, pages, 1))
    for kind, count in (("settled", pages), ("refunded", 5 - pages)):
        await eventually(lambda k=kind, c=count: gateway.metric("gateway_pages_total", key="ci", kind=k) == c)  # type: ignore[misc]
    if result is not None:
        assert (await gateway.ask(poll(job))).body == result


async def test_a_client_that_polls_spares_the_question(start: Start, container: Container) -> None:
    gateway = await start(jobs={}, profiles={"default": {"polls_per_minute": 100_000_000}})
    job = await started(gateway)
    client = await gateway.connect()
    polls = 0
    began = time.monotonic()
    while time.monotonic() - began < 2.5:
        assert (await client.ask(poll(job))).body == PROCESSING
        polls += 1
    assert gateway.metric("gateway_job_status_requests_total") == 0
    assert len(container.asked) == polls


@pytest.mark.usefixtures("_soon")
async def test_a_submit_whose_client_left_is_settled(
    gateway: Running, backend: Backend, container: Container
) -> None:
    answers = asyncio.Event()

    async def script(connection: Connection) -> None:
        arrived = await connection.request()
        if arrived.method == b"POST":
            await answers.wait()
            connection.send(answer(b'{"success": true, "request_id": "job-1"}', _JSON))
        await container(connection)

    backend.script = script
    client = await gateway.connect()
    client.send(submit(form(pdf(5))))
    await backend.got(1)
    client.abort()
    await eventually(lambda: all(connection.is_gone for connection in gateway.gateway.listeners.connections.all()))
    answers.set()
    backend.script = container
    container.results["job-1"] = complete(4)
    await comes_to(gateway, Used(0, 0, 4, 1))
    assert (await gateway.ask(poll())).body == container.results["job-1"]


async def test_after_a_restart_a_job_is_its_owners_still(start: Start, container: Container) -> None:
    first = await start(jobs={})
    ledger = {"url": f"sqlite:///{first.path.parent}/ledger.db"}
    job = await started(first)
    await first.end()
    second = await start(ledger=ledger, jobs={})
    assert (await second.ask(poll(job))).body == PROCESSING
    (await second.ask(poll(job, key=ADMIN_KEY))).is_refusal(404, "job_not_found")
    container.results[job] = complete(2)

    async def is_settled() -> bool:
        return (await used(second)).pages == 2

    await comes_true(is_settled, within=20)  # nobody polls: it was left, and is taken over
    await second.end()
    third = await start(ledger=ledger, jobs={})
    assert (await third.ask(poll(job))).body == container.results[job]


async def test_jobs_are_counted(start: Start, container: Container, wall: Wall) -> None:
    del wall
    gateway = await start()
    jobs = [await started(gateway, 1) for _ in range(3)]
    container.results[jobs[0]] = complete(1)
    container.results[jobs[1]] = complete(1, status="failed")
    for job in jobs[:2]:
        await gateway.ask(poll(job))

    def count(state: str) -> float:
        return gateway.metric("gateway_jobs", state=state)

    await eventually(lambda: (count("running"), count("complete"), count("failed")) == (1, 1, 1))
    assert gateway.metric("gateway_jobs_behind_seconds") < 5


async def test_a_plain_upstream_says_nothing_of_jobs(gateway: Running, backend: Backend) -> None:
    backend.script = obliging
    assert (await gateway.ask(poll("job-1"))).status == 200
    (await gateway.ask(poll("job-2"))).is_refusal(404, "job_not_found")


async def test_a_body_is_read_as_it_is_announced(start: Start, container: Container) -> None:
    """The container would read a form where it looks like an object, and find another's job in it."""
    gateway = await start(jobs={}, routes=MORE_ROUTES)
    job = await started(gateway)
    form = "Content-Type: application/x-www-form-urlencoded"
    two = b'{"job": "' + job.encode() + b'", "x": "&job=other&y="}'
    (await gateway.ask(request("POST", "/clear", form, body=two), b"POST")).is_refusal(415, "unsupported_media_type")
    refused = await gateway.ask(request("DELETE", f"/api/v1/marker/{job}", form, body=two), b"DELETE")
    refused.is_refusal(400, "body_malformed")
    refused = await gateway.ask(
        request("DELETE", f"/api/v1/marker/{job}", "Content-Type: text/plain", body=b"{}"), b"DELETE"
    )
    refused.is_refusal(415, "unsupported_media_type")
    assert (await gateway.ask(poll(job))).status == 200
    assert container.deleted == []


async def test_an_id_in_another_place_than_the_routes_is_refused(start: Start, container: Container) -> None:
    gateway = await start(jobs={}, routes=MORE_ROUTES)
    job = await started(gateway)
    asked = len(container.asked)
    (await gateway.ask(poll(f"{job}?request_id=other"))).is_refusal(400, "bad_request")
    for body in (b'{"job": "other"}', b"job=other", b"\x1f\x8b"):
        refused = await gateway.ask(request("DELETE", f"/api/v1/marker/{job}", body=body), b"DELETE")
        refused.is_refusal(400, "body_malformed")
    (await gateway.ask(request("POST", "/clear?job=other", body=b'{"job": "x"}'), b"POST")).is_refusal(
        400, "bad_request"
    )
    assert (len(container.asked), container.deleted) == (asked, [])
    assert (await gateway.ask(request("DELETE", f"/api/v1/marker/{job}", body=b"{}"), b"DELETE")).status == 200
