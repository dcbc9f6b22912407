"""Requests of the admin listener have turns before anybody knows who asks, and no path is dear."""

import asyncio
from collections import Counter
from itertools import count
from unittest.mock import Mock

import pytest
from aiohttp import StreamReader, web
from aiohttp.test_utils import make_mocked_request

from gateway.admin import parsing
from gateway.admin.request_turns import in_turns
from gateway.admin.requests import Grant
from gateway.aio.iteration import Iteration
from gateway.http.strict_json import member_twice


def without_time() -> Iteration:
    """Iterations in which no time passes: only what is counted in advance ends them."""
    return Iteration(lambda: 0.0, asyncio.get_running_loop().call_soon)


async def test_of_many_requests_at_once_each_iteration_serves_a_few() -> None:
    """Sixty held everybody for 27 ms."""
    iteration, served = without_time(), Counter[int]()

    async def answer(_: web.BaseRequest) -> web.Response:
        served[iteration.number] += 1
        return web.Response()

    handle = in_turns(answer, iteration)
    requests = (handle(make_mocked_request("GET", "/livez")) for _ in range(60))
    await asyncio.wait_for(asyncio.gather(*requests), 5)
    assert served.total() == 60
    assert max(served.values()) <= 9


async def test_who_leaves_before_its_turn_takes_none() -> None:
    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response()

    handle = in_turns(answer, without_time())
    tasks = [asyncio.ensure_future(handle(make_mocked_request("GET", "/livez"))) for _ in range(20)]
    await asyncio.sleep(0)
    for task in tasks[10:]:
        task.cancel()
    answered = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert [isinstance(one, web.Response) for one in answered] == [True] * 10 + [False] * 10


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/" * 8000, "/-"), ("/a" * 17, "/-"), ("/admin/v1/keys" + "/" * 20, "/-"), ("/a/" * 9 + "?a=/", "/-"),
        ("/a" * 16, "/a" * 16), ("/admin/v1/jobs/x/%2F?next=" + "/" * 30, "/admin/v1/jobs/x/%2F"),
    ],
    ids=range(6),
)  # fmt: skip
async def test_a_path_with_more_slashes_than_any_route_has_is_looked_for_nowhere(path: str, seen: str) -> None:
    """aiohttp looks for a route at each of them: 8 KB of slashes held everybody for 17 ms."""

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(text=request.rel_url.raw_path)

    response = await in_turns(answer, without_time())(make_mocked_request("GET", path))
    assert isinstance(response, web.Response)
    assert response.text == seen


async def test_of_many_bodies_that_end_at_once_each_iteration_judges_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty, held back but for their last bytes, held everybody for 136 ms: each may take two."""
    passed, judged = count(), Counter[int]()
    iteration = Iteration(lambda: next(passed) * 0.001, asyncio.get_running_loop().call_soon)

    def note(body: bytes) -> str | None:
        judged[iteration.number] += 1
        return member_twice(body)

    monkeypatch.setattr(parsing, "member_twice", note)

    def request() -> web.Request:
        content = StreamReader(Mock(_reading_paused=False), 2**16)
        content.feed_data(b'{"pages": 3, "until": "2999-01-01T00:00:00Z"}')
        content.feed_eof()
        return make_mocked_request("POST", "/", headers={"Content-Type": "application/json"}, payload=content)

    requests = [parsing.read_body(request(), Grant, iteration) for _ in range(60)]
    grants = await asyncio.wait_for(asyncio.gather(*requests), 5)
    assert [grant.pages for grant in grants] == [3] * 60
    assert max(judged.values()) <= 6
    assert len(judged) >= 10
