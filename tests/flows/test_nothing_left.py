"""A request leaves nothing to the garbage collector, however it ends: no stranger may bring about its work.

Nor do the gateway's own questions, whose pace and number containers choose.
"""

import asyncio
import gc
import json
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CoroutineType, FrameType, FunctionType

import pytest

import gateway as package
from gateway.admin.connection import AdminConnection
from tests.support.backend import Backend, Connection, answer, closing_after
from tests.support.forms import BOUNDARY, form, pdf
from tests.support.gateway import AWAY_KEY, BOTH_WAYS, ENVIRON, KEY, Running, Start, request, submit
from tests.support.jobs import PROCESSING, ledger_path
from tests.support.loop import steps
from tests.support.waiting import eventually

_CODE = package.__file__.removesuffix("__init__.py")
_HOST = b"Host: gateway.test\r\n"
_LOGIN = b"X-API-Key: " + KEY.encode() + b"\r\n"
_FORM = _LOGIN + b"Content-Type: multipart/form-data; boundary=" + BOUNDARY.encode() + b"\r\n"
_POST = b"POST /api/v1/marker HTTP/1.1\r\n" + _HOST + _FORM
_LENGTH = b"Content-Length: 66000\r\n\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n"

ANSWERED = {
    "no-key": request(key=None),
    "unknown-key": request(key="canary"),
    "away-from-its-network": request(key=AWAY_KEY),
    "no-such-route": request("GET", "/nowhere"),
    "other-version": b"GET / HTTP/9.9\r\n\r\n",
    "dots": b"GET /../x HTTP/1.1\r\n" + _HOST + b"\r\n",
    "zeros": bytes(300) + b"\r\n\r\n",
    "too-large-a-head": b"GET / HTTP/1.1\r\n" + _HOST + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
    "smuggled": _POST + b"Content-Length: 5\r\n" + _CHUNKED + b"\r\n0\r\n\r\n",
    "form-without-boundary": _POST + _LENGTH + b"--X\r\nother" * 6600,
    "bad-chunk": _POST + _CHUNKED + b"\r\nzz\r\n",
    "result": request(),
    "no-job": request(target="/api/v1/marker/canary-nobodys"),
    "submit": submit(form(pdf(1))),
    "streamed-submit": submit(form(pdf(1)), chunked=True),
    "submit-with-a-fault": submit(form(page_range="x")),
    "streamed-submit-with-a-fault": submit(form(page_range="x"), chunked=True),
    "submit-of-too-much": submit(form(None)),
    "health": b"GET /gateway/v1/alive HTTP/1.1\r\n" + _HOST + b"\r\n",
}  # fmt: skip
BROKEN_OFF = {
    "nothing": b"",
    "half-a-head": b"GET / HTTP/1.1\r\n" + _HOST + b"X: " + b"a" * 60_000,
    "half-a-small-form": submit(form(pdf(1)))[:-9],
    "half-a-form": _POST + _LENGTH + form()[:90],
    "half-a-chunk": _POST + _CHUNKED + b"\r\nffff\r\n" + form()[:90],
}


_LOCAL = b"Host: localhost\r\n"
_REST = b"Content-Length: 100000\r\n" + _LOCAL + b"\r\nrest"
OF_ADMINISTRATORS = {
    "alive": b"GET /livez HTTP/1.1\r\n" + _LOCAL + b"\r\n",
    "alive-with-half-a-body": b"GET /livez HTTP/1.1\r\n" + _REST,
    "other-method": b"POST /livez HTTP/1.1\r\n" + _LOCAL + b"\r\n",
    "other-method-with-half-a-body": b"POST /livez HTTP/1.1\r\n" + _REST,
    "invited": b"POST /livez HTTP/1.1\r\nExpect: 100-continue\r\n" + _REST,
    "no-such-path": b"GET /nowhere HTTP/1.1\r\n" + _LOCAL + b"\r\n",
    "behind-a-proxy": b"POST /admin/v1/keys HTTP/1.1\r\nVia: a\r\n" + _REST,
    "metrics": b"GET /metrics HTTP/1.1\r\n" + _LOCAL + b"\r\n",
    "ahead": b"GET /livez HTTP/1.1\r\n" + _LOCAL + b"\r\nGET /livez HTTP/1.1\r\n" + _LOCAL + b"\r\n",
    "other-version": b"GET / HTTP/9.9\r\n\r\n",
    "zeros": bytes(300) + b"\r\n\r\n",
    "too-large-a-head": b"GET / HTTP/1.1\r\n" + _LOCAL + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
    "bad-chunk": b"POST /livez HTTP/1.1\r\n" + _LOCAL + _CHUNKED + b"\r\nzz\r\n",
}


def _ours(garbage: list[object]) -> Counter[str]:
    kinds = [one if isinstance(one, FunctionType) else type(one) for one in garbage]
    found = Counter(kind.__qualname__ for kind in kinds if getattr(kind, "__module__", "").startswith("gateway."))
    codes = [one.f_code for one in garbage if isinstance(one, FrameType)]
    codes += [one.cr_code for one in garbage if isinstance(one, CoroutineType)]
    found.update(code.co_qualname for code in codes if code.co_filename.startswith(_CODE))
    return found


async def left(gateway: Running, act: Callable[[], Awaitable[None]]) -> Counter[str]:
    """What of the gateway's only a collection finds, by its type or name."""
    gc.collect()
    gc.freeze()  # what earlier tests of this process have left is looked at once
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await act()
        await eventually(lambda: not gateway.gateway.listeners.public.connections)
        await asyncio.sleep(0.02)
        gc.collect()
        return _ours(gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


@pytest.mark.parametrize("sent", ANSWERED.values(), ids=ANSWERED)
async def test_of_a_request_that_is_answered(gateway: Running, sent: bytes) -> None:
    async def act() -> None:
        async with await gateway.connect() as client:
            await client.ask(sent)

    await act()  # what is made once
    assert await left(gateway, act) == Counter()


@pytest.mark.parametrize("sent", BROKEN_OFF.values(), ids=BROKEN_OFF)
async def test_of_a_request_that_is_broken_off(gateway: Running, sent: bytes) -> None:
    async def act() -> None:
        client = await gateway.connect()
        client.send(sent)
        await asyncio.sleep(0.05)
        client.abort()

    await act()  # what is made once
    assert await left(gateway, act) == Counter()


@pytest.mark.parametrize("reads", [True, False], ids=["reads", "leaves"])
@pytest.mark.parametrize("sent", OF_ADMINISTRATORS.values(), ids=OF_ADMINISTRATORS)
async def test_of_a_request_to_the_admin_listener(gateway: Running, sent: bytes, *, reads: bool) -> None:
    """Strangers' took 600 MB in half a minute, and to collect them held everybody for a second and a half."""

    async def act() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.admin_port)
        writer.write(sent)
        if reads:
            await reader.read(12)
        writer.transport.abort()
        await eventually(lambda: not any(isinstance(one, AdminConnection) for one in gc.get_objects()), 1.0)

    await act()  # what is made once
    assert await left(gateway, act) == Counter()


@pytest.mark.parametrize("sent", ["alive", "other-method-with-half-a-body", "zeros", "ahead"])
async def test_of_a_client_of_the_admin_listener_that_leaves_at_once(
    gateway: Running, monkeypatch: pytest.MonkeyPatch, sent: str
) -> None:
    """Its request is not begun yet, or waits for its turn, or is being answered: no fault of ours is told of."""
    monkeypatch.setattr("gateway.aio.iteration.Iteration.is_full", True)
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    async def act() -> None:
        for iterations in range(12):
            with socket.create_connection(("127.0.0.1", gateway.admin_port)) as client:  # sends and leaves in one go
                await steps(10)
                client.sendall(OF_ADMINISTRATORS[sent])
                await steps(iterations)
        await eventually(lambda: not any(isinstance(one, AdminConnection) for one in gc.get_objects()))

    await act()  # what is made once
    assert await left(gateway, act) == Counter()
    told += [event for event in gateway.events if event["event"] == "admin connection failed"]
    assert told == []


@pytest.mark.parametrize("behind", [bytes(300) + b"\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"], ids=["zeros", "version"])
async def test_of_what_waits_for_its_turn_when_its_admin_connection_ends(
    gateway: Running, monkeypatch: pytest.MonkeyPatch, behind: bytes
) -> None:
    """Beside many others what comes behind a request is parsed later, perhaps once this one's answer was sent."""
    monkeypatch.setattr("gateway.aio.iteration.Iteration.is_full", True)

    async def act() -> None:
        for iterations in range(12):
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.admin_port)
            writer.write(OF_ADMINISTRATORS["alive"])
            await steps(iterations)
            writer.write(behind)
            await steps(3)
            writer.transport.abort()
        await eventually(lambda: not any(isinstance(one, AdminConnection) for one in gc.get_objects()))

    await act()  # what is made once
    assert await left(gateway, act) == Counter()


@pytest.mark.parametrize("sent", [request("HEAD"), submit(form(pdf(1)))], ids=["poll", "submit"])
async def test_of_a_client_that_leaves_at_once_behind_a_whole_request(gateway: Running, sent: bytes) -> None:
    """The gateway is about to connect to the container, or has connected in this very iteration of the loop."""

    async def act() -> None:
        for iterations in range(25):
            client = await gateway.connect()
            client.send(sent)
            await steps(iterations)
            client.abort()

    await act()  # what is made once
    assert await left(gateway, act) == Counter()


@pytest.mark.parametrize("sent", [request(), submit(), submit(chunked=True)], ids=["poll", "submit", "streamed"])
async def test_of_a_request_that_the_upstream_fails(gateway: Running, backend: Backend, sent: bytes) -> None:
    backend.script = closing_after(b"")

    async def act() -> None:
        async with await gateway.connect() as client:
            assert (await client.ask(sent)).status == 502

    await act()  # what is made once
    assert await left(gateway, act) == Counter()


@BOTH_WAYS
async def test_of_a_submit_whose_webhook_has_a_host_without_an_address(
    start: Start, monkeypatch: pytest.MonkeyPatch, *, chunked: bool
) -> None:
    def find_none(_: str, __: int) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr("gateway.webhooks.egress.resolver.find_addresses", find_none)
    target = {"secret": {"env": "OUT"}, "allow": ["nobody.test"]}
    gateway = await start(webhooks={"out": target}, environ={**ENVIRON, "OUT": "flow-secret-0123456789"})
    sent = submit(form(webhook_url="https://nobody.test/hook"), chunked=chunked)

    async def act() -> None:
        async with await gateway.connect() as client:
            (await client.ask(sent, b"POST")).is_refusal(422, "field_refused")

    await act()  # what is made once
    assert await left(gateway, act) == Counter()


@BOTH_WAYS
async def test_of_a_submit_whose_pages_are_too_many(start: Start, *, chunked: bool) -> None:
    gateway = await start(profiles={"default": {"pages_per_day": 2, "requests_per_minute": 60}})

    async def act() -> None:
        async with await gateway.connect() as client:
            refused = await client.ask(submit(form(pdf(3)), chunked=chunked), b"POST")
            refused.is_refusal(403, "budget_exhausted")

    await act()  # what is made once
    assert await left(gateway, act) == Counter()


@BOTH_WAYS
async def test_of_a_submit_that_the_ledger_fails(start: Start, *, chunked: bool) -> None:
    gateway = await start()

    async def act() -> None:
        async with await gateway.connect() as client:
            (await client.ask(submit(chunked=chunked), b"POST")).is_refusal(503, "ledger_unavailable")

    with _without_a_file(Path(ledger_path(gateway))):
        await act()  # what is made once
        found = await left(gateway, act)
    # What the gateway itself asks each second fails, too, perhaps just then: of that nothing is said here.
    of_submits = ("Admi", "Claim", "Exchange", "Form", "Judged", "Lease", "Steps", "Submi", "_Lane")
    assert [name for name in found if name.startswith(of_submits)] == []


@contextmanager
def _without_a_file(path: Path) -> Iterator[None]:
    kept = path.rename(path.with_name("kept.db"))
    path.mkdir()
    try:
        yield
    finally:
        path.rmdir()
        kept.rename(path)


@BOTH_WAYS
async def test_of_a_submit_to_which_the_upstream_gives_the_id_of_another_one(
    start: Start, backend: Backend, *, chunked: bool
) -> None:
    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            connection.send(answer(json.dumps({"success": True, "request_id": "job-1"}).encode()))

    backend.script = script
    gateway = await start(jobs={"watch": False})

    async def act() -> None:
        async with await gateway.connect() as client:
            (await client.ask(submit(chunked=chunked), b"POST")).is_refusal(502, "upstream_broke_off")

    assert (await gateway.ask(submit(), b"POST")).status == 200
    await act()  # what is made once
    assert await left(gateway, act) == Counter()


async def test_of_the_gateways_own_questions(start: Start, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    async def script(connection: Connection) -> None:
        nonlocal asked
        while True:
            arrived = await connection.request()
            asked += arrived.method == b"GET"
            said = json.dumps({"success": True, "request_id": "job-1"}).encode()
            connection.send(answer(PROCESSING if arrived.method == b"GET" else said))

    async def act() -> None:
        enough = asked + 3
        await eventually(lambda: asked >= enough)

    monkeypatch.setattr("gateway.jobs.poll_interval.SHORTEST", 0.02)
    backend.script = script
    gateway = await start(jobs={})
    assert (await gateway.ask(submit(), b"POST")).status == 200
    await act()  # what is made once
    assert await left(gateway, act) == Counter()
