"""Webhooks from the ledger to receivers: real TLS, both engines, a clock that is put where it is wanted."""

import asyncio
import contextlib
import json
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
from pytest_aiohttp import AiohttpRawServer
from sqlalchemy import Connection
from structlog.testing import capture_logs

from gateway.aio.nudge import Nudge
from gateway.aio.tls.buffers import TlsBuffers
from gateway.aio.tls.transport import TlsTransport
from gateway.errors import OwnerWaited
from gateway.ledger.delivery_claims import claim_due
from gateway.ledger.engine import Engine, is_of_an_owner, is_postgres
from gateway.ledger.ledger import Ledger
from gateway.ledger.listings import counts
from gateway.ledger.schema import DeliveryState
from gateway.webhooks import verify
from gateway.webhooks.egress.resolver import LookupLate, Saturated
from gateway.webhooks.egress.rules import Address
from gateway.webhooks.outbound.metrics import WebhookMetrics
from gateway.webhooks.outbound.outcome import Result
from tests.support.ledgers import NOON, Faulty
from tests.support.waiting import eventually
from tests.webhooks.receivers import HOST, Receiver, misbehaving, receiving, server_context
from tests.webhooks.relays import NEXT, PATH, SECRET, Set, out

pytestmark = pytest.mark.usefixtures("plain_log")


async def test_a_webhook_is_signed_and_delivered_once(parts: Set, receiver: Receiver) -> None:
    await parts.make_due(receiver.port)
    for _ in range(3):
        await parts.settle()
    (got,) = receiver.got
    assert (got.method, got.path) == ("POST", PATH)
    assert got.body == b'{"request_id":"job-d1","request_check_url":"c","status":"complete"}'
    assert verify(got.body, got.headers, SECRET, now=NOON, plain=False)
    assert verify(got.body, {"X-Webhook-Signature": got.headers["X-Webhook-Signature"]}, SECRET)
    assert got.headers["webhook-id"] == "d1"
    assert (await parts.row())["state"] == DeliveryState.DELIVERED
    assert parts.results() == {"delivered": 1}


async def test_it_is_tried_again_with_the_same_id_and_bytes_until_it_is_taken(parts: Set, receiver: Receiver) -> None:
    receiver.answers = [500, 408, 429, 503]
    await parts.make_due(receiver.port)
    for pause in (5, 10, 20, 40, 0):
        await parts.settle()
        await parts.settle()  # not before its time
        parts.now += pause
    assert len(receiver.got) == 5
    assert {(got.headers["webhook-id"], got.body) for got in receiver.got} == {("d1", receiver.got[0].body)}
    assert len({got.headers["webhook-timestamp"] for got in receiver.got}) == 5
    assert parts.results() == {"retried": 4, "delivered": 1}


async def test_a_receiver_may_ask_for_time(parts: Set, receiver: Receiver) -> None:
    receiver.answer, receiver.headers = 503, {"Retry-After": "1000"}
    await parts.make_due(receiver.port)
    await parts.settle()
    row = await parts.row()
    assert (row["next_at"], row["last_status"], row["last_error"]) == (int(NOON + 1000), 503, "status")


@pytest.mark.parametrize(
    ("answer", "trouble"), [(410, "gone"), (400, "status"), (404, "status"), (307, "redirect"), (302, "redirect")]
)
async def test_some_answers_end_it(parts: Set, receiver: Receiver, answer: int, trouble: str) -> None:
    receiver.answer, receiver.headers = answer, {"Location": "/"}
    await parts.make_due(receiver.port)
    await parts.settle()
    row = await parts.row()
    assert (row["state"], row["last_status"], row["last_error"]) == (DeliveryState.DEAD, answer, trouble)
    assert parts.results() == {"dead": 1}


async def test_it_is_given_up_after_a_while(parts: Set, receiver: Receiver) -> None:
    receiver.answer = 500
    parts.out = out(parts.directory, give_up_after="60s")
    await parts.make_due(receiver.port)
    for _ in range(100):
        await parts.settle()
        parts.now += 1
    assert len(receiver.got) == 4  # at 0, 5, 15 and 35 seconds; the next would be at 75
    assert (await parts.row())["state"] == DeliveryState.DEAD
    assert parts.results() == {"retried": 3, "dead": 1}


async def test_during_a_rotation_old_and_new_secret_both_fit(parts: Set, receiver: Receiver) -> None:
    rotated = {"secret": {"env": "N"}, "previous_secret": {"env": "S"}, "previous_until": "2026-11-23T13:00:00Z"}
    parts.out = out(parts.directory, **rotated)
    for number, at in enumerate((NOON, NOON + 3600)):
        parts.now = at
        await parts.make_due(receiver.port, f"d{number}")
        await parts.settle()
    during, after = receiver.got
    for secret in (SECRET, NEXT):
        assert verify(during.body, during.headers, secret, now=NOON, plain=False)
    plain = {"X-Webhook-Signature": during.headers["X-Webhook-Signature"]}
    assert (verify(during.body, plain, SECRET), verify(during.body, plain, NEXT)) == (True, False)
    assert not verify(after.body, after.headers, SECRET, now=NOON + 3600)
    assert verify(after.body, {"X-Webhook-Signature": after.headers["X-Webhook-Signature"]}, NEXT)


async def test_an_owner_has_its_own_secret_or_none(parts: Set, receiver: Receiver) -> None:
    parts.out = out(parts.directory, secret=None, secrets=[{"owner": "key:acme", "secret": {"env": "N"}}])
    await parts.make_due(receiver.port, "d1", "key:acme")
    await parts.make_due(receiver.port, "d2", "key:ci")
    await parts.settle()
    (got,) = receiver.got
    assert verify(got.body, got.headers, NEXT, now=NOON)
    row = await parts.row("d2")
    assert (row["state"], row["last_error"]) == (DeliveryState.DEAD, "no_secret")
    assert parts.results() == {"delivered": 1, "refused": 1}


async def test_what_is_not_allowed_any_more_is_not_sent(parts: Set, receiver: Receiver) -> None:
    await parts.make_due(receiver.port)
    parts.out = out(parts.directory, allow=[])
    await parts.settle()
    row = await parts.row()
    assert (row["state"], row["last_error"], receiver.got) == (DeliveryState.DEAD, "not_allowed", [])
    assert parts.results() == {"refused": 1}


async def test_a_name_that_is_bound_anew_leads_nowhere(parts: Set, receiver: Receiver) -> None:
    parts.out = out(parts.directory, allow=["10.0.0.0/8"])
    parts.addresses = {HOST: ["10.0.0.1", "127.0.0.1"]}  # allowed when it was submitted; another answer now
    await parts.make_due(receiver.port)
    await parts.settle()
    assert (await parts.row())["last_error"] == "not_allowed"
    assert receiver.got == []


async def test_the_connection_is_made_to_what_was_checked(parts: Set, receiver: Receiver) -> None:
    # The system's own resolver would find this machine for `localhost`; what was checked is another address.
    parts.out = out(parts.directory, allow=["localhost"])
    parts.addresses = {"localhost": ["127.0.0.99"]}
    await parts.make_due(receiver.port, host="localhost")
    await parts.settle()
    assert ((await parts.row())["last_error"], receiver.got) == ("connection", [])
    parts.addresses = {"localhost": ["127.0.0.1"]}
    parts.now += 5
    await parts.settle()
    assert len(receiver.got) == 1


async def test_a_host_that_is_not_found_is_tried_again(parts: Set, receiver: Receiver) -> None:
    await parts.make_due(receiver.port)
    addresses, parts.addresses = parts.addresses, {}
    await parts.settle()
    assert (await parts.row())["last_error"] == "not_found"
    parts.addresses = addresses
    parts.now += 5
    await parts.settle()
    assert len(receiver.got) == 1


async def test_so_many_at_once_go_to_one_destination_and_the_others_do_not_wait(
    parts: Set, receiver: Receiver, hook_certificates: Path, aiohttp_raw_server: AiohttpRawServer
) -> None:
    receiver.gate = asyncio.Event()
    for number in range(10):
        await parts.make_due(receiver.port, f"d{number}")
    parts.now += 1
    other = await receiving(aiohttp_raw_server, server_context(hook_certificates))
    await parts.make_due(other.port, "other")
    await parts.relay.turn()
    await other.facts.until(lambda: len(other.got) == 1)
    await receiver.facts.until(lambda: len(receiver.got) == 4)
    await parts.relay.turn()
    receiver.gate.set()
    await parts.idle()
    for _ in range(2):
        await parts.settle()
    assert (len(receiver.got), receiver.most) == (10, 4)


async def test_there_is_room_for_so_many_at_once_in_all(parts: Set, receiver: Receiver) -> None:
    parts.out = out(parts.directory, most_in_flight=3, most_in_flight_per_destination=100)
    receiver.gate = asyncio.Event()
    for number in range(5):
        await parts.make_due(receiver.port, f"d{number}", f"key:{number}")
    for _ in range(3):
        await parts.relay.turn()
    await receiver.facts.until(lambda: len(receiver.got) == 3)
    receiver.gate.set()
    await parts.idle()
    await parts.settle()
    assert (len(receiver.got), receiver.most) == (5, 3)


async def test_owners_take_turns_however_long_others_have_waited(parts: Set, receiver: Receiver) -> None:
    parts.out = out(parts.directory, most_in_flight=1)
    for number in range(6):
        await parts.make_due(receiver.port, f"d{number}", f"key:{number % 2}")
    parts.now += 1
    await parts.make_due(receiver.port, "newest", "key:z")
    for _ in range(4):
        await parts.settle()
    assert [got.headers["webhook-id"] for got in receiver.got] == ["d0", "d1", "newest", "d2"]


async def test_a_destination_that_keeps_failing_is_paused_and_probed(parts: Set, receiver: Receiver) -> None:
    addresses, parts.addresses = parts.addresses, {}
    for number in range(8):
        await parts.make_due(receiver.port, f"d{number}")
    await parts.settle()
    await parts.settle()
    assert parts.results() == {"retried": 8}  # two turns of four; the fifth failure has paused it
    parts.now += 29
    await parts.settle()
    assert parts.results() == {"retried": 8}
    parts.now += 1
    await parts.settle()
    assert parts.results() == {"retried": 9}  # a probe, alone
    parts.now += 59
    await parts.settle()
    assert parts.results() == {"retried": 9}
    parts.addresses = addresses
    parts.now += 1
    await parts.settle()
    assert len(receiver.got) == 1
    for _ in range(2):
        await parts.settle()
    states = await parts.ledger.read(counts)
    assert states[DeliveryState.DELIVERED] == 8


async def test_an_answer_pauses_nothing_whatever_it_says(parts: Set, receiver: Receiver) -> None:
    receiver.answer = 503
    for number in range(8):
        await parts.make_due(receiver.port, f"d{number}")
    for _ in range(2):
        await parts.settle()
    receiver.answer = 204
    await parts.make_due(receiver.port, "one more")
    await parts.settle()
    assert (await parts.row("one more"))["state"] == DeliveryState.DELIVERED


async def test_what_fails_for_one_owner_pauses_no_other(parts: Set, receiver: Receiver) -> None:
    addresses, parts.addresses = parts.addresses, {}
    for number in range(8):
        await parts.make_due(receiver.port, f"d{number}", "key:other")
    for _ in range(2):
        await parts.settle()
    parts.addresses = addresses
    await parts.make_due(receiver.port, "mine")
    await parts.settle()
    assert [got.headers["webhook-id"] for got in receiver.got] == ["mine"]


async def test_more_owners_than_places_take_turns(parts: Set, receiver: Receiver) -> None:
    """Of equals the longest due went first: an owner waited until eight others had nothing left that was older."""
    parts.out = out(parts.directory, most_in_flight_per_destination=1)
    for name in ("a1", "a2", "b1", "b2", "c1"):
        await parts.make_due(receiver.port, name, f"key:{name[0]}")
    for _ in range(5):
        await parts.settle()
    assert [got.headers["webhook-id"] for got in receiver.got] == ["a1", "b1", "c1", "a2", "b2"]


async def test_receivers_that_are_silent_on_many_ports_cost_their_owners_share(
    parts: Set, receiver: Receiver, hook_certificates: Path
) -> None:
    parts.out = out(parts.directory, most_in_flight=8, most_in_flight_per_destination=1)
    async with contextlib.AsyncExitStack() as stack:
        for number in range(9):
            port = await stack.enter_async_context(misbehaving(silence, server_context(hook_certificates)))
            await parts.make_due(port, f"slow{number}", "key:slow")
        await parts.relay.turn()
        assert parts.sending == 2
        await parts.make_due(receiver.port)
        await parts.relay.turn()
        await receiver.facts.until(lambda: len(receiver.got) == 1)
        await parts.relay.close(0.0)


async def test_look_ups_that_have_no_place_say_nothing_of_a_destination(parts: Set, receiver: Receiver) -> None:
    async def saturated(owner: str, _: str, __: int) -> list[Address]:
        assert owner == "key:ci"  # whose share it goes by
        raise Saturated("too many")

    parts.instead = saturated
    for number in range(8):
        await parts.make_due(receiver.port, f"d{number}")
    for _ in range(2):
        await parts.settle()
    assert (await parts.row())["last_error"] == "internal"
    parts.instead = None
    await parts.make_due(receiver.port, "one more")
    await parts.settle()
    assert len(receiver.got) == 1


async def test_a_look_up_that_is_late_is_tried_again(parts: Set, receiver: Receiver) -> None:
    async def late(_: str, __: str, ___: int) -> list[Address]:
        raise LookupLate("too long")

    parts.instead = late
    await parts.make_due(receiver.port)
    await parts.settle()
    assert (await parts.row())["last_error"] == "not_found"
    assert parts.results() == {"retried": 1}
    parts.instead = None
    parts.now += 10
    await parts.settle()
    assert len(receiver.got) == 1


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
async def test_claims_that_take_long_are_seldom(
    parts: Set, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 300,000 at paused destinations, they took SQLite's only writer from all who submit."""
    claims = 0

    def slow(*arguments: Any) -> Any:
        nonlocal claims
        claims += 1
        parts.now += 0.2
        return claim_due(*arguments)

    monkeypatch.setattr("gateway.webhooks.outbound.dispatcher.claim_due", slow)
    for number in range(4):
        await parts.make_due(receiver.port, f"d{number}")
        parts.relay.nudge()
        await parts.settle()
        parts.now += 0.19
    assert (claims, len(receiver.got)) == (1, 1)
    parts.now += 0.8
    await parts.settle()
    assert (claims, len(receiver.got)) == (2, 4)


async def test_a_claim_that_the_ledger_does_not_end_in_time_stops_no_submits(
    ledger: Ledger, hook_certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With very many due, one took longer than ledger.timeout: the ledger counted as unavailable, for all owners."""
    parts = Set(ledger, hook_certificates)
    await parts.make_due(1)

    async def is_late(*_: Any, in_turn_of: str = "") -> Any:
        assert is_of_an_owner(in_turn_of)
        raise OwnerWaited("no answer within ledger.timeout")

    monkeypatch.setattr(ledger, "write", is_late)
    with capture_logs() as logs:
        task = asyncio.get_running_loop().create_task(parts.relay.run())
        await eventually(lambda: bool(logs))
        task.cancel()
    assert logs[0] == {
        "event": "webhooks wait for the ledger", "why": "no answer within ledger.timeout", "log_level": "warning",
    }  # fmt: skip


async def test_who_is_nudged_while_claims_rest_is_served_at_the_end_of_the_rest(
    parts: Set, receiver: Receiver, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A nudge was lost then, and the next look was a second later. PostgreSQL serves others meanwhile: no rest."""
    claims, over = list[float](), asyncio.Event()

    def slow(connection: Connection, *more: Any) -> Any:
        claims.append(parts.now)
        parts.now += 0.1
        return claim_due(connection, *more)

    async def wait(nudge: Nudge, seconds: float) -> None:
        if len(claims) == 1 and not nudge.is_set and "another" not in made:
            made.append("another")
            await parts.make_due(receiver.port, "another")
            parts.relay.nudge()
        if not nudge.is_set:
            parts.now += min(seconds, 0.3)
        if len(claims) == 2:
            over.set()
        await asyncio.sleep(0)

    made: list[str] = []
    monkeypatch.setattr("gateway.webhooks.outbound.dispatcher.claim_due", slow)
    monkeypatch.setattr(Nudge, "wait", wait)
    await parts.make_due(receiver.port)
    running = asyncio.get_running_loop().create_task(parts.relay.run())
    await asyncio.wait_for(over.wait(), 10)
    running.cancel()
    await parts.relay.close(1.0)
    rests = await engine.read(lambda c: not is_postgres(c))
    assert claims[1] - claims[0] == pytest.approx(0.5 if rests else 0.1)


async def test_all_connections_read_to_the_same_buffers(
    parts: Set, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a megabyte was made anew for each webhook, and 64 may be sent at once."""
    buffers, make = list[TlsBuffers](), TlsTransport.__init__

    def noted(self: TlsTransport, context: Any, above: Any, shared: TlsBuffers, *more: Any, **options: Any) -> None:
        buffers.append(shared)
        make(self, context, above, shared, *more, **options)

    monkeypatch.setattr(TlsTransport, "__init__", noted)
    for number in range(3):
        await parts.make_due(receiver.port, f"d{number}")
    await parts.settle()
    assert len(receiver.got) == len(buffers) == 3
    assert len({*buffers}) == 1


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del writer
    await reader.read()


async def test_one_that_never_answers_costs_its_own_places_alone(
    parts: Set, receiver: Receiver, hook_certificates: Path
) -> None:
    async with misbehaving(silence, server_context(hook_certificates)) as port:
        for number in range(20):
            await parts.make_due(port, f"slow{number}")
        await parts.relay.turn()
        for number in range(20):
            await parts.make_due(receiver.port, f"d{number}")
        while len(receiver.got) < 20:
            await parts.relay.turn()
            await asyncio.sleep(0)
        assert parts.sending >= 4
        await parts.relay.close(0.0)


async def test_what_is_being_sent_at_the_end_is_waited_for_then_left_to_others(
    parts: Set, receiver: Receiver, ledger: Ledger
) -> None:
    receiver.gate = asyncio.Event()
    await parts.make_due(receiver.port)
    await parts.relay.turn()
    await receiver.facts.until(lambda: len(receiver.got) == 1)
    await parts.relay.close(0.05)
    assert (await parts.row())["leased_by"] is None
    receiver.gate.set()
    other = Set(ledger, parts.directory, "other")
    await other.settle()
    assert (await parts.row())["state"] == DeliveryState.DELIVERED
    assert [got.headers["webhook-id"] for got in receiver.got] == ["d1", "d1"]


async def test_what_can_be_ended_in_time_is(parts: Set, receiver: Receiver) -> None:
    receiver.gate = asyncio.Event()
    await parts.make_due(receiver.port)
    await parts.relay.turn()
    await receiver.facts.until(lambda: len(receiver.got) == 1)
    asyncio.get_running_loop().call_later(0.01, receiver.gate.set)
    await parts.relay.close(10.0)
    assert (await parts.row())["state"] == DeliveryState.DELIVERED
    await parts.relay.close(10.0)


async def test_what_a_dead_replica_was_sending_is_sent_again(parts: Set, receiver: Receiver, ledger: Ledger) -> None:
    receiver.gate = asyncio.Event()
    dead = Set(ledger, parts.directory, "dead")
    await dead.make_due(receiver.port)
    await dead.relay.turn()
    await receiver.facts.until(lambda: len(receiver.got) == 1)
    (sending,) = [task for task in asyncio.all_tasks() if "Dispatcher." in repr(task.get_coro())]
    sending.cancel()  # as kill -9: nothing is written down
    await dead.idle()
    receiver.gate.set()
    await parts.settle()
    assert len(receiver.got) == 1  # its lease still holds
    parts.now += parts.out.timeout + 61
    await parts.settle()
    assert len(receiver.got) == 2
    assert (await parts.row())["state"] == DeliveryState.DELIVERED


async def test_two_replicas_send_each_once(parts: Set, receiver: Receiver, ledger: Ledger) -> None:
    other = Set(ledger, parts.directory, "other")
    for number in range(20):
        await parts.make_due(receiver.port, f"d{number}")
    while len(receiver.got) < 20:
        await asyncio.gather(parts.relay.turn(), other.relay.turn())
        await asyncio.sleep(0)
    await parts.idle()
    await other.idle()
    assert len({got.headers["webhook-id"] for got in receiver.got}) == len(receiver.got) == 20
    assert receiver.most <= 4


async def test_it_runs_by_itself_and_sooner_when_it_is_nudged(
    parts: Set, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.webhooks.outbound.dispatcher.TURN", 60.0)
    task = asyncio.get_running_loop().create_task(parts.relay.run())
    await asyncio.sleep(0)
    await parts.make_due(receiver.port)
    parts.relay.nudge()
    await receiver.facts.until(lambda: len(receiver.got) == 1)
    await eventually(lambda: bool([*parts.metrics.collect()][1].samples))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await parts.relay.close(5.0)


async def test_it_outlives_a_ledger_that_is_away_and_errors_of_its_own(
    engine: Engine, receiver: Receiver, hook_certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.webhooks.outbound.dispatcher.TURN", 0.01)
    faulty = Faulty(engine)
    parts = Set(Ledger(faulty), hook_certificates)
    await parts.make_due(receiver.port)
    faulty.is_away = True
    task = asyncio.get_running_loop().create_task(parts.relay.run())
    await eventually(lambda: parts.ledger.problem is not None)
    right, parts.out = parts.out, None  # type: ignore[assignment] # an error of ours
    with capture_logs() as logs:
        faulty.is_away = False
        await eventually(lambda: any(entry["event"] == "webhooks could not be sent" for entry in logs))
    parts.out = right
    await receiver.facts.until(lambda: len(receiver.got) == 1)
    await parts.idle()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_an_outcome_that_can_not_be_noted_is_noted_later(
    engine: Engine, receiver: Receiver, hook_certificates: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr("gateway.webhooks.outbound.dispatcher.NOTE_AGAIN", 0.001)
    faulty = Faulty(engine)
    parts = Set(Ledger(faulty), hook_certificates)
    await parts.make_due(receiver.port)
    faulty.faults = ["", fault, fault]
    await parts.settle()
    assert (await parts.row())["state"] == DeliveryState.DELIVERED
    assert (len(receiver.got), parts.results()) == (1, {"delivered": 1})


async def test_an_outcome_that_can_not_be_noted_at_all_is_another_attempt(
    engine: Engine, receiver: Receiver, hook_certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.webhooks.outbound.dispatcher.NOTE_AGAIN", 0.001)
    faulty = Faulty(engine)
    parts = Set(Ledger(faulty), hook_certificates)
    await parts.make_due(receiver.port)
    receiver.gate = asyncio.Event()
    await parts.relay.turn()
    await receiver.facts.until(lambda: len(receiver.got) == 1)
    faulty.is_away = True
    receiver.gate.set()
    await eventually(lambda: parts.ledger.problem is not None)
    with capture_logs() as logs:
        parts.now += 1000
        await parts.idle()
    assert {"event": "webhook outcome not noted", "log_level": "warning", "delivery": "d1"} in logs
    faulty.is_away = False
    await parts.settle()
    assert len(receiver.got) == 2


async def test_a_ca_that_can_not_be_read_makes_them_wait(parts: Set, receiver: Receiver, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("no certificate")
    await parts.make_due(receiver.port)
    right, parts.out = parts.out, out(parts.directory, ca=str(ca))
    with capture_logs() as logs:
        await parts.settle()
        await parts.settle()
    assert [entry["event"] for entry in logs] == ["webhooks wait"]
    assert (await parts.row())["attempts"] == 0
    parts.out = right
    await parts.settle()
    assert len(receiver.got) == 1


async def test_an_error_of_ours_is_no_endless_one(
    parts: Set, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> bytes:
        raise RuntimeError("canary")

    monkeypatch.setattr("gateway.webhooks.outbound.dispatcher.body_of", breaks)
    await parts.make_due(receiver.port)
    with capture_logs() as logs:
        await parts.settle()
    assert "canary" not in json.dumps(logs)
    row = await parts.row()
    assert (row["last_error"], row["attempts"], row["next_at"]) == ("internal", 1, int(NOON + 5))


async def test_an_error_behind_the_answer_is_told_of(
    parts: Set, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.webhooks.outbound.dispatcher.log_attempt", lambda *_: 1 / 0)
    await parts.make_due(receiver.port)
    with capture_logs() as logs:
        await parts.settle()
    assert logs[-1]["event"] == "webhook broke"
    assert logs[-1]["error"].startswith("ZeroDivisionError at")


async def test_neither_secret_nor_url_nor_body_is_logged(
    parts: Set, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [500, 204, 410]
    addresses, parts.addresses = parts.addresses, {}
    receiver.headers = {"X-Canary": "canary-answer"}
    await parts.ledger.write(lambda _: None)  # which tells that it is available
    with capture_logs() as logs, caplog.at_level("DEBUG"):
        for number in range(7):
            await parts.make_due(receiver.port, f"d{number}")
        for pause in (0, 0, 30, 60, 120, 300, 0):
            await parts.settle()
            parts.now += pause
            if pause:
                parts.addresses = addresses
    events = {entry["event"] for entry in logs}
    assert events == {
        "webhook delivered", "webhook failed", "webhook given up", "webhook destination paused",
        "webhook destination answers again",
    }  # fmt: skip
    text = json.dumps(logs) + caplog.text
    for canary in ("canary", "job-d1", "request_check_url", "/hook", "v1,"):
        assert canary not in text
    failed = next(entry for entry in logs if entry.get("status") == 500)
    assert failed == {
        "event": "webhook failed", "log_level": "warning", "delivery": failed["delivery"], "attempt": 2,
        "destination": f"{HOST}:{receiver.port}", "status": 500, "trouble": "status", "retry_in": 10,
    }  # fmt: skip


def test_every_result_is_counted() -> None:
    metrics = WebhookMetrics()
    results, _ = metrics.collect()
    assert {sample.labels["result"] for sample in results.samples} == set(Result)


async def test_a_context_is_made_once_for_each_version_of_the_settings(
    parts: Set, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[ssl.SSLContext] = []
    make = __import__("gateway.webhooks.outbound.sender", fromlist=["make_context"]).make_context

    def counted(ca: Path | None) -> ssl.SSLContext:
        made.append(make(ca))
        return made[-1]

    monkeypatch.setattr("gateway.webhooks.outbound.dispatcher.make_context", counted)
    for number in range(3):
        await parts.make_due(receiver.port, f"d{number}")
        await parts.settle()
    parts.out = out(parts.directory)
    await parts.make_due(receiver.port, "last")
    await parts.settle()
    assert (len(made), len(receiver.got)) == (2, 4)


async def test_a_file_of_cas_on_a_mount_that_hangs_is_told_and_tried_again(
    parts: Set, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, comes_back = "gateway.webhooks.outbound.dispatcher", threading.Event()
    make = __import__("gateway.webhooks.outbound.sender", fromlist=["make_context"]).make_context

    def hang(ca: Path | None) -> ssl.SSLContext:
        comes_back.wait(30)
        context: ssl.SSLContext = make(ca)
        return context

    monkeypatch.setattr(f"{place}.make_context", hang)
    monkeypatch.setattr(f"{place}.PATIENCE", 0.05)
    await parts.make_due(receiver.port, "d1")
    with structlog.testing.capture_logs() as logs:
        await parts.settle()
    (told,) = logs
    assert (told["why"], receiver.got) == (f"{parts.out.ca} was not read within 0 s", [])
    monkeypatch.setattr(f"{place}.PATIENCE", 30.0)
    comes_back.set()
    await parts.settle()
    assert len(receiver.got) == 1
