"""Limits: each refusal tells its reason, leaves nothing behind, and the upstream never has its job."""

import asyncio
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from typing import Any
from unittest.mock import patch

import pytest

from tests.support.backend import OK, Backend, Connection, obliging
from tests.support.client import Response
from tests.support.forms import IMAGE, Document, form, image, pdf, unknown
from tests.support.gateway import ADMIN_KEY, AWAY_KEY, BOTH_WAYS, KEY, PLAIN, Running, Start, request, submit
from tests.support.jobs import Jobs, Used, comes_to, complete, me, poll, used
from tests.support.waiting import eventually

POLICY, LEFT = b"ratelimit-policy", b"ratelimit"


async def limited(start: Start, **limits: Any) -> Running:
    return await start(profiles={"default": limits})


async def never_whole(backend: Backend, whole: int = 0) -> None:
    """Asserts that the upstream got no more whole requests than these, and that what it got in part was cut off."""
    await backend.settled()
    await backend.facts.until(lambda: all(c.ended or c.requests for c in backend.connections))
    assert len([arrived for arrived in backend.requests if arrived.method == b"POST"]) == whole
    assert not any(c.garbled for c in backend.connections)


def tells_limits(response: Response) -> None:
    """Asserts that an answer says how its account's limits stand."""
    policy, left = response.value(POLICY), response.value(LEFT)
    assert policy is not None
    assert left is not None
    assert re.fullmatch(rb'("[a-z_]+";q=\d+;w=\d+)(, "[a-z_]+";q=\d+;w=\d+)*', policy), policy
    assert re.fullmatch(rb'("[a-z_]+";r=\d+;t=\d+)(, "[a-z_]+";r=\d+;t=\d+)*', left), left
    assert re.findall(rb'"[a-z_]+"', policy) == re.findall(rb'"[a-z_]+"', left)


def tomorrow() -> str:
    return f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"


def next_month() -> str:
    return f"{(datetime.now(UTC).replace(day=1) + timedelta(days=32)).replace(day=1):%Y-%m-%d}"


# Before the body


async def test_submits_have_a_rate(start: Start, backend: Backend, jobs: Jobs) -> None:
    gateway = await limited(start, requests_per_minute=2)
    client = await gateway.connect()
    for _ in range(2):
        assert (await client.ask(submit(), b"POST")).status == 200
    refused = await gateway.ask(submit(form(), "Expect: 100-continue"), b"POST")
    problem = refused.is_refusal(429, "rate_limited")
    assert "requests_per_minute" in problem["detail"]
    assert 1 <= int(refused.value(b"retry-after") or 0) <= 30
    assert refused.value(POLICY) == b'"requests_per_minute";q=2;w=60'
    assert (refused.value(LEFT) or b"").startswith(b'"requests_per_minute";r=0;t=')
    await never_whole(backend, 2)
    assert len(backend.connections) == 2
    assert jobs.started == 2
    assert await used(gateway) == Used(0, 2, 2, 2)
    assert gateway.counted(status=429, reason="rate_limited", route="submit") == 1
    assert gateway.metric("gateway_key_refusals_total", key="ci", reason="rate_limited") == 1


async def test_a_refused_submit_has_spent_rate_and_nothing_else(start: Start, backend: Backend, jobs: Jobs) -> None:
    gateway = await limited(start, requests_per_minute=2)
    (await gateway.ask(submit(form(page_range="x")), b"POST")).is_refusal(400, "bad_page_range")
    await comes_to(gateway, Used())
    assert (await gateway.ask(submit(), b"POST")).status == 200
    (await gateway.ask(submit(), b"POST")).is_refusal(429, "rate_limited")
    await comes_to(gateway, Used(0, 1, 1, 1))
    await never_whole(backend, 1)
    assert jobs.started == 1


async def test_submits_have_a_number_at_once(start: Start, backend: Backend) -> None:
    gateway = await limited(start, concurrent_requests=1)
    answers = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await answers.wait()
        connection.send(OK)
        await obliging(connection)

    backend.script = script
    first = await gateway.connect()
    first.send(submit())
    await backend.got(1)
    assert (await used(gateway)).places == 1
    refused = await gateway.ask(submit(), b"POST")
    problem = refused.is_refusal(429, "too_many_requests_in_flight")
    assert "concurrent_requests" in problem["detail"]
    tells_limits(refused)
    answers.set()
    assert (await first.response(b"POST")).status == 200
    assert (await gateway.ask(submit(), b"POST")).status == 200
    await comes_to(gateway, Used(0, 2, 2, 2))


async def test_results_that_are_being_read_are_bounded(start: Start, backend: Backend, jobs: Jobs) -> None:
    """The container holds each until its reader took it: 40 slow readers of 10 MB made it grow by 270 MB."""
    gateway = await limited(start, concurrent_downloads=1)
    for _ in range(2):
        assert (await gateway.ask(submit(), b"POST")).status == 200
    jobs.results = {"job-1": complete(1, markdown="x" * 20_000_000)}
    slow = await gateway.connect(receive_buffer=4096)
    slow.send(poll("job-1"))
    await backend.facts.until(lambda: backend.requests[-1].method == b"GET")
    await slow.reader.readexactly(1)
    problem = (await gateway.ask(poll("job-1"))).is_refusal(429, "too_many_requests_in_flight")
    assert "concurrent_downloads" in problem["detail"]
    assert (await gateway.ask(poll("job-2"))).status == 200  # an answer that comes at once is no download
    assert (await gateway.ask(request("HEAD", "/api/v1/marker/job-1"), b"HEAD")).status == 200
    slow.abort()
    await gateway.finished(6)
    assert len((await gateway.ask(poll("job-1"))).body) > 20_000_000


async def test_a_small_answer_needs_no_place_though_its_body_comes_behind_its_head(start: Start, jobs: Jobs) -> None:
    """The poll of a running job was a 429 while others read their results."""
    gateway = await limited(start, concurrent_downloads=1)
    for _ in range(2):
        assert (await gateway.ask(submit(), b"POST")).status == 200
    jobs.results = {"job-1": complete(1, markdown="x" * 20_000_000)}
    slow = await gateway.connect(receive_buffer=4096)
    slow.send(poll("job-1"))
    await slow.reader.readexactly(1)
    body = json.dumps({"status": "processing", "padding": "x" * 16_000}).encode()

    jobs.results["job-2"] = body
    send, later = Connection.send, list[Callable[[], None]]()

    def in_pieces(connection: Connection, data: bytes) -> None:
        if data.endswith(body):
            later.append(partial(send, connection, data[-100:]))
            data = data[:-100]
        send(connection, data)

    other = await gateway.connect()
    with patch.object(Connection, "send", in_pieces):
        other.send(poll("job-2"))
        assert await other.reader.readexactly(12) == b"HTTP/1.1 200"
    later.pop()()
    assert (await other.reader.readuntil(b"}")).endswith(body)


async def test_for_a_download_too_many_of_a_job_that_has_ended_the_upstream_is_not_asked(
    start: Start, backend: Backend, jobs: Jobs
) -> None:
    gateway = await limited(start, concurrent_downloads=1)
    assert (await gateway.ask(submit(), b"POST")).status == 200
    jobs.results = {"job-1": complete(1, markdown="x" * 20_000_000)}
    assert (await gateway.ask(poll("job-1"))).status == 200
    slow = await gateway.connect(receive_buffer=4096)
    slow.send(poll("job-1"))
    await backend.got(3)
    await slow.reader.readexactly(1)
    (await gateway.ask(poll("job-1"))).is_refusal(429, "too_many_requests_in_flight")
    assert len(backend.requests) == 3


@pytest.mark.parametrize(
    ("limits", "phrase", "until"),
    [
        ({"requests_per_day": 1}, "Request budget used up until", tomorrow),
        ({"requests_per_month": 1}, "Request budget used up until", next_month),
        ({"pages_per_day": 1}, "Page budget used up until", tomorrow),
        ({"pages_per_month": 1}, "Page budget used up until", next_month),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
async def test_a_budget_that_is_used_up_refuses_before_the_body(
    limits: dict[str, int], phrase: str, until: Any, start: Start, backend: Backend, jobs: Jobs
) -> None:
    gateway = await limited(start, **limits)
    assert (await gateway.ask(submit(), b"POST")).status == 200
    client = await gateway.connect()
    body = form()
    response = await client.ask(submit(body, "Expect: 100-continue")[: -len(body)], b"POST")
    problem = response.is_refusal(403, "budget_exhausted")
    assert response.phrase == problem["title"] == f"{phrase} {until()}"
    assert f"({next(iter(limits))})" in problem["detail"]
    tells_limits(response)
    await never_whole(backend, 1)
    assert len(backend.connections) == 1
    await comes_to(gateway, Used(0, 1, 1, 1))
    assert jobs.started == 1


# Behind the body


@pytest.mark.parametrize(
    ("limits", "document"),
    [
        ({"pages_per_day": 5}, pdf(6)),
        ({"pages_per_month": 5}, pdf(6)),
        ({"pages_per_day": 4999}, unknown()),
        ({"spend_per_month": 0.005}, pdf(6)),
    ],
    ids=["day", "month", "unknown", "spend"],
)
async def test_a_budget_that_is_too_small_refuses_behind_the_body(
    limits: dict[str, Any], document: Document, start: Start, backend: Backend, jobs: Jobs
) -> None:
    gateway = await start(profiles={"default": limits}, prices={"per_1000_pages": {"accurate": 1}})
    response = await gateway.ask(submit(form(document)), b"POST")
    problem = response.is_refusal(403, "budget_exhausted")
    assert re.fullmatch(r"(Page|Spend) budget too small for this until \d{4}-\d\d-\d\d", response.phrase)
    assert f"({next(iter(limits))})" in problem["detail"]
    tells_limits(response) if "spend_per_month" not in limits else None
    await never_whole(backend)
    await comes_to(gateway, Used())
    assert (await gateway.ask(submit(form(document, max_pages="1")), b"POST")).status == 200
    await comes_to(gateway, Used(0, 1, 1, 1))
    assert jobs.started == 1


async def test_a_job_costs_what_its_mode_does(start: Start, jobs: Jobs) -> None:
    prices = {"per_1000_pages": {"fast": 1, "balanced": 2, "accurate": 4}, "default_mode": "balanced"}
    gateway = await start(profiles={"default": {"spend_per_month": 0.1}}, prices=prices)
    for fields in ({"mode": "fast"}, {"mode": "accurate"}, {}, {"mode": "of-tomorrow"}):
        assert (await gateway.ask(submit(form(pdf(3), **fields)), b"POST")).status == 200
    report = await me(gateway)
    assert report["usage"]["month"]["spend"] == pytest.approx((3 * 1 + 3 * 4 + 3 * 2 + 3 * 4) / 1000)
    assert report["limits"]["spend_per_month"]["used"] == report["usage"]["month"]["spend"]
    assert jobs.started == 4


async def test_pages_in_flight_are_bounded_until_jobs_are_settled(start: Start, backend: Backend, jobs: Jobs) -> None:
    gateway = await limited(start, pages_in_flight=5, pages_per_request=5)
    assert (await gateway.ask(submit(form(pdf(3))), b"POST")).status == 200
    refused = await gateway.ask(submit(form(pdf(3))), b"POST")
    problem = refused.is_refusal(429, "too_many_pages_in_flight")
    assert "pages_in_flight" in problem["detail"]
    tells_limits(refused)
    await never_whole(backend, 1)
    await comes_to(gateway, Used(0, 3, 3, 1))
    assert (await gateway.ask(submit(form(pdf(2))), b"POST")).status == 200
    jobs.results["job-1"] = complete(3)
    assert (await gateway.ask(poll())).status == 200
    await comes_to(gateway, Used(0, 2, 5, 2))
    assert (await gateway.ask(submit(form(pdf(3))), b"POST")).status == 200


@BOTH_WAYS
async def test_pages_of_one_request_are_bounded(start: Start, backend: Backend, jobs: Jobs, *, chunked: bool) -> None:
    gateway = await limited(start, pages_per_request=2)
    sent = partial(submit, chunked=chunked)
    response = await gateway.ask(sent(form(pdf(3))), b"POST")
    problem = response.is_refusal(413, "too_many_pages")
    assert "3 pages" in problem["detail"]
    assert "pages_per_request" in problem["detail"]
    tells_limits(response)
    (await gateway.ask(sent(form(pdf(3), page_range="0-2")), b"POST")).is_refusal(413, "too_many_pages")
    (await gateway.ask(sent(form(None, max_pages="3", page_range="x")), b"POST")).is_refusal(400, "bad_page_range")
    await never_whole(backend)
    await comes_to(gateway, Used())
    for fields, pages in (({"page_range": "1-2"}, 2), ({"max_pages": "2"}, 4), ({"page_range": "0-999"}, None)):
        response = await gateway.ask(sent(form(pdf(3), **fields)), b"POST")
        assert response.status == (413 if pages is None else 200)
        if pages is not None:
            assert (await used(gateway)).pages == pages
    assert (await gateway.ask(sent(form(unknown())), b"POST")).status == 200  # as many as one request may have
    await comes_to(gateway, Used(0, 6, 6, 3))
    assert jobs.started == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"page_range": "0-999999999"},
        {"page_range": "3-1"},
        {"page_range": "0,,1"},
        {"page_range": "-1"},
        {"page_range": "1_0"},
        {"page_range": "\u0663"},
        {"max_pages": "0"},
        {"max_pages": "-1"},
        {"max_pages": "1.0"},
        {"max_pages": "100001"},
        {"max_pages": "1\n"},
    ],
    ids=str,
)
async def test_pages_are_asked_for_plainly(fields: dict[str, str], gateway: Running, backend: Backend) -> None:
    for chunked in (False, True):
        response = await gateway.ask(submit(form(IMAGE, **fields), chunked=chunked), b"POST")
        problem = response.is_refusal(400, "bad_page_range")
        assert next(iter(fields)) in problem["detail"]
        tells_limits(response)
    await never_whole(backend)
    await comes_to(gateway, Used())


async def test_a_page_range_may_be_asked_for(start: Start, backend: Backend, jobs: Jobs) -> None:
    gateway = await limited(start, page_range="required")
    for body, chunked in product((form(), form(page_range=" "), form(max_pages="1")), (False, True)):
        problem = (await gateway.ask(submit(body, chunked=chunked), b"POST")).is_refusal(422, "field_refused")
        assert "page_range" in problem["detail"]
    await never_whole(backend)
    await comes_to(gateway, Used())
    assert (await gateway.ask(submit(form(page_range="0")), b"POST")).status == 200
    assert (await me(gateway))["page_range"] == "required"
    assert jobs.started == 1


async def test_a_body_has_a_size(start: Start, backend: Backend) -> None:
    gateway = await limited(start, body_limit="1KB")
    response = await gateway.ask(submit(form(image(bytes(2000))), chunked=True), b"POST")
    problem = response.is_refusal(413, "body_too_large")
    assert problem["detail"].endswith("the limit is 1025 (profiles.<name>.body_limit).")
    tells_limits(response)
    await never_whole(backend)
    await comes_to(gateway, Used())


async def test_the_spool_has_a_size(start: Start, backend: Backend, jobs: Jobs) -> None:
    gateway = await start(body={"spool_limit": "1KB"})
    for chunked in (False, True):
        response = await gateway.ask(submit(form(pdf(3)), chunked=chunked), b"POST")
        response.is_refusal(503, "spool_full")
        tells_limits(response)
    await never_whole(backend)
    await comes_to(gateway, Used())
    assert (await gateway.ask(submit(form(image(bytes(5000)))), b"POST")).status == 200
    assert jobs.started == 1


async def test_the_keys_of_one_owner_have_one_part_of_the_spool(start: Start, jobs: Jobs) -> None:
    """The last 15 % are for others than who has much of it by several uploads."""
    keys = [
        {"id": "one", "secret": {"env": "KEY_CI"}, "owner": "team"},
        {"id": "two", "secret": {"env": "KEY_ADMIN"}, "owner": "team"},
        {"id": "away", "secret": {"env": "KEY_AWAY"}},
    ]
    gateway = await start(body={"spool_limit": "1MB"}, keys=keys)
    first, second = (form(Document(b"%PDF-" + bytes(size), "x", "application/pdf")) for size in (600_000, 300_000))
    async with await gateway.connect() as client:
        client.send(submit(first)[:-1])
        await eventually(lambda: gateway.metric("gateway_spool_used_bytes") >= 600_000)
        refused = (await gateway.ask(submit(second, key=ADMIN_KEY), b"POST")).is_refusal(503, "spool_full")
        assert "Too much of this owner" in refused["detail"]
        assert (await gateway.ask(submit(second, key=AWAY_KEY), b"POST")).status == 200
    assert jobs.started == 1


# Whose limits


async def test_a_key_may_have_limits_of_its_own(start: Start, jobs: Jobs) -> None:
    own = {"requests_per_minute": 3, "pages_per_request": 2, "page_range": "optional", "pages_per_day": None}
    keys = [{"id": "ci", "secret": {"env": "KEY_CI"}, "limits": own}, {"id": "root", "secret": {"env": "KEY_ADMIN"}}]
    profile = {"page_range": "required", "pages_per_day": 1}
    gateway = await start(keys=keys, profiles={"default": profile})
    (await gateway.ask(submit(key=ADMIN_KEY), b"POST")).is_refusal(422, "field_refused")
    assert (await gateway.ask(submit(form(pdf(2))), b"POST")).status == 200
    (await gateway.ask(submit(form(pdf(3))), b"POST")).is_refusal(413, "too_many_pages")
    limits = (await me(gateway))["limits"]
    assert (limits["requests_per_minute"]["limit"], limits["pages_per_request"]["limit"]) == (3, 2)
    assert "pages_per_day" not in limits
    assert "pages_per_day" in (await me(gateway, ADMIN_KEY))["limits"]
    assert jobs.started == 1


async def test_accounts_that_share_a_profile_have_its_limits_each(start: Start, jobs: Jobs) -> None:
    gateway = await limited(start, requests_per_minute=1)
    for key in (KEY, ADMIN_KEY):
        assert (await gateway.ask(submit(key=key), b"POST")).status == 200
        (await gateway.ask(submit(key=key), b"POST")).is_refusal(429, "rate_limited")
    assert jobs.started == 2


async def test_a_profile_may_be_for_some_networks(start: Start, backend: Backend) -> None:
    gateway = await limited(start, networks=["127.0.0.9/32"])
    problem = (await gateway.ask(request())).is_refusal(403, "address_denied")
    assert "127.0.0.1" not in problem["detail"]
    (await gateway.ask(submit(), b"POST")).is_refusal(403, "address_denied")
    await backend.got_nothing()
    assert (await gateway.ask(request(), source="127.0.0.9")).status == 200
    assert (await gateway.ask(submit(), b"POST", source="127.0.0.9")).status == 200
    assert (await gateway.ask(request("GET", "/health_check", key=None))).status == 200


async def test_a_profile_may_be_for_some_routes(start: Start, backend: Backend) -> None:
    gateway = await limited(start, routes=["result"])
    (await gateway.ask(submit(form(), "Expect: 100-continue"), b"POST")).is_refusal(403, "forbidden")
    (await gateway.ask(request("POST", PLAIN, body=b"a"), b"POST")).is_refusal(403, "forbidden")
    await backend.got_nothing()
    assert (await gateway.ask(request())).status == 200
    assert (await me(gateway))["id"] == "ci"


# Polls


async def test_polls_have_a_rate_of_their_own(start: Start, backend: Backend, jobs: Jobs) -> None:
    gateway = await limited(start, polls_per_minute=3, requests_per_minute=2)
    gateway.own("job-root", "key:root")
    client = await gateway.connect()
    for _ in range(3):
        assert (await client.ask(poll())).status == 200
    refused = await client.ask(poll())
    problem = refused.is_refusal(429, "rate_limited")
    assert "polls_per_minute" in problem["detail"]
    assert 1 <= int(refused.value(b"retry-after") or 0) <= 20
    (await client.ask(request("GET", "/gateway/v1/me"))).is_refusal(429, "rate_limited")
    for _ in range(2):
        assert (await client.ask(submit(), b"POST")).status == 200
    assert (await client.ask(poll("job-root", ADMIN_KEY))).status == 200
    assert len(backend.requests) == 6
    assert jobs.started == 2


# Soft limits and metrics


@BOTH_WAYS
async def test_a_soft_limit_is_told_once_it_is_crossed(start: Start, jobs: Jobs, *, chunked: bool) -> None:
    gateway = await limited(start, pages_per_day=10, requests_per_month=100, soft_limit=0.5)
    first = await gateway.ask(submit(form(pdf(4)), chunked=chunked), b"POST")
    assert first.value(b"x-gateway-soft-limit") is None
    second = await gateway.ask(submit(form(pdf(2)), chunked=chunked), b"POST")
    assert second.value(b"x-gateway-soft-limit") == b"pages_per_day"
    event = await gateway.says("soft limit crossed")
    assert (event["account"], event["limit"], event["level"]) == ("key:ci", "pages_per_day", "warning")
    assert gateway.metric("gateway_soft_limit_crossings_total", key="ci", limit="pages_per_day") == 1
    assert gateway.metric("gateway_limit_used_ratio", key="ci", limit="pages_per_day") == pytest.approx(0.6)
    assert gateway.metric("gateway_limit_used_ratio", key="ci", limit="requests_per_month") == pytest.approx(0.02)
    limits = (await me(gateway))["limits"]
    assert limits["pages_per_day"]["soft_limit_crossed"] is True
    assert "soft_limit_crossed" not in limits["requests_per_month"]
    third = await gateway.ask(submit(form(pdf(1)), chunked=chunked), b"POST")
    assert third.value(b"x-gateway-soft-limit") == b"pages_per_day"
    assert [event["event"] for event in gateway.events].count("soft limit crossed") == 1
    assert jobs.started == 3


@BOTH_WAYS
async def test_what_is_left_is_told_with_each_submit(start: Start, jobs: Jobs, *, chunked: bool) -> None:
    gateway = await limited(start, requests_per_minute=10, pages_per_day=100, requests_per_month=50)
    response = await gateway.ask(submit(form(pdf(3)), chunked=chunked), b"POST")
    assert response.status == 200
    policy, left = response.value(POLICY) or b"", response.value(LEFT) or b""
    assert b'"requests_per_minute";q=10;w=60, "pages_per_day";q=100;w=86400, "requests_per_month";q=50;w=' in policy
    assert re.match(rb'"requests_per_minute";r=9;t=\d+, "pages_per_day";r=97;t=\d+, "requests_per_month";r=49;', left)
    report = (await me(gateway))["limits"]
    assert {name: report[name]["remaining"] for name in ("requests_per_minute", "pages_per_day")} in (
        {"requests_per_minute": 9, "pages_per_day": 97},
        {"requests_per_minute": 10, "pages_per_day": 97},
    )
    assert (await gateway.ask(poll())).value(LEFT) is None
    assert jobs.started == 1


# Races


@pytest.mark.parametrize("limits", [{"pages_per_day": 10}, {"pages_in_flight": 10, "pages_per_request": 10}], ids=str)
async def test_of_fifty_at_once_ten_fit(limits: dict[str, int], start: Start, backend: Backend, jobs: Jobs) -> None:
    gateway = await limited(start, **limits)
    sent = [submit(chunked=number % 2 == 0) for number in range(50)]
    answers = await asyncio.gather(*(gateway.ask(one, b"POST") for one in sent))
    passed = [answer for answer in answers if answer.status == 200]
    refused = {(answer.status, answer.reason) for answer in answers if answer.status != 200}
    assert len(passed) == 10
    expected = {"pages_per_day": (403, "budget_exhausted"), "pages_in_flight": (429, "too_many_pages_in_flight")}
    assert refused == {expected[next(iter(limits))]}
    assert len({json.loads(answer.body)["request_id"] for answer in passed}) == 10
    await never_whole(backend, 10)
    await comes_to(gateway, Used(0, 10, 10, 10))
    assert jobs.started == 10


async def test_of_fifty_at_once_as_many_run_as_may(start: Start, backend: Backend) -> None:
    gateway = await limited(start, concurrent_requests=7)
    answers = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await answers.wait()
        connection.send(OK)

    backend.script = script
    sent = [submit(chunked=number % 2 == 0) for number in range(50)]
    asked = [asyncio.ensure_future(gateway.ask(one, b"POST")) for one in sent]
    await backend.got(7)
    await gateway.finished(43)
    answers.set()
    statuses = [(await answer).status for answer in asked]
    assert sorted(statuses) == [200] * 7 + [429] * 43
    assert len(backend.requests) == 7
    await comes_to(gateway, Used(0, 7, 7, 7))


async def test_requests_without_a_job_are_bounded_while_they_run(start: Start, backend: Backend) -> None:
    answers = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await answers.wait()
        connection.send(OK)
        await obliging(connection)

    backend.script = script
    gateway = await limited(start, concurrent_requests=2)
    first, second = await gateway.connect(), await gateway.connect()
    for number, client in enumerate((first, second), 1):
        client.send(request("POST", PLAIN, body=b"x"))
        await backend.got(number)
    refused = await gateway.ask(request("POST", PLAIN, body=b"x"), b"POST")
    assert "concurrent_requests" in refused.is_refusal(429, "too_many_requests_in_flight")["detail"]
    first.abort()
    await gateway.finished(2)
    await backend.facts.until(lambda: backend.connections[0].ended)
    third = await gateway.connect()
    third.send(request("POST", PLAIN, body=b"x"))
    await backend.got(3)
    answers.set()
    assert (await second.ask(b"", b"POST")).status == 200
    assert (await third.ask(b"", b"POST")).status == 200
    await gateway.finished(4)
    assert (await gateway.ask(request("POST", PLAIN, body=b"x"), b"POST")).status == 200
