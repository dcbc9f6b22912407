"""Jobs and what they cost: an upstream that runs them, and what the gateway tells an account of itself."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any, Final, NamedTuple

from gateway.keys.key_changes import KeyService
from gateway.ledger.ledger import open_ledger
from tests.support.backend import Connection, answer
from tests.support.client import Response
from tests.support.gateway import KEY, Running, request
from tests.support.waiting import DEADLINE, eventually

ME: Final = "/gateway/v1/me"
PROCESSING: Final = json.dumps({"status": "processing", "success": None}).encode()


def complete(page_count: Any = 1, **members: Any) -> bytes:
    """The final answer of a job that went well."""
    return json.dumps({"status": "complete", "success": True, "page_count": page_count, **members}).encode()


class Jobs:
    """An upstream's script: each submit starts a job, and polls say what `results` has for it."""

    def __init__(self) -> None:
        self.started = 0
        self.results: dict[str, bytes] = {}

    async def __call__(self, connection: Connection) -> None:
        while True:
            arrived = await connection.request()
            if arrived.method == b"POST":
                self.started += 1
                members = {"success": True, "request_id": f"job-{self.started}", "error": None}
                connection.send(answer(json.dumps(members).encode(), b"Content-Type: application/json"))
            else:
                job = arrived.target.rpartition(b"/")[2].decode()
                connection.send(answer(self.results.get(job, PROCESSING), b"Content-Type: application/json"))


class Used(NamedTuple):
    """What an account has taken: places and pages in flight, and its windows of today."""

    places: int = 0
    in_flight: int = 0
    pages: int = 0
    requests: int = 0


def poll(job: str = "job-1", key: str | None = KEY) -> bytes:
    """A poll of one job."""
    return request("GET", f"/api/v1/marker/{job}", key=key)


async def me(gateway: Running, key: str | None = KEY, *headers: str) -> dict[str, Any]:
    """What an account is told of itself."""
    response: Response = await gateway.ask(request("GET", ME, *headers, key=key))
    assert (response.status, response.reason) == (200, None), response.body
    report: dict[str, Any] = json.loads(response.body)
    return report


async def used(gateway: Running, key: str | None = KEY, *headers: str) -> Used:
    """The same in four numbers."""
    report = await me(gateway, key, *headers)
    limits, day = report["limits"], report["usage"]["day"]
    places, pages = (limits[name]["used"] for name in ("concurrent_requests", "pages_in_flight"))
    assert day == report["usage"]["month"]  # the ledger is new, and has seen no other day
    return Used(places, pages, day["pages"], day["requests"])


async def comes_true(holds: Callable[[], Awaitable[bool]], within: float = DEADLINE) -> None:
    """Asks again and again, for what only a request can tell."""
    async with asyncio.timeout(within):
        while not await holds():  # noqa: ASYNC110 -- nobody announces it
            await asyncio.sleep(0.02)


async def comes_to(gateway: Running, expected: Used, key: str | None = KEY, within: float = DEADLINE) -> None:
    """Waits until an account stands so; what is given back is so in the background."""
    found = Used()

    async def holds() -> bool:
        nonlocal found
        found = await used(gateway, key)
        return found == expected

    try:
        await comes_true(holds, within)
    except TimeoutError:
        raise AssertionError(f"{found} is not {expected}") from None


async def known(gateway: Running, secret: str | None) -> str:
    """Waits until the gateway knows a secret of the ledger, which it then gives."""
    assert secret is not None
    digest = sha256(secret.encode()).digest()
    await eventually(lambda: gateway.gateway.live.state.ring.get(digest) is not None)
    return secret


def ledger_path(gateway: Running) -> str:
    """The file of a gateway's ledger."""
    return str(gateway.path.parent / "ledger.db")


@asynccontextmanager
async def administering(gateway: Running) -> AsyncIterator[KeyService]:
    """What the command line does beside a running gateway: a ledger of its own on the same file."""
    ledger = open_ledger(f"sqlite:///{ledger_path(gateway)}", 5.0)
    try:
        yield KeyService(ledger, lambda: gateway.gateway.live.state.settings, time.time, os.urandom)
    finally:
        await ledger.close()
