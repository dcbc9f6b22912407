"""Requests that wait for a slot: how many are taken up in one piece, when most of them are not needed any more."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.aio.iteration import Iteration
from gateway.jobs.status_queue import AT_ONCE, Patience, StatusQueue, StatusRequest
from gateway.jobs.status_slots import Urgency

SLOTS = 2
JOB = cast("Any", SimpleNamespace(upstream="u", owner="o", target="/"))


class Waiting:
    """A queue of one upstream, and how many of its requests were started in each turn."""

    def __init__(self) -> None:
        state = SimpleNamespace(settings=SimpleNamespace(jobs=SimpleNamespace(most_status_requests=SLOTS)))
        findings = cast("Any", SimpleNamespace(watch=lambda job: job))
        client = cast("Any", SimpleNamespace(run=self._run))
        self._soon: list[Callable[[], Any]] = []
        self._asked: list[Callable[[Any], None]] = []
        iteration = Iteration(time.perf_counter, self._soon.append)
        self.queue = StatusQueue(findings, client, lambda: cast("Any", state), iteration)
        self.turns = [0]

    def _run(self, *call: Any, longest: float) -> None:
        assert longest
        self._asked.append(call[-1])

    def put(self, *, needed: bool) -> None:
        self.queue.put(JOB, Urgency.NOBODY, StatusRequest(0.0, lambda: self._start(needed=needed)))

    def _start(self, *, needed: bool) -> bool:
        self.turns[-1] += 1
        if needed:
            upstream = cast("Any", SimpleNamespace(read_timeout=9.0))
            self.queue.send(JOB, upstream, Patience(1.0, 2.0), lambda *_: None)
        return needed

    def answer(self) -> None:
        """The first request that was sent gets its answer."""
        self._asked.pop(0)(None)

    def turn(self) -> bool:
        """One turn of the loop; returns whether it had anything to do."""
        soon = [*self._soon]
        self._soon.clear()
        self.turns.append(0)
        for call in soon:
            call()
        return bool(soon)


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


def test_what_is_not_needed_any_more_is_passed_over_in_turns(waiting: Waiting) -> None:
    """A slot that came free passed over four thousand at once: the loop was held for a fiftieth of a second."""
    for _ in range(SLOTS + 1):
        waiting.put(needed=True)
    for _ in range(1000):
        waiting.put(needed=False)
    waiting.put(needed=True)
    assert waiting.turns == [SLOTS]
    for _ in range(SLOTS):
        waiting.answer()
    while waiting.turn():
        pass
    assert sum(waiting.turns) == SLOTS + 1002
    assert max(waiting.turns) <= SLOTS + 1 + AT_ONCE
    assert (waiting.queue.asked, waiting.queue.asking) == (SLOTS + 2, 2)


def test_one_turn_is_enough_however_many_are_put_meanwhile(waiting: Waiting) -> None:
    for _ in range(10 * AT_ONCE):
        waiting.put(needed=False)
    while waiting.turn():
        pass
    assert sum(waiting.turns) == 10 * AT_ONCE
    assert waiting.queue.first_due == []


def test_a_closed_queue_takes_up_no_more(waiting: Waiting) -> None:
    waiting.queue.close()
    waiting.put(needed=True)
    assert not waiting.turn()
    assert waiting.turns == [0, 0]
