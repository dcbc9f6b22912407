import pytest

from gateway.turn import MOST_BYTES, MOST_CHUNKS, MOST_SECONDS, Turn


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def is_over(turn: Turn) -> bool:
    """Asks anew: mypy takes what a property once said for its answer ever after."""
    return turn.is_over


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize(
    ("size", "chunks"), [(MOST_BYTES, 0), (0, MOST_CHUNKS), (MOST_BYTES, MOST_CHUNKS)], ids=["size", "chunks", "both"]
)
def test_a_turn_is_over_by_bytes_and_by_chunks(size: int, chunks: int, clock: Clock) -> None:
    turn = Turn(clock)
    assert not is_over(turn)
    turn.spend(max(size - 1, 0), max(chunks - 1, 0))
    assert not is_over(turn)
    turn.spend(1, 1)
    assert is_over(turn)
    turn.renew()
    assert not is_over(turn)


def test_a_turn_is_over_by_time_while_it_works(clock: Clock) -> None:
    turn = Turn(clock)
    turn.work()
    clock.now += MOST_SECONDS * 0.6
    turn.work()
    assert not is_over(turn)
    turn.rest()
    clock.now += 10
    turn.rest()
    assert not is_over(turn)
    turn.work()
    clock.now += MOST_SECONDS * 0.6
    assert is_over(turn)
    turn.rest()
    assert is_over(turn)


def test_a_turn_that_is_renewed_at_work_counts_from_then_on(clock: Clock) -> None:
    turn = Turn(clock)
    turn.work()
    clock.now += MOST_SECONDS
    assert is_over(turn)
    turn.renew()
    assert not is_over(turn)
    clock.now += MOST_SECONDS
    assert is_over(turn)
