"""What a verified token is worth: the claims, one by one."""

import sys
from typing import Any

import pytest

from gateway.auth.jwt.claims import judge
from gateway.model.reasons import Denial, Reason
from tests.support.pure import denial_of
from tests.support.tokens import CLAIMS, ISSUER, NOW, PROFILES, make_issuer

INVALID = Denial(Reason.TOKEN_INVALID, "This token is not valid here.")
EXPIRED = Denial(Reason.TOKEN_EXPIRED, "This token has expired; get a new one.")
NO_SCOPE = Denial(Reason.FORBIDDEN, "This token lacks a scope that is required here.")
NO_PROFILE = Denial(Reason.FORBIDDEN, "This token names a profile that does not exist here.")
GONE = object()


def claims_with(**claims: Any) -> dict[str, Any]:
    return {name: value for name, value in {**CLAIMS, **claims}.items() if value is not GONE}


def judged(claims: dict[str, Any], now: float = NOW, **members: Any) -> Any:
    return judge(claims, make_issuer(**members), PROFILES, now)


def refused(claims: dict[str, Any], now: float = NOW, **members: Any) -> Denial:
    return denial_of(lambda: judged(claims, now, **members))


def test_an_identity_says_who_and_until_when() -> None:
    identity = judged(claims_with(scope="read admin", scp=["write", "read"]), leeway=30.0)
    assert identity.key_id == identity.owner == identity.account == "jwt:https://id.example#alice"
    assert identity.profile is PROFILES["default"]
    assert identity.scopes == {"read", "admin", "write"}
    assert identity.label == ("jwt", "accepted")
    assert identity.expires_at == NOW + 330
    assert identity.generation == 0


@pytest.mark.parametrize("exp", [
    GONE, None, True, False, "1800000300", [NOW + 1], {}, -1, float("inf"), float("nan"), float("-inf"),
    10**400, 253402300800, 1e300, "",
])  # fmt: skip
def test_exp_is_a_moment_of_our_time(exp: Any) -> None:
    assert refused(claims_with(exp=exp)) == INVALID


@pytest.mark.parametrize(("exp", "now", "good"), [
    (100, 99.9, True), (100, 100, False), (100, 0, True), (100.5, 100.4, True), (0, NOW, False),
    (253402300799, NOW, True),
])  # fmt: skip
def test_a_token_ends_with_exp(exp: float, now: float, good: bool) -> None:
    if good:
        assert judged(claims_with(exp=exp), now).expires_at == exp
        assert judged(claims_with(exp=exp), now + 60, leeway=60.0).expires_at == exp + 60
    else:
        assert refused(claims_with(exp=exp), now) == EXPIRED
        assert refused(claims_with(exp=exp), now + 60, leeway=60.0) == EXPIRED


@pytest.mark.parametrize("name", ["nbf", "iat"])
def test_a_token_begins_with_nbf_and_iat(name: str) -> None:
    assert judged(claims_with(**{name: NOW}))
    assert judged(claims_with(**{name: NOW + 60}), leeway=60.0)
    assert refused(claims_with(**{name: NOW + 0.5})) == INVALID
    assert refused(claims_with(**{name: NOW + 60.5}), leeway=60.0) == INVALID
    odds: list[Any] = [None, True, "1", [], -5, float("nan"), float("inf"), 10**400]
    for odd in odds:
        assert refused(claims_with(**{name: odd})) == INVALID


@pytest.mark.parametrize("aud", ["gateway", ["gateway"], ["other", "gateway"], "second"])
def test_audiences_that_are_ours(aud: Any) -> None:
    assert judged(claims_with(aud=aud), audience=frozenset({"gateway", "second"}))


@pytest.mark.parametrize("aud", [
    GONE, None, "", [], "Gateway", "gateway ", "gatewa", "gateway2", ["other"], ["gateway", 1], [["gateway"]],
    {"gateway": 1}, True, 1, "gateway,other", "other gateway", "*",
])  # fmt: skip
def test_a_token_for_another_audience_is_refused(aud: Any) -> None:
    assert refused(claims_with(aud=aud)) == INVALID


@pytest.mark.parametrize(
    "iss", [GONE, None, 1, [ISSUER], ISSUER + "/", ISSUER.upper(), ISSUER[:-1], "", " " + ISSUER]
)
def test_the_issuer_is_the_very_one(iss: Any) -> None:
    assert refused(claims_with(iss=iss)) == INVALID


@pytest.mark.parametrize(("sub", "owner"), [
    ("alice", "alice"), ("7", "7"), ("a" * 255, "a" * 255), ("!~", "!~"), ("a#b%", "a#b%"),
])  # fmt: skip
def test_an_owner_is_named_with_its_issuer(sub: Any, owner: str) -> None:
    assert judged(claims_with(sub=sub)).owner == f"jwt:{ISSUER}#{owner}"
    assert judged(claims_with(uid=sub, sub="x"), owner_claim="uid").owner == f"jwt:{ISSUER}#{owner}"


def test_all_tokens_of_an_issuer_can_be_one_owner() -> None:
    owners = {judged(claims_with(sub=sub), owner_claim="iss").owner for sub in ("alice", "bob")}
    assert owners == {f"jwt:{ISSUER}#{ISSUER}"}


@pytest.mark.parametrize("sub", [
    GONE, None, "", "a b", " ", "a\n", "a\r\nX: y", "\x00", "\x7f", "\u00e9", "\ud800", "\u212a", "a" * 256, True,
    False, 1.0, 1.5, [], ["alice"], {"a": 1}, 7, 0, -7,
])  # fmt: skip
def test_a_claim_that_can_be_no_owner_is_refused(sub: Any) -> None:
    assert refused(claims_with(sub=sub)) == INVALID


def test_no_issuer_reaches_into_the_names_of_another() -> None:
    names = ["https://a", "https://a#b", "https://a%23b", "https://a%2523b"]
    owners = {
        judged(claims_with(iss=name, sub=sub), name=name).owner
        for name in names
        for sub in ("c", "b#c", "#c", "%23c", "%c")
    }
    assert len(owners) == 20


@pytest.mark.parametrize(("claims", "scopes"), [
    ({}, set()), ({"scope": ""}, set()), ({"scope": " a  b "}, {"a", "b"}), ({"scp": "a b"}, {"a", "b"}),
    ({"scp": ["a", "b c", ""]}, {"a", "b c"}), ({"scope": ["a"]}, {"a"}), ({"scope": "a", "scp": []}, {"a"}),
    ({"scope": "a\tb"}, {"a\tb"}),
])  # fmt: skip
def test_scopes_are_those_of_scope_and_scp(claims: dict[str, Any], scopes: set[str]) -> None:
    assert judged(claims_with(**claims)).scopes == scopes


@pytest.mark.parametrize("name", ["scope", "scp"])
@pytest.mark.parametrize("value", [None, 1, True, {}, {"admin": 1}, ["a", 1], [None], [["admin"]]])
def test_a_malformed_scope_claim_is_refused(name: str, value: Any) -> None:
    assert refused(claims_with(**{name: value})) == INVALID


def test_all_required_scopes_are_needed() -> None:
    needed = frozenset({"read", "write"})
    assert judged(claims_with(scope="write read"), required_scopes=needed)
    for scope in ("read", "READ WRITE", "read,write", "readwrite", GONE):
        assert refused(claims_with(scope=scope), required_scopes=needed) == NO_SCOPE


def test_the_profile_is_the_issuers_or_the_claims() -> None:
    assert judged(claims_with(), profile="gold").profile is PROFILES["gold"]
    assert judged(claims_with(tier="gold"), profile_claim="tier").profile is PROFILES["gold"]
    for tier in (GONE, None, "silver", "", 1, True, ["gold"], {"gold": 1}, "Gold"):
        assert refused(claims_with(tier=tier), profile_claim="tier") == NO_PROFILE


@pytest.mark.parametrize(("wanted", "given", "good"), [
    ("a", "a", True), ("a", ["b", "a"], True), (["a", "c"], "a", True), (["a", "c"], ["c"], True),
    (True, True, True), (1, 1, True), (None, None, True), ({"x": [1]}, {"x": [1]}, True), (1.5, 1.5, True),
    ([[1, 2]], [[1, 2]], True),
    ("a", "b", False), ("a", "ab", False), (["a"], [], False), ([], "a", False), ("a", {"a": 1}, False),
    (True, 1, False), (1, True, False), (1, 1.0, False), (1, "1", False), (False, 0, False), (False, None, False),
    ({"x": True}, {"x": 1}, False), ({"x": 1}, {"x": 1, "y": 2}, False), ([[1]], [[True]], False),
    ([[1]], [[1, 1]], False), (None, False, False), ("a", GONE, False), (None, GONE, False),
])  # fmt: skip
def test_required_claims_are_equal_as_json_is(wanted: Any, given: Any, good: bool) -> None:
    claims, required = claims_with(claim=given), {"claim": wanted}
    if good:
        assert judged(claims, required_claims=required)
    else:
        assert refused(claims, required_claims=required) == INVALID


def test_thousands_of_values_beside_hundreds_that_are_wanted_are_not_compared_one_with_another() -> None:
    """It took 86 ms of all requests for a token that was refused."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    wanted: list[Any] = [f"group{number}" for number in range(200)]
    claims = claims_with(groups=[*range(700), *map(str, range(700)), {}, [], None])
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        refused(claims, required_claims={"groups": [*wanted, {"x": 1}]})
    finally:
        sys.setprofile(before)
    assert calls < 10_000
    assert judged(claims, required_claims={"groups": [*wanted, "699"]})


def test_a_claim_of_any_depth_is_compared_with_a_shallow_one() -> None:
    deep: Any = "a"
    for _ in range(20_000):
        deep = [deep]
    assert refused(claims_with(claim=deep), required_claims={"claim": "a"}) == INVALID


def test_what_is_told_first() -> None:
    old = {"exp": NOW - 1000}
    assert refused(claims_with(**old, aud="other")) == INVALID
    assert refused(claims_with(**old, nbf=NOW + 1000)) == INVALID
    assert refused(claims_with(**old), required_claims={"x": 1}) == INVALID
    assert refused(claims_with(**old), required_scopes=frozenset({"x"})) == EXPIRED
    assert refused(claims_with(**old), profile_claim="x") == EXPIRED
    assert refused(claims_with(), required_scopes=frozenset({"x"}), profile_claim="x") == NO_SCOPE
