"""Before real uvicorn: what one client owes the container is never paid by the next one's request."""

from collections.abc import Iterator

import pytest

from tests.support.gateway import KEY, Running, Start, request
from tests.support.uvicorns import LARGE, PARSERS, serving

ROUTES = [
    {"name": "large", "methods": ["POST"], "path": "/large", "kind": "plain", "access": "anyone"},
    {"name": "small", "methods": ["GET"], "path": "/small", "kind": "plain", "access": "anyone"},
    {"name": "missing", "methods": ["POST"], "path": "/missing", "kind": "plain", "access": "key"},
    {"name": "echo", "methods": ["POST"], "path": "/echo", "kind": "plain", "access": "key"},
]


@pytest.fixture(params=PARSERS)
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    with serving(request.param) as port:
        yield port


@pytest.fixture
async def before_uvicorn(port: int, start: Start) -> Running:
    return await start(upstream={"url": f"http://127.0.0.1:{port}", "health_path": "/small"}, routes=ROUTES)


async def asks_its_own(gateway: Running, head: bytes) -> None:
    response = await gateway.ask(head)
    assert (response.status, response.body) == (200, b'{"small":true}')


@pytest.mark.parametrize("key", [KEY, None], ids=["with-key", "stranger"])
async def test_a_request_that_keeps_its_body_back_takes_nothing_from_the_next(
    key: str | None, before_uvicorn: Running, port: int
) -> None:
    """The body comes while the large answer does, and is as long as what the next request begins with upstream."""
    smuggled = request("GET", "/small", "X-Pad: GET /forbidden HTTP/1.1", key=key)
    owed = len(b"GET /small HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-Pad: " % port)
    for length in range(owed - 1, owed + 2):
        client = await before_uvicorn.connect(receive_buffer=65_536)
        client.send(request("POST", "/large", f"Content-Length: {length}", key=key))
        read = len(await client.read_some())
        await client.send_all(b"B" * length)
        while read < LARGE:
            piece = await client.read_some()
            assert piece, "the answer is cut off"
            read += len(piece)
        await before_uvicorn.finished(2 * (length - owed + 1) + 1)
        await client.close()
        await asks_its_own(before_uvicorn, smuggled)


async def test_a_post_to_a_path_that_the_container_lacks_spoils_no_other_request(before_uvicorn: Running) -> None:
    """FastAPI answers 404 on the head alone, while the body is still on its way."""
    for size in (1, 3000, 200_000):
        client = await before_uvicorn.connect()
        client.send(request("POST", "/missing", f"Content-Length: {size}"))
        await client.send_all(b"B" * size)
        assert (await client.response(b"POST")).status == 404
        await asks_its_own(before_uvicorn, request("GET", "/small"))


async def test_a_body_that_comes_after_its_answer_is_dropped(before_uvicorn: Running) -> None:
    client = await before_uvicorn.connect()
    client.send(request("POST", "/missing", "Content-Length: 5000"))
    assert (await client.response(b"POST")).status == 404
    await asks_its_own(before_uvicorn, request("GET", "/small"))
    client.send(b"B" * 5000)
    response = await client.ask(request("GET", "/small"))
    assert (response.status, response.body) == (200, b'{"small":true}')


@pytest.mark.parametrize("size", [10, 300_000, 4_000_000])
async def test_an_answer_that_needs_the_rest_of_its_body_is_whole(size: int, before_uvicorn: Running) -> None:
    client = await before_uvicorn.connect()
    body = bytes(range(256)) * (size // 256 + 1)
    response = await client.ask(request("POST", "/echo", body=body), b"POST", within=60)
    assert (response.status, response.body) == (200, body)
    await asks_its_own(before_uvicorn, request("GET", "/small"))
