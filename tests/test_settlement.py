"""What the answers of polls settle, told to the ledger in the background, once."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.ledger.engine import Engine
from gateway.ledger.reservations import Ask, accept, admit, reserve
from gateway.ledger.usage import used_since
from gateway.settlement import Settler
from tests.support.ledgers import NOON, assert_sound, make_claim, make_profile
from tests.test_admission import ACCOUNT, Desk


class Polled:
    """A job of ten pages that runs, and a settler that sees the answers to polls for it."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.settler = Settler(desk.admission)

    async def start(self) -> None:
        claim = make_claim()
        await self.desk.engine.write(lambda c: admit(c, claim, make_profile(), NOON, NOON + 60))
        await self.desk.engine.write(lambda c: reserve(c, claim, make_profile(), Ask(10, 1, ""), NOON, NOON + 60))
        await self.desk.engine.write(lambda c: accept(c, claim, "job", NOON + 60))

    async def poll(self, *pieces: bytes) -> bool:
        """One answer as it passes; whether it was looked at."""
        if len(pieces) == 1 and self.settler.is_unfinished(pieces[0]):
            return False
        watch = self.settler.watch("container", "job")
        if watch is None:
            return False
        for piece in pieces:
            watch.take(piece)
        watch.end()
        await self.desk.quiet()
        return True

    async def says(self, **members: Any) -> bool:
        return await self.poll(json.dumps(members).encode())

    async def used(self) -> list[tuple[int, int, int]]:
        rows = await self.desk.engine.read(lambda c: used_since(c, 0))
        await self.desk.engine.write(assert_sound)
        return [(row.pages, row.refunded, row.failed) for row in rows]


@pytest.fixture
async def polled(engine: Engine) -> AsyncIterator[Polled]:
    desk = Desk(engine)
    made = Polled(desk)
    await made.start()
    yield made
    await desk.admission.close(5.0)


@pytest.mark.parametrize(
    ("answer", "used"),
    [
        ({"status": "complete", "success": True, "page_count": 4}, (4, 6, 0)),
        ({"status": "complete", "page_count": 4}, (4, 6, 0)),
        ({"status": "complete"}, (10, 0, 0)),
        ({"status": "complete", "page_count": "4"}, (10, 0, 0)),
        ({"status": "complete", "page_count": True}, (10, 0, 0)),
        ({"status": "complete", "page_count": -1}, (10, 0, 0)),
        ({"status": "complete", "page_count": 10**9}, (10, 0, 0)),
        ({"status": "complete", "page_count": 4.0}, (10, 0, 0)),
        ({"status": "complete", "page_count": 0}, (0, 10, 0)),
        ({"status": "complete", "success": False, "page_count": 4}, (0, 10, 1)),
        ({"status": "failed"}, (0, 10, 1)),
        ({"status": "failed", "success": None}, (0, 10, 1)),
    ],
)
async def test_a_final_answer_settles(polled: Polled, answer: dict[str, Any], used: tuple[int, int, int]) -> None:
    assert await polled.says(**answer)
    assert await polled.used() == [used]
    assert polled.desk.told.settled == [(ACCOUNT, used[0], used[1])]
    writes = polled.desk.faulty.writes
    assert not await polled.says(**answer)  # there is nothing left to learn
    assert polled.desk.faulty.writes == writes


@pytest.mark.parametrize(
    "answer",
    [{"status": "processing"}, {"status": "pending", "success": True}, {"status": "queued"}, {}, {"status": 5},
     {"status": None, "success": False}, {"job": {"status": "complete"}}],
)  # fmt: skip
async def test_an_answer_that_is_not_final_settles_nothing_and_is_read_once(
    polled: Polled, answer: dict[str, Any]
) -> None:
    assert await polled.says(**answer)
    assert not await polled.says(**answer)
    assert await polled.used() == []
    assert polled.settler.is_unfinished(json.dumps(answer).encode())
    assert await polled.says(status="complete", page_count=4)
    assert await polled.used() == [(4, 6, 0)]


@pytest.mark.parametrize("answer", [b"", b"[]", b"no JSON", b'{"status": "complete"', b'{"status": "complete"} x'])
async def test_an_answer_that_is_not_whole_settles_nothing(polled: Polled, answer: bytes) -> None:
    assert await polled.poll(answer)
    assert await polled.used() == []


async def test_an_answer_in_pieces_is_read_as_it_passes(polled: Polled) -> None:
    answer = json.dumps({"markdown": '"status"' * 5000, "status": "complete", "page_count": 4}).encode()
    assert await polled.poll(*(answer[start : start + 777] for start in range(0, len(answer), 777)))
    assert await polled.used() == [(4, 6, 0)]


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_a_ledger_that_is_away_is_told_again(polled: Polled, fault: str) -> None:
    polled.desk.faulty.faults = [fault, fault]
    await polled.says(status="complete", page_count=4)
    assert await polled.used() == [(4, 6, 0)]


async def test_what_could_not_be_told_the_next_poll_tells(polled: Polled) -> None:
    polled.desk.faulty.is_away = True
    await polled.says(status="complete", page_count=4)
    polled.desk.faulty.is_away = False
    assert await polled.says(status="complete", page_count=4)
    assert await polled.used() == [(4, 6, 0)]


async def test_what_is_remembered_is_bounded(polled: Polled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.settlement._MOST_REMEMBERED", 3)
    monkeypatch.setattr("gateway.settlement._MOST_SMALL", 3)
    for number in range(10):
        polled.settler.learnt("container", f"j{number}", b"", {"status": "complete"})
        polled.settler.learnt("container", f"j{number}", b"%d" % number, {"status": "queued"})
        polled.settler.learnt("container", "large", b"x" * 513, {"status": "queued"})
    assert len(polled.settler._settled) == 3
    assert len(polled.settler._unfinished) <= 3
    assert polled.settler.watch("container", "j9") is None
    assert polled.settler.watch("container", "j1") is not None
    assert polled.settler.watch("other", "j9") is not None
