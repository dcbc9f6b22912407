"""Submits on their way: forms only, byte for byte, their end held back; whatever goes wrong, nothing stays taken."""

import asyncio
import sqlite3
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from itertools import product

import pytest

from tests.support.backend import Backend, Connection, Script, answer, closing_after, obliging
from tests.support.client import Client, Response
from tests.support.counting import stopped_workers
from tests.support.forms import BOUNDARY, FORM_TYPE, IMAGE, Document, form, image, pdf, unknown
from tests.support.gateway import ADMIN_KEY, BOTH_WAYS, KEY, SUBMIT, Running, Start, request, submit
from tests.support.jobs import Jobs, Used, comes_to, ledger_path, used
from tests.support.waiting import eventually

# Three directories of one entry each
TIFF = Document(
    b"II*\x00" + b"".join(struct.pack("<IH12x", place, 1) for place in (8, 26, 44)) + b"\x00" * 4,
    "a.tif",
    "image/tiff",
)
END = f"\r\n--{BOUNDARY}--".encode()


async def never_whole(backend: Backend) -> None:
    """Asserts that no submit came whole, and that what came in part was cut off."""
    await backend.settled()
    await backend.all_closed()
    assert backend.requests == []
    assert END not in b"".join(bytes(connection.received) for connection in backend.connections)


# The form


@pytest.mark.parametrize("chunked", [False, True], ids=["counted", "chunked"])
@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
async def test_a_form_goes_up_byte_for_byte(
    bytewise: bool, chunked: bool, gateway: Running, backend: Backend, jobs: Jobs
) -> None:
    body = form(pdf(2), page_range="0", mode="fast", output_format="markdown", anything="caf\u00e9 \r\n--")
    client = await gateway.connect()
    sent = submit(body, chunked=chunked)
    await client.send_bytewise(sent, at_most=2000) if bytewise else client.send(sent)
    assert (await client.response(b"POST")).status == 200
    (arrived,) = backend.requests
    assert arrived.body == body
    assert arrived.value(b"content-type") == FORM_TYPE.encode()
    assert (arrived.value(b"content-length"), arrived.value(b"transfer-encoding")) == (None, b"chunked")
    assert await used(gateway) == Used(0, 1, 1, 1)
    assert jobs.started == 1


@pytest.mark.parametrize(
    ("document", "fields", "pages"),
    [
        (pdf(1), {}, 1),
        (pdf(7), {}, 7),
        (pdf(7), {"page_range": "0,2-3,2"}, 3),
        (pdf(7), {"page_range": "5-20"}, 2),
        (pdf(7), {"page_range": "100"}, 1),
        (pdf(7), {"max_pages": "4"}, 4),
        (pdf(7), {"max_pages": "4", "page_range": "0-4"}, 5),
        (IMAGE, {}, 1),
        (IMAGE, {"max_pages": "9"}, 1),
        (unknown(), {}, 40),
        (unknown(), {"page_range": "0-9"}, 40),
        (unknown(), {"max_pages": "3"}, 3),
        (Document(b"%PDF-1.7 that is none", "a.pdf", "application/pdf"), {}, 40),
        (Document(pdf(3).content, "page.png", "image/png"), {}, 40),
        (Document(pdf(1).content, "page.docx", "application/pdf"), {}, 40),
        (Document(b"<!DOCTYPE html><html><!--\n" + pdf(1).content + b"--><p>...", "a.pdf", ""), {}, 40),
        (Document(b"PK\x03\x04 word/a.bin" + pdf(1).content, "a.docx", ""), {}, 40),
        (TIFF, {}, 3),
        (TIFF, {"page_range": "1"}, 1),
        (None, {"page_range": "0-1"}, 40),
        (None, {}, 40),
    ],
    ids=lambda value: str(value)[-40:] if isinstance(value, dict) else None,
)
async def test_the_most_that_a_job_may_cost_is_reserved(
    document: Document | None, fields: dict[str, str], pages: int, start: Start, backend: Backend, jobs: Jobs
) -> None:
    gateway = await start(profiles={"default": {"pages_per_request": 40}})
    body = form(document, **(fields or {"mode": "fast"}))
    for number, chunked in enumerate((False, True), 1):
        assert (await gateway.ask(submit(body, chunked=chunked), b"POST")).status == 200
        assert await used(gateway) == Used(0, number * pages, number * pages, number)
    assert [arrived.body for arrived in backend.requests] == [body, body]
    assert jobs.started == 2


@pytest.mark.parametrize("name", ["file_url", "webhook_url"])
async def test_fields_that_send_the_container_elsewhere_are_refused_unless_allowed(
    name: str, start: Start, backend: Backend
) -> None:
    gateway = await start()
    body = form(IMAGE, **{name: "http://169.254.169.254/canary"})
    others = body.replace(name.encode(), name.upper().encode()), form(None, **{f"{name}[]": "canary"})
    for sent, chunked in product((body, *others), (False, True)):
        response = await gateway.ask(submit(sent, chunked=chunked), b"POST")
        problem = response.is_refusal(422, "field_refused")
        assert name in problem["detail"]
        assert b"canary" not in response.body
    await never_whole(backend)
    await comes_to(gateway, Used())
    allowing = await start(body={f"allow_{name}": True})
    assert (await allowing.ask(submit(body), b"POST")).status == 200
    assert backend.requests[0].body == body


HEADS = {
    "no-type": (),
    "urlencoded": ("Content-Type: application/x-www-form-urlencoded; charset=utf-16",),
    "json": ("Content-Type: application/json",),
    "no-boundary": ("Content-Type: multipart/form-data",),
    "two-boundaries": (f"Content-Type: {FORM_TYPE}; boundary=other",),
    "mixed": (f"Content-Type: multipart/mixed; boundary={BOUNDARY}",),
    "utf-16": (f"Content-Type: {FORM_TYPE}; charset=utf-16",),
    "coding": (f"Content-Type: {FORM_TYPE}", "Content-Encoding: gzip"),
}


@pytest.mark.parametrize("name", HEADS)
async def test_what_is_no_unambiguous_form_is_not_invited(name: str, gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    head = request("POST", SUBMIT, *HEADS[name], "Expect: 100-continue", "Content-Length: 1000")
    (await client.ask(head, b"POST")).is_refusal(415, "unsupported_media_type")
    await client.is_closed()
    await backend.got_nothing()
    assert await used(gateway) == Used()


@pytest.mark.parametrize("framing", [(), ("Content-Length: 0",)], ids=["none", "empty"])
async def test_a_submit_has_a_body(framing: tuple[str, ...], gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    sent = request("POST", SUBMIT, f"Content-Type: {FORM_TYPE}", *framing)
    (await client.ask(sent, b"POST")).is_refusal(415, "unsupported_media_type")
    await backend.got_nothing()
    assert (await client.ask(request())).status == 200


WHOLE = form(pdf(1), page_range="0")
BODIES = {
    "preamble": b"hello\r\n" + WHOLE,
    "epilogue": WHOLE + b"more",
    "bare-lf": WHOLE.replace(b"\r\n", b"\n"),
    "twice": form(IMAGE, page_range="0")[: -len(END) - 2] + b"\r\n" + form(None, page_range="0-9"),
    "in-capitals": form(IMAGE, Page_Range="0"),
    "as-a-file": form(IMAGE, page_range="0").replace(b'name="page_range"', b'name="page_range"; filename="a"'),
    "second-file": form(IMAGE)[: -len(END) - 2] + b"\r\n" + form(IMAGE),
    "no-form-data": WHOLE.replace(b"form-data; name", b"attachment; name"),
    "encoded-name": form(IMAGE).replace(b'name="file"', b"name*=utf-8''file"),
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("name", BODIES)
async def test_what_parsers_may_read_differently_is_refused(
    name: str, bytewise: bool, gateway: Running, backend: Backend
) -> None:
    for chunked in (False, True):
        client = await gateway.connect()
        sent = submit(BODIES[name], chunked=chunked)
        await client.send_bytewise(sent, at_most=3000) if bytewise else client.send(sent)
        response = await client.response(b"POST")
        response.is_refusal(415, "unsupported_media_type")
        assert response.value(b"ratelimit") is not None
    await never_whole(backend)
    await comes_to(gateway, Used())


@pytest.mark.parametrize("cut", [1, 2, 3, 10, len(END) + 1, len(END) + 2, 200])
async def test_a_form_that_ends_too_early_is_malformed(cut: int, gateway: Running, backend: Backend) -> None:
    body = form(pdf(1), page_range="0")
    is_whole = cut == 2  # only the line end behind the last delimiter is missing
    responses = [await gateway.ask(submit(body[:-cut], chunked=chunked), b"POST") for chunked in (False, True)]
    if is_whole:
        assert [response.status for response in responses] == [200, 200]
        assert [arrived.body for arrived in backend.requests] == [body[:-cut]] * 2
        return
    for response in responses:
        response.is_refusal(400, "body_malformed")
    await never_whole(backend)
    await comes_to(gateway, Used())


# The end is held back


@asynccontextmanager
async def half_a_submit(gateway: Running, backend: Backend, body: bytes) -> AsyncIterator[Client]:
    """A submit of which the upstream has a part, and the gateway all but the last byte."""
    client = await gateway.connect()
    client.send(request("POST", SUBMIT, f"Content-Type: {FORM_TYPE}", f"Content-Length: {len(body)}") + body[:-1])
    connection = await backend.connected()
    await backend.facts.until(lambda: b"filename" in connection.received)
    yield client


async def test_the_end_is_held_back_until_there_is_all(gateway: Running, backend: Backend, jobs: Jobs) -> None:
    body = form(image(b"hello"), mode="fast")
    async with half_a_submit(gateway, backend, body) as client:
        await backend.settled()
        assert END not in backend.connections[0].received
        assert await used(gateway) == Used(1, 0, 0, 1)
        client.send(body[-1:])
        assert (await client.response(b"POST")).status == 200
    assert backend.requests[0].body == body
    assert await used(gateway) == Used(0, 1, 1, 1)
    assert jobs.started == 1


@pytest.fixture
def locked(gateway: Running) -> Iterator[Callable[[], sqlite3.Connection]]:
    """Locks the ledger against whoever writes."""
    with closing(sqlite3.connect(ledger_path(gateway), isolation_level=None, timeout=5)) as other:

        def lock() -> sqlite3.Connection:
            other.execute("BEGIN IMMEDIATE")
            return other

        yield lock


async def test_the_end_is_held_back_until_the_pages_are_reserved(
    gateway: Running, backend: Backend, jobs: Jobs, locked: Callable[[], sqlite3.Connection]
) -> None:
    body = form(pdf(3))
    async with half_a_submit(gateway, backend, body) as client:
        lock = locked()
        client.send(body[-1:])
        await eventually(lambda: gateway.metric("gateway_received_bytes_total") > len(body))
        await backend.settled()
        assert END not in backend.connections[0].received
        lock.execute("COMMIT")
        assert (await client.response(b"POST")).status == 200
    assert backend.requests[0].body == body
    assert await used(gateway) == Used(0, 3, 3, 1)
    assert jobs.started == 1


async def test_a_client_that_leaves_while_pages_are_reserved_takes_all_back(
    gateway: Running, backend: Backend, locked: Callable[[], sqlite3.Connection]
) -> None:
    body = form(pdf(3))
    async with half_a_submit(gateway, backend, body) as client:
        lock = locked()
        before = gateway.metric("gateway_received_bytes_total")
        client.send(body[-1:])
        await eventually(lambda: gateway.metric("gateway_received_bytes_total") > before)
        client.abort()
        (event,) = await gateway.finished(1)
        assert (event["status"], event["reason"]) == (499, "client_gone")
        lock.execute("COMMIT")
    await never_whole(backend)
    await comes_to(gateway, Used())


@BOTH_WAYS
async def test_a_client_that_leaves_while_its_place_is_taken_gives_it_back(
    gateway: Running, backend: Backend, locked: Callable[[], sqlite3.Connection], *, chunked: bool
) -> None:
    lock = locked()
    client = await gateway.connect()
    client.send(submit(chunked=chunked))
    await eventually(lambda: gateway.metric("gateway_requests_in_flight") == 1)
    client.abort()
    (event,) = await gateway.finished(1)
    assert (event["status"], event["reason"]) == (499, "client_gone")
    lock.execute("COMMIT")
    await comes_to(gateway, Used())
    await never_whole(backend)


async def test_a_client_that_leaves_within_its_form_gives_all_back(gateway: Running, backend: Backend) -> None:
    async with half_a_submit(gateway, backend, form(pdf(3))) as client:
        assert await used(gateway) == Used(1, 0, 0, 1)
        client.abort()
    await never_whole(backend)
    await comes_to(gateway, Used())


async def test_a_client_that_leaves_while_its_pages_are_counted_gives_all_back(
    gateway: Running, backend: Backend
) -> None:
    async with stopped_workers(gateway):
        await backend.all_closed()
        backend.connections.clear()
        body = form(pdf(3))
        async with half_a_submit(gateway, backend, body) as client:
            before = gateway.metric("gateway_received_bytes_total")
            client.send(body[-1:])
            await eventually(lambda: gateway.metric("gateway_received_bytes_total") > before)
            assert gateway.metric("gateway_requests_in_flight") == 1
            client.abort()
            event = (await gateway.finished(2))[-1]
    assert (event["status"], event["reason"]) == (499, "client_gone")
    await never_whole(backend)
    await comes_to(gateway, Used())


@pytest.mark.parametrize("status", [b"413 Content Too Large", b"200 OK"], ids=["refused", "accepted"])
@pytest.mark.parametrize("waits", ["counting", "ledger"])
async def test_an_answer_while_the_submit_waits_ends_its_connection(
    waits: str,
    status: bytes,
    gateway: Running,
    backend: Backend,
    locked: Callable[[], sqlite3.Connection],
) -> None:
    """The gateway has the whole form, the container all but its end: that is never sent, and nothing follows it."""
    async with AsyncExitStack() as stack:
        lock = None
        if waits == "counting":
            await stack.enter_async_context(stopped_workers(gateway))
            await backend.all_closed()
            backend.connections.clear()
        body = form(pdf(3))
        async with half_a_submit(gateway, backend, body) as client:
            if waits == "ledger":
                lock = locked()
            before = gateway.metric("gateway_received_bytes_total")
            client.send(body[-1:])
            await eventually(lambda: gateway.metric("gateway_received_bytes_total") > before)
            backend.connections[0].send(answer(b'{"request_id": "job-9"}', status=status))
            await backend.settled()
            if lock is not None:
                lock.execute("COMMIT")
            response = await client.response(b"POST")
    if status == b"200 OK":  # a job that was accepted before its pages were reserved
        response.is_refusal(502, "upstream_broke_off")
    else:
        assert response.status == 413
    backend.script = obliging
    assert (await gateway.ask(request())).status == 200  # at once: the pool would have that connection still
    assert [arrived.method for arrived in backend.requests] == [b"GET"]
    assert END not in backend.connections[0].received
    assert b"GET" not in backend.connections[0].received
    await comes_to(gateway, Used())


async def patient(gateway: Running, *, chunked: bool) -> Response:
    """Submits a page, and waits for as long as 320 such may take a busy machine."""
    async with await gateway.connect() as client:
        return await client.ask(submit(form(pdf(1)), chunked=chunked), b"POST", within=100)


async def test_many_documents_at_once_are_all_counted(start: Start, jobs: Jobs) -> None:
    profile = {"requests_per_minute": 1000, "pages_in_flight": 5000}
    gateway = await start(body={"count_timeout": "3s"}, profiles={"default": profile})
    responses = await asyncio.gather(*(patient(gateway, chunked=bool(number % 2)) for number in range(320)))
    refused = [response.body for response in responses if response.status != 200]
    assert refused == []
    assert await used(gateway) == Used(0, 320, 320, 320)
    assert jobs.started == 320


async def test_a_document_that_is_not_counted_in_time_costs_what_a_request_may(
    start: Start, backend: Backend, jobs: Jobs
) -> None:
    gateway = await start(body={"count_timeout": "3s"}, profiles={"default": {"pages_per_request": 40}})
    async with stopped_workers(gateway):
        assert (await gateway.ask(submit(form(pdf(3))), b"POST")).status == 200
        assert await used(gateway) == Used(0, 40, 40, 1)
    for key in (KEY, ADMIN_KEY):  # whose document took too long is not counted for a while, and others are
        for chunked in (False, True):
            assert (await gateway.ask(submit(form(pdf(3)), key=key, chunked=chunked), b"POST")).status == 200
    assert await used(gateway) == Used(0, 120, 120, 3)
    assert await used(gateway, ADMIN_KEY) == Used(0, 6, 6, 2)
    assert jobs.started == 5
    assert len(backend.requests) == 5


async def test_a_page_range_beyond_the_cap_is_refused_before_anything_is_counted(start: Start, jobs: Jobs) -> None:
    gateway = await start(body={"count_timeout": "60s"}, profiles={"default": {"pages_per_request": 40}})
    async with stopped_workers(gateway):
        for chunked in (False, True):
            refused = await gateway.ask(submit(form(pdf(3), page_range="0-40"), chunked=chunked), b"POST")
            refused.is_refusal(413, "too_many_pages")
    await comes_to(gateway, Used())
    assert jobs.started == 0


# What the upstream does


async def test_an_upstream_that_is_not_there_costs_nothing(gateway: Running, backend: Backend) -> None:
    await backend.hang_up()
    for chunked in (False, True):
        response = await gateway.ask(submit(form(pdf(3)), chunked=chunked), b"POST")
        response.is_refusal(502, "upstream_unreachable")
    await comes_to(gateway, Used())


async def early_refusal(connection: Connection) -> None:
    await connection.head()
    connection.send(answer(b'{"detail": "no"}', status=b"413 Content Too Large"))
    await connection.end()


async def leaves_early(connection: Connection) -> None:
    await connection.head()
    connection.reset()


@pytest.mark.parametrize(("script", "status"), [(early_refusal, 413), (leaves_early, 502)], ids=["refuses", "leaves"])
async def test_an_upstream_that_fails_before_the_end_costs_nothing(
    script: Script, status: int, gateway: Running, backend: Backend
) -> None:
    backend.script = script
    client = await gateway.connect()
    client.send(request("POST", SUBMIT, f"Content-Type: {FORM_TYPE}", "Content-Length: 100000"))
    client.send(form(image(bytes(1000)))[:500])
    assert (await client.response(b"POST")).status == status
    await never_whole(backend)
    await comes_to(gateway, Used())


@pytest.mark.parametrize("status", ["400", "401", "404", "413", "422", "429", "500", "503", "302"])
async def test_a_job_that_the_upstream_refuses_costs_nothing(status: str, gateway: Running, backend: Backend) -> None:
    content = b'{"detail": "no", "request_id": "job-1"}'

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            connection.send(answer(content, status=status.encode() + b" Any"))

    backend.script = script
    for chunked in (False, True):
        response = await gateway.ask(submit(form(pdf(3)), chunked=chunked), b"POST")
        assert (response.status, response.reason, response.body) == (int(status), None, content)
        assert response.value(b"ratelimit") is not None
    await comes_to(gateway, Used())


@pytest.mark.parametrize(
    "content",
    [b'{"success": false, "error": "no"}', b'{"success": false, "request_id": "job-1"}'],
    ids=["bare", "id"],
)
@BOTH_WAYS
async def test_a_job_that_failed_at_once_costs_nothing(
    content: bytes, gateway: Running, backend: Backend, *, chunked: bool
) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        connection.send(answer(content))
        await obliging(connection)

    backend.script = script
    assert (await gateway.ask(submit(form(pdf(3)), chunked=chunked), b"POST")).status == 200
    failed = Used(0, 0, 0, 0 if b"job" not in content else 1)
    await comes_to(gateway, failed)


@pytest.mark.parametrize(
    ("script", "status", "reason"),
    [
        (closing_after(b""), 502, "upstream_broke_off"),
        (closing_after(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"), 502, "upstream_broke_off"),
        (closing_after(b"garbage\r\n\r\n"), 502, "upstream_broke_off"),
        (closing_after(answer(bytes(300_000))), 502, "upstream_broke_off"),
        (closing_after(answer(b"{}", b"Content-Encoding: gzip")), 502, "upstream_broke_off"),
        (closing_after(b"HTTP/1.1 500 Oh\r\nContent-Length: 100\r\n\r\n{"), None, None),
    ],
    ids=["nothing", "a-part", "garbage", "too-large", "coded", "part-of-a-refusal"],
)
@BOTH_WAYS
async def test_a_job_whose_answer_is_lost_stays_charged(
    script: Script, status: int | None, reason: str | None, gateway: Running, backend: Backend, *, chunked: bool
) -> None:
    """The upstream had the whole request: the job may run, whatever became of its answer."""
    backend.script = script
    client = await gateway.connect()
    client.send(submit(form(pdf(3)), chunked=chunked))
    if status is not None and reason is not None:
        (await client.response(b"POST")).is_refusal(status, reason)
        await comes_to(gateway, Used(0, 3, 3, 1))
    else:  # its status was known, and it was a refusal
        await client.rest()
        await comes_to(gateway, Used())


async def test_silence_behind_the_end_stays_charged(start: Start, backend: Backend) -> None:
    async def script(connection: Connection) -> None:
        await connection.end()

    backend.script = script
    gateway = await start(upstream={"read_timeout": "200ms"})
    for number, chunked in enumerate((False, True), 1):
        (await gateway.ask(submit(form(pdf(3)), chunked=chunked), b"POST")).is_refusal(504, "upstream_timeout")
        await comes_to(gateway, Used(0, 3 * number, 3 * number, number))


@BOTH_WAYS
async def test_a_client_that_leaves_behind_the_end_has_its_job(
    gateway: Running, backend: Backend, *, chunked: bool
) -> None:
    answers = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await answers.wait()
        connection.send(answer(b'{"success": true, "request_id": "job-1"}'))
        await Jobs()(connection)

    backend.script = script
    client = await gateway.connect()
    client.send(submit(form(pdf(3)), chunked=chunked))
    await backend.got(1)
    client.abort()
    assert await used(gateway) == Used(1, 3, 3, 1)
    answers.set()
    (event, *_) = [event for event in await gateway.finished(2) if event["route"] == "submit"]
    assert (event["status"], event["reason"]) == (499, "client_gone")
    await comes_to(gateway, Used(0, 3, 3, 1))


def dripping(head: bytes, begins: asyncio.Event) -> Script:
    """Answers a request, once `begins` is set, with a head and then a byte now and then."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await begins.wait()
        connection.send(head + b"\r\nContent-Length: 100000\r\n\r\n")
        while not connection.ended:
            connection.send(b" ")
            await asyncio.sleep(0.02)  # the upstream's pace, not the test's

    return script


@BOTH_WAYS
@pytest.mark.parametrize("leaves", ["before the head", "behind the head"])
async def test_a_refusal_that_drips_keeps_nothing_of_a_client_that_left(
    leaves: str, gateway: Running, backend: Backend, *, chunked: bool
) -> None:
    """Each byte gave it another read_timeout: place, pages and connections were held for ever."""
    begins = asyncio.Event()
    backend.script = dripping(b"HTTP/1.1 422 No", begins)
    client = await gateway.connect()
    client.send(submit(form(pdf(3)), chunked=chunked))
    await backend.got(1)
    if leaves == "behind the head":
        begins.set()
        assert b"422 No" in await client.read_some()
    client.abort()
    await eventually(lambda: all(connection.is_gone for connection in gateway.gateway.listeners.connections.all()))
    begins.set()
    await backend.connections[0].end()
    (event,) = await gateway.finished(1)
    assert event["reason"] == "client_gone"
    await comes_to(gateway, Used())


@pytest.mark.parametrize("leaves", [False, True])
async def test_an_acceptance_that_drips_has_one_read_timeout_and_stays_charged(
    start: Start, backend: Backend, *, leaves: bool
) -> None:
    begins = asyncio.Event()
    begins.set()
    backend.script = dripping(b"HTTP/1.1 200 OK", begins)
    gateway = await start(upstream={"read_timeout": "500ms"})
    client = await gateway.connect()
    client.send(submit(form(pdf(3))))
    await backend.got(1)
    if leaves:
        client.abort()
    else:
        (await client.response(b"POST")).is_refusal(504, "upstream_timeout")
    await backend.connections[0].end()
    await gateway.finished(1)
    await comes_to(gateway, Used(0, 3, 3, 1))


@BOTH_WAYS
async def test_two_jobs_of_one_id_are_never_one(gateway: Running, backend: Backend, *, chunked: bool) -> None:
    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            connection.send(answer(b'{"success": true, "request_id": "job-1"}'))

    backend.script = script
    assert (await gateway.ask(submit(form(pdf(2))), b"POST")).status == 200
    (await gateway.ask(submit(form(pdf(3)), chunked=chunked), b"POST")).is_refusal(502, "upstream_broke_off")
    await comes_to(gateway, Used(0, 5, 5, 2))


async def test_a_kept_connection_serves_one_submit_after_the_other(
    gateway: Running, backend: Backend, jobs: Jobs
) -> None:
    client = await gateway.connect()
    for number in range(1, 6):
        response = await client.ask(submit(form(page_range="0")), b"POST")
        assert (response.status, response.value(b"connection")) == (200, None)
        assert await used(gateway) == Used(0, number, number, number)
    assert jobs.started == 5
    assert len(backend.requests) == 5


async def test_a_refusal_behind_the_body_leaves_the_connection_in_step(gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    (await client.ask(submit(form(page_range="x")), b"POST")).is_refusal(400, "bad_page_range")
    assert (await client.ask(request())).status == 200
    assert [arrived.method for arrived in backend.requests] == [b"GET"]
