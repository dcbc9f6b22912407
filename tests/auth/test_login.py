from pathlib import Path

import pytest

from gateway.auth.login import Attempt, Login
from gateway.errors import refuse
from gateway.model import Denial, Reason
from gateway.state import State, compile_settings
from tests.support.pure import denial_of, ip, make_identity, make_settings

SOMEONE, OTHER = ip("10.0.0.1"), ip("10.0.0.2")
GOOD, BAD = {b"x-api-key": [b"good-secret"]}, {b"x-api-key": [b"bad-secret"]}
UNKNOWN = Denial(Reason.UNAUTHENTICATED, "This API key is not known here, or no more.")


@pytest.fixture
def state(tmp_path: Path) -> State:
    return state_with(tmp_path)


def state_with(directory: Path, **sections: object) -> State:
    keys = [{"id": "ci", "secret": {"env": "K"}}, {"id": "near", "secret": {"env": "N"}, "networks": ["10.0.0.1/32"]}]
    network = {"allow": ["10.0.0.0/8"], "login_failures_per_minute": 3}
    environ = {"K": "good-secret", "N": "near-secret"}
    return compile_settings(make_settings(directory, environ, **{"keys": keys, "network": network, **sections}))


@pytest.mark.parametrize("known", [GOOD, {b"authorization": [b"Bearer good-secret"]}])
def test_a_good_key_is_an_identity(state: State, known: dict[bytes, list[bytes]]) -> None:
    attempt = Login().attempt(state, known, SOMEONE, 0.0)
    assert attempt.label == ("api_key", "accepted")
    assert attempt.identity_or_refuse().key_id == "ci"
    assert attempt.refusal is None


def test_no_credential_is_asked_for_one(state: State) -> None:
    attempt = Login().attempt(state, {}, SOMEONE, 0.0)
    assert attempt.label == ("none", "missing")
    denial = denial_of(attempt.identity_or_refuse)
    assert denial == Denial(Reason.UNAUTHENTICATED, "Send an API key as X-API-Key or as Authorization: Bearer.")


def test_two_credentials_are_refused_at_once(state: State) -> None:
    both = {**GOOD, b"authorization": [b"Bearer good-secret"]}
    assert denial_of(Login().attempt, state, both, SOMEONE, 0.0).reason is Reason.BAD_REQUEST


def test_an_unknown_key_is_refused(state: State) -> None:
    attempt = Login().attempt(state, BAD, SOMEONE, 0.0)
    assert (attempt.label, attempt.identity, attempt.key_id) == (("api_key", "rejected"), None, None)
    assert denial_of(attempt.identity_or_refuse) == UNKNOWN


def test_a_key_is_refused_where_it_may_not_be_used(state: State) -> None:
    known = {b"x-api-key": [b"near-secret"]}
    assert Login().attempt(state, known, SOMEONE, 0.0).identity_or_refuse().key_id == "near"
    attempt = Login().attempt(state, known, OTHER, 0.0)
    assert (attempt.label, attempt.key_id) == (("api_key", "accepted"), "near")
    assert denial_of(attempt.identity_or_refuse) == Denial(
        Reason.ADDRESS_DENIED, "This key may not be used from this address."
    )


def test_keys_that_are_switched_off_are_unknown(tmp_path: Path) -> None:
    state = state_with(tmp_path, authentication={"api_keys": {"enabled": False}})
    assert denial_of(Login().attempt(state, GOOD, SOMEONE, 0.0).identity_or_refuse) == UNKNOWN


def test_failures_of_an_address_are_bounded_and_good_keys_are_not(state: State) -> None:
    login = Login()
    reasons = [denial_of(login.attempt(state, BAD, SOMEONE, 100.0).identity_or_refuse) for _ in range(5)]
    assert reasons[:3] == [UNKNOWN] * 3
    assert [denial.reason for denial in reasons[3:]] == [Reason.TOO_MANY_BAD_LOGINS] * 2
    assert [denial.retry_after for denial in reasons[3:]] == [20, 20]
    assert login.attempt(state, GOOD, SOMEONE, 100.0).identity_or_refuse().key_id == "ci"
    assert denial_of(login.attempt(state, BAD, OTHER, 100.0).identity_or_refuse) == UNKNOWN
    assert denial_of(login.attempt(state, BAD, SOMEONE, 120.0).identity_or_refuse) == UNKNOWN


def test_an_attempt_with_neither_is_refused() -> None:
    assert denial_of(Attempt(("none", "missing")).identity_or_refuse).reason is Reason.UNAUTHENTICATED
    refused = Attempt(("api_key", "accepted"), make_identity(), refuse(Reason.FORBIDDEN, "No."))
    assert denial_of(refused.identity_or_refuse).reason is Reason.FORBIDDEN


@pytest.mark.parametrize("known", [{b"authorization": [b"Basic YTpi"]}, {b"x-api-key": [b""]}])
def test_what_is_no_credential_of_ours_is_counted_too(state: State, known: dict[bytes, list[bytes]]) -> None:
    attempt = Login().attempt(state, known, SOMEONE, 0.0)
    assert attempt.label == ("none", "malformed")
    assert denial_of(attempt.identity_or_refuse).reason is Reason.UNAUTHENTICATED
