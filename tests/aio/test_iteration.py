from functools import partial

import pytest

from gateway.aio.iteration import MAX_CHUNKS, MAX_SECONDS, Iteration
from tests.support.loop import Loop


class Floods:
    """Connections that always have more, each a turn of so many seconds."""

    def __init__(self, count: int, seconds: float) -> None:
        self.loop = Loop()
        self.iteration = Iteration(self.loop.clock, self.loop.call_soon)
        self.turns: list[int] = []
        self._seconds = seconds
        for number in range(count):
            self.iteration.call_in_turn(partial(self._take, number))

    def _take(self, number: int) -> None:
        self.turns.append(number)
        self.loop.now += self._seconds
        self.iteration.call_in_turn(partial(self._take, number))


@pytest.mark.parametrize("count", [1, 2, 8, 60, 1000])
@pytest.mark.parametrize("seconds", [0.0004, 0.003])
def test_an_iteration_takes_no_longer_however_many_flood(count: int, seconds: float) -> None:
    floods = Floods(count, seconds)
    for _ in range(200):
        before = floods.loop.now
        floods.loop.iterate()
        assert floods.loop.now - before < MAX_SECONDS + seconds + 1e-9


def test_they_are_served_in_their_order_and_each_once_in_an_iteration() -> None:
    floods = Floods(5, MAX_SECONDS * 0.4)
    floods.loop.iterate()
    assert floods.turns == [0, 1, 2]
    floods.loop.iterate()
    assert floods.turns == [0, 1, 2, 3, 4, 0]
    alone = Floods(1, 0.0)
    alone.loop.iterate()
    assert alone.turns == [0]


def test_peers_have_their_turns_however_many_connections_they_have() -> None:
    loop = Loop()
    iteration = Iteration(loop.clock, loop.call_soon)
    served: list[str] = []

    def take(name: str) -> None:
        served.append(name)
        loop.now += MAX_SECONDS

    for number in range(100):
        iteration.call_in_turn(partial(take, f"a{number}"), "a")
    iteration.call_in_turn(partial(take, "b0"), "b")
    iteration.call_in_turn(partial(take, "c0"), "c")
    for _ in range(4):
        loop.iterate()
    assert served == ["a0", "b0", "c0", "a1"]


def test_small_ones_come_first_and_one_large_one_in_each_iteration() -> None:
    loop = Loop()
    iteration = Iteration(loop.clock, loop.call_soon)
    served: list[str] = []

    def take(name: str, seconds: float) -> None:
        served.append(name)
        loop.now += seconds

    for number in range(4):
        iteration.call_in_turn(partial(take, f"large{number}", MAX_SECONDS * 0.75))
        iteration.call_in_turn(partial(take, f"small{number}", MAX_SECONDS * 0.6), is_small=True)
    loop.iterate()
    assert served == ["small0", "small1", "large0"]
    loop.iterate()
    assert served[3:] == ["small2", "small3", "large1"]
    loop.iterate()
    assert served[6:] == ["large2", "large3"]


def test_what_is_far_over_is_full() -> None:
    loop = Loop()
    iteration = Iteration(loop.clock, loop.call_soon)
    iteration.add(MAX_SECONDS * 1.9, 0)
    assert (iteration.is_over, iteration.is_full) == (True, False)
    iteration.add(MAX_SECONDS * 0.2, 0)
    full = [iteration.is_full]
    loop.iterate()
    full.append(iteration.is_full)
    assert full == [True, False]


def test_the_loop_is_left_alone_while_little_happens() -> None:
    loop = Loop()
    iteration = Iteration(loop.clock, loop.call_soon)
    iteration.add(MAX_SECONDS / 100, MAX_CHUNKS // 100)
    assert not loop.has_more
    iteration.add(MAX_SECONDS, 0)
    assert iteration.is_over
    number = iteration.number
    loop.iterate()
    assert (iteration.is_over, iteration.number, loop.has_more) == (False, number + 1, False)


def test_many_chunks_are_seen_though_they_took_no_time() -> None:
    loop = Loop()
    iteration = Iteration(loop.clock, loop.call_soon)
    iteration.add(0.0, MAX_CHUNKS)
    assert iteration.is_over
    loop.iterate()
    assert not iteration.is_over


def test_what_one_has_spoilt_the_others_still_have_their_turn() -> None:
    loop = Loop()
    iteration = Iteration(loop.clock, loop.call_soon)
    served: list[int] = []

    def fail() -> None:
        raise ZeroDivisionError

    iteration.call_in_turn(fail)
    iteration.call_in_turn(partial(served.append, 1))
    with pytest.raises(ZeroDivisionError):
        loop.iterate()
    loop.iterate()
    assert served == [1]
