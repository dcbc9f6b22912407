"""An upstream that answers whenever it likes: at every byte of a request, while its pages are counted or reserved.

Whatever it does, no connection ever brings it a request that was not sent as one; every client gets its own answer.
"""

import asyncio
import random

from tests.support.backend import OK, Backend, Connection, Script, answer, chunked, obliging
from tests.support.client import Client
from tests.support.forms import form, pdf
from tests.support.gateway import PLAIN, Start, chunks, request, submit

ROUNDS = 60
SEED = 20261128
ANSWERS = [
    answer(b'{"detail": "Not Found"}', status=b"404 Not Found"),
    answer(b"too large", b"Connection: close", status=b"413 Content Too Large"),
    chunked(b"early ", b"answer"),
    b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"behind an interim one", status=b"403 Forbidden"),
    answer(b"and more") + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
]


def sent(dice: random.Random, number: int) -> bytes:
    """A request with a body; its target or its form names its number."""
    target = f"{PLAIN}-{number}"
    body = b"b" * dice.choice((1, 100, 70_000))
    return dice.choice(
        (
            request("POST", target, body=body),
            request("POST", target, "Transfer-Encoding: chunked") + chunks(body[:50], body),
            submit(form(pdf(3), langs=str(number))),
            submit(form(pdf(3), langs=str(number)), chunked=True),
            submit(form(langs=str(number)), chunked=True),
        )
    )


def answering_at(cut: int, data: bytes) -> Script:
    """Answers once so many bytes came, whatever they are; what comes then is for h11 to read."""

    async def script(connection: Connection) -> None:
        await connection.has(cut)
        connection.send(data)
        connection.taken = len(connection.requests)
        await obliging(connection)

    return script


async def test_no_request_is_seen_that_was_not_sent_as_one(start: Start, backend: Backend) -> None:
    dice = random.Random(SEED)  # noqa: S311 -- the same order of events each time
    gateway = await start()
    meant: set[bytes] = set()
    for number in range(ROUNDS):
        data = sent(dice, number)
        head, _, _ = data.partition(b"\r\n\r\n")
        backend.script = answering_at(dice.randrange(1, len(data)), dice.choice(ANSWERS))
        client = await gateway.connect()
        await in_pieces(dice, client, data)
        meant.add(head.split()[1])
        if dice.random() < 0.7:
            await client.response(b"POST")
        client.abort()
        await gateway.finished(2 * number + 1)
        backend.script = obliging
        response = await gateway.ask(request())
        assert (response.status, response.body) == (200, OK.partition(b"\r\n\r\n")[2])
        await gateway.finished(2 * number + 2)
    meant.add(request().split()[1])
    assert [connection.garbled for connection in backend.connections if connection.garbled] == []
    assert {arrived.target for arrived in backend.requests} <= meant
    plain = [arrived for arrived in backend.requests if arrived.target.startswith(PLAIN.encode())]
    assert all(set(arrived.body) <= {ord("b")} for arrived in plain)


async def in_pieces(dice: random.Random, client: Client, data: bytes) -> None:
    place = 0
    while place < len(data):
        size = dice.choice((1, 7, 400, 100_000))
        client.send(data[place : place + size])
        place += size
        if dice.random() < 0.3:
            await asyncio.sleep(0)
