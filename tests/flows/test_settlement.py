"""Settlement: what a client's own poll shows of a job is what the job has cost, once."""

import asyncio
import json
from typing import Any

import pytest

from tests.support.backend import Backend, Connection, answer, chunked
from tests.support.forms import form, pdf, unknown
from tests.support.gateway import ADMIN_KEY, KEY, Running, Start, submit
from tests.support.jobs import PROCESSING, Jobs, Used, comes_to, complete, me, poll, used


async def started(gateway: Running, pages: int = 5, count: int = 1, **fields: str) -> None:
    """Starts jobs that may cost so many pages each."""
    for _ in range(count):
        assert (await gateway.ask(submit(form(pdf(pages), **{"mode": "fast", **fields})), b"POST")).status == 200


def pages_of(gateway: Running, key: str = "ci") -> tuple[float, float]:
    """gateway_pages_total: settled and refunded."""
    settled, refunded = (
        gateway.metric("gateway_pages_total", key=key, kind=kind) for kind in ("settled", "refunded")
    )
    return settled, refunded


async def test_a_job_costs_the_pages_that_it_had(gateway: Running, jobs: Jobs) -> None:
    await started(gateway, 5)
    assert await used(gateway) == Used(0, 5, 5, 1)
    assert (await gateway.ask(poll())).body == PROCESSING
    assert await used(gateway) == Used(0, 5, 5, 1)
    assert pages_of(gateway) == (0, 0)
    jobs.results["job-1"] = complete(3, markdown="text")
    assert (await gateway.ask(poll())).body == jobs.results["job-1"]
    await comes_to(gateway, Used(0, 0, 3, 1))
    assert pages_of(gateway) == (3, 2)


async def test_a_job_that_cost_more_than_it_might_is_charged_all(gateway: Running, jobs: Jobs) -> None:
    await started(gateway, 5, page_range="0")
    jobs.results["job-1"] = complete(5)
    await gateway.ask(poll())
    await comes_to(gateway, Used(0, 0, 5, 1))
    assert pages_of(gateway) == (5, 0)


@pytest.mark.parametrize(
    "result",
    [
        {"status": "complete", "success": False, "page_count": 5, "error": "no"},
        {"status": "failed", "success": False},
        {"status": "failed", "success": None},
        {"status": "failed"},
    ],
    ids=str,
)
async def test_a_job_that_failed_costs_nothing(result: dict[str, Any], gateway: Running, jobs: Jobs) -> None:
    await started(gateway, 5)
    jobs.results["job-1"] = json.dumps(result).encode()
    assert (await gateway.ask(poll())).status == 200
    await comes_to(gateway, Used(0, 0, 0, 1))
    assert pages_of(gateway) == (0, 5)


async def test_a_job_is_settled_once(gateway: Running, jobs: Jobs) -> None:
    await started(gateway, 5, count=2)
    jobs.results["job-1"] = complete(2)
    client = await gateway.connect()
    for _ in range(5):
        assert (await client.ask(poll())).status == 200
    await asyncio.gather(*(gateway.ask(poll()) for _ in range(10)))
    await comes_to(gateway, Used(0, 5, 7, 2))
    jobs.results["job-1"] = complete(4)
    assert (await client.ask(poll())).status == 200
    jobs.results["job-2"] = complete(1)
    assert (await client.ask(poll("job-2"))).status == 200
    await comes_to(gateway, Used(0, 0, 3, 2))
    assert pages_of(gateway) == (3, 7)


async def test_another_ones_poll_is_not_asked_and_settles_nothing(
    gateway: Running, backend: Backend, jobs: Jobs
) -> None:
    await started(gateway, 5)
    jobs.results["job-1"] = complete(2)
    for _ in range(2):
        (await gateway.ask(poll(key=ADMIN_KEY))).is_refusal(404, "job_not_found")
    assert [arrived.method for arrived in backend.requests] == [b"POST"]
    assert await used(gateway) == Used(0, 5, 5, 1)
    assert (await gateway.ask(poll())).status == 200
    await comes_to(gateway, Used(0, 0, 2, 1))
    (await gateway.ask(poll(key=ADMIN_KEY))).is_refusal(404, "job_not_found")
    assert await used(gateway, ADMIN_KEY) == Used()


async def test_a_poll_for_a_job_of_nobody_is_not_asked_and_changes_nothing(
    gateway: Running, backend: Backend, jobs: Jobs
) -> None:
    await started(gateway, 5)
    jobs.results["job-9"] = complete(2)
    (await gateway.ask(poll("job-9"))).is_refusal(404, "job_not_found")
    assert [arrived.method for arrived in backend.requests] == [b"POST"]
    jobs.results["job-1"] = complete(5)
    await gateway.ask(poll())
    await comes_to(gateway, Used(0, 0, 5, 1))


HOSTILE = [
    "-1", "-9999999999999", "10000001", "99999999999999999999999999", "1e3", "2.0", "2.5", "true", "false", "null",
    '"2"', '""', "[2]", '{"pages": 2}', "NaN", "Infinity", "02",
]  # fmt: skip


@pytest.mark.parametrize("count", HOSTILE)
async def test_a_page_count_that_is_none_settles_as_reserved(count: str, gateway: Running, jobs: Jobs) -> None:
    await started(gateway, 5)
    jobs.results["job-1"] = b'{"status": "complete", "success": true, "page_count": ' + count.encode() + b"}"
    assert (await gateway.ask(poll())).body == jobs.results["job-1"]
    await comes_to(gateway, Used(0, 0, 5, 1))
    assert pages_of(gateway) == (5, 0)


@pytest.mark.parametrize(
    ("content", "settled"),
    [
        (b'{"status": "complete", "success": true}', True),
        (b'{"success": true, "status": "complete", "page_count": 5, "x": {"page_count": 1}}', True),
        (b'{"page_count": 9, "page_count": 5, "status": "complete"}', True),
        (b'{"pages": [{"page_count": 1, "status": "processing"}], "status": "complete"}', True),
        (b'{"markdown": "\\"status\\": \\"complete\\", \\"page_count\\": 1", "status": "processing"}', False),
        (b'{"status": "processing", "success": false, "page_count": 1}', False),
        (b'{"status": "queued"}', False),
        (b'{"status": null, "page_count": 1}', False),
        (b'{"status": 7, "page_count": 1}', False),
        (b'["complete"]', False),
        (b'"complete"', False),
        (b'{"status": "complete", "page_count": 1', False),
        (b"\xff\xfe", False),
        (b"", False),
    ],
)
async def test_only_a_whole_final_answer_settles(content: bytes, settled: bool, gateway: Running, jobs: Jobs) -> None:
    await started(gateway, 5)
    jobs.results["job-1"] = content
    for _ in range(2):
        assert (await gateway.ask(poll())).body == content
    if settled:
        await comes_to(gateway, Used(0, 0, 5, 1))
        return
    jobs.results["job-1"] = complete(2)
    await gateway.ask(poll())
    await comes_to(gateway, Used(0, 0, 2, 1))


@pytest.mark.parametrize("status", ["404 Not Found", "500 Oh", "201 Created"])
async def test_only_a_200_settles(status: str, gateway: Running, backend: Backend, jobs: Jobs) -> None:
    await started(gateway, 5)

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            connection.send(answer(complete(1), status=status.encode()))

    await backend.hang_up()
    await backend.listen()
    backend.script = script
    assert (await gateway.ask(poll())).status == int(status[:3])
    await backend.hang_up()
    await backend.listen()
    backend.script = jobs
    jobs.results["job-1"] = complete(2)
    await gateway.ask(poll())
    await comes_to(gateway, Used(0, 0, 2, 1))


@pytest.mark.parametrize("first", [True, False], ids=["count-first", "count-last"])
@pytest.mark.parametrize("framing", ["counted", "chunked"])
async def test_a_large_result_settles_as_it_streams_by(
    framing: str, first: bool, gateway: Running, backend: Backend, jobs: Jobs
) -> None:
    await started(gateway, 5)
    text = 'a \\" {[ "page_count": 1 \\\\' * 40_000
    members = {"status": "complete", "success": True, "markdown": text, "page_count": 2}
    content = json.dumps(dict(reversed(members.items())) if first else members).encode()
    pieces = [content[i : i + 7777] for i in range(0, len(content), 7777)]

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            if framing == "chunked":
                await connection.sent(chunked(*pieces))
                continue
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content))
            for piece in pieces:
                await connection.sent(piece)

    await backend.hang_up()
    await backend.listen()
    backend.script = script
    assert (await gateway.ask(poll())).body == content
    await comes_to(gateway, Used(0, 0, 2, 1))
    assert jobs.started == 1


async def test_a_large_result_that_breaks_off_settles_nothing(gateway: Running, backend: Backend, jobs: Jobs) -> None:
    await started(gateway, 5)
    content = complete(2, markdown="x" * 100_000)

    async def script(connection: Connection) -> None:
        await connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(content) + 1) + content)
        connection.finish()

    await backend.hang_up()
    await backend.listen()
    backend.script = script
    client = await gateway.connect()
    client.send(poll())
    await client.rest()
    assert await used(gateway) == Used(0, 5, 5, 1)
    assert jobs.started == 1


async def test_a_client_that_leaves_within_its_result_may_come_again(
    gateway: Running, backend: Backend, jobs: Jobs
) -> None:
    await started(gateway, 5)
    jobs.results["job-1"] = complete(2, markdown="x" * 8_000_000)
    client = await gateway.connect(receive_buffer=16_384)
    client.send(poll())
    await client.reader.readuntil(b"\r\n\r\n")
    client.abort()
    await gateway.finished(2)
    assert (await gateway.ask(poll())).status == 200
    await comes_to(gateway, Used(0, 0, 2, 1))
    assert len(backend.requests) == 3


async def test_what_was_reserved_for_the_unknown_comes_back(start: Start, jobs: Jobs) -> None:
    gateway = await start(profiles={"default": {"pages_per_day": 5000, "pages_in_flight": 6000}})
    assert (await gateway.ask(submit(form(unknown())), b"POST")).status == 200
    (await gateway.ask(submit(), b"POST")).is_refusal(403, "budget_exhausted")
    jobs.results["job-1"] = complete(7)
    await gateway.ask(poll())
    await comes_to(gateway, Used(0, 0, 7, 1))
    assert (await gateway.ask(submit(), b"POST")).status == 200


async def test_spend_follows_the_pages(start: Start, jobs: Jobs) -> None:
    prices = {"per_1000_pages": {"fast": 2, "accurate": 10}}
    gateway = await start(profiles={"default": {"spend_per_month": 1}}, prices=prices)
    await started(gateway, 5)
    assert (await me(gateway))["usage"]["month"]["spend"] == pytest.approx(0.01)
    jobs.results["job-1"] = complete(2)
    await gateway.ask(poll())
    await comes_to(gateway, Used(0, 0, 2, 1))
    report = await me(gateway)
    assert report["usage"]["month"]["spend"] == pytest.approx(0.004)
    assert report["limits"]["spend_per_month"] == {
        **report["limits"]["spend_per_month"], "limit": 1.0, "used": pytest.approx(0.004),
        "remaining": pytest.approx(0.996),
    }  # fmt: skip


async def test_what_nobody_settles_is_charged_when_its_time_is_over(start: Start, jobs: Jobs) -> None:
    gateway = await start(ledger={"reservation_ttl": "1s"})
    await started(gateway, 5)
    await comes_to(gateway, Used(0, 0, 5, 1), within=20)
    assert pages_of(gateway) == (5, 0)
    jobs.results["job-1"] = complete(2)  # and what is learnt later mends it
    await gateway.ask(poll())
    await comes_to(gateway, Used(0, 0, 2, 1))
    assert pages_of(gateway) == (5, 3)


async def test_a_gateway_that_starts_anew_goes_on_where_the_other_ended(
    start: Start, backend: Backend, jobs: Jobs
) -> None:
    first = await start()
    await started(first, 5)
    url = f"sqlite:///{first.path.parent}/ledger.db"
    second = await start(ledger={"url": url})
    assert await used(second) == Used(0, 5, 5, 1)
    jobs.results["job-1"] = complete(2)
    await second.ask(poll())
    for gateway in (first, second):
        await comes_to(gateway, Used(0, 0, 2, 1))
    assert len(backend.requests) == 2
    assert KEY not in str(second.events)
