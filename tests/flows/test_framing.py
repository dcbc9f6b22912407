"""Whatever the bytes and however they are cut, no turn of the loop has more work than it may: counted in calls.

A few atoms of a protocol's own syntax, again and again, from a client and from the container, through a gateway.
A call of Python or C costs a tenth of a microsecond or a few, under a profiler as without one: see test_readers.py.
"""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import pytest

from tests.support.backend import Backend, closing_after
from tests.support.client import Client, Truncated
from tests.support.forms import FORM_TYPE
from tests.support.gateway import ENVIRON, PLAIN, SUBMIT, Running, Start, request, shared
from tests.support.pure import examples as scaled
from tests.support.waiting import eventually
from tests.support.work import Work, counted_turns

MAX_CALLS: Final = 75_000  # the clock, which ends most turns sooner, does not count here
SEEDS: Final = range(8)
_LONG: Final = 50.0  # seconds: counting calls, and coverage, make it slow
CODED: Final = "Transfer-Encoding: chunked"
Family = tuple[tuple[bytes, ...], tuple[bytes, ...]]
"""How it may begin, and what then comes again and again."""

HEADS: Final = (
    request(), request(key=None), request("POST", PLAIN, CODED), request("POST", PLAIN, CODED, key=None),
    request("POST", SUBMIT, CODED, f"Content-Type: {FORM_TYPE}"), request("GET", "/nothing", CODED),
    request("POST", PLAIN, body=b"hello"), request("POST", PLAIN, "Content-Length: 9000000"),
    request("POST", "/nothing", "Content-Length: 9000000"),
)  # fmt: skip
CRUMBS: Final = (b"1\r\nx\r\n", b"3;e=1\r\nabc\r\n", b"40\r\n" + b"x" * 64 + b"\r\n")
OF_CLIENTS: Final[tuple[Family, ...]] = (
    (HEADS[2:6], CRUMBS),
    (HEADS[-2:], (b"x", b"--b0undary", b"\r\n")),
    (HEADS[:2], (request(), request(key=None), request("GET", "/nothing"), b"\r\n", HEADS[-3])),
    ((b"GET / HTTP/1.1\r\n",), (b"a: b\r\n", b"c:\r\n", b"\r\n")),
    ((b"\r\n", b"GET "), (b"\r\n", b"\n", b"x", b"\x00")),
    (HEADS, (*HEADS, *CRUMBS, b"0\r\n\r\n", b"0\r\na: b\r\n\r\n", b"\r\n", b"\x00")),
)
OK: Final = b"HTTP/1.1 200 OK\r\n"
CHUNKED: Final = OK + b"Transfer-Encoding: chunked\r\n\r\n"
OF_UPSTREAMS: Final[tuple[Family, ...]] = (
    ((CHUNKED, CHUNKED + b"2\r\n{}\r\n"), CRUMBS),
    ((OK,), (b"a: b\r\n", b"c:\r\n")),
    ((b"",), (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\na: b\r\n\r\n")),
    ((OK + b"\r\n",), (b'{"status":"complete",', b"[", b'{"a":', b'"\\', b"x")),
    ((CHUNKED + b"0\r\n", CHUNKED), (b"a: b\r\n", b"0\r\n\r\n", b"\r\n", b"\x00", *CRUMBS)),
)


@pytest.fixture(autouse=True)
def counts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn has no end by the clock here: what is counted has to end it."""
    monkeypatch.setattr("gateway.aio.turn.MAX_SECONDS", float("inf"))


@asynccontextmanager
async def counted_calls() -> AsyncIterator[Work]:
    """Counts the calls of functions in each turn of the loop, whosever they are."""
    async with counted_turns() as work:

        def count(_: Any, event: str, __: Any) -> None:
            work.units[work.turn] += event in {"call", "c_call"}

        before = sys.getprofile()
        sys.setprofile(count)
        try:
            yield work
        finally:
            sys.setprofile(before)


def drawn(dice: random.Random, family: Family, most: int) -> bytes:
    """A beginning, and a few atoms again and again."""
    starts, atoms = family
    unit = b"".join(dice.choices(atoms, k=dice.randint(1, 6)))
    return (dice.choice(starts) + unit * (most // len(unit) + 1))[:most]


@shared
@pytest.mark.parametrize("seed", SEEDS)
async def test_no_client_makes_a_turn_longer(seed: int, gateway: Running) -> None:
    dice = random.Random(seed)  # noqa: S311 -- no secret
    async with counted_calls() as work:
        for family in dice.choices(OF_CLIENTS, k=4):
            size = dice.choice([1, 9, 300, 9000])
            data = drawn(dice, family, min(400_000, 6000 * size))
            client = await gateway.connect()
            with suppress(ConnectionError):
                for place in range(0, len(data), size):  # a record each
                    client.send(data[place : place + size])
                    if place // size % 64 == 0:
                        await client.writer.drain()
                        await asyncio.sleep(0)
            client.writer.close()
            await eventually(lambda: gateway.metric("gateway_connections") == 0, _LONG)
    assert work.most <= MAX_CALLS


ADMIN_HEADS: Final = tuple(
    f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{token}{kind}{CODED}\r\n\r\n".encode()
    for path in ("/livez", "/metrics", "/admin/v1/keys", "/nothing")
    for token in ("", "Authorization: Bearer canary-admin-token\r\n")
    for kind in ("", "Content-Type: application/json\r\n")
)


@pytest.mark.parametrize("head", ADMIN_HEADS, ids=range(len(ADMIN_HEADS)))
async def test_no_client_of_the_admin_listener_makes_a_turn_longer(
    head: bytes, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.admin.connection.DRAIN_SECONDS", 0.3)
    gateway = await start(admin={"token": {"env": "TOKEN"}}, environ={**ENVIRON, "TOKEN": "canary-admin-token"})
    async with counted_calls() as work, await Client.connect(gateway.admin_port, None) as client:
        client.send(head + b"1\r\nx\r\n" * scaled(50_000))
        with suppress(ConnectionError):
            await client.rest(_LONG)
    assert 0 < work.most <= MAX_CALLS // 3  # what aiohttp reads of it in one go counts, too


@shared
@pytest.mark.parametrize("seed", SEEDS)
async def test_no_upstream_makes_a_turn_longer(seed: int, gateway: Running, backend: Backend) -> None:
    dice = random.Random(seed)  # noqa: S311 -- no secret
    async with counted_calls() as work:
        for family in dice.choices(OF_UPSTREAMS, k=4):
            backend.script = closing_after(drawn(dice, family, 300_000))
            client = await gateway.connect()
            client.send(request())
            with suppress(Truncated, ConnectionError):
                await client.response()
            client.abort()
            await eventually(lambda: gateway.metric("gateway_requests_in_flight") == 0, _LONG)
    assert work.most <= MAX_CALLS
