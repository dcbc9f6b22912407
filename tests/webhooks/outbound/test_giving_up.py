"""What nobody attempts for too long is given up, and what is left is counted: both engines, a clock by hand."""

import asyncio
from typing import Any
from unittest.mock import patch

import pytest

from gateway.ledger.listings import counts
from gateway.ledger.schema import DeliveryState
from gateway.webhooks.outbound.giving_up import GivingUp
from tests.support.waiting import eventually
from tests.webhooks.receivers import Receiver
from tests.webhooks.relays import Set, out, states_told

pytestmark = pytest.mark.usefixtures("plain_log")


async def test_what_waits_for_a_paused_destination_does_not_wait_for_ever(parts: Set, receiver: Receiver) -> None:
    parts.addresses = {}
    for number in range(8):
        await parts.make_due(receiver.port, f"d{number}")
    for _ in range(2):
        await parts.settle()
    parts.now += parts.out.give_up_after + 1
    await parts.relay.look_after()
    states = await parts.ledger.read(counts)
    assert states[DeliveryState.DEAD] == 8
    assert parts.results() == {"retried": 8, "dead": 8}
    await eventually(lambda: states_told(parts) == {"waiting": 0, "due": 0, "dead": 8})


async def test_what_nobody_ever_tried_is_given_up_where_nothing_was_taken_for_so_long(
    parts: Set, receiver: Receiver
) -> None:
    """A paused destination gets one attempt in five minutes: of a silent one's thousands most would wait for ever."""
    parts.addresses = {}
    parts.out = out(parts.directory, give_up_after="1h")
    for number in range(5):
        await parts.make_due(receiver.port, f"d{number}")
    for _ in range(2):
        await parts.settle()
    await parts.make_due(receiver.port, "untried")
    parts.now += parts.out.give_up_after - 1
    await parts.relay.look_after()
    assert (await parts.row("untried"))["state"] == DeliveryState.DUE
    parts.now += 2
    await parts.make_due(receiver.port, "young")
    await parts.relay.look_after()
    states = [(await parts.row(name))["state"] for name in ("d1", "untried", "young")]
    assert states == [DeliveryState.DEAD, DeliveryState.DEAD, DeliveryState.DUE]


async def test_what_no_replica_ever_tried_is_given_up_after_three_times_as_long(
    parts: Set, receiver: Receiver
) -> None:
    """Where an owner has hundreds of silent destinations, none is known to have failed all the time."""
    parts.out = out(parts.directory, give_up_after="1h")
    await parts.make_due(receiver.port)
    parts.now += 3600 - 1
    await parts.relay.look_after()
    await parts.make_due(receiver.port, "later")
    parts.now += 2 * 3600 + 2
    await parts.relay.look_after()
    states = [(await parts.row(name))["state"] for name in ("d1", "later")]
    assert states == [DeliveryState.DEAD, DeliveryState.DUE]


async def test_nothing_is_written_where_nothing_is_given_up(
    parts: Set, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look for what is late goes through all that waits: of 300,000 it kept the only writer for seconds."""
    parts.addresses = {}
    for number in range(8):
        await parts.make_due(receiver.port, f"d{number}")
    for _ in range(2):
        await parts.settle()
    write, writes = parts.ledger.write, 0

    async def counted(*call: Any, **more: Any) -> Any:
        nonlocal writes
        writes += 1
        return await write(*call, **more)

    monkeypatch.setattr(parts.ledger, "write", counted)
    parts.now += 1000
    await parts.relay.look_after()
    assert writes == 0


async def test_what_is_late_because_no_replica_ran_is_tried(parts: Set, receiver: Receiver) -> None:
    parts.out = out(parts.directory, give_up_after="1h")
    parts.now -= 4 * 3600
    await parts.make_due(receiver.port)
    parts.now += 4 * 3600
    await parts.relay.look_after()
    await parts.settle()
    assert len(receiver.got) == 1


async def test_webhooks_are_sent_while_others_are_given_up(
    parts: Set, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To give up thousands takes many seconds, in which nobody's were sent."""
    looks, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(*_: object) -> None:
        looks.set()
        await go_on.wait()

    monkeypatch.setattr(GivingUp, "look", slowly)
    task = asyncio.get_running_loop().create_task(parts.relay.run())
    await asyncio.wait_for(looks.wait(), 5)
    await parts.make_due(receiver.port)
    parts.relay.nudge()
    await eventually(lambda: len(receiver.got) == 1)
    task.cancel()
    await asyncio.wait([task])


async def test_nobody_waits_for_the_report_of_how_many_there_are(parts: Set, receiver: Receiver) -> None:
    """It may stand behind others for a minute, in which no webhook was sent."""
    go, asked = asyncio.Event(), 0
    report = parts.ledger.report

    async def slowly(work: Any) -> Any:
        nonlocal asked
        asked += 1
        await go.wait()
        return await report(work)

    with patch.object(parts.ledger, "report", slowly):
        for _ in range(3):
            await asyncio.wait_for(parts.relay.look_after(), 5)
            await asyncio.sleep(0)
        await parts.make_due(receiver.port)
        await parts.settle()
        assert (len(receiver.got), asked, states_told(parts)) == (1, 1, {})  # one at a time
        go.set()
        await eventually(lambda: states_told(parts) == {"waiting": 0, "due": 0, "dead": 0})
        go.clear()
        await parts.relay.look_after()
        await asyncio.sleep(0)
        await asyncio.wait_for(parts.relay.close(0.0), 5)
