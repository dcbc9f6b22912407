"""unwanted.py: what nobody reads is dropped in turns, of many no more than an iteration has time for, to a bound."""

from gateway.aio.iteration import MAX_CHUNKS, Iteration
from gateway.aio.unwanted import AT_ONCE, MOST, Unwanted
from tests.support.loop import Loop


def test_a_read_waits_for_the_turn_after_the_one_before() -> None:
    loop, changes = Loop(), list[bool]()
    unwanted = Unwanted(Iteration(loop.clock, loop.call_soon), "peer", lambda: changes.append(unwanted.may_read))
    for count in range(1, 4):
        unwanted.drop(AT_ONCE)
        unwanted.drop(AT_ONCE)  # a transport may deliver once more after it was told to pause
        assert (unwanted.may_read, changes) == (False, [True] * (count - 1))
        loop.iterate()
        assert changes == [True] * count


def test_of_many_no_more_are_read_in_an_iteration_than_it_has_time_for() -> None:
    loop, reads = Loop(), list[int]()
    iteration = Iteration(loop.clock, loop.call_soon)
    connections = [Unwanted(iteration, number, lambda: reads.append(AT_ONCE)) for number in range(1000)]
    for unwanted in connections:
        unwanted.drop(AT_ONCE)
    loop.iterate()
    assert 0 < sum(reads) <= MAX_CHUNKS * 2048
    while loop.has_more:
        loop.iterate()
    assert len(reads) == 1000  # each has its turn


def test_who_sends_without_end_is_read_no_more() -> None:
    loop = Loop()
    unwanted = Unwanted(Iteration(loop.clock, loop.call_soon), None, lambda: None)
    dropped = 0
    while unwanted.may_read:
        unwanted.drop(AT_ONCE)
        dropped += AT_ONCE
        loop.iterate()
    assert dropped == MOST
    for _ in range(9):
        loop.iterate()
    assert not unwanted.may_read
