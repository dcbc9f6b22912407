"""Requests that are byte for byte the one before them: they are not parsed again, and nobody may notice."""

from collections.abc import Sequence

import pytest

from tests.support.backend import Backend
from tests.support.client import Client
from tests.support.gateway import PLAIN, RESULT, Running, chunks, request, shared, submit

PLAINLY = request("GET", RESULT)
NOTED = request("GET", RESULT, "X-Note: other")


async def pieces(client: Client, *sent: bytes) -> list[int]:
    """Sends each piece, and waits for one answer after each that ends a request."""
    found = []
    for piece in sent:
        client.send(piece)
        if piece.endswith(b"\r\n\r\n"):
            found.append((await client.response()).status)
    return found


def targets(backend: Backend) -> list[tuple[bytes, bytes | None]]:
    arrived = [found for connection in backend.connections for found in connection.requests]
    return [(found.target, found.value(b"x-note")) for found in arrived]


@shared
@pytest.mark.parametrize(
    ("sent", "notes"),
    [
        ((PLAINLY, PLAINLY, PLAINLY), (None, None, None)),
        ((PLAINLY, NOTED, PLAINLY, NOTED, NOTED), (None, b"other", None, b"other", b"other")),
        ((PLAINLY[:9], PLAINLY[9:], PLAINLY), (None, None)),
        ((PLAINLY, PLAINLY[:9], PLAINLY[9:], PLAINLY), (None, None, None)),
        ((b"\r\n" + PLAINLY, b"\r\n" + PLAINLY, PLAINLY), (None, None, None)),
    ],
)
async def test_each_is_served(
    gateway: Running, backend: Backend, sent: Sequence[bytes], notes: Sequence[bytes | None]
) -> None:
    async with await gateway.connect() as client:
        assert await pieces(client, *sent) == [200] * len(notes)
    assert sorted(note or b"" for _, note in targets(backend)) == sorted(note or b"" for note in notes)
    ids = {event["request_id"] for event in await gateway.finished(len(notes))}
    assert len(ids) == len(notes)


async def test_twins_in_one_piece_are_two(gateway: Running) -> None:
    async with await gateway.connect() as client:
        assert await pieces(client, PLAINLY) == [200]
        client.send(PLAINLY + PLAINLY)
        assert [(await client.response()).status for _ in range(2)] == [200, 200]
        assert await pieces(client, PLAINLY) == [200]
    await gateway.finished(4)


@shared
@pytest.mark.parametrize("between", [submit(), request("POST", PLAIN, body=b"x" * 100)])
async def test_a_body_in_between_ends_the_memory(gateway: Running, between: bytes) -> None:
    async with await gateway.connect() as client:
        assert await pieces(client, PLAINLY, PLAINLY) == [200, 200]
        assert (await client.ask(between, b"POST")).status == 200
        assert await pieces(client, PLAINLY, PLAINLY) == [200, 200]
    await gateway.finished(5)


async def test_bytes_of_a_body_that_look_like_the_request_are_a_body(gateway: Running, backend: Backend) -> None:
    async with await gateway.connect() as client:
        assert await pieces(client, PLAINLY) == [200]
        head = request("POST", PLAIN, f"Content-Length: {len(PLAINLY)}")
        client.send(head)
        client.send(PLAINLY)
        assert (await client.response(b"POST")).status == 200
    bodies = [found.body for connection in backend.connections for found in connection.requests]
    assert PLAINLY in bodies
    await gateway.finished(2)


async def test_what_is_refused_is_refused_each_time(gateway: Running, backend: Backend) -> None:
    bad = request("GET", "/nowhere")
    async with await gateway.connect() as client:
        assert await pieces(client, bad, bad, PLAINLY, bad) == [404, 404, 200, 404]
    assert len(targets(backend)) == 1


async def test_a_last_request_stays_the_last(gateway: Running) -> None:
    async with await gateway.connect() as client:
        assert await pieces(client, PLAINLY, request("GET", RESULT, close=True)) == [200, 200]
        await client.is_closed()
    await gateway.finished(2)


async def test_chunked_twins_are_parsed(gateway: Running) -> None:
    form = request("POST", PLAIN, "Transfer-Encoding: chunked") + chunks(b"abc")
    async with await gateway.connect() as client:
        assert (await client.ask(form, b"POST")).status == 200
        await client.is_closed()
    await gateway.finished(1)


async def test_what_only_ended_another_request_is_no_request(gateway: Running) -> None:
    begun = request("GET", "/gateway/v1/me", "X-P: ").removesuffix(b"\r\n\r\n")
    tail = b"GET /other HTTP/1.1\r\nAccept: a\r\n\r\n"
    async with await gateway.connect() as client:
        client.send(PLAINLY + begun)
        assert (await client.response()).status == 200
        assert await pieces(client, tail, tail) == [200, 400]


async def test_empty_lines_are_no_request(gateway: Running) -> None:
    lines = b"\r\n" * 4200
    async with await gateway.connect() as client:
        client.send(lines)
        client.send(PLAINLY)
        assert (await client.response()).status == 200
        client.send(lines + PLAINLY)
        assert (await client.response()).status == 200
    await gateway.finished(2)
