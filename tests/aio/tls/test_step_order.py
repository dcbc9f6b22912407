"""Whose step comes next: strangers, debtors, and those who proved something."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.aio.tls.step_order import (
    DEBT,
    LANES,
    LANES_OF_ONE,
    LATELY,
    LONG,
    MOST_REMEMBERED,
    Begun,
    Standing,
    StepOrder,
    ThreadLane,
)
from tests.support.pure import examples

PROVED, QUICK, NEW, OWES = Standing
ALL = sum(lane.threads for lane in LANES)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Steps:
    """An order, by what it began: steps are named after their source."""

    def __init__(self, lanes: tuple[ThreadLane, ...] = LANES, at_once: int = 1) -> None:
        self.clock = Clock()
        self.order: StepOrder[str] = StepOrder(lanes, self.clock, at_once)
        self.begun: dict[str, Begun[str]] = {}

    def put(self, *steps: str) -> list[str]:
        """What begins then."""
        for step in steps:
            self.order.put(step[0], step)
        return self.take()

    def take(self) -> list[str]:
        taken = []
        while (begun := self.order.take()) is not None:
            self.begun[begun.step] = begun
            taken.append(begun.step)
        return taken

    def end(self, step: str, seconds: float = 0.0, shown: Standing | None = None) -> list[str]:
        """What begins then."""
        self.order.end(self.begun.pop(step), seconds, shown)
        return self.take()

    def knows(self, source: str, standing: Standing) -> None:
        """Lets it earn that."""
        self.put(source)
        self.end(source, 2 * LONG if standing is OWES else 0.0, standing if standing < NEW else None)
        assert self.order.standing(source) is standing


def one_lane(threads: int = 1) -> tuple[ThreadLane, ...]:
    return (ThreadLane(threads, OWES),)


def test_of_a_source_one_step_runs_at_a_time() -> None:
    steps = Steps()
    assert steps.put("a1", "a2", "a3", "b1") == ["a1", "b1"]
    assert len(steps.order) == 2
    assert steps.end("a1") == ["a2"]
    assert steps.end("b1") == []


def test_of_a_source_so_many_steps_run_at_once_and_others_have_their_turns_in_between() -> None:
    steps = Steps(one_lane(3), at_once=2)
    assert steps.put("a1", "a2", "a3", "a4", "b1", "c1") == ["a1", "b1", "c1"]
    assert steps.end("b1") == ["a2"]
    assert steps.end("c1") == []  # two of it are enough
    assert steps.put("b2", "b3") == ["b2"]
    assert steps.end("a1") == ["b3"]
    assert steps.end("b2") == ["a3"]
    assert steps.order.drop("a", "a4")
    assert steps.end("a2") == []
    assert steps.put("a5") == ["a5"]


def test_who_earns_a_standing_while_it_waits_has_it_at_once_and_waits_in_one_line() -> None:
    steps = Steps(one_lane(1), at_once=2)
    assert steps.put("a1") == ["a1"]
    assert steps.put("n1", "a2", "a3") == []
    assert steps.end("a1", shown=PROVED) == ["a2"]
    assert steps.end("a2") == ["a3"]
    assert steps.end("a3") == ["n1"]
    assert steps.end("n1") == []


def test_threads_of_one_source_are_all_its_own() -> None:
    count = sum(lane.threads for lane in LANES_OF_ONE)
    steps = Steps(LANES_OF_ONE, at_once=count)
    names = [f"a{number}" for number in range(2 * count)]
    assert steps.put(*names) == names[: LANES_OF_ONE[-1].threads]
    assert len(steps.end("a0", shown=PROVED)) == LANES_OF_ONE[0].threads + 1
    assert len(steps.begun) == count


def test_sources_take_turns() -> None:
    steps = Steps(one_lane())
    assert steps.put("a1", "a2", "a3", "b1", "b2", "c1") == ["a1"]
    order = ["a1"]
    while steps.begun:
        order += steps.end(order[-1])
    assert order == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_the_best_standing_comes_first() -> None:
    steps = Steps(one_lane())
    for source, standing in zip("pqo", (PROVED, QUICK, OWES), strict=True):
        steps.knows(source, standing)
    steps.put("x")
    steps.put("o", "n", "q", "p")
    order = steps.end("x")
    for _ in range(3):
        order += steps.end(order[-1])
    assert order == ["p", "q", "n", "o"]


def test_a_handshake_without_certificates_gives_nobody_precedence_over_strangers() -> None:
    """Anybody can have one: seventeen addresses that did shut out all that never came."""
    steps = Steps(one_lane())
    for source in "qrs":
        steps.knows(source, QUICK)
    assert steps.put("x") == ["x"]
    steps.put("q", "r", "s", "k", "l", "m")
    order = steps.end("x")
    while steps.begun:
        order += steps.end(order[-1])
    assert sorted(order[:2]) == ["k", "q"]
    assert sorted(order[2:4]) == ["l", "r"]
    assert sorted(order[4:]) == ["m", "s"]


def test_who_was_quick_finds_its_own_thread_whose_ever_turn_it_is() -> None:
    steps = Steps((ThreadLane(1, QUICK), ThreadLane(1, OWES)))
    steps.knows("q", QUICK)
    assert steps.put("k", "l") == ["k"]
    assert steps.put("q") == ["q"]
    assert steps.end("k") == ["l"]


@pytest.mark.parametrize(
    ("standing", "free"), [(OWES, LANES[3].threads), (NEW, ALL - 3), (QUICK, ALL - 2), (PROVED, ALL)]
)
def test_strangers_never_have_all_threads_and_debtors_not_those_of_strangers(standing: Standing, free: int) -> None:
    steps = Steps()
    better = dict(zip("pqn", Standing, strict=False))
    sources = [chr(0x4E00 + place) for place in range(2 * ALL)]
    for source, known in (*better.items(), *((source, standing) for source in sources)):
        if known is not NEW:
            steps.knows(source, known)
    assert len(steps.put(*sources)) == free
    for source, known in better.items():
        if known < standing:
            assert steps.put(source) == [source]
            steps.end(source)


def test_who_proved_something_is_served_while_strangers_have_all_that_is_theirs() -> None:
    steps = Steps()
    steps.knows("p", PROVED)
    steps.knows("q", QUICK)
    steps.knows("r", QUICK)
    strangers = [chr(0x4E00 + place) for place in range(2 * ALL)]
    steps.put(*strangers)
    assert steps.put("q") == ["q"]
    assert steps.put("r") == []
    assert steps.put("p") == ["p"]
    assert steps.end("q") == ["r"]


def test_a_debt_lasts_a_hundred_times_what_it_took_and_counts_before_proof() -> None:
    steps = Steps()
    steps.knows("a", PROVED)
    steps.put("a")
    steps.end("a", LONG, PROVED)
    assert steps.order.standing("a") is PROVED
    steps.put("a")
    steps.end("a", 2.0, PROVED)
    assert steps.order.standing("a") is OWES
    steps.put("a")
    steps.end("a", 2 * LONG, PROVED)  # shorter, and so is its debt
    steps.clock.now += DEBT * 2.0 - 1.0
    assert steps.order.standing("a") is OWES
    steps.clock.now += 1.0
    assert steps.order.standing("a") is PROVED


@pytest.mark.parametrize("standing", [PROVED, QUICK])
def test_what_was_shown_counts_for_a_while(standing: Standing) -> None:
    steps = Steps()
    steps.knows("a", standing)
    steps.clock.now += LATELY
    assert steps.order.standing("a") is NEW


def test_many_others_are_not_remembered_instead_of_who_proved_something() -> None:
    steps = Steps()
    steps.knows("p", PROVED)
    steps.knows("q", QUICK)
    for place in range(MOST_REMEMBERED):
        steps.knows(chr(0x4E00 + place), QUICK)
    assert steps.order.standing("p") is PROVED
    assert steps.order.standing("q") is NEW


def test_who_leaves_waits_no_more() -> None:
    steps = Steps(one_lane())
    steps.put("a1", "b1", "b2", "c1")
    assert steps.order.drop("b", "b1")
    assert not steps.order.drop("b", "b1")
    assert not steps.order.drop("a", "a1")  # it runs
    assert not steps.order.drop("z", "z1")
    assert steps.end("a1") == ["b2"]
    assert steps.order.drop("c", "c1")
    assert steps.end("b2") == []
    assert len(steps.order) == 0


def test_whatever_comes_and_goes_each_step_runs_once_and_no_lane_has_more_than_its_threads() -> None:
    events = st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["put", "end", "long", "proof", "drop"])), max_size=80
    )

    @settings(max_examples=examples(200), deadline=None)
    @given(events, st.integers(1, 3))
    def holds(events: list[tuple[str, str]], at_once: int) -> None:
        lanes = (ThreadLane(1, PROVED), ThreadLane(1, NEW), ThreadLane(1, OWES))
        steps, seen, dropped = Steps(lanes, at_once), list[str](), set[str]()
        put = list[str]()
        for number, (source, event) in enumerate(events):
            if event == "put":
                put.append(f"{source}{number}")
                seen += steps.put(put[-1])
            elif event == "drop":
                mine = [step for step in put if step[0] == source and step not in seen and step not in dropped]
                dropped.update(step for step in mine[:1] if steps.order.drop(source, step))
            else:
                mine = [step for step in steps.begun if step[0] == source]
                for step in mine:
                    seen += steps.end(step, 1.0 if event == "long" else 0.0, PROVED if event == "proof" else None)
            steps.clock.now += 1.0
            taken = Counter(begun.lane for begun in steps.begun.values())
            assert all(taken[place] <= lane.threads for place, lane in enumerate(lanes))
            assert max(Counter(step[0] for step in steps.begun).values(), default=0) <= at_once
        while steps.begun:
            seen += steps.end(next(iter(steps.begun)))
        assert sorted(seen) == sorted(set(put) - dropped)

    holds()
