from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.auth.jwt.key_set import KeySet, read_jwks
from gateway.auth.key_secrets import SECRET_BYTES, make_secret
from gateway.authorize.login import Evidence, Login, LoginAttempt
from gateway.config.compile import compile_settings, with_issuers_keys
from gateway.config.state import Live, State, with_blocked, with_ring
from gateway.errors import Refused, refuse
from gateway.model.identity import ClientCertificate
from gateway.model.keys import Generation, KeyRecord
from gateway.model.reasons import Bearer, Denial, Reason, Why
from tests.support.pure import Address, at_once, denial_of, ip, make_identity, make_settings
from tests.support.tokens import ISSUER, NOW, jwk_of, jwks_of, make_token, p256_key

SOMEONE, OTHER = ip("10.0.0.1"), ip("10.0.0.2")
GOOD, BAD = {b"x-api-key": [b"good-secret"]}, {b"x-api-key": [b"bad-secret"]}
STRANGE = make_secret("led", bytes(SECRET_BYTES)).encode()
UNKNOWN = Denial(Reason.UNAUTHENTICATED, "This API key is unknown or was removed.")

NOT_WHOLE = Denial(
    Reason.UNAUTHENTICATED,
    "This API key is not whole: its checksum does not fit (was it cut off when it was copied?).",
)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return state_with(tmp_path)


class Refetching:
    """Asks an issuer for its keys anew: they are what the test says."""

    def __init__(self, live: Live, found: KeySet | None = None) -> None:
        self.asked: list[str] = []
        self._live = live
        self._found = found

    async def __call__(self, issuer: str) -> bool:
        self.asked.append(issuer)
        if self._found is not None:
            self._live.state = with_issuers_keys(self._live.state, {issuer: self._found})
        return self._found is not None


def login_of(state: State, wall: float = NOW) -> Login:
    live = Live(state)
    return Login(live, Refetching(live), lambda: wall)


def attempt_with(
    state: State,
    known: dict[bytes, list[bytes]],
    address: Address = SOMEONE,
    *,
    login: Login | None = None,
    now: float = 0.0,
    certificate: ClientCertificate | None = None,
) -> LoginAttempt:
    evidence = Evidence(address, certificate)
    attempt: LoginAttempt = at_once((login or login_of(state)).attempt(state, known, evidence, now))
    return attempt


def state_with(directory: Path, **sections: object) -> State:
    keys = [{"id": "ci", "secret": {"env": "K"}}, {"id": "near", "secret": {"env": "N"}, "networks": ["10.0.0.1/32"]}]
    network = {"allow": ["10.0.0.0/8"], "login_failures_per_minute": 3}
    environ = {"K": "good-secret", "N": "near-secret"}
    return compile_settings(make_settings(directory, environ, **{"keys": keys, "network": network, **sections}))


@pytest.mark.parametrize("known", [GOOD, {b"authorization": [b"Bearer good-secret"]}])
def test_a_good_key_is_an_identity(state: State, known: dict[bytes, list[bytes]]) -> None:
    attempt = attempt_with(state, known)
    assert attempt.label == ("api_key", "accepted")
    assert attempt.identity_or_refuse().key_id == "ci"
    assert attempt.refusal is None


def test_no_credential_is_asked_for_one(state: State) -> None:
    attempt = attempt_with(state, {})
    assert attempt.label == ("none", "missing")
    denial = denial_of(attempt.identity_or_refuse)
    assert denial == Denial(Reason.UNAUTHENTICATED, "Send an API key as X-API-Key or as Authorization: Bearer.")


def test_two_credentials_are_refused_at_once(state: State) -> None:
    both = {**GOOD, b"authorization": [b"Bearer good-secret"]}
    assert denial_of(attempt_with, state, both).reason is Reason.BAD_REQUEST


def test_an_unknown_key_is_refused(state: State) -> None:
    attempt = attempt_with(state, BAD)
    assert (attempt.label, attempt.identity, attempt.key_id) == (("api_key", "rejected"), None, None)
    assert denial_of(attempt.identity_or_refuse) == UNKNOWN


def test_a_key_is_refused_where_it_may_not_be_used(state: State) -> None:
    known = {b"x-api-key": [b"near-secret"]}
    assert attempt_with(state, known).identity_or_refuse().key_id == "near"
    attempt = attempt_with(state, known, OTHER)
    assert (attempt.label, attempt.key_id) == (("api_key", "accepted"), "near")
    assert denial_of(attempt.identity_or_refuse) == Denial(
        Reason.ADDRESS_DENIED, "This key may not be used from this address."
    )


def test_keys_that_are_switched_off_are_unknown(tmp_path: Path) -> None:
    state = state_with(tmp_path, authentication={"api_keys": {"enabled": False}})
    assert denial_of(attempt_with(state, GOOD).identity_or_refuse) == UNKNOWN


def test_failures_of_an_address_are_bounded_and_good_keys_are_not(state: State) -> None:
    login = login_of(state)

    def of(known: dict[bytes, list[bytes]], address: Address, now: float) -> LoginAttempt:
        return attempt_with(state, known, address, login=login, now=now)

    reasons = [denial_of(of(BAD, SOMEONE, 100.0).identity_or_refuse) for _ in range(5)]
    assert reasons[:3] == [UNKNOWN] * 3
    assert [denial.reason for denial in reasons[3:]] == [Reason.TOO_MANY_BAD_LOGINS] * 2
    assert [denial.retry_after for denial in reasons[3:]] == [20, 20]
    assert of(GOOD, SOMEONE, 100.0).identity_or_refuse().key_id == "ci"
    assert denial_of(of(BAD, OTHER, 100.0).identity_or_refuse) == UNKNOWN
    assert denial_of(of(BAD, SOMEONE, 120.0).identity_or_refuse) == UNKNOWN


def test_an_attempt_with_neither_is_refused() -> None:
    assert denial_of(LoginAttempt(("none", "missing")).identity_or_refuse).reason is Reason.UNAUTHENTICATED
    refused = LoginAttempt(("api_key", "accepted"), make_identity(), refuse(Reason.FORBIDDEN, "No."))
    assert denial_of(refused.identity_or_refuse).reason is Reason.FORBIDDEN


@pytest.mark.parametrize("known", [{b"authorization": [b"Basic YTpi"]}, {b"x-api-key": [b""]}])
def test_what_is_no_credential_of_ours_is_counted_too(state: State, known: dict[bytes, list[bytes]]) -> None:
    attempt = attempt_with(state, known)
    assert attempt.label == ("none", "malformed")
    assert denial_of(attempt.identity_or_refuse).reason is Reason.UNAUTHENTICATED


# Keys that end


@pytest.mark.parametrize(("expires", "works"), [("2027-01-15T08:00:01Z", True), ("2027-01-15T08:00:00Z", False)])
def test_a_key_works_until_the_moment_it_expires(expires: str, works: bool, tmp_path: Path) -> None:
    keys = [{"id": "ci", "secret": {"env": "K"}, "expires": expires}]
    attempt = attempt_with(state_with(tmp_path, keys=keys), GOOD)
    if works:
        assert attempt.identity_or_refuse().key_id == "ci"
        return
    assert attempt.label == ("api_key", "expired")
    assert denial_of(attempt.identity_or_refuse) == Denial(Reason.UNAUTHENTICATED, "This API key has expired.")


def test_an_expired_key_counts_as_a_bad_login(tmp_path: Path) -> None:
    keys = [{"id": "ci", "secret": {"env": "K"}, "expires": "2026-01-01T00:00:00Z"}]
    state = state_with(tmp_path, keys=keys)
    login = login_of(state)
    reasons = [denial_of(attempt_with(state, GOOD, login=login).identity_or_refuse).reason for _ in range(4)]
    assert reasons == [Reason.UNAUTHENTICATED] * 3 + [Reason.TOO_MANY_BAD_LOGINS]


def test_a_key_that_is_switched_off_is_unknown(tmp_path: Path) -> None:
    keys = [{"id": "ci", "secret": {"env": "K"}, "disabled": True}]
    assert denial_of(attempt_with(state_with(tmp_path, keys=keys), GOOD).identity_or_refuse) == UNKNOWN


# Keys of the ledger

JWT = {"jwt": [{"issuer": ISSUER, "audience": "gateway", "jwks": "https://id.example/keys"}]}


def with_ledger_key(state: State, secret: bytes, **changes: Any) -> State:
    generation = Generation(2, sha256(secret).digest(), created_at=0)
    values = {"profile": "default", "owner": "team", "created_at": 0, "revision": 1, "generations": (generation,)}
    return with_ring(state, state.ring.changed([KeyRecord("led", **{**values, **changes})]))


def test_a_key_of_the_ledger_is_an_identity(state: State) -> None:
    state = with_ledger_key(state, b"dgw_led_secret")
    identity = attempt_with(state, {b"x-api-key": [b"dgw_led_secret"]}).identity_or_refuse()
    assert (identity.key_id, identity.owner, identity.account) == ("led", "key:team", "key:led")
    assert identity.generation == 2


def test_a_configured_secret_matches_first(tmp_path: Path) -> None:
    state = with_ledger_key(state_with(tmp_path), b"good-secret")
    assert attempt_with(state, GOOD).identity_or_refuse().key_id == "ci"


def test_a_key_of_the_ledger_ends_with_its_generation(state: State) -> None:
    ended = Generation(1, sha256(b"dgw_led_old").digest(), created_at=0, not_after=int(NOW))
    state = with_ledger_key(state, b"", generations=(ended,))
    assert attempt_with(state, {b"x-api-key": [b"dgw_led_old"]}).label == ("api_key", "expired")
    earlier = attempt_with(state, {b"x-api-key": [b"dgw_led_old"]}, login=login_of(state, NOW - 1))
    assert earlier.identity_or_refuse().key_id == "led"


@pytest.mark.parametrize(
    ("newer", "key_ends", "why"),
    [
        ({}, None, Why.REPLACED),
        ({}, NOW + 1, Why.REPLACED),
        ({}, NOW, Why.EXPIRED),
        ({"revoked_at": 1}, None, Why.EXPIRED),
        ({"not_after": 1}, None, Why.EXPIRED),
    ],
)
def test_a_secret_that_a_newer_one_replaced_is_told_so(
    newer: dict[str, Any], key_ends: float | None, why: Why, state: State
) -> None:
    old = Generation(1, sha256(b"dgw_led_old").digest(), created_at=0, not_after=int(NOW))
    new = Generation(2, sha256(b"dgw_led_new").digest(), created_at=0, **newer)
    ends = None if key_ends is None else int(key_ends)
    attempt = attempt_with(
        with_ledger_key(state, b"", generations=(old, new), expires_at=ends), {b"x-api-key": [b"dgw_led_old"]}
    )
    denial = denial_of(attempt.identity_or_refuse)
    assert (denial.reason, denial.why, attempt.label) == (Reason.UNAUTHENTICATED, why, ("api_key", "expired"))
    replaced = "This secret was replaced and has ended; use the key's newer one."
    assert denial.detail == (replaced if why is Why.REPLACED else "This API key has expired.")
    assert attempt.key_id == "led"


@pytest.mark.parametrize("damaged", [STRANGE[:-1], STRANGE[:4], STRANGE + b"=", STRANGE.replace(b"A", b"B", 1)])
@pytest.mark.parametrize("issuers", [{}, {"authentication": JWT}], ids=["keys", "keys-and-tokens"])
def test_a_secret_that_is_not_whole_is_told_so_and_counts(
    damaged: bytes, issuers: dict[str, object], tmp_path: Path
) -> None:
    state = state_with(tmp_path, **issuers)
    login = login_of(state)
    attempts = [attempt_with(state, {b"x-api-key": [damaged]}, login=login) for _ in range(4)]
    assert {attempt.label for attempt in attempts} == {("api_key", "rejected")}
    denials = [denial_of(attempt.identity_or_refuse) for attempt in attempts]
    assert denials[:3] == [NOT_WHOLE] * 3
    assert denials[3].reason is Reason.TOO_MANY_BAD_LOGINS


def test_a_key_that_only_looks_damaged_opens_and_closes_as_any(state: State) -> None:
    """Secrets of the file may have any form; what became of a known one is told before its checksum is."""
    known = {b"x-api-key": [STRANGE[:-1]]}
    assert attempt_with(with_ledger_key(state, STRANGE[:-1]), known).identity_or_refuse().key_id == "led"
    disabled = with_ledger_key(state, STRANGE[:-1], disabled_at=1)
    assert denial_of(attempt_with(disabled, known).identity_or_refuse).detail == "This key is disabled."


# Tokens

KEYS = read_jwks(jwks_of(jwk_of(p256_key(), kid="one")), ("ES256",))
OTHERS = read_jwks(jwks_of(jwk_of(p256_key(), kid="one"), jwk_of(p256_key(1), kid="two")), ("ES256",))


def bearing(token: bytes) -> dict[bytes, list[bytes]]:
    return {b"authorization": [b"Bearer " + token]}


def token_state(directory: Path) -> State:
    return with_issuers_keys(state_with(directory, authentication=JWT), {ISSUER: KEYS})


def test_a_token_is_an_identity(tmp_path: Path) -> None:
    attempt = attempt_with(token_state(tmp_path), bearing(make_token(header={"kid": "one"})))
    assert attempt.label == ("jwt", "accepted")
    assert attempt.identity_or_refuse().owner == f"jwt:{ISSUER}#alice"


def test_a_verified_token_is_remembered_until_it_expires(tmp_path: Path) -> None:
    state = token_state(tmp_path)
    token = make_token(header={"kid": "one"}, exp=int(NOW) + 10)
    first = attempt_with(state, bearing(token)).identity_or_refuse()
    assert attempt_with(state, bearing(token)).identity is first
    late = attempt_with(state, bearing(token), login=login_of(state, NOW + 41))
    assert denial_of(late.identity_or_refuse).reason is Reason.TOKEN_EXPIRED


def test_a_bad_token_is_a_bad_login(tmp_path: Path) -> None:
    state = token_state(tmp_path)
    login = login_of(state)
    reasons = [
        denial_of(attempt_with(state, bearing(b"a.b.c"), login=login).identity_or_refuse).reason for _ in range(4)
    ]
    assert reasons == [Reason.TOKEN_INVALID] * 3 + [Reason.TOO_MANY_BAD_LOGINS]


def test_a_refused_token_of_its_issuer_names_its_bearer_who_is_nobody_known(tmp_path: Path) -> None:
    state = token_state(tmp_path)
    login = login_of(state)
    sent = bearing(make_token(header={"kid": "one"}, exp=1))
    for reason in [Reason.TOKEN_EXPIRED] * 3 + [Reason.TOO_MANY_BAD_LOGINS]:
        attempt = attempt_with(state, sent, login=login)
        denial = denial_of(attempt.identity_or_refuse)
        assert (denial.reason, denial.bearer) == (reason, Bearer(f"jwt:{ISSUER}#alice"))
        assert (attempt.identity, attempt.key_id) == (None, None)


def test_a_token_that_may_not_is_no_bad_login(tmp_path: Path) -> None:
    jwt = [{**JWT["jwt"][0], "required_scopes": ["convert"]}]
    state = with_issuers_keys(state_with(tmp_path, authentication={"jwt": jwt}), {ISSUER: KEYS})
    login, token = login_of(state), bearing(make_token(header={"kid": "one"}))
    attempts = [attempt_with(state, token, login=login) for _ in range(5)]
    assert {attempt.label for attempt in attempts} == {("jwt", "forbidden")}
    assert {denial_of(attempt.identity_or_refuse).reason for attempt in attempts} == {Reason.FORBIDDEN}


def test_a_key_that_is_not_known_is_asked_for_once(tmp_path: Path) -> None:
    live = Live(token_state(tmp_path))
    refetch = Refetching(live, OTHERS)
    login = Login(live, refetch, lambda: NOW)
    token = bearing(make_token(key=p256_key(1), header={"kid": "two"}))
    assert attempt_with(live.state, token, login=login).identity_or_refuse().owner == f"jwt:{ISSUER}#alice"
    assert refetch.asked == [ISSUER]
    assert attempt_with(live.state, token, login=login).label == ("jwt", "accepted")
    assert refetch.asked == [ISSUER]


@pytest.mark.parametrize("found", [None, KEYS], ids=["nothing-new", "still-not-there"])
def test_a_key_that_stays_unknown_is_a_bad_token(found: KeySet | None, tmp_path: Path) -> None:
    live = Live(token_state(tmp_path))
    login = Login(live, Refetching(live, found), lambda: NOW)
    token = bearing(make_token(key=p256_key(1), header={"kid": "two"}))
    attempt = attempt_with(live.state, token, login=login)
    assert denial_of(attempt.identity_or_refuse).reason is Reason.TOKEN_INVALID


def test_without_issuers_and_with_our_own_prefix_it_is_an_unknown_key(tmp_path: Path) -> None:
    known = bearing(make_token())
    assert denial_of(attempt_with(state_with(tmp_path), known).identity_or_refuse) == UNKNOWN
    ours = bearing(STRANGE)
    assert denial_of(attempt_with(token_state(tmp_path), ours).identity_or_refuse) == UNKNOWN


# Certificates

CERTIFICATES = {"certificates": {"identity": "cn", "names": {"robot": {"scopes": ["admin"]}}}}
ROBOT, STRANGER = ClientCertificate(cn=("robot",)), ClientCertificate(cn=("stranger",))


def certificate_state(directory: Path) -> State:
    ca = directory / "ca.pem"
    ca.touch()
    pair = {"certificate": str(directory / "server.pem"), "private_key": str(directory / "server.key")}
    tls = {**pair, "client_ca": str(ca), "client_certificates": "optional"}
    return state_with(directory, authentication=CERTIFICATES, tls=tls)


def test_a_certificate_alone_is_an_identity(tmp_path: Path) -> None:
    identity = attempt_with(certificate_state(tmp_path), {}, certificate=ROBOT).identity_or_refuse()
    assert (identity.owner, identity.scopes) == ("cert:robot", frozenset({"admin"}))


def test_a_certificate_beside_a_credential_is_none(tmp_path: Path) -> None:
    state = certificate_state(tmp_path)
    assert attempt_with(state, GOOD, certificate=ROBOT).identity_or_refuse().key_id == "ci"


def test_while_nobody_knows_who_is_blocked_only_keys_are_let_in(tmp_path: Path) -> None:
    """After a start without the ledger, whoever was blocked was let in."""
    state = with_blocked(certificate_state(tmp_path), None)
    attempt = attempt_with(state, {}, certificate=ROBOT)
    denial = denial_of(attempt.identity_or_refuse)
    assert (denial.reason, denial.retry_after, attempt.label) == (
        Reason.LEDGER_UNAVAILABLE, 2, ("certificate", "accepted"),
    )  # fmt: skip
    assert attempt_with(state, GOOD, certificate=ROBOT).identity_or_refuse().key_id == "ci"
    assert denial_of(attempt_with(state, BAD, certificate=ROBOT).identity_or_refuse) == UNKNOWN


def test_a_certificate_of_nobody_is_refused(tmp_path: Path) -> None:
    attempt = attempt_with(certificate_state(tmp_path), {}, certificate=STRANGER)
    assert attempt.label == ("certificate", "rejected")
    with pytest.raises(Refused):
        attempt.identity_or_refuse()


def test_a_certificate_without_a_mapping_says_nothing_of_who_calls(state: State) -> None:
    assert attempt_with(state, {}, certificate=ROBOT).label == ("none", "missing")


def test_a_certificate_of_a_caller_who_is_blocked_is_refused_and_he_is_named(tmp_path: Path) -> None:
    state = with_blocked(certificate_state(tmp_path), frozenset({"cert:robot"}))
    attempt = attempt_with(state, {}, certificate=ROBOT)
    assert (attempt.label, attempt.key_id) == (("certificate", "forbidden"), "cert:robot")
    assert denial_of(attempt.identity_or_refuse).reason is Reason.FORBIDDEN
    assert attempt_with(state, GOOD, certificate=ROBOT).identity_or_refuse().key_id == "ci"
