"""The two state machines of an upstream connection, move by move."""

from collections.abc import Callable

import pytest

from gateway.upstream.states import Ours, StateError, States, Theirs


def after(*moves: Callable[[States], None]) -> States:
    states = States()
    for move in moves:
        move(states)
    return states


def begin(states: States) -> None:
    states.begin()


def head(length: int | None) -> Callable[[States], None]:
    return lambda states: states.mark_head_sent(length)


def sent(size: int) -> Callable[[States], None]:
    return lambda states: states.mark_body_sent(size)


def end(states: States) -> None:
    states.mark_end_sent()


def answered(states: States) -> None:
    states.mark_head_read(keeps=True)


def answered_for_good(states: States) -> None:
    states.mark_head_read(keeps=False)


def over(states: States) -> None:
    states.mark_end_read()


def close(states: States) -> None:
    states.close()


def test_a_request_without_a_body_and_its_answer() -> None:
    states = after(begin, head(0), answered, over)
    assert repr(states) == "<States ours=DONE theirs=DONE>"
    assert states.is_reusable
    states.recycle()
    assert (states.is_idle, states.ours, states.theirs) == (True, Ours.IDLE, Theirs.IDLE)


@pytest.mark.parametrize("moves", [(head(5), sent(3), sent(2), end), (head(None), sent(9), end), (head(None), end)])
def test_a_body_that_went_out_whole_before_its_answer_ended(moves: tuple[Callable[[States], None], ...]) -> None:
    assert after(begin, *moves, answered, over).is_reusable
    assert after(begin, moves[0], answered, *moves[1:], over).is_reusable


@pytest.mark.parametrize("moves", [(head(5),), (head(5), sent(5)), (head(None),), (head(None), sent(5))])
def test_an_answer_that_ends_before_its_request_closes_our_side(moves: tuple[Callable[[States], None], ...]) -> None:
    states = after(begin, *moves)
    assert states.is_sending
    answered(states)
    assert states.is_sending
    assert states.is_answering
    over(states)
    assert repr(states) == "<States ours=CLOSED theirs=DONE>"
    assert (states.is_sending, states.is_answered, states.is_reusable, states.is_closed) == (False, True, False, True)


def test_an_upstream_that_says_close_is_not_asked_again() -> None:
    states = after(begin, head(0), answered_for_good, over)
    assert repr(states) == "<States ours=DONE theirs=DONE close>"
    assert not states.is_reusable


@pytest.mark.parametrize("moves", [(), (begin,), (begin, head(4)), (begin, head(0)), (begin, head(0), answered)])
def test_closing_ends_both_sides_from_every_state(moves: tuple[Callable[[States], None], ...]) -> None:
    states = after(*moves, close)
    assert (states.ours, states.theirs) == (Ours.CLOSED, Theirs.CLOSED)
    assert [states.is_reusable, states.is_idle, states.is_answering, states.is_sending] == [False] * 4


def test_closing_takes_nothing_from_an_answer_that_came_whole() -> None:
    states = after(begin, head(0), answered, over, close)
    assert (states.is_answered, states.is_reusable) == (True, False)


@pytest.mark.parametrize(
    ("moves", "wrong"),
    [
        ((begin,), begin),
        ((begin, head(0)), begin),
        ((begin, head(0), answered, over), begin),
        ((close,), begin),
        ((), head(0)),
        ((begin, head(0)), head(0)),
        ((begin,), sent(1)),
        ((begin, head(0)), sent(1)),
        ((begin, head(4)), sent(5)),
        ((begin, head(4), sent(4)), sent(1)),
        ((begin, head(4), sent(3)), end),
        ((begin, head(0)), end),
        ((begin, head(4), answered, over), sent(1)),
        ((begin, head(None), answered, over), end),
        ((), answered),
        ((begin, head(0), answered), answered),
        ((begin, head(0)), over),
        ((begin, head(0), answered, over), over),
        ((begin, head(4), answered, over), States.recycle),
        ((begin, head(0)), States.recycle),
    ],
)
def test_moves_out_of_turn_are_faults(
    moves: tuple[Callable[[States], None], ...], wrong: Callable[[States], None]
) -> None:
    states = after(*moves)
    before = repr(states)
    with pytest.raises(StateError):
        wrong(states)
    assert repr(states) == before
