"""Webhooks that come in: verified, handed on once, also in a race and across replicas; real sockets, both engines."""

import asyncio
import itertools
import json
import shutil
import struct
from collections import Counter
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, cast
from unittest.mock import patch

import pytest
from pytest_aiohttp import AiohttpRawServer
from structlog.testing import capture_logs

from gateway.aio.bounded_connector import bounded_context
from gateway.aio.drive import Drive
from gateway.aio.iteration import Iteration
from gateway.aio.shared_context import PAUSE
from gateway.aio.tls.buffers import TlsBuffers
from gateway.aio.tls.transport import TlsTransport
from gateway.config.settings.webhooks import WebhookIn
from gateway.errors import Refused
from gateway.ledger.engine import Engine, is_of_an_owner
from gateway.ledger.ledger import Ledger
from gateway.ledger.schema import received
from gateway.model.reasons import Reason
from gateway.webhooks.inbound.forward import Forward, NotTaken
from gateway.webhooks.inbound.inbound_receiver import ALREADY, PROCESSED, Expected
from gateway.webhooks.inbound.inbound_receiver import Receiver as Taker
from gateway.webhooks.inbound.verification import without_secret
from gateway.webhooks.signature import Secrets, sign
from tests.support.iteration import iteration_now
from tests.support.ledgers import NOON, Faulty, rows_of
from tests.support.pure import denial_of
from tests.support.waiting import eventually
from tests.webhooks.receivers import Receiver, Serve, make_certificates, misbehaving, receiving, server_context

pytestmark = pytest.mark.usefixtures("plain_log")

SECRET = "canary-secret-of-the-sender"
Headers = dict[bytes, list[bytes]]


def settings(port: int, **changes: Any) -> WebhookIn:
    url = f"http://127.0.0.1:{port}/hook?q=1"
    raw = {"name": "datalab", "secret": {"env": "A"}, "forward_to": url, **changes}
    return WebhookIn.model_validate(raw, context={"environ": {"A": SECRET}})


def message(request_id: str = "r1") -> bytes:
    return json.dumps({"request_id": request_id, "request_check_url": "canary-url"}).encode()


def signed(body: bytes, now: float = NOON, by: str | None = None) -> Headers:
    """As a sender does that gives each job one message; `by` names another."""
    by = by or f"m-{body.hex()[:200]}"
    headers = sign(Secrets(SECRET.encode(), (SECRET.encode(),)), by, now, body)
    return {name.lower().encode(): [value.encode()] for name, value in headers.items()}


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def service(aiohttp_raw_server: AiohttpRawServer) -> Receiver:
    """The service that webhooks are handed on to."""
    return await receiving(aiohttp_raw_server, None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def taker(ledger: Ledger, service: Receiver, clock: Clock) -> Taker:
    return Taker(ledger, lambda: [settings(service.port)], clock, iteration_now())


def expected_of(taker: Taker, name: str, body: bytes, headers: Headers | None = None) -> Expected:
    """What is expected by the head, when all of the body has come."""
    expected = taker.expect(name, signed(body) if headers is None else headers)
    expected.check.take(body)
    return expected


async def take(taker: Taker, body: bytes = b"", headers: Headers | None = None) -> bytes:
    body = body or message()
    return await taker.take(expected_of(taker, "datalab", body, headers), body, "q1")


async def refusal(taker: Taker, body: bytes = b"", headers: Headers | None = None, name: str = "datalab") -> Reason:
    body = body or message()
    with pytest.raises(Refused) as caught:
        await taker.take(expected_of(taker, name, body, headers), body)
    assert "canary" not in str(caught.value.denial)
    return caught.value.denial.reason


async def test_a_sender_has_its_own_turn_at_the_ledger(
    taker: Taker, ledger: Ledger, service: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of one sender's filled the turn of the gateway's own work; one that came late stopped all submits."""
    turns, write = set[str](), ledger.write

    async def noted(work: Any, *, in_turn_of: str = "") -> Any:
        turns.add(in_turn_of)
        return await write(work, in_turn_of=in_turn_of)

    monkeypatch.setattr(ledger, "write", noted)
    assert await take(taker) == PROCESSED
    service.answers = [503]
    assert await refusal(taker, message("r2")) is Reason.UPSTREAM_UNREACHABLE
    assert [is_of_an_owner(turn) for turn in turns] == [True]


async def test_copies_look_ever_more_seldom_whether_the_first_was_taken(
    taker: Taker, engine: Engine, service: Receiver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """250 copies of one that a service did not answer looked a thousand times a second: half a processor."""
    monkeypatch.setattr("gateway.webhooks.inbound.inbound_receiver.LOOK_EVERY", 0.05)
    faulty = Faulty(engine)
    counting = Taker(Ledger(faulty), lambda: [settings(service.port)], clock, iteration_now())
    service.gate = asyncio.Event()
    first = asyncio.ensure_future(take(taker))
    await service.facts.until(lambda: service.running == 1)
    copy = asyncio.ensure_future(take(counting))
    await asyncio.sleep(1.0)
    assert 2 <= faulty.writes <= 6  # at 0, 50, 150, 350, 750 ms
    service.gate.set()
    assert [await first, await copy] == [PROCESSED, ALREADY]


async def test_it_is_handed_on_once(taker: Taker, service: Receiver, clock: Clock) -> None:
    assert [await take(taker) for _ in range(3)] == [PROCESSED, ALREADY, ALREADY]
    (got,) = service.got
    assert (got.method, got.path, got.body) == ("POST", "/hook?q=1", message())
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["X-Request-Id"] == "q1"
    assert not any("signature" in name.lower() for name in got.headers)
    assert await take(taker, message("r2")) == PROCESSED
    clock.now += 7 * 86400
    assert await take(taker, headers=signed(message(), clock.now)) == PROCESSED
    assert len(service.got) == 3


async def test_the_systems_cas_are_read_once_for_all_that_are_handed_on(
    ledger: Ledger, service: Receiver, clock: Clock
) -> None:
    """Each webhook for a service with https read them anew: 50 ms of CPU."""
    url = f"https://127.0.0.1:{service.port}/hook"
    taker = Taker(ledger, lambda: [settings(service.port, forward_to=url)], clock, iteration_now())
    with patch("gateway.aio.shared_context.bounded_context", wraps=bounded_context) as made:
        for request_id in ("r1", "r2", "r3"):
            assert await refusal(taker, message(request_id)) is Reason.UPSTREAM_UNREACHABLE  # it speaks no TLS
    assert made.call_count == 1


async def test_all_connections_to_services_read_to_the_same_buffers(
    ledger: Ledger, aiohttp_raw_server: AiohttpRawServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a megabyte was made anew for each webhook, and 256 may be handed on at once."""
    theirs, buffers, make = make_certificates(tmp_path), list[TlsBuffers](), TlsTransport.__init__
    service = await receiving(aiohttp_raw_server, server_context(theirs))
    monkeypatch.setenv("SSL_CERT_FILE", str(theirs / "ca.pem"))

    def noted(self: TlsTransport, context: Any, above: Any, shared: TlsBuffers, *more: Any, **options: Any) -> None:
        buffers.append(shared)
        make(self, context, above, shared, *more, **options)

    monkeypatch.setattr(TlsTransport, "__init__", noted)
    url = f"https://127.0.0.1:{service.port}/hook"
    taker = Taker(ledger, lambda: [settings(service.port, forward_to=url)], Clock(), iteration_now())
    for request_id in ("r1", "r2", "r3"):
        assert await take(taker, message(request_id)) == PROCESSED
    assert len(service.got) == len(buffers) == 3
    assert len({*buffers}) == 1


async def test_of_an_id_that_was_given_again_each_message_is_handed_on(taker: Taker, service: Receiver) -> None:
    first, second = (signed(message(), by=by) for by in ("m1", "m2"))
    assert [await take(taker, headers=headers) for headers in (first, second, first, second)] == [PROCESSED] * 2 + [
        ALREADY
    ] * 2
    assert [got.headers["webhook-id"] for got in service.got] == ["m1", "m2"]
    stripped = {b"x-webhook-signature": first[b"x-webhook-signature"]}
    assert await take(taker, headers=stripped) == ALREADY
    assert len(service.got) == 2


async def test_without_an_id_of_its_own_a_message_is_known_by_its_job(taker: Taker, service: Receiver) -> None:
    plainly = {b"x-webhook-signature": signed(message())[b"x-webhook-signature"]}
    assert [await take(taker, headers=plainly) for _ in range(2)] == [PROCESSED, ALREADY]
    assert "webhook-id" not in service.got[0].headers
    assert [await take(taker), await take(taker)] == [PROCESSED, ALREADY]  # it may be of a later job of that id
    assert await take(taker, headers=plainly) == ALREADY


async def test_without_a_request_id_of_ours_there_is_none(taker: Taker, service: Receiver) -> None:
    await taker.take(expected_of(taker, "datalab", message()), message())
    assert "X-Request-Id" not in service.got[0].headers


@pytest.mark.parametrize("answer", [199 + 1 + 100, 307, 400, 404, 500, 503])
async def test_what_was_not_taken_is_not_known(taker: Taker, service: Receiver, ledger: Ledger, answer: int) -> None:
    service.answer, service.headers = answer, {"Location": "/other"}
    for _ in range(2):
        assert await refusal(taker) is Reason.UPSTREAM_UNREACHABLE
    assert await ledger.read(lambda c: rows_of(c, received)) == []
    service.answer = 200
    assert [await take(taker), await take(taker)] == [PROCESSED, ALREADY]
    assert [got.path for got in service.got] == ["/hook?q=1"] * 3


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del writer
    await reader.read()


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/9 garbage\r\n\r\n")
    await writer.drain()
    await reader.read()


@pytest.mark.parametrize("serve", [hangs_up, silence, garbage])
async def test_a_service_that_is_ill_is_a_502(ledger: Ledger, clock: Clock, serve: Serve) -> None:
    async with misbehaving(serve, None) as port:
        taker = Taker(ledger, lambda: [settings(port, timeout="300ms")], clock, iteration_now())
        assert await refusal(taker) is Reason.UPSTREAM_UNREACHABLE
    assert await refusal(taker) is Reason.UPSTREAM_UNREACHABLE  # by now nobody listens
    assert await ledger.read(lambda c: rows_of(c, received)) == []


async def reads_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    cast("asyncio.Transport", writer.transport).pause_reading()
    del reader
    await asyncio.Event().wait()


@pytest.mark.filterwarnings("ignore:Sending a large body")
@pytest.mark.parametrize("encrypted", [False, True])
async def test_of_a_service_that_reads_nothing_neither_socket_nor_body_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, encrypted: bool
) -> None:
    """The end of a connection waited for the service to read the rest, for ever."""
    monkeypatch.setattr("gateway.aio.bounded_connector.LINGER", 0.1)
    certificates = make_certificates(tmp_path)
    context = bounded_context()
    context.load_verify_locations(certificates / "ca.pem")
    monkeypatch.setattr("gateway.aio.shared_context.bounded_context", lambda: context)
    forward = Forward(iteration_now())
    async with misbehaving(reads_nothing, server_context(certificates) if encrypted else None) as port:
        before = socket_count()
        for _ in range(3):
            with pytest.raises(NotTaken, match="no answer in time"):
                await forward(f"http{'s' * encrypted}://127.0.0.1:{port}/", b"x" * 16_000_000, {}, 0.5)
        await eventually(lambda: socket_count() == before + 3)  # the service's own ends, which it has not read


def socket_count() -> int:
    """How many sockets this process has."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]  # but the one of this very list
    return sum(str(link.readlink()).startswith("socket:") for link in links)


async def test_whoever_may_not_learns_nothing(taker: Taker, service: Receiver) -> None:
    assert await refusal(taker, headers={}) is Reason.UNAUTHENTICATED
    assert await refusal(taker, headers=signed(message("r2"))) is Reason.UNAUTHENTICATED
    assert await refusal(taker, name="other") is Reason.ROUTE_NOT_FOUND
    assert await refusal(taker, b"x" * (1024**2 + 1)) is Reason.BODY_TOO_LARGE
    with pytest.raises(Refused, match=r"the limit is 1048576 \(webhooks\.in\[\]\.body_limit\)"):
        await taker.take(expected_of(taker, "datalab", message()), b"x" * (1024**2 + 1))
    assert await refusal(taker, b"{}") is Reason.BODY_MALFORMED
    assert taker.expect("datalab", signed(message())).limit.most == 1024**2
    assert denial_of(taker.expect, "other", signed(message())).reason is Reason.ROUTE_NOT_FOUND
    assert denial_of(taker.expect, "datalab", {}).reason is Reason.UNAUTHENTICATED
    assert service.got == []


async def test_in_a_race_one_is_first_and_the_others_wait_for_it(
    engine: Engine, service: Receiver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.webhooks.inbound.inbound_receiver.LOOK_EVERY", 0.01)
    replicas = [Taker(Ledger(engine), lambda: [settings(service.port)], clock, iteration_now()) for _ in range(2)]
    service.gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(take(replica)) for _ in range(10) for replica in replicas]
    await service.facts.until(lambda: len(service.got) == 1)
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in tasks)
    service.gate.set()
    assert Counter(await asyncio.gather(*tasks)) == {PROCESSED: 1, ALREADY: 19}
    assert len(service.got) == 1


async def test_when_the_first_fails_the_next_is_first(
    taker: Taker, service: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.webhooks.inbound.inbound_receiver.LOOK_EVERY", 0.01)
    service.answers = [500]
    service.gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(take(taker)) for _ in range(5)]
    await service.facts.until(lambda: len(service.got) == 1)
    service.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(result, Refused) for result in results) == 1
    assert Counter(result for result in results if isinstance(result, bytes)) == {PROCESSED: 1, ALREADY: 3}
    assert len(service.got) == 2


async def test_who_waits_is_judged_by_the_secret_that_is_in_force_then(
    ledger: Ledger, service: Receiver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.webhooks.inbound.inbound_receiver.LOOK_EVERY", 0.01)
    in_force = [settings(service.port)]
    taker = Taker(ledger, lambda: in_force, clock, iteration_now())
    service.answers = [500]
    service.gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    first = loop.create_task(take(taker))
    await service.facts.until(lambda: len(service.got) == 1)
    second = loop.create_task(take(taker))
    await asyncio.sleep(0.05)
    assert not second.done()
    changed = {"name": "datalab", "secret": {"env": "A"}, "forward_to": in_force[0].forward_to}
    in_force[0] = WebhookIn.model_validate(changed, context={"environ": {"A": "o" * 32}})
    with pytest.raises(Refused) as caught:
        await asyncio.wait_for(second, 5)
    assert caught.value.denial.reason is Reason.UNAUTHENTICATED
    service.gate.set()
    with pytest.raises(Refused):
        await first
    assert len(service.got) == 1


async def test_a_body_whose_secret_changed_as_it_came_is_judged_anew_in_turns(
    ledger: Ledger, service: Receiver, clock: Clock
) -> None:
    """All of it was gone through in one go: a reload, and 8 MB of a stranger, held the loop for 22 ms."""
    in_force = [settings(service.port, previous_secret={"env": "A"}, body_limit="8MB")]
    moments = itertools.count()  # each look at the clock is a second later: an iteration has time for one piece
    loop = asyncio.get_running_loop()
    iteration = Iteration(lambda: float(next(moments)), loop.call_soon)
    taker = Taker(ledger, lambda: in_force, clock, iteration)
    body = json.dumps({"request_id": "r1", "text": "x" * 1_000_000}).encode()
    by_another = sign(Secrets(b"o" * 32, (b"o" * 32,)), "m1", NOON, body)
    headers = {name.lower().encode(): [value.encode()] for name, value in by_another.items()}
    expected = expected_of(taker, "datalab", body, headers)
    changed = {**settings(service.port).model_dump(include={"name", "forward_to"}), "secret": {"env": "A"}}
    in_force[0] = WebhookIn.model_validate(changed, context={"environ": {"A": "o" * 32}})
    begun = iteration.number
    await taker.follow(expected, body)
    assert iteration.number - begun >= 3
    assert expected.check.read(in_force[0], body, NOON).message == ("r1", "m1")
    in_force[0] = settings(service.port)
    await taker.follow(expected, body)
    assert denial_of(expected.check.read, in_force[0], body, NOON).reason is Reason.UNAUTHENTICATED


def telling() -> bytes:
    return json.dumps(
        {"request_id": "r1", "webhook_secret": SECRET, "x": "\x7f" * 70_000}, ensure_ascii=False
    ).encode()


async def test_a_body_that_tells_the_secret_is_read_and_written_in_turns_of_their_own(
    ledger: Ledger, service: Receiver, clock: Clock
) -> None:
    """All in one go: a megabyte of who knows the secret held the loop for 9 to 18 ms, eight for 150."""
    iteration, turns = iteration_now(), list[int]()

    def noted(work: Any) -> Any:
        def note(what: bytes | str | dict[str, Any], **options: Any) -> Any:
            if "x" in what if isinstance(what, dict) else len(what) > 70_000:
                turns.append(iteration.number)
            return work(what, **options)

        return note

    taker = Taker(ledger, lambda: [settings(service.port, accept_body_secret=True)], clock, iteration)
    body = telling()
    with patch("json.loads", noted(json.loads)), patch("json.dumps", noted(json.dumps)):
        assert await take(taker, body, {}) == PROCESSED
    assert len(turns) == len(set(turns)) == 3  # the secret, the numbers, the new body
    (got,) = service.got
    assert json.loads(got.body) == {"request_id": "r1", "x": "\x7f" * 70_000}


async def test_one_whose_secret_changed_as_its_body_was_written_is_judged_anew(
    ledger: Ledger, service: Receiver, clock: Clock
) -> None:
    in_force = [settings(service.port, accept_body_secret=True)]
    taker = Taker(ledger, lambda: in_force, clock, iteration_now())
    raw = {**in_force[0].model_dump(include={"name", "forward_to"}), "secret": {"env": "A"}}

    def changes(members: dict[str, Any]) -> bytes | None:
        in_force[0] = WebhookIn.model_validate(
            {**raw, "accept_body_secret": True}, context={"environ": {"A": "o" * 32}}
        )
        return without_secret(members)

    with patch("gateway.webhooks.inbound.inbound_receiver.without_secret", changes):
        assert await refusal(taker, telling(), {}) is Reason.UNAUTHENTICATED
    assert service.got == []


async def test_who_waits_too_long_is_told_to_come_again(
    taker: Taker, service: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.webhooks.inbound.inbound_receiver.LOOK_EVERY", 0.01)
    service.gate = asyncio.Event()
    first = asyncio.get_running_loop().create_task(take(taker))
    await service.facts.until(lambda: len(service.got) == 1)
    monkeypatch.setattr("gateway.webhooks.inbound.inbound_receiver.LEASE_SECONDS", -29.9)
    with pytest.raises(Refused) as caught:
        await take(taker)
    assert (caught.value.denial.reason, caught.value.denial.retry_after) == (Reason.LEDGER_UNAVAILABLE, 5)
    assert caught.value.denial.title == "Try again later"
    service.gate.set()
    assert await first == PROCESSED


async def test_a_lease_that_was_left_is_taken_over(
    taker: Taker, service: Receiver, clock: Clock, ledger: Ledger
) -> None:
    service.gate = asyncio.Event()
    first = asyncio.get_running_loop().create_task(take(taker))
    await service.facts.until(lambda: len(service.got) == 1)
    await taker.close(0.0)  # as kill -9: its lease stays
    with pytest.raises(asyncio.CancelledError):
        await first
    (until,) = {row["until"] for row in await ledger.read(lambda c: rows_of(c, received))}
    service.gate.set()
    clock.now = until
    assert await take(taker, headers=signed(message(), clock.now)) == PROCESSED


async def test_a_sender_that_leaves_breaks_nothing_off(taker: Taker, service: Receiver) -> None:
    service.gate = asyncio.Event()
    ended: list[BaseException | None] = []

    async def work() -> None:
        await take(taker)

    drive = Drive(work(), ended.append)
    drive.step()
    await service.facts.until(lambda: len(service.got) == 1)
    drive.interrupt(ConnectionResetError())
    assert isinstance(ended[0], ConnectionResetError)
    service.gate.set()
    await taker.close(10.0)
    assert await take(taker) == ALREADY


async def test_it_can_be_awaited_in_a_drive(taker: Taker) -> None:
    ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
    found: list[bytes] = []

    async def work() -> None:
        found.append(await take(taker))

    Drive(work(), ended.set_result).step()
    assert await ended is None
    assert found == [PROCESSED]


async def test_so_many_are_handed_on_at_once(
    taker: Taker, service: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.webhooks.inbound.inbound_receiver.MAX_AT_ONCE", 2)
    service.gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(take(taker, message(f"r{number}"))) for number in range(2)]
    await service.facts.until(lambda: len(service.got) == 2)
    assert await refusal(taker, message("r3")) is Reason.LEDGER_UNAVAILABLE
    service.gate.set()
    assert await asyncio.gather(*tasks) == [PROCESSED, PROCESSED]
    await eventually(lambda: repr(taker) == "<Receiver taking=0>")
    assert await take(taker, message("r3")) == PROCESSED


async def test_one_whose_service_hangs_leaves_the_others_their_part(
    engine: Engine, service: Receiver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """256 of one sender kept all others out, each with a 503, for as long as its service hung."""
    monkeypatch.setattr("gateway.webhooks.inbound.inbound_receiver.MAX_AT_ONCE", 4)
    names = [settings(service.port), settings(service.port, name="other")]
    taker = Taker(Ledger(engine), lambda: names, clock, iteration_now())
    service.gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(take(taker, message(f"r{number}"))) for number in range(2)]
    await service.facts.until(lambda: len(service.got) == 2)
    assert await refusal(taker, message("r3")) is Reason.LEDGER_UNAVAILABLE
    body = message("r3")
    tasks.append(loop.create_task(taker.take(expected_of(taker, "other", body), body)))
    await service.facts.until(lambda: len(service.got) == 3)
    service.gate.set()
    assert await asyncio.gather(*tasks) == [PROCESSED] * 3


async def test_without_the_ledger_nothing_is_handed_on(engine: Engine, service: Receiver, clock: Clock) -> None:
    faulty = Faulty(engine)
    faulty.is_away = True
    taker = Taker(Ledger(faulty), lambda: [settings(service.port)], clock, iteration_now())
    assert await refusal(taker) is Reason.LEDGER_UNAVAILABLE
    assert service.got == []


async def test_what_was_handed_on_is_noted_though_the_ledger_fails_for_a_moment(
    engine: Engine, service: Receiver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.webhooks.inbound.inbound_receiver.RETRY_DELAYS", (0.0, 0.0, 0.0))
    faulty = Faulty(engine)
    taker = Taker(Ledger(faulty), lambda: [settings(service.port)], clock, iteration_now())
    faulty.faults = ["", "before", "after"]
    assert [await take(taker), await take(taker)] == [PROCESSED, ALREADY]
    faulty.faults = ["", "before", "before", "before"]
    assert await refusal(taker, message("r2")) is Reason.LEDGER_UNAVAILABLE


async def test_what_can_not_be_forgotten_waits_for_its_lease(engine: Engine, service: Receiver, clock: Clock) -> None:
    faulty = Faulty(engine)
    taker = Taker(Ledger(faulty), lambda: [settings(service.port)], clock, iteration_now())
    service.answers = [500]
    faulty.faults = ["", "before"]
    assert await refusal(taker) is Reason.UPSTREAM_UNREACHABLE
    clock.now += 41
    assert await take(taker, headers=signed(message(), clock.now)) == PROCESSED


async def test_neither_secret_nor_payload_is_logged(
    taker: Taker, service: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    service.answers = [500, 200]
    with capture_logs() as logs, caplog.at_level("DEBUG"):
        await refusal(taker)
        await take(taker)
        await refusal(taker, headers={b"x-webhook-signature": [b"canary"]})
    assert {
        "event": "webhook not handed on",
        "log_level": "warning",
        "webhook": "datalab",
        "why": "the answer is 500",
    } in logs
    text = json.dumps(logs) + caplog.text
    for canary in ("canary", "r1", "request_check_url"):
        assert canary not in text


@pytest.mark.parametrize("was", ["missing", "another"])
async def test_a_ca_that_comes_while_the_gateway_runs_is_trusted(
    ledger: Ledger, aiohttp_raw_server: AiohttpRawServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, was: str
) -> None:
    """The context was made once: a service whose CA came later was refused until a restart."""
    theirs, file = make_certificates(tmp_path / "theirs"), tmp_path / "ca.pem"
    service = await receiving(aiohttp_raw_server, server_context(theirs))
    if was == "another":
        shutil.copy(make_certificates(tmp_path / "another") / "ca.pem", file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    now = Clock()
    url = f"https://127.0.0.1:{service.port}/hook"
    iteration = Iteration(now, asyncio.get_running_loop().call_soon)
    taker = Taker(ledger, lambda: [settings(service.port, forward_to=url)], Clock(), iteration)
    assert await refusal(taker) is Reason.UPSTREAM_UNREACHABLE
    shutil.copy(theirs / "ca.pem", file)
    now.now += PAUSE

    async def is_taken() -> bool:
        try:
            return await take(taker) == PROCESSED
        except Refused:
            return False

    async with asyncio.timeout(10):
        while not await is_taken():  # noqa: ASYNC110 -- as a sender does
            await asyncio.sleep(0.05)
    assert len(service.got) == 1
