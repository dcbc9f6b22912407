"""A submit is judged once more when its body ends: by key, profile, address and route as they are then."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.auth.jwks.files import read_local_keys
from gateway.auth.jwt.tokens import identify
from gateway.authorize.cached_headers import cache_headers
from gateway.authorize.permit import make_permit
from gateway.authorize.preparation import prepare_request
from gateway.authorize.prepared_request import PreparedRequest, RequestLine
from gateway.authorize.recheck import recheck_permit
from gateway.config.compile import compile_settings, with_issuers_keys
from gateway.config.state import State, with_blocked, with_ring
from gateway.jobs.job import job_not_found
from gateway.model.identity import ClientCertificate, Identity, Peer
from gateway.model.keys import Generation, KeyRecord
from gateway.model.reasons import Reason
from gateway.model.request import Permit
from tests.support.pure import denial_of, ip, make_settings
from tests.support.tokens import make_token

NOW = 1_795_435_200.0
PEER = Peer(ip("10.0.0.1"), 1)
SECRET = b"dgw_a_secret"
FORM = b"multipart/form-data; boundary=b0"
PROFILES = {"gold": {"pages_per_day": 7}}


def state_of(directory: Path, **sections: Any) -> State:
    sections = {"profiles": PROFILES, "public_url": "https://g", **sections}
    return compile_settings(make_settings(directory, {"S": "x" * 40}, **sections))


def ringed(state: State, **changes: Any) -> State:
    generation = Generation(1, sha256(SECRET).digest(), 0)
    record = KeyRecord(**{"id": "a", "profile": "gold", "owner": "a", "created_at": 0, "revision": 1,
                          "generations": (generation,), **changes})  # fmt: skip
    return with_ring(state, state.ring.changed([record]))


def prepared_for(state: State, identity: Identity | None, *headers: tuple[bytes, bytes]) -> PreparedRequest:
    pairs = ((b"Host", b"g"), (b"Content-Type", FORM), (b"Content-Length", b"9"), *headers)
    cached = cache_headers(state, PEER, (1, 1), pairs)
    rule = state.routes.match("POST", "/api/v1/marker", "g")
    permit: Permit = make_permit(state, rule, "/api/v1/marker", "", cached.address, identity)
    return prepare_request(state, cached, RequestLine("POST", "/api/v1/marker"), "", permit, 0.0)


def by_key(state: State) -> PreparedRequest:
    (key,) = state.ring.live_keys()
    return prepared_for(state, key.identity, (b"X-API-Key", SECRET))


def test_the_same_state_gives_the_same_permit(tmp_path: Path) -> None:
    state = ringed(state_of(tmp_path))
    prepared = by_key(state)
    assert recheck_permit(state, prepared, PEER, NOW) == prepared.permit


def test_a_key_that_was_revoked_disabled_or_ended_is_refused(tmp_path: Path) -> None:
    state = ringed(state_of(tmp_path))
    prepared = by_key(state)
    revoked = Generation(1, sha256(SECRET).digest(), 0, revoked_at=1)
    for changes in ({"generations": (revoked,)}, {"disabled_at": 1}, {"expires_at": int(NOW)}, {"profile": "gone"}):
        denial = denial_of(recheck_permit, ringed(state, **changes), prepared, PEER, NOW)
        assert denial.reason is Reason.UNAUTHENTICATED
    switched_off = state_of(tmp_path, authentication={"api_keys": {"enabled": False}})
    denied = denial_of(recheck_permit, with_ring(switched_off, state.ring), prepared, PEER, NOW)
    assert denied.reason is Reason.UNAUTHENTICATED


def poll_of(state: State, method: str = "GET") -> PreparedRequest:
    (key,) = state.ring.live_keys()
    pairs = ((b"Host", b"g"), (b"X-API-Key", SECRET))
    cached, path = cache_headers(state, PEER, (1, 1), pairs), "/api/v1/marker/job-1"
    permit = make_permit(state, state.routes.match(method, path, "g"), path, "", cached.address, key.identity)
    return prepare_request(state, cached, RequestLine(method, path), "", permit, 0.0)


def test_a_key_that_moved_to_another_owner_starts_and_reads_nothing_of_the_old_ones(tmp_path: Path) -> None:
    state = ringed(state_of(tmp_path))
    moved = ringed(state, owner="b")
    poll = poll_of(state)
    assert recheck_permit(state, poll, PEER, NOW) == poll.permit
    assert denial_of(recheck_permit, moved, poll, PEER, NOW) == job_not_found().denial
    assert denial_of(recheck_permit, moved, by_key(state), PEER, NOW).reason is Reason.UNAUTHENTICATED


def test_a_job_that_the_query_names_is_named_again(tmp_path: Path) -> None:
    routes = [{"name": "r", "methods": ["GET"], "path": "/r", "kind": "result", "id": {"in": "query", "name": "id"}}]
    state = ringed(state_of(tmp_path, routes=routes))
    (key,) = state.ring.live_keys()
    cached = cache_headers(state, PEER, (1, 1), ((b"Host", b"g"), (b"X-API-Key", SECRET)))
    permit = make_permit(state, state.routes.match("GET", "/r", "g"), "/r", "?id=job-1", cached.address, key.identity)
    prepared = prepare_request(state, cached, RequestLine("GET", "/r?id=job-1"), "?id=job-1", permit, 0.0)
    assert recheck_permit(state, prepared, PEER, NOW) == permit


def test_other_limits_hold_at_once(tmp_path: Path) -> None:
    state = ringed(state_of(tmp_path))
    prepared = by_key(state)
    assert recheck_permit(ringed(state, limits={"pages_per_day": 1}), prepared, PEER, NOW).profile.pages_per_day == 1
    ends_later = ringed(state, expires_at=int(NOW) + 1)
    assert recheck_permit(ends_later, prepared, PEER, NOW).profile.pages_per_day == 7


def test_an_address_that_is_shut_out_by_now_is_refused(tmp_path: Path) -> None:
    state = ringed(state_of(tmp_path))
    prepared = by_key(state)
    elsewhere = ringed(state_of(tmp_path, network={"allow": ["192.0.2.0/24"]}))
    assert denial_of(recheck_permit, elsewhere, prepared, PEER, NOW).reason is Reason.ADDRESS_DENIED
    (network,) = state_of(tmp_path, network={"allow": ["192.0.2.0/24"]}).settings.network.allow
    elsewhere = ringed(state, networks=(network,))
    assert denial_of(recheck_permit, elsewhere, prepared, PEER, NOW).reason is Reason.ADDRESS_DENIED


def test_a_proxy_that_is_trusted_no_more_names_nobody(tmp_path: Path) -> None:
    network = {"allow": ["192.0.2.0/24"], "trusted_proxies": ["10.0.0.1/32"]}
    state = ringed(state_of(tmp_path, network=network))
    (key,) = state.ring.live_keys()
    prepared = prepared_for(state, key.identity, (b"X-API-Key", SECRET), (b"X-Forwarded-For", b"192.0.2.7"))
    assert recheck_permit(state, prepared, PEER, NOW).client == ip("192.0.2.7")
    distrusted = ringed(state_of(tmp_path, network={**network, "trusted_proxies": []}))
    assert denial_of(recheck_permit, distrusted, prepared, PEER, NOW).reason is Reason.ADDRESS_DENIED


def test_a_route_that_is_gone_by_now_is_not_found(tmp_path: Path) -> None:
    state = ringed(state_of(tmp_path))
    routes = [{"name": "x", "methods": ["GET"], "path": "/x"}]
    denial = denial_of(recheck_permit, ringed(state_of(tmp_path, routes=routes)), by_key(state), PEER, NOW)
    assert denial.reason is Reason.ROUTE_NOT_FOUND


def trusting(directory: Path, secret: str = "x" * 40, **members: Any) -> State:
    """A state that believes an issuer, and has its key."""
    issuer = {
        "issuer": "https://i",
        "audience": "g",
        "profile": "gold",
        "algorithms": ["HS256"],
        "secret": {"env": "S"},
        "leeway": "0s",
    }
    settings = make_settings(
        directory,
        {"S": secret},
        profiles={**PROFILES, "small": {"pages_per_day": 1}},
        public_url="https://g",
        authentication={"jwt": [{**issuer, **members}]},
    )
    return with_issuers_keys(compile_settings(settings), read_local_keys(settings.authentication.jwt))


def token(**claims: Any) -> bytes:
    """A token that ended a minute ago."""
    values = {"iss": "https://i", "aud": "g", "sub": "bob", "iat": NOW - 300, "exp": NOW - 60, **claims}
    return make_token("HS256", b"x" * 40, **values)


def by_token(state: State, sent: bytes) -> PreparedRequest:
    identity = identify(sent, state.issuers, state.profiles, NOW - 120)
    return prepared_for(state, identity, (b"Authorization", b"Bearer " + sent))


def test_a_token_may_end_within_its_upload(tmp_path: Path) -> None:
    state = trusting(tmp_path)
    prepared = by_token(state, token())
    assert recheck_permit(state, prepared, PEER, NOW).profile.pages_per_day == 7


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"issuer": "https://another"}, Reason.TOKEN_INVALID),
        ({"secret": "y" * 40}, Reason.TOKEN_INVALID),
        ({"audience": "another"}, Reason.TOKEN_INVALID),
        ({"required_claims": {"team": "a"}}, Reason.TOKEN_INVALID),
        ({"required_scopes": ["a"]}, Reason.FORBIDDEN),
        ({"owner_claim": "iss"}, Reason.UNAUTHENTICATED),
    ],
)
def test_all_else_of_a_token_is_judged_by_what_is_in_force(
    tmp_path: Path, changed: dict[str, Any], reason: Reason
) -> None:
    state = trusting(tmp_path)
    prepared = by_token(state, token())
    secret = changed.pop("secret", "x" * 40)
    assert denial_of(recheck_permit, trusting(tmp_path, secret, **changed), prepared, PEER, NOW).reason is reason


def test_a_token_has_the_limits_that_its_issuer_s_tokens_have_now(tmp_path: Path) -> None:
    prepared = by_token(trusting(tmp_path), token())
    assert recheck_permit(trusting(tmp_path, profile="small"), prepared, PEER, NOW).profile.pages_per_day == 1


def test_a_token_that_was_verified_under_what_is_in_force_is_not_verified_again(tmp_path: Path) -> None:
    state = trusting(tmp_path)
    sent = token(exp=NOW + 60)
    prepared = by_token(state, sent)
    verified = recheck_permit(state, prepared, PEER, NOW).identity
    assert verified is not None
    state.tokens.put(sent, verified)
    assert recheck_permit(state, prepared, PEER, NOW).identity is verified


def test_a_token_that_did_not_come_with_the_request_is_refused(tmp_path: Path) -> None:
    state = trusting(tmp_path)
    identity = identify(token(), state.issuers, state.profiles, NOW - 120)
    denial = denial_of(recheck_permit, state, prepared_for(state, identity), PEER, NOW)
    assert denial.reason is Reason.UNAUTHENTICATED


def test_a_token_whose_issuer_s_keys_are_not_there_is_refused(tmp_path: Path) -> None:
    state = trusting(tmp_path)
    prepared = by_token(state, token())
    denial = denial_of(recheck_permit, with_issuers_keys(state, {}), prepared, PEER, NOW)
    assert denial.reason is Reason.TOKEN_INVALID


def test_a_certificate_is_mapped_again(tmp_path: Path) -> None:
    certificates = {"identity": "dns", "profile": "gold"}
    state = state_of(tmp_path, authentication={"certificates": certificates})
    peer = replace(PEER, certificate=ClientCertificate(dns=("a.example",)))
    bearer = Identity("cert:a.example", "cert:a.example", state.profiles["gold"], label=("certificate", "accepted"),
                      account="cert:a.example")  # fmt: skip
    prepared = prepared_for(state, bearer)
    assert recheck_permit(state, prepared, peer, NOW).identity == bearer
    assert denial_of(recheck_permit, state_of(tmp_path), prepared, peer, NOW).reason is Reason.UNAUTHENTICATED
    assert denial_of(recheck_permit, state, prepared, PEER, NOW).reason is Reason.UNAUTHENTICATED


def test_a_certificate_ends_while_its_connection_stands(tmp_path: Path) -> None:
    certificates = {"identity": "dns", "profile": "gold"}
    state = state_of(tmp_path, authentication={"certificates": certificates})
    bearer = Identity("cert:a.example", "cert:a.example", state.profiles["gold"], label=("certificate", "accepted"),
                      account="cert:a.example", expires_at=NOW)  # fmt: skip
    prepared = prepared_for(state, bearer)
    peer = replace(PEER, certificate=ClientCertificate(dns=("a.example",), not_after=NOW))
    assert recheck_permit(state, prepared, peer, NOW - 1).identity == bearer
    assert denial_of(recheck_permit, state, prepared, peer, NOW).reason is Reason.UNAUTHENTICATED


def test_a_certificate_that_is_a_condition_ends_too(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    tls = {"client_ca": str(tmp_path / "ca.pem"), "client_certificates": "required"}
    files = {"certificate": str(tmp_path / "server.pem"), "private_key": str(tmp_path / "server.key")}
    state = ringed(state_of(tmp_path, tls={**files, **tls}))
    prepared = by_key(state)
    assert denial_of(recheck_permit, state, prepared, PEER, NOW).reason is Reason.UNAUTHENTICATED
    peer = replace(PEER, certificate=ClientCertificate(not_after=NOW))
    assert recheck_permit(state, prepared, peer, NOW - 1) == prepared.permit
    assert denial_of(recheck_permit, state, prepared, peer, NOW).reason is Reason.UNAUTHENTICATED


def test_a_token_that_ended_reads_nothing_any_more(tmp_path: Path) -> None:
    state = trusting(tmp_path)
    sent = token(exp=NOW)
    pairs = ((b"Host", b"g"), (b"Authorization", b"Bearer " + sent))
    cached, path = cache_headers(state, PEER, (1, 1), pairs), "/api/v1/marker/job-1"
    bearer = identify(sent, state.issuers, state.profiles, NOW - 1)
    permit = make_permit(state, state.routes.match("GET", path, "g"), path, "", cached.address, bearer)
    poll = prepare_request(state, cached, RequestLine("GET", path), "", permit, 0.0)
    assert recheck_permit(state, poll, PEER, NOW - 1).identity == bearer
    assert denial_of(recheck_permit, state, poll, PEER, NOW).reason is Reason.TOKEN_EXPIRED


def test_who_needed_no_key_needs_none_now(tmp_path: Path) -> None:
    routes = [{"name": "s", "methods": ["POST"], "path": "/api/v1/marker", "kind": "submit", "access": "anyone"}]
    state = state_of(tmp_path, routes=routes)
    assert recheck_permit(state, prepared_for(state, None), PEER, NOW).identity is None


def test_a_route_that_asks_for_a_key_by_now_refuses_who_came_without_one(tmp_path: Path) -> None:
    routes = [{"name": "s", "methods": ["POST"], "path": "/api/v1/marker", "kind": "submit", "access": "anyone"}]
    prepared = prepared_for(state_of(tmp_path, routes=routes), None)
    denial = denial_of(recheck_permit, state_of(tmp_path), prepared, PEER, NOW)
    assert denial.reason is Reason.UNAUTHENTICATED


def test_a_caller_who_was_blocked_meanwhile_is_refused(tmp_path: Path) -> None:
    state = trusting(tmp_path)
    prepared = by_token(state, token())
    assert recheck_permit(state, prepared, PEER, NOW).identity is not None
    blocked = with_blocked(state, frozenset({prepared.permit.account}))
    assert denial_of(recheck_permit, blocked, prepared, PEER, NOW).reason is Reason.FORBIDDEN
