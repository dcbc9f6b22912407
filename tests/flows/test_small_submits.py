"""Small submits, whose body comes with the head: judged before they have a place, and otherwise like all others."""

import asyncio
import json
import os
import re
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from aiohttp.streams import StreamReader

from gateway.ledger.ledger import Ledger
from gateway.listener.connection import ClientConnection
from gateway.proxy import submits
from gateway.proxy.submits import SHORTLY, SMALL
from gateway.upstream.connection import UpstreamConnection
from tests.support.backend import OK, Backend, Connection, answer, obliging
from tests.support.client import Client, Response
from tests.support.counting import stopped_workers
from tests.support.faraway import FarAway
from tests.support.forms import FORM_TYPE, Document, form, image, pdf, unknown
from tests.support.gateway import ADMIN_KEY, BOTH_WAYS, Running, Start, submit
from tests.support.jobs import Jobs, Used, comes_to, ledger_path, poll, used
from tests.support.ledgers import Postgres
from tests.support.waiting import DEADLINE, eventually

FAR = 0.005  # seconds
MALFORMED = form(page_range="x")
URLENCODED = "Content-Type: application/x-www-form-urlencoded"


@pytest.fixture
def at_hand() -> Iterator[list[int]]:
    """The sizes of the bodies that were judged before they had a place."""
    sizes, has_come = list[int](), ClientConnection.has_come

    async def noted(self: ClientConnection, body: StreamReader, size: int, within: float) -> bool:
        is_here = await has_come(self, body, size, within)
        sizes.extend([size] * is_here)
        return is_here

    with patch.object(ClientConnection, "has_come", noted):
        yield sizes


def of_size(size: int) -> bytes:
    """A form of so many bytes."""
    body = form(image(bytes(size - len(form(image())))))
    assert len(body) == size
    return body


async def nothing_whole(backend: Backend) -> None:
    """Asserts that no submit came whole, and that what came of any was cut off."""
    await backend.settled()
    await backend.all_closed()
    assert backend.requests == []


def answers_by(let: asyncio.Event) -> Callable[[Connection], Any]:
    """Answers submits with a job each, once it may."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await let.wait()
        connection.send(OK)
        await obliging(connection)

    return script


# Ways to send a submit


def cut(sent: bytes) -> tuple[bytes, bytes]:
    head, mark, body = sent.partition(b"\r\n\r\n")
    return head + mark, body


async def at_once(client: Client, head: bytes, body: bytes) -> None:
    client.send(head + body)


async def in_two(client: Client, head: bytes, body: bytes) -> None:
    client.send(head)
    await asyncio.sleep(5 * SHORTLY)
    client.send(body)


async def with_a_part(client: Client, head: bytes, body: bytes) -> None:
    client.send(head + body[:100])
    await asyncio.sleep(5 * SHORTLY)
    client.send(body[100:])


async def but_for_the_end(client: Client, head: bytes, body: bytes) -> None:
    client.send(head + body[:-1])
    await asyncio.sleep(5 * SHORTLY)
    client.send(body[-1:])


async def bytewise(client: Client, head: bytes, body: bytes) -> None:
    await client.send_bytewise(head + body, at_most=5000)


async def shortly(client: Client, head: bytes, body: bytes) -> None:
    client.send(head)
    await asyncio.sleep(0)
    client.send(body)


# What it costs


async def test_a_submit_is_few_round_trips_to_a_far_ledger(
    start: Start, backend: Backend, postgres: Postgres, migrated: str
) -> None:
    """From its head to its answer; the least of some, for the gateway asks the ledger for itself, too."""
    backend.script = Jobs()
    async with FarAway(postgres.socket_directory, FAR) as relay:
        gateway = await start(ledger={"url": relay.url_of(migrated)}, jobs={"watch": False})
        for chunked, most in ((False, 3), (True, 5)):
            sent, trips = submit(form(pdf(1)), chunked=chunked), list[int]()
            while len(trips) < 40 and min(trips, default=99) > most:
                before = relay.trips
                assert (await gateway.ask(sent, b"POST")).status == 200
                trips.append(relay.trips - before)
            assert min(trips) == most, trips
        await gateway.end()
    await asyncio.to_thread(postgres.empty, migrated)


@contextmanager
def written(owner: str = "key:ci") -> Iterator[list[str]]:
    """One entry for each transaction that writes for an owner, until the end."""
    turns = list[str]()
    write, guarded = Ledger.write, Ledger.guarded

    def noted(kept: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **more: Any) -> Any:
            turns.extend([owner] * (more.get("in_turn_of") == owner))
            return kept(*args, **more)

        return run

    with patch.object(Ledger, "write", noted(write)), patch.object(Ledger, "guarded", noted(guarded)):
        yield turns


@pytest.mark.parametrize(("chunked", "count"), [(False, 2), (True, 3)], ids=["at-once", "streamed"])
async def test_a_submit_is_few_transactions(gateway: Running, jobs: Jobs, *, chunked: bool, count: int) -> None:
    with written() as turns:
        assert (await gateway.ask(submit(form(pdf(1)), chunked=chunked), b"POST")).status == 200
        assert len(turns) == count
    assert jobs.started == 1


# What is said first


@BOTH_WAYS
@pytest.mark.parametrize(
    ("limits", "status", "reason"),
    [
        ({"requests_per_minute": 1}, 429, "rate_limited"),
        ({"requests_per_day": 1}, 403, "budget_exhausted"),
        ({"pages_per_day": 1}, 403, "budget_exhausted"),
    ],
    ids=["rate", "requests", "pages"],
)
async def test_a_limit_of_the_account_is_said_before_a_fault_of_the_form(
    limits: dict[str, int],
    status: int,
    reason: str,
    start: Start,
    backend: Backend,
    jobs: Jobs,
    at_hand: list[int],
    *,
    chunked: bool,
) -> None:
    gateway = await start(profiles={"default": limits})
    assert (await gateway.ask(submit(), b"POST")).status == 200
    for _ in range(2):  # the second one meets a refusal that is cached
        (await gateway.ask(submit(MALFORMED, chunked=chunked), b"POST")).is_refusal(status, reason)
    assert len(at_hand) == 1  # the first
    assert await used(gateway) == Used(0, 1, 1, 1)
    assert len(backend.requests) == jobs.started == 1


async def test_nothing_is_counted_for_who_was_refused_when_he_asked_last(
    start: Start, jobs: Jobs, at_hand: list[int]
) -> None:
    """Each half a second all that he sent at once was counted, without a token."""
    gateway = await start(profiles={"default": {"pages_per_day": 2}})
    assert (await gateway.ask(submit(), b"POST")).status == 200
    for _ in range(2):
        (await gateway.ask(submit(form(pdf(2))), b"POST")).is_refusal(403, "budget_exhausted")  # less may fit
    assert (await gateway.ask(submit(), b"POST")).status == 200
    assert len(at_hand) == 4
    for later in (0.0, 0.0, 0.6):  # seconds; a refusal is cached for half of one
        await asyncio.sleep(later)
        (await gateway.ask(submit(form(pdf(1))), b"POST")).is_refusal(403, "budget_exhausted")
    assert len(at_hand) == 4
    assert jobs.started == 2


@BOTH_WAYS
async def test_that_all_places_are_taken_is_said_before_a_fault_of_the_form(
    start: Start, backend: Backend, at_hand: list[int], *, chunked: bool
) -> None:
    gateway = await start(profiles={"default": {"concurrent_requests": 1}})
    let = asyncio.Event()
    backend.script = answers_by(let)
    first = await gateway.connect()
    first.send(submit())
    await backend.got(1)
    refused = await gateway.ask(submit(MALFORMED, chunked=chunked), b"POST")
    refused.is_refusal(429, "too_many_requests_in_flight")
    let.set()
    assert (await first.response(b"POST")).status == 200
    (await gateway.ask(submit(MALFORMED, chunked=chunked), b"POST")).is_refusal(400, "bad_page_range")
    assert len(at_hand) == (1 if chunked else 2)
    await comes_to(gateway, Used(0, 1, 1, 1))


@BOTH_WAYS
async def test_a_form_with_a_fault_spends_rate_and_nothing_else(
    start: Start, backend: Backend, jobs: Jobs, *, chunked: bool
) -> None:
    gateway = await start(profiles={"default": {"requests_per_minute": 3, "concurrent_requests": 1}})
    refused = [await gateway.ask(submit(MALFORMED, chunked=chunked), b"POST")]
    await comes_to(gateway, Used())
    refused.append(await gateway.ask(submit(b"no form at all", chunked=chunked), b"POST"))
    await comes_to(gateway, Used())
    refused[0].is_refusal(400, "bad_page_range")
    refused[1].is_refusal(415, "unsupported_media_type")
    left = [re.search(rb'"requests_per_minute";r=(\d+)', one.value(b"ratelimit") or b"") for one in refused]
    assert [found and int(found[1]) for found in left] == [2, 1]
    assert (await gateway.ask(submit(), b"POST")).status == 200
    (await gateway.ask(submit(), b"POST")).is_refusal(429, "rate_limited")
    assert len(backend.requests) == jobs.started == 1


# What is too much


def said(response: Response) -> tuple[Any, ...]:
    """All that a refusal says, but for what tells one request from another, and how the rate stands."""
    problem = json.loads(response.body)
    problem["request_id"] = ""
    headers = [
        (name, re.sub(rb"(_minute\";r=\d+|;t=\d+)", b"", value))
        for name, value in response.headers
        if name not in {b"x-request-id", b"date", b"content-length"}
    ]
    return response.status, response.phrase, problem, headers


@pytest.mark.parametrize(
    ("limits", "document", "status", "reason"),
    [
        ({"pages_per_day": 5}, pdf(6), 403, "budget_exhausted"),
        ({"pages_per_month": 5}, pdf(6), 403, "budget_exhausted"),
        ({"spend_per_month": 0.005}, pdf(6), 403, "budget_exhausted"),
        ({"pages_per_day": 5, "pages_per_request": 9}, unknown(), 403, "budget_exhausted"),
        ({"pages_in_flight": 9, "pages_per_request": 9}, unknown(), 429, "too_many_pages_in_flight"),
    ],
    ids=["day", "month", "spend", "unknown", "in-flight"],
)
async def test_who_asks_for_too_many_pages_is_told_the_same_and_may_ask_for_fewer_at_once(
    limits: dict[str, Any],
    document: Document,
    status: int,
    reason: str,
    start: Start,
    backend: Backend,
    jobs: Jobs,
    at_hand: list[int],
) -> None:
    """Whichever way: no token is spent more or less, no place is left, and no refusal is cached."""
    profile = {"requests_per_minute": 4, "concurrent_requests": 1, **limits}
    gateway = await start(profiles={"default": profile}, prices={"per_1000_pages": {"accurate": 1}})
    fewer = submit(form(pdf(1)))
    client = await gateway.connect()
    assert (await client.ask(fewer, b"POST")).status == 200
    refusals = []
    for number, streams in enumerate((False, True)):
        other = await gateway.connect()
        await (but_for_the_end if streams else at_once)(other, *cut(submit(form(document))))
        refused = await other.response(b"POST")
        refused.is_refusal(status, reason)
        refusals.append(said(refused))
        left = re.search(rb'"requests_per_minute";r=(\d+)', refused.value(b"ratelimit") or b"")
        assert left is not None
        assert int(left[1]) == 2 - number
        await comes_to(gateway, Used(0, 1, 1, 1))
    assert refusals[0] == refusals[1]
    assert ("so it counts as 9" in refusals[0][2]["detail"]) == (document == unknown())
    assert (await client.ask(fewer, b"POST")).status == 200
    (await client.ask(fewer, b"POST")).is_refusal(429, "rate_limited")
    assert len(at_hand) == 3
    assert len([one for one in backend.requests if one.method == b"POST"]) == jobs.started == 2
    await comes_to(gateway, Used(0, 2, 2, 2))


async def test_a_refusal_for_pages_is_none_for_whoever_asks_at_the_same_time(
    ledger_url: str, start: Start, jobs: Jobs
) -> None:
    limits = {"pages_per_day": 6, "requests_per_minute": 11}
    gateway = await start(ledger={"url": ledger_url}, profiles={"default": limits})
    sent = [submit(form(pdf(7 if number % 2 else 1))) for number in range(10)]
    answers = await asyncio.gather(*(gateway.ask(one, b"POST") for one in sent))
    assert [one.status for one in answers] == [200, 403] * 5
    await comes_to(gateway, Used(0, 5, 5, 5))
    last = await gateway.ask(submit(form(pdf(1))), b"POST")
    assert last.status == 200
    assert re.match(rb'"requests_per_minute";r=[01];', last.value(b"ratelimit") or b"")  # all eleven have spent one
    assert jobs.started == 6


# How it comes


@pytest.mark.parametrize("size", [SMALL - 1, SMALL, SMALL + 1])
async def test_a_body_goes_up_byte_for_byte_whichever_way(
    size: int, gateway: Running, backend: Backend, jobs: Jobs, at_hand: list[int]
) -> None:
    body = of_size(size)
    client = await gateway.connect()
    with patch.object(submits, "SHORTLY", DEADLINE):  # however busy this machine is
        for number in (1, 2):
            assert (await client.ask(submit(body), b"POST")).status == 200
            assert await used(gateway) == Used(0, number, number, number)
    assert [arrived.body for arrived in backend.requests] == [body, body]
    assert at_hand == ([size] * 2 if size <= SMALL else [])
    assert jobs.started == 2


@pytest.mark.parametrize("send", [in_two, with_a_part, but_for_the_end, bytewise, shortly])
async def test_a_small_body_may_come_slowly(
    send: Callable[..., Any], gateway: Running, backend: Backend, jobs: Jobs, at_hand: list[int]
) -> None:
    body = form(pdf(3), mode="fast")
    client = await gateway.connect()
    for number in (1, 2):
        await send(client, *(part for part in cut(submit(body))))
        assert (await client.response(b"POST")).status == 200
        assert await used(gateway) == Used(0, 3 * number, 3 * number, number)
    assert [arrived.body for arrived in backend.requests] == [body, body]
    assert at_hand == [] or send in {bytewise, shortly}
    assert jobs.started == 2


@pytest.mark.parametrize("size", [300, SMALL], ids=["little", "much"])
async def test_what_comes_behind_a_small_body_is_another_request(
    size: int, gateway: Running, backend: Backend, jobs: Jobs, at_hand: list[int]
) -> None:
    body, other = of_size(size), form(pdf(2))
    client = await gateway.connect()
    client.send(submit(body) + submit(other) + poll() + submit(body, chunked=True) + submit(other))
    responses = [await client.response(b"POST") for _ in range(4)]
    assert [one.status for one in responses] == [200] * 4
    assert [arrived.body for arrived in backend.requests] == [body, other, b"", body]
    assert b"processing" in responses[2].body
    assert jobs.started == 3
    assert len(at_hand) >= 1
    await comes_to(gateway, Used(0, 4, 4, 3))  # a connection ends behind a chunked body


async def test_who_says_no_more_behind_the_body_has_left(gateway: Running, backend: Backend) -> None:
    """As behind a body that streams. The job goes on, and is charged."""
    let = asyncio.Event()
    backend.script = answers_by(let)
    for chunked in (False, True):
        client = await gateway.connect()
        client.send(submit(form(pdf(3)), chunked=chunked))
        await backend.got(1 + chunked)
        with socket.socket(fileno=os.dup(client.writer.get_extra_info("socket").fileno())) as same:
            same.shutdown(socket.SHUT_WR)
        await eventually(lambda: all(one.is_gone for one in gateway.gateway.listeners.connections.all()))
    assert await used(gateway) == Used(2, 6, 6, 2)
    let.set()
    events = [event for event in await gateway.finished(3) if event["route"] == "submit"]
    assert {(event["status"], event["reason"]) for event in events} == {(499, "client_gone")}
    await comes_to(gateway, Used(0, 6, 6, 2))


@pytest.mark.parametrize("ahead", [b"", b"x" * 100, b"x" * 300_000], ids=["nothing", "little", "much"])
async def test_who_leaves_behind_what_was_sent_ahead_is_noticed(
    ahead: bytes, gateway: Running, backend: Backend, at_hand: list[int]
) -> None:
    """Behind a small body as behind one that streams; its job goes on."""
    let = asyncio.Event()
    backend.script = answers_by(let)
    client = await gateway.connect()
    client.send(submit(of_size(SMALL)) + ahead)
    await backend.got(1)
    client.abort()
    await eventually(lambda: all(one.is_gone for one in gateway.gateway.listeners.connections.all()))
    let.set()
    (event,) = await gateway.finished(1)
    assert (event["status"], event["reason"]) == (499, "client_gone")
    assert len(at_hand) <= 1
    await comes_to(gateway, Used(0, 1, 1, 1))


@BOTH_WAYS
async def test_a_url_encoded_form_goes_on_as_it_came(
    start: Start, jobs: Jobs, backend: Backend, *, chunked: bool
) -> None:
    gateway = await start(body={"allow_file_url": True}, profiles={"default": {"pages_per_request": 40}})
    body = b"file_url=https%3A%2F%2Fh%2Fa&max_pages=7"
    sent = submit(body, chunked=chunked).replace(f"Content-Type: {FORM_TYPE}".encode(), URLENCODED.encode())
    client = await gateway.connect()
    assert (await client.ask(sent, b"POST")).status == 200
    assert [arrived.body for arrived in backend.requests] == [body]
    assert await used(gateway) == Used(0, 7, 7, 1)
    (await gateway.ask(sent.replace(b"max_pages=7", b"max_pages=x"), b"POST")).is_refusal(400, "bad_page_range")
    await comes_to(gateway, Used(0, 7, 7, 1))
    assert jobs.started == 1


async def test_a_small_body_that_is_to_be_invited_is(gateway: Running, jobs: Jobs, at_hand: list[int]) -> None:
    head, body = cut(submit(form(pdf(2)), "Expect: 100-continue"))
    client = await gateway.connect()
    client.send(head)
    assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert await used(gateway) == Used(1, 0, 0, 1)
    assert (await client.ask(body, b"POST")).status == 200
    assert (jobs.started, at_hand) == (1, [])


# The container's port


@contextmanager
def locked(gateway: Running) -> Iterator[Callable[[], object]]:
    """Holds what writes to the ledger; gives what lets it go on."""
    with closing(sqlite3.connect(ledger_path(gateway), isolation_level=None, timeout=5)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield lambda: other.execute("COMMIT")


async def test_a_port_behind_which_nothing_runs_costs_nothing(gateway: Running, backend: Backend) -> None:
    """Docker's proxy takes connections before the container does, and ends each at once."""
    await backend.hang_up()
    accepted = 0

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", backend.port):
        client = await gateway.connect()
        with locked(gateway) as let:
            client.send(submit(form(pdf(3))))
            await eventually(lambda: accepted == 1)
            await asyncio.sleep(0.05)  # its end is on its way
            let()
        (await client.response(b"POST")).is_refusal(502, "upstream_broke_off")
    await comes_to(gateway, Used())


async def test_a_connection_that_ends_in_the_very_turn_in_which_it_is_used_costs_nothing(
    gateway: Running, backend: Backend
) -> None:
    ask = UpstreamConnection.ask

    def ends(upstream: UpstreamConnection, *args: Any, **more: Any) -> None:
        ask(upstream, *args, **more)
        assert upstream.transport is not None
        upstream.transport.abort()  # its loss is told in the next iteration

    with patch.object(UpstreamConnection, "ask", ends):
        (await gateway.ask(submit(form(pdf(3))), b"POST")).is_refusal(502, "upstream_broke_off")
    await comes_to(gateway, Used())
    assert backend.requests == []


@BOTH_WAYS
async def test_a_limit_is_said_before_a_container_that_is_away_and_a_token_is_spent(
    start: Start, backend: Backend, *, chunked: bool
) -> None:
    gateway = await start(profiles={"default": {"requests_per_minute": 2, "concurrent_requests": 1}})
    await backend.hang_up()
    for _ in range(2):
        (await gateway.ask(submit(chunked=chunked), b"POST")).is_refusal(502, "upstream_unreachable")
        await comes_to(gateway, Used())
    (await gateway.ask(submit(chunked=chunked), b"POST")).is_refusal(429, "rate_limited")


@pytest.mark.parametrize("limits", [{"requests_per_minute": 1}, {"pages_per_day": 3}], ids=["place", "pages"])
async def test_nothing_is_left_open_for_who_is_refused(
    limits: dict[str, int], start: Start, backend: Backend, jobs: Jobs
) -> None:
    gateway = await start(profiles={"default": limits})
    assert (await gateway.ask(submit(form(pdf(2))), b"POST")).status == 200
    await backend.hang_up()
    await backend.listen()
    refused = await gateway.ask(submit(form(pdf(2))), b"POST")
    assert refused.status in {403, 429}
    await backend.facts.until(lambda: not backend.open)
    assert jobs.started == len(backend.requests) == 1


async def test_who_leaves_while_his_place_is_taken_leaves_no_connection(gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    with locked(gateway) as let:
        client.send(submit(form(pdf(3))))
        await eventually(lambda: bool(backend.open))
        client.abort()
        (event,) = await gateway.finished(1)
        assert (event["status"], event["reason"]) == (499, "client_gone")
        await backend.facts.until(lambda: not backend.open)
        let()
    await nothing_whole(backend)
    await comes_to(gateway, Used())


@BOTH_WAYS
@pytest.mark.parametrize("document", [pdf(3), image()], ids=["pdf", "image"])
async def test_an_answer_that_comes_before_the_body_has_the_limits_as_any_other(
    document: Document, start: Start, backend: Backend, *, chunked: bool
) -> None:
    """It came while nothing was asked, or while the ledger was asked for slot and pages."""

    async def busy(connection: Connection) -> None:
        connection.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy")
        connection.finish()

    backend.script = busy
    gateway = await start(profiles={"default": {"requests_per_minute": 2}})
    for left in (1, 0):
        refused = await gateway.ask(submit(form(document), chunked=chunked), b"POST")
        assert (refused.status, refused.reason) == (503, None)
        assert refused.values(b"ratelimit")[0].startswith(b'"requests_per_minute";r=%d;' % left)
        await comes_to(gateway, Used())
    (await gateway.ask(submit(form(document), chunked=chunked), b"POST")).is_refusal(429, "rate_limited")


# Who leaves


def spent_until(gateway: Running) -> int:
    """Until when the tokens of the rate are spent."""
    with closing(sqlite3.connect(ledger_path(gateway))) as ledger:
        return int(ledger.execute("SELECT tat FROM accounts").fetchone()[0])


async def test_who_leaves_while_a_small_form_is_counted_has_held_nothing(
    start: Start, backend: Backend, at_hand: list[int]
) -> None:
    gateway = await start(profiles={"default": {"concurrent_requests": 1}})
    async with stopped_workers(gateway):
        await gateway.finished(1)
        await comes_to(gateway, Used())
        at_hand.clear()
        backend.connections.clear()
        client = await gateway.connect()
        client.send(submit(form(pdf(3))))
        await eventually(lambda: len(at_hand) == 1)
        assert await used(gateway) == Used()
        streamed = await gateway.ask(submit(), b"POST")  # one form of an account is judged ahead of its place here
        assert (streamed.status, len(at_hand)) == (200, 1)
        before = spent_until(gateway)
        client.abort()
        await eventually(lambda: gateway.counted(reason="client_gone") == 1)
        await eventually(lambda: spent_until(gateway) > before)  # with a place, for a moment
        await comes_to(gateway, Used(0, 1, 1, 1))  # the streamed one gives its place back after its answer
        assert (await gateway.ask(submit(), b"POST")).status == 200
    assert len(at_hand) == 2
    assert len(backend.requests) == 2
    await comes_to(gateway, Used(0, 2, 2, 2))


@pytest.mark.parametrize("name", ["key", "address", "pages", "budget", "field"])
async def test_a_small_form_is_judged_by_what_is_in_force_when_it_is_counted(
    name: str, start: Start, backend: Backend, at_hand: list[int]
) -> None:
    changes: dict[str, tuple[dict[str, Any], int, str]] = {
        "address": ({"network": {"allow": ["10.0.0.0/8"]}}, 403, "address_denied"),
        "key": ({"keys": [{"id": "root", "secret": {"env": "KEY_ADMIN"}}]}, 401, "unauthenticated"),
        "pages": ({"profiles": {"default": {"pages_per_request": 2}}}, 413, "too_many_pages"),
        "budget": ({"profiles": {"default": {"pages_per_day": 2}}}, 403, "budget_exhausted"),
        "field": ({"profiles": {"default": {"page_range": "required"}}}, 422, "field_refused"),
    }
    changed, status, reason = changes[name]
    gateway = await start(body={"count_timeout": "60s"})
    async with stopped_workers(gateway) as go_on:
        at_hand.clear()
        backend.connections.clear()
        client = await gateway.connect()
        client.send(submit(form(pdf(3))))
        await eventually(lambda: len(at_hand) == 1)
        gateway.rewrite(lambda document: document.update(changed))
        await gateway.says("configuration reloaded")
        go_on()
        (await client.response(b"POST")).is_refusal(status, reason)
    await nothing_whole(backend)
    if name != "address":
        await comes_to(gateway, Used(), ADMIN_KEY if name == "key" else "canary-key-of-ci-5f1c")


# Many


async def test_sixty_at_once_of_a_key_with_five_places(ledger_url: str, start: Start, backend: Backend) -> None:
    """On SQLite every other one streams."""
    has_both = ledger_url.startswith("sqlite")
    profile = {"concurrent_requests": 5, "requests_per_minute": 10_000}
    gateway = await start(ledger={"url": ledger_url}, profiles={"default": profile})
    running, most, started = 0, 0, 0

    async def script(connection: Connection) -> None:
        nonlocal running, most, started
        await connection.request()
        running, started = running + 1, started + 1
        most = max(most, running)
        said = json.dumps({"success": True, "request_id": f"job-{started}"}).encode()
        await asyncio.sleep(0.005)  # so long a job takes to begin
        running -= 1
        connection.send(answer(said, b"Content-Type: application/json"))

    async def ask(number: int) -> int:
        tries = 0
        sent = submit(form(pdf(2)), chunked=has_both and number % 2 == 0)
        while True:
            tries += 1
            asked = await gateway.ask(sent, b"POST")
            if asked.status == 200:
                return tries
            asked.is_refusal(429, "too_many_requests_in_flight")
            await asyncio.sleep(0.05)  # whoever is refused asks again soon

    backend.script = script
    tries = await asyncio.gather(*(ask(number) for number in range(60)))
    assert most <= 5
    assert sum(tries) > 60
    assert (started, len(backend.requests)) == (60, 60)
    await comes_to(gateway, Used(0, 120, 120, 60))
