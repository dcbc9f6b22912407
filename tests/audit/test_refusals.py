"""Refused requests become one record for each minute, caller and reason, and never more than so many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.refusals import Refusals, actor_of
from gateway.model.account_names import ANYONE
from gateway.model.audit import Action, Entry
from gateway.model.reasons import REFUSALS, VERDICTS, Reason
from gateway.observe.refusal_sampling import OTHERS
from tests.support.ledgers import NOON

MINUTE = int(NOON)


def record(actor: str, reason: Reason, count: int, first: int = MINUTE, last: int = MINUTE) -> Entry:
    return Entry(last, actor, Action.REFUSED, reason.value, {"count": count, "first_at": first})


def test_a_minute_is_told_once_it_is_over() -> None:
    refusals = Refusals()
    for second in (0, 1, 59.9):
        refusals.add("ci", Reason.RATE_LIMITED, NOON + second)
    refusals.add(None, Reason.UNAUTHENTICATED, NOON + 30)
    assert refusals.over(NOON + 59.9) == []
    refusals.add("ci", Reason.RATE_LIMITED, NOON + 60)
    assert refusals.over(NOON + 60) == [
        record("key:ci", Reason.RATE_LIMITED, 3, MINUTE, MINUTE + 59),
        record(ANYONE, Reason.UNAUTHENTICATED, 1, MINUTE + 30, MINUTE + 30),
    ]
    assert refusals.over(NOON + 60) == []
    assert refusals.all() == [record("key:ci", Reason.RATE_LIMITED, 1, MINUTE + 60, MINUTE + 60)]
    assert refusals.all() == []


def test_a_record_bears_the_moment_of_the_last_refusal_and_tells_of_the_first() -> None:
    refusals = Refusals()
    for second in (41.5, 20, 35):  # a clock may be set back
        refusals.add("ci", Reason.BUDGET_EXHAUSTED, NOON + second)
    assert refusals.all() == [record("key:ci", Reason.BUDGET_EXHAUSTED, 3, MINUTE + 20, MINUTE + 41)]


def test_a_clock_that_was_set_back_holds_nothing_back() -> None:
    refusals = Refusals()
    refusals.add("ci", Reason.FORBIDDEN, NOON)
    assert refusals.over(NOON - 3600) == [record("key:ci", Reason.FORBIDDEN, 1)]


@pytest.mark.parametrize(
    ("key_id", "actor"),
    [
        (None, "anyone"),
        ("ci", "key:ci"),
        ("jwt:https://id.example#ann", "jwt:https://id.example#ann"),
        ("cert:a", "cert:a"),
    ],
)
def test_who_was_refused(key_id: str | None, actor: str) -> None:
    assert actor_of(key_id) == actor


@given(st.lists(st.tuples(st.integers(0, 50), st.sampled_from(sorted(REFUSALS)), st.integers(0, 300))))
def test_however_many_there_are_memory_has_a_bound_and_none_is_lost(found: list[tuple[int, Reason, int]]) -> None:
    refusals = Refusals(most=10)
    for who, reason, second in found:
        refusals.add(f"jwt:id#{who}", reason, NOON + second)
    entries = refusals.all()
    assert sum(entry.detail["count"] for entry in entries) == len(found)
    assert len([entry for entry in entries if entry.actor != OTHERS]) <= 10
    assert len({entry[:4] for entry in entries}) == len(entries)


def test_what_we_would_not_do_is_a_refusal_and_nothing_else() -> None:
    """What the container answered or could not, what we failed at, and who left, are none."""
    others = {Reason.FORWARDED, Reason.ANSWERED, Reason.CLIENT_GONE, Reason.CLIENT_TOO_SLOW, Reason.INTERNAL}
    others.add(Reason.TRAILING_SLASH)  # it leads there
    upstream = {reason for reason in Reason if reason.startswith("upstream_")}
    assert set(Reason) - others - upstream == REFUSALS
    assert set(VERDICTS) >= REFUSALS
