import dataclasses
from hashlib import sha256
from ipaddress import ip_network
from pathlib import Path

import pytest

from gateway.config.compile import compile_settings, with_issuers_keys
from gateway.config.state import ConnectionLimits, Live, State, clashes, profile_of, routed_upstreams, with_ring
from gateway.limits.buckets import Rate
from gateway.model.identity import Identity, Profile
from gateway.model.keys import Generation, KeyRecord
from gateway.model.reasons import Reason
from gateway.model.routes import Access, Kind, Route
from gateway.upstream.job_api import DeleteCall
from tests.support.pure import denial_of, ip, make_settings


def compiled(directory: Path, **sections: object) -> State:
    return compile_settings(make_settings(directory, {"A": "one", "B": "two", "C": "three"}, **sections))


def test_a_key_becomes_an_identity_under_its_digest(tmp_path: Path) -> None:
    keys = [
        {"id": "a", "secret": {"env": "A"}},
        {
            "id": "b",
            "secret": {"env": "B"},
            "profile": "big",
            "owner": "Team",
            "scopes": ["admin"],
            "networks": ["10.1.0.0/16"],
            "expires": "2027-01-15T08:00:00Z",
        },
        {"id": "c", "secret": {"env": "C"}, "disabled": True},
    ]
    state = compiled(tmp_path, keys=keys, profiles={"big": {"body_limit": "1GB"}})
    one, two = (state.keys[sha256(secret).digest()] for secret in (b"one", b"two"))
    assert len(state.keys) == 2
    assert one.identity == Identity("a", "key:a", Profile("default", 200 * 1024**2), account="key:a")
    assert two.identity == Identity(
        "b", "key:Team", Profile("big", 1024**3), frozenset({"admin"}), account="key:b", expires_at=1_800_000_000.0
    )
    assert not one.networks
    assert ip("10.1.2.3") in two.networks
    assert ip("10.2.0.1") not in two.networks


LIMITS = {
    "requests_per_minute": 1, "polls_per_minute": 2, "concurrent_requests": 3, "pages_in_flight": 5,
    "pages_per_request": 4, "body_limit": "6B", "pages_per_day": 7, "pages_per_month": 8, "requests_per_day": 9,
    "requests_per_month": 10, "spend_per_month": 11.5, "soft_limit": 0.5, "page_range": "required",
    "networks": ["10.1.0.0/16"], "routes": ["submit"],
}  # fmt: skip
COMPILED = Profile(
    "small",
    6,
    requests_per_minute=1,
    polls_per_minute=2,
    concurrent_requests=3,
    pages_in_flight=5,
    pages_per_request=4,
    pages_per_day=7,
    pages_per_month=8,
    requests_per_day=9,
    requests_per_month=10,
    spend_per_month=11_500_000,
    soft_limit=0.5,
    needs_page_range=True,
    networks=(ip_network("10.1.0.0/16"),),
    routes=frozenset({"submit"}),
)


def test_a_profile_becomes_limits_in_whole_units(tmp_path: Path) -> None:
    assert compiled(tmp_path, profiles={"small": LIMITS}).profiles["small"] == COMPILED


def test_a_keys_own_limits_take_the_place_of_its_profiles(tmp_path: Path) -> None:
    own = {"pages_per_day": None, "spend_per_month": 2, "page_range": "optional", "concurrent_requests": 30}
    keys = [{"id": "a", "secret": {"env": "A"}, "profile": "small", "limits": own}]
    (key,) = compiled(tmp_path, keys=keys, profiles={"small": LIMITS}).keys.values()
    assert key.identity.profile == dataclasses.replace(
        COMPILED, pages_per_day=None, spend_per_month=2_000_000, needs_page_range=False, concurrent_requests=30
    )


def test_prices_and_refused_fields_are_taken_over(tmp_path: Path) -> None:
    state = compiled(
        tmp_path, prices={"per_1000_pages": {"fast": 2}, "default_mode": "fast"}, body={"allow_file_url": True}
    )
    assert (state.pricing.of("fast"), state.pricing.of("accurate"), state.pricing.of(None)) == (2000, 0, 2000)
    assert state.form_rules.refused == {"webhook_url"}
    assert compiled(tmp_path).form_rules.refused == {"file_url", "webhook_url"}


def record(key_id: str, profile: str = "default") -> KeyRecord:
    generation = Generation(1, sha256(key_id.encode()).digest(), created_at=0)
    return KeyRecord(key_id, profile, key_id, created_at=0, revision=1, generations=(generation,))


def test_another_ring_or_key_set_makes_another_state(tmp_path: Path) -> None:
    state = compiled(tmp_path)
    ring = state.ring.changed([record("led")])
    joined = with_ring(state, ring)
    assert (joined is not state, joined.settings is state.settings) == (True, True)
    assert list(joined.ring.records) == ["led"]
    assert with_issuers_keys(joined, {}).tokens is not joined.tokens


def test_limits_of_accounts_are_found(tmp_path: Path) -> None:
    keys = [{"id": "a", "secret": {"env": "A"}, "profile": "small"}]
    state = compiled(tmp_path, keys=keys, profiles={"small": LIMITS})
    state = with_ring(state, state.ring.changed([record("led", "small")]))
    assert profile_of(state, "key:a") == profile_of(state, "key:led") == COMPILED
    assert profile_of(state, "key:nobody") is None
    assert clashes(state, ["a", "led"]) == ["a"]


def test_networks_rates_and_origins_are_taken_over(tmp_path: Path) -> None:
    network = {"allow": ["10.0.0.0/8"], "trusted_proxies": ["10.9.0.0/16"], "login_failures_per_minute": 30}
    state = compiled(
        tmp_path, network=network, public_url="https://a.test", authentication={"api_keys": {"enabled": False}}
    )
    assert (ip("10.1.1.1") in state.allow, ip("11.0.0.0") in state.allow) == (True, False)
    assert (ip("10.9.1.1") in state.trusted_proxies, ip("10.1.1.1") in state.trusted_proxies) == (True, False)
    assert state.bad_logins == Rate(0.5, 30)
    assert state.origins.public_url == "https://a.test"
    assert state.api_keys_enabled is False
    assert state.anonymous == Profile("default", 200 * 1024**2)
    assert state.settings.network.allow == [ip_network("10.0.0.0/8")]


def test_routes_keep_their_order_and_all_their_rules(tmp_path: Path) -> None:
    routes = [
        {
            "name": "first",
            "methods": ["GET", "HEAD"],
            "path": "/a/{request_id}",
            "kind": "result",
            "host": "A.Test",
            "networks": ["10.1.0.0/16"],
        },
        {"name": "second", "methods": ["GET"], "path": "/a/{x}", "access": "anyone"},
    ]
    state = compiled(tmp_path, routes=routes, aliases={"/b": "/a"})
    first = state.routes.match("GET", "/a/1", "a.test:8443")
    assert first.route == Route("first", Kind.RESULT, Access.KEY, "default")
    assert first.methods == {"GET", "HEAD"}
    assert (first.host, ip("10.1.0.1") in first.networks, ip("10.0.0.1") in first.networks) == ("a.test", True, False)
    assert state.routes.match("GET", "/a/1", "other").route == Route("second", Kind.PLAIN, Access.ANYONE, "default")
    assert state.routes.unaliased("/b/1") == "/a/1"
    assert denial_of(state.routes.match, "GET", "/api/v1/marker/1", "other").reason is Reason.ROUTE_NOT_FOUND


@pytest.mark.parametrize(
    ("method", "path", "label"),
    [
        ("POST", "/api/v1/marker", "submit"),
        ("POST", "/api/v1/ocr", "submit"),
        ("GET", "/api/v1/ocr/abc", "result"),
        ("GET", "/api/v1/usage", "usage"),
        ("GET", "/health_check", "health"),
    ],
)
def test_the_shipped_table_serves_the_container(tmp_path: Path, method: str, path: str, label: str) -> None:
    assert compiled(tmp_path).routes.match(method, path, "h").route.label == label


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/docs"), ("GET", "/openapi.json"), ("POST", "/api/v1/table_rec"), ("GET",
     "/api/v1/marker/a/b"),
     ("POST", "/marker"), ("GET", "/metrics/"), ("GET", "/metrics")],
)  # fmt: skip
def test_the_shipped_table_serves_nothing_else(tmp_path: Path, method: str, path: str) -> None:
    assert denial_of(compiled(tmp_path).routes.match, method, path, "h").reason is Reason.ROUTE_NOT_FOUND


def test_routes_say_where_their_jobs_are(tmp_path: Path) -> None:
    routes = [
        {"name": "submit", "methods": ["POST"], "path": "/s", "kind": "submit", "upstream": "two", "job": "other"},
        {"name": "result", "methods": ["GET"], "path": "/r", "kind": "result", "upstream": "two", "job": "other",
         "id": {"in": "query", "name": "File-Id"}, "rewrite_urls": True},
    ]  # fmt: skip
    delete = {"method": "POST", "path": "/c", "body": {"id": "{id}"}}
    shape = {"read": "/r?i={id}", "id_pattern": "[a-z]+", "delete": delete, "status": {"complete": ["done"]}}
    upstreams = {"two": {"url": "http://127.0.0.1:8001", "health_path": "/h"}}
    state = compiled(tmp_path, routes=routes, upstreams=upstreams, jobs={"shapes": {"other": shape}})
    assert state.routes.match("GET", "/r", "h").route == Route(
        "result", Kind.RESULT, Access.KEY, "two", job="other", id_in="query", id_name="File-Id", rewrites=True
    )
    assert (state.upstreams["two"].port, state.upstreams["two"].health_path) == (8001, "/h")
    assert list(state.upstreams) == ["default", "two"]
    assert list(routed_upstreams(state)) == ["two"]
    assert list(state.shapes) == ["default", "other"]
    other = state.shapes["other"]
    assert (other.name, other.read) == ("other", "/r?i={id}")
    assert other.complete == {"done"}
    assert other.id_pattern is not None
    assert other.id_pattern.fullmatch("abc")
    assert other.delete == DeleteCall("POST", "/c", {"id": "{id}"})
    assert state.shapes["default"].delete is None


def test_pace_is_that_of_the_listener(tmp_path: Path) -> None:
    listen = {
        "handshake_timeout": "1s", "head_timeout": "2s", "idle_timeout": "3s", "connection_lifetime": "9s",
        "body_idle_timeout": "4s",
        "send_idle_timeout": "5s", "body_min_rate": "6B", "max_connections": 7, "max_connections_per_address": 8,
    }  # fmt: skip
    assert compiled(tmp_path, listen=listen).pace == ConnectionLimits(1.0, 2.0, 3.0, 9.0, 4.0, 5.0, 6, 7, 8)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8000", ("http", "127.0.0.1", 8000, "127.0.0.1:8000")),
        ("http://a.test", ("http", "a.test", 80, "a.test")),
        ("https://a.test/", ("https", "a.test", 443, "a.test")),
        ("https://[::1]:9", ("https", "::1", 9, "[::1]:9")),
        ("http://[2001:db8::80]", ("http", "2001:db8::80", 80, "[2001:db8::80]")),
        ("http://10", ("http", "10", 80, "10")),
    ],
)
def test_the_upstream_is_taken_apart(tmp_path: Path, url: str, expected: tuple[object, ...]) -> None:
    target = compiled(tmp_path, upstream={"url": url, "connect_timeout": "1s", "read_timeout": "2s"}).upstreams[
        "default"
    ]
    assert (target.scheme, target.host, target.port, target.authority) == expected
    assert (target.connect_timeout, target.read_timeout, target.idle_timeout) == (1.0, 2.0, 3.0)
    assert target.health_path == "/health_check"


def test_a_state_is_never_changed(tmp_path: Path) -> None:
    state = compiled(tmp_path)
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.reservation_ttl = 1.0  # type: ignore[misc]


def test_the_reference_in_force_starts_undrained(tmp_path: Path) -> None:
    first, second = compiled(tmp_path), compiled(tmp_path)
    live = Live(first)
    assert (live.state, live.is_draining) == (first, False)
    live.state = second
    assert live.state is second
