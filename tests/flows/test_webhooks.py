"""Webhooks through the whole gateway: out to a real receiver over TLS, and in with a signature."""

import asyncio
import hmac
import json
import socket
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pytest_aiohttp import AiohttpRawServer

from gateway.aio.host_addresses import HostAddress, find_addresses
from gateway.ledger.schema import DeliveryState
from gateway.webhooks import verify
from tests.support.backend import Backend
from tests.support.client import Response
from tests.support.forms import form, pdf
from tests.support.gateway import ADMIN_KEY, BOTH_WAYS, ENVIRON, Running, Start, request, submit
from tests.support.jobs import Jobs, complete
from tests.support.ledgers import write_sqlite_ledger
from tests.support.waiting import DEADLINE, eventually
from tests.webhooks.receivers import Receiver, receiving, server_context

SECRET = "flow-secret-0123456789"
ENVIRONMENT = {**ENVIRON, "HOOKS": SECRET}
IN = "/gateway/v1/webhooks/datalab"


@pytest.fixture
async def receiver(certificates: Path, aiohttp_raw_server: AiohttpRawServer) -> Receiver:
    return await receiving(aiohttp_raw_server, server_context(certificates))


def out(certificates: Path, **more: Any) -> dict[str, Any]:
    return {"out": {"secret": {"env": "HOOKS"}, "allow": ["localhost"], "ca": f"{certificates}/ca.pem", **more}}


def url(receiver: Receiver) -> str:
    return f"https://localhost:{receiver.port}/hook?token=of-the-client"


@BOTH_WAYS
async def test_the_end_of_a_job_that_nobody_polls_is_told(
    start: Start, backend: Backend, jobs: Jobs, receiver: Receiver, certificates: Path, *, chunked: bool
) -> None:
    gateway = await start(jobs={}, webhooks=out(certificates), environ=ENVIRONMENT)
    body = form(pdf(2), webhook_url=url(receiver), webhook_secret="of-the-client", mode="fast")
    accepted = await gateway.ask(submit(body, chunked=chunked), b"POST")
    assert accepted.status == 200
    arrived = next(found for found in backend.requests if found.method == b"POST")
    assert b"webhook" not in arrived.body
    assert b'name="mode"' in arrived.body
    jobs.results["job-1"] = complete(2)
    await receiver.facts.until(lambda: bool(receiver.got))
    (got,) = receiver.got
    assert (got.method, got.path) == ("POST", "/hook?token=of-the-client")
    said = json.loads(got.body)
    assert said == {
        "request_id": "job-1",
        "request_check_url": "https://gateway.test/api/v1/marker/job-1",
        "status": "complete",
    }
    assert verify(got.body, got.headers, SECRET, plain=False)
    assert not verify(got.body + b" ", got.headers, SECRET)
    await gateway.says("webhook delivered")
    assert gateway.metric("gateway_webhook_deliveries_total", result="delivered") == 1
    assert "token" not in str(gateway.events)


@pytest.mark.parametrize("host", ["evil.example", "gateway.test.evil.example", "10.0.0.1"])
async def test_a_host_that_is_no_name_of_ours_is_never_signed_or_stored(
    host: str, start: Start, backend: Backend, jobs: Jobs, receiver: Receiver, certificates: Path
) -> None:
    gateway = await start(jobs={}, webhooks=out(certificates), environ=ENVIRONMENT)
    asked = submit(form(webhook_url=url(receiver))).replace(b"Host: gateway.test", f"Host: {host}".encode())
    problem = (await gateway.ask(asked, b"POST")).is_refusal(421, "misdirected")
    assert host not in str(problem)
    assert (jobs.started, backend.requests, receiver.got) == (0, [], [])
    with sqlite3.connect(gateway.path.with_name("ledger.db")) as ledger:
        assert host not in "".join(ledger.iterdump())


async def test_clients_that_name_none_have_the_default(
    start: Start, backend: Backend, jobs: Jobs, receiver: Receiver, certificates: Path
) -> None:
    del backend
    gateway = await start(jobs={}, webhooks=out(certificates, default_url=url(receiver)), environ=ENVIRONMENT)
    jobs.results["job-1"] = json.dumps({"status": "complete", "success": False, "error": "of the document"}).encode()
    assert (await gateway.ask(submit(form(webhook_url="")), b"POST")).status == 200
    await receiver.facts.until(lambda: bool(receiver.got))
    assert json.loads(receiver.got[0].body)["status"] == "failed"
    await gateway.says("webhook delivered")


@pytest.mark.parametrize(
    "named",
    [
        "http://localhost/hook", "https://127.0.0.1/hook", "https://localhost.evil.example/", "https://169.254.169.254/",
        "https://user@localhost/", "nonsense", "https://[::1]/",
    ],
)  # fmt: skip
async def test_no_job_starts_whose_webhook_may_not_be_sent(
    named: str, start: Start, backend: Backend, jobs: Jobs, certificates: Path
) -> None:
    gateway = await start(jobs={}, webhooks=out(certificates), environ=ENVIRONMENT)
    for chunked in (False, True):
        response = await gateway.ask(submit(form(webhook_url=named), chunked=chunked), b"POST")
        problem = response.is_refusal(422, "field_refused")
        assert problem["detail"].startswith("webhook_url")
        assert named not in problem["detail"]
    assert (jobs.started, backend.requests) == (0, [])


async def test_slow_names_of_one_owner_keep_no_other_from_submitting(
    start: Start, jobs: Jobs, receiver: Receiver, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.webhooks.egress.resolver.MAX_WAITING", 0)  # else they wait for five seconds
    go = threading.Event()

    def slow(host: str, most: int) -> tuple[HostAddress, ...]:
        if host.endswith(".slow.example"):
            go.wait(DEADLINE)
            raise socket.gaierror(socket.EAI_NONAME, "there is none")
        return find_addresses(host, most)

    allow = ["localhost", "*.slow.example"]
    gateway = await start(jobs={}, webhooks=out(certificates, allow=allow), environ=ENVIRONMENT)
    loop = asyncio.get_running_loop()
    monkeypatch.setattr("gateway.webhooks.egress.resolver.find_addresses", slow)
    names = [f"https://a{number}.slow.example/hook" for number in range(16)]
    waiting = [loop.create_task(gateway.ask(submit(form(webhook_url=name)), b"POST")) for name in names]
    try:
        await gateway.facts.until(lambda: gateway.counted(reason="lookup_unavailable") >= 12)
        assert (await gateway.ask(submit(form(webhook_url=url(receiver)), key=ADMIN_KEY), b"POST")).status == 200
        own = await gateway.ask(submit(form(webhook_url=url(receiver))), b"POST")
        own.is_refusal(503, "lookup_unavailable")
        assert own.value(b"retry-after") == b"5"
    finally:
        go.set()
    answers = await asyncio.gather(*waiting)
    assert sorted(answer.status for answer in answers)[4:] == [503] * 12
    assert jobs.started == 1


async def test_owners_without_a_secret_have_no_webhooks(
    start: Start, jobs: Jobs, receiver: Receiver, certificates: Path
) -> None:
    others = {"secret": None, "secrets": [{"owner": "key:root", "secret": {"env": "HOOKS"}}]}
    gateway = await start(jobs={}, webhooks=out(certificates, **others), environ=ENVIRONMENT)
    (await gateway.ask(submit(form(webhook_url=url(receiver))), b"POST")).is_refusal(422, "field_refused")
    assert (await gateway.ask(submit(form()), b"POST")).status == 200
    assert jobs.started == 1


async def test_without_a_secret_the_field_is_refused_as_ever(gateway: Running, jobs: Jobs) -> None:
    (await gateway.ask(submit(form(webhook_url="https://a.example/")), b"POST")).is_refusal(422, "field_refused")
    assert (await gateway.ask(submit(form(webhook_secret="s3cret")), b"POST")).status == 200
    assert jobs.started == 1


async def test_secrets_of_webhooks_reload(
    start: Start, jobs: Jobs, receiver: Receiver, certificates: Path, tmp_path: Path
) -> None:
    file = tmp_path / "hook-secret"
    file.write_text(SECRET)
    gateway = await start(jobs={}, webhooks=out(certificates, secret={"file": str(file)}))
    file.write_text("another-secret-0123456789")
    await gateway.says("configuration reloaded")
    jobs.results["job-1"] = complete()
    assert (await gateway.ask(submit(form(webhook_url=url(receiver))), b"POST")).status == 200
    await receiver.facts.until(lambda: bool(receiver.got))
    assert verify(receiver.got[0].body, receiver.got[0].headers, "another-secret-0123456789")


# In


def signed(body: bytes, secret: str = SECRET) -> str:
    return "X-Webhook-Signature: " + hmac.digest(secret.encode(), body, "sha256").hex()


def posted(body: bytes, *headers: str, target: str = IN) -> bytes:
    return request("POST", target, *headers, key=None, body=body)


def incoming(receiver: Receiver, **more: Any) -> dict[str, Any]:
    entry = {"name": "datalab", "secret": {"env": "HOOKS"}, "forward_to": f"http://127.0.0.1:{receiver.port}/in"}
    return {"in": [entry | more]}


@pytest.fixture
async def plain(aiohttp_raw_server: AiohttpRawServer) -> Receiver:
    return await receiving(aiohttp_raw_server, None)


async def test_a_signed_webhook_is_handed_on_once(start: Start, backend: Backend, plain: Receiver) -> None:
    gateway = await start(webhooks=incoming(plain), environ=ENVIRONMENT)
    body = b'{"request_id": "r-1",  "webhook_secret": "x", "note": "caf\\u00e9"}'
    first = await gateway.ask(posted(body, signed(body)), b"POST")
    again = await gateway.ask(posted(body, signed(body)), b"POST")
    assert (first.status, json.loads(first.body)) == (200, {"status": "processed"})
    assert (again.status, json.loads(again.body)) == (200, {"status": "already processed"})
    assert first.value(b"cache-control") == b"no-store"
    (got,) = plain.got
    assert "webhook_secret" not in json.loads(got.body)
    assert json.loads(got.body)["request_id"] == "r-1"
    assert backend.requests == []
    events = await gateway.finished(2)
    assert {(event["route"], event["reason"], event["key"]) for event in events} == {("webhooks", "answered", None)}


async def test_what_is_not_signed_is_refused(start: Start, plain: Receiver) -> None:
    gateway = await start(webhooks=incoming(plain, body_limit="2KB"), environ=ENVIRONMENT)
    body = b'{"request_id": "r-1"}'

    async def ask(content: bytes, *headers: str, target: str = IN) -> Response:
        return await gateway.ask(posted(content, *headers, target=target), b"POST")

    (await ask(body)).is_refusal(401, "unauthenticated")
    (await ask(body, signed(body, "another-secret-0123456789"))).is_refusal(401, "unauthenticated")
    (await ask(body + b" ", signed(body))).is_refusal(401, "unauthenticated")
    (await ask(b"nothing", signed(b"nothing"))).is_refusal(400, "body_malformed")
    (await ask(body, signed(body), target=IN + "x")).is_refusal(404, "route_not_found")
    large = b'{"request_id": "%b"}' % (b"r" * 3000)
    problem = (await ask(large, signed(large))).is_refusal(413, "body_too_large")
    assert problem["detail"].endswith("the limit is 2048 (webhooks.in[].body_limit).")
    (await gateway.ask(request("GET", IN, key=None))).is_refusal(405, "method_not_allowed")
    assert plain.got == []


async def test_what_is_not_taken_comes_again(start: Start, plain: Receiver) -> None:
    gateway = await start(webhooks=incoming(plain), environ=ENVIRONMENT)
    body = b'{"request_id": "r-1"}'
    plain.answers = [500]
    (await gateway.ask(posted(body, signed(body)), b"POST")).is_refusal(502, "upstream_unreachable")
    assert (await gateway.ask(posted(body, signed(body)), b"POST")).status == 200
    assert len(plain.got) == 2


async def test_an_address_that_is_shut_out_within_a_body_is_refused(
    start: Start, plain: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.proxy.handler.RECHECK_AFTER", 0.0)
    gateway = await start(webhooks=incoming(plain), environ=ENVIRONMENT)
    client, body = await gateway.connect(), b'{"request_id": "r-1"}'
    sent = posted(body, signed(body))
    client.send(sent[:-1])
    await eventually(lambda: gateway.metric("gateway_requests_in_flight") == 1)
    gateway.rewrite(lambda document: document.update(network={"allow": ["10.0.0.0/8"]}))
    gateway.gateway.reloader.force()
    await gateway.says("configuration reloaded")
    client.send(sent[-1:])
    (await client.response(b"POST")).is_refusal(403, "address_denied")
    assert plain.got == []


async def test_a_body_is_invited(start: Start, plain: Receiver) -> None:
    gateway = await start(webhooks=incoming(plain), environ=ENVIRONMENT)
    body = b'{"request_id": "r-1"}'
    response = await gateway.ask(posted(body, signed(body), "Expect: 100-continue"), b"POST")
    assert (response.status, response.interim) == (200, [100])


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("X-Webhook-Signature: 00",),
        (f"X-Webhook-Signature: {'0' * 64}", f"X-Webhook-Signature: {'0' * 64}"),
        ("webhook-id: a", "webhook-signature: v1,AAAA"),
        ("webhook-id: a", "webhook-timestamp: 1", "webhook-signature: v1,AAAA"),
    ],
)
async def test_what_no_body_could_make_believed_is_refused_at_the_head(
    headers: tuple[str, ...], start: Start, plain: Receiver
) -> None:
    gateway = await start(webhooks=incoming(plain), environ=ENVIRONMENT)
    head = request("POST", IN, "Content-Length: 1000", "Expect: 100-continue", *headers, key=None)
    response = await gateway.ask(head, b"POST")
    response.is_refusal(401, "unauthenticated")
    assert response.interim == []


async def test_who_tells_the_secret_in_the_body_is_heard_where_that_is_on(start: Start, plain: Receiver) -> None:
    gateway = await start(webhooks=incoming(plain, accept_body_secret=True), environ=ENVIRONMENT)
    body = json.dumps({"request_id": "r-1", "webhook_secret": SECRET}).encode()
    assert (await gateway.ask(posted(body), b"POST")).status == 200


async def test_strangers_bodies_share_one_budget_and_give_way_to_a_small_one(start: Start, plain: Receiver) -> None:
    limit = {"unverified_limit": "64KB"}
    gateway = await start(webhooks=incoming(plain, body_limit="16KB"), environ=ENVIRONMENT, body=limit)

    def used() -> float:
        return gateway.metric("gateway_unverified_body_bytes")

    almost = posted(b"x" * 16_000, f"X-Webhook-Signature: {'0' * 64}")[:-1]
    for number in range(2, 6):
        client = await gateway.connect(source=f"127.0.0.{number}")
        client.send(almost)
        await eventually(lambda: used() == 15_999 * (number - 1))  # noqa: B023 -- it is awaited here
    late = await gateway.connect(source="127.0.0.5")
    (await late.ask(almost, b"POST")).is_refusal(503, "no_room")
    assert used() == 15_999 * 4
    honest = b'{"request_id": "r-1", "note": "%b"}' % (b"x" * 2_000)
    assert (await gateway.ask(posted(honest, signed(honest)), b"POST")).status == 200
    assert used() == 15_999 * 3
    await gateway.close_clients()
    await eventually(lambda: gateway.counted(reason="no_room") == 2)
    await eventually(lambda: used() == 0)


async def test_without_webhooks_there_is_no_such_path(gateway: Running) -> None:
    (await gateway.ask(posted(b"{}"), b"POST")).is_refusal(404, "route_not_found")


async def test_old_records_of_busy_minutes_are_all_removed_in_one(
    start: Start, backend: Backend, certificates: Path, tmp_path: Path
) -> None:
    """Of sent webhooks 200 a minute were removed: two keys with the default rate made more, for ever."""
    del backend
    path, names = tmp_path / "old.db", [str(number) for number in range(2500)]
    write_sqlite_ledger(path)
    with closing(sqlite3.connect(path)) as ledger, ledger:
        ledger.executemany(
            "INSERT INTO deliveries (id, upstream, request_id, owner, url, destination, state, attempts, created_at)"
            " VALUES (?1, 'default', ?1, 'key:ci', 'https://localhost/', 'localhost:443', ?2, 1, 1)",
            [(name, DeliveryState.DELIVERED) for name in names],
        )
        checkpoint = "INSERT INTO checkpoints (upstream, checkpoint, owner, expires_at) VALUES ('default', ?, 'o', 1)"
        ledger.executemany(checkpoint, [(name,) for name in names])
        received = "INSERT INTO received (name, request_id, handled, until) VALUES ('datalab', ?, 1, 1)"
        ledger.executemany(received, [(name,) for name in names])
    await start(webhooks=out(certificates), environ=ENVIRONMENT, ledger={"url": f"sqlite:///{path}"})

    def left() -> tuple[int, ...]:
        counts = "(SELECT count(*) FROM deliveries), (SELECT count(*) FROM checkpoints), count(*) FROM received"
        with closing(sqlite3.connect(path, timeout=DEADLINE)) as ledger:
            found: tuple[int, ...] = ledger.execute(f"SELECT {counts}").fetchone()
            return found

    await eventually(lambda: left() == (0, 0, 0))  # the first turn removes what is old, as one a minute does
