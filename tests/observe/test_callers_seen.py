"""Who called and who was refused: bounded, and strangers push nobody out whom we know."""

from typing import Any

from gateway.model.reasons import Bearer, Reason, Why
from gateway.observe.callers_seen import CallersSeen
from tests.support.pure import make_exchange

ANN = "jwt:https://idp.test#ann"


def refused(key_id: str | None = None, reason: Reason = Reason.FORBIDDEN, **more: Any) -> Any:
    return make_exchange(key_id=key_id, reason=reason, status=403, **more)


def test_a_refusal_is_counted_by_who_and_why() -> None:
    seen = CallersSeen()
    for at in (10.0, 20.0):
        seen.note(refused("ci", detail="No.", route="submit"), at)
    seen.note(refused(None, Reason.UNAUTHENTICATED), 30.0)
    seen.note(refused(ANN), 40.0)
    seen.note(make_exchange(key_id="ci"), 50.0)
    rows = [(row.who, row.is_stranger, row.reason, row.count, row.first_at, row.last_at) for row in seen.refusals()]
    assert rows == [
        ("key:ci", False, Reason.FORBIDDEN, 2, 10.0, 20.0),
        (ANN, False, Reason.FORBIDDEN, 1, 40.0, 40.0),
        ("192.0.2.8", True, Reason.UNAUTHENTICATED, 1, 30.0, 30.0),
    ]
    first = next(seen.refusals())
    assert (first.detail, first.route, first.client) == ("No.", "submit", "192.0.2.8")


def test_a_refused_credential_has_a_row_for_each_why() -> None:
    seen = CallersSeen()
    for why in (Why.EXPIRED, Why.AUDIENCE, Why.EXPIRED):
        seen.note(refused(None, Reason.TOKEN_INVALID, why=why), 1.0)
    seen.note(refused("ci"), 2.0)
    assert [(row.why, row.count) for row in seen.refusals()] == [(None, 1), (Why.AUDIENCE, 1), (Why.EXPIRED, 2)]


def test_strangers_push_out_strangers_alone_and_the_one_seen_longest_ago_first() -> None:
    seen = CallersSeen(most=3)
    seen.note(refused("ci"), 1.0)
    for number in range(10):
        seen.note(refused(client_ip=f"192.0.2.{number}"), 2.0 + number)
        seen.note(refused(client_ip="192.0.2.0"), 2.5 + number)
    found = [row.who for row in seen.refusals()]
    assert found == ["key:ci", "192.0.2.8", "192.0.2.9", "192.0.2.0"]
    assert seen.dropped == 7


def test_the_bearer_of_a_refused_token_is_named_but_bounded_as_a_stranger() -> None:
    seen = CallersSeen(most=3)
    seen.note(refused(ANN), 1.0)
    for number in range(10):
        bearer = Bearer(f"jwt:https://idp.test#{number}", "other")
        seen.note(refused(None, Reason.TOKEN_INVALID, why=Why.AUDIENCE, bearer=bearer), 2.0 + number)
        assert seen.sighting(bearer.owner) is None
    assert [(row.who, row.is_stranger, row.audience) for row in seen.refusals()] == [
        (ANN, False, None),
        *((f"jwt:https://idp.test#{number}", False, "other") for number in (7, 8, 9)),
    ]
    assert seen.dropped == 7
    assert seen.sighting(ANN) is not None


def test_a_caller_is_remembered_with_his_profile_also_when_he_is_refused() -> None:
    seen = CallersSeen(most=2)
    seen.note(make_exchange(key_id=ANN, profile="gold"), 1.0)
    seen.note(refused(ANN), 2.0)
    found = seen.sighting(ANN)
    assert found is not None
    assert (found.profile, found.first_at, found.last_at) == ("gold", 1.0, 2.0)
    assert (found.requests, found.refusals) == (2, 1)
    for name in ("a", "b"):
        seen.note(make_exchange(key_id=name), 3.0)
    assert seen.sighting(ANN) is None
    assert seen.sighting("key:a") is not None
