import pytest

from gateway.aio import iteration as shared
from gateway.aio.iteration import Iteration
from gateway.aio.turn import LITTLE_WORK_BYTES, MAX_BYTES, MAX_CHUNKS, MAX_SECONDS, SMALL, Turn
from tests.support.loop import Loop


def is_over(turn: Turn) -> bool:
    """Asks anew: mypy takes what a property once said for its answer ever after."""
    return turn.is_over


def is_full(iteration: Iteration) -> bool:
    return iteration.is_over


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def iteration(loop: Loop) -> Iteration:
    return Iteration(loop.clock, loop.call_soon)


@pytest.mark.parametrize(
    ("size", "chunks"), [(MAX_BYTES, 0), (0, MAX_CHUNKS), (MAX_BYTES, MAX_CHUNKS)], ids=["size", "chunks", "both"]
)
def test_a_turn_is_over_by_bytes_and_by_chunks(size: int, chunks: int, loop: Loop, iteration: Iteration) -> None:
    turn = Turn(iteration)
    assert not is_over(turn)
    turn.spend(max(size - 1, 0), max(chunks - 1, 0))
    assert not is_over(turn)
    turn.spend(1, 1)
    assert is_over(turn)
    iteration.call_in_turn(turn.work)
    loop.iterate()
    assert not is_over(turn)


def test_a_turn_is_over_by_time_while_it_works(loop: Loop, iteration: Iteration) -> None:
    turn = Turn(iteration)
    turn.work()
    loop.now += MAX_SECONDS * 0.6
    turn.work()
    assert not is_over(turn)
    turn.rest()
    loop.now += 10
    turn.rest()
    assert not is_over(turn)
    turn.work()
    loop.now += MAX_SECONDS * 0.6
    assert is_over(turn)
    turn.rest()
    assert is_over(turn)


def test_a_turn_begins_anew_in_the_next_iteration_and_counts_from_then_on(loop: Loop, iteration: Iteration) -> None:
    turn = Turn(iteration)
    turn.work()
    loop.now += MAX_SECONDS
    assert is_over(turn)
    iteration.call_in_turn(turn.work)
    loop.iterate()
    assert not is_over(turn)
    loop.now += MAX_SECONDS
    assert is_over(turn)


@pytest.mark.parametrize(
    ("seconds", "chunks"), [(shared.MAX_SECONDS, 0), (0.0, shared.MAX_CHUNKS)], ids=["seconds", "chunks"]
)
def test_where_others_took_all_a_turn_has_its_small_part(
    seconds: float, chunks: int, loop: Loop, iteration: Iteration
) -> None:
    turn, other = Turn(iteration), Turn(iteration)
    iteration.add(seconds, chunks)
    assert iteration.is_over
    turn.work()
    loop.now += MAX_SECONDS / SMALL * 0.9
    assert not is_over(turn)
    loop.now += MAX_SECONDS / SMALL * 0.2
    assert is_over(turn)
    other.spend(1, MAX_CHUNKS // SMALL - 1)
    assert not is_over(other)
    other.spend(1, 1)
    assert is_over(other)


def test_what_one_takes_counts_for_all_once(loop: Loop, iteration: Iteration) -> None:
    turns = [Turn(iteration) for _ in range(2)]
    for turn in turns:
        turn.work()
        turn.spend(1, shared.MAX_CHUNKS // 2 - 1)
        assert not is_over(turn)
        assert not is_over(turn)
        turn.rest()
    assert not is_full(iteration)
    turns[0].spend(1, 2)
    assert is_full(iteration)
    assert is_over(turns[0])
    loop.iterate()
    assert not is_full(iteration)


def test_who_has_a_large_head_waits_behind_polls(loop: Loop, iteration: Iteration) -> None:
    turn = Turn(iteration)
    assert turn.needs_little(LITTLE_WORK_BYTES)
    assert not turn.needs_little(LITTLE_WORK_BYTES + 1)
    turn.work()
    loop.now += MAX_SECONDS
    turn.rest()
    assert not turn.needs_little(0)
