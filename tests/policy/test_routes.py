import re
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.identity import ClientAddress, Profile
from gateway.model.networks import Networks
from gateway.model.reasons import Denial, Reason
from gateway.model.routes import Access, Kind, Route
from gateway.policy.routes import (
    Routes,
    Rule,
    body_allowance,
    body_too_large,
    check_access,
    check_address,
    check_length,
    check_takes_body,
    compile_pattern,
    may_begin,
)
from tests.support.pure import PROPERTY, denial_of, ip, make_identity, paths

HERE = ip("192.0.2.1")


def rule(path: str, methods: str = "GET", label: str = "a", host: str | None = None, networks: str = "") -> Rule:
    route = Route(label, Kind.PLAIN, Access.KEY)
    return Rule(route, frozenset(methods.split()), compile_pattern(path), host, Networks.of(*networks.split()))


# Patterns


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("/a", ["/a"], ["/", "/a/", "/A", "/ab", "//a", "/a/b", "a", "/a\n"]),
        ("/a.b", ["/a.b"], ["/axb"]),
        ("/a+(b)*", ["/a+(b)*"], ["/aab", "/a"]),
        ("/a%20b", ["/a%20b"], ["/a b", "/a%2520b"]),
        ("/a/{id}", ["/a/1", "/a/x%20y", "/a/..."], ["/a", "/a/", "/a/1/", "/a/1/2", "/a//"]),
        ("/{op:marker|ocr}", ["/marker", "/ocr"], ["/marker|ocr", "/markers", "/", "/marke"]),
        ("/{op:v1.0}", ["/v1.0"], ["/v1x0"]),
        ("/s/{rest*}", ["/s/a", "/s/a/b/c"], ["/s", "/s/", "/s/a/", "/s//a", "/s/a//b"]),
        ("/{a}/b/{c*}", ["/1/b/2", "/1/b/2/3"], ["/1/b", "/1//b/2"]),
    ],
)
def test_a_pattern_is_exact_by_segment(pattern: str, matching: list[str], others: list[str]) -> None:
    compiled = compile_pattern(pattern)
    assert [path for path in (*matching, *others) if compiled.fullmatch(path)] == matching


@pytest.mark.parametrize(
    "pattern",
    ["", "a", "{a}", "/", "/a/", "//a", "/a//b", "/.", "/..", "/a/../b", "/a b", "/a?b", "/a#b", "/a;b", "/ä",
     "/a\\b",
     "/{", "/{}", "/{A}", "/{1}", "/{a-b}", "/{a:}", "/{a:b/c}", "/{a:b c}", "/{a*}/b", "/{a*}/{b*}", "/x{a}",
     "/{a}x", "/{a}{b}",
     "/{a:b*}", "/{a}/{a}", "/{a:b|}", "/{a:|b}", "/{a:b||c}"],
)  # fmt: skip
def test_refuses_a_pattern_that_is_none(pattern: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        compile_pattern(pattern)
    assert not isinstance(caught.value, re.error)


@PROPERTY
@given(paths)
def test_patterns_count_segments(path: str) -> None:
    parts = path[1:].split("/")
    pattern = "".join(f"/{{s{i}}}" for i in range(len(parts)))
    assert bool(compile_pattern(pattern).fullmatch(path)) == all(parts)
    assert bool(compile_pattern("/{rest*}").fullmatch(path)) == all(parts)
    assert compile_pattern(pattern + "/{more}").fullmatch(path) is None


# The table


def test_the_first_rule_that_matches_wins() -> None:
    routes = Routes([rule("/a", label="1"), rule("/{x}", label="2"), rule("/a", label="3")], {})
    assert routes.match("GET", "/a", "h").route.label == "1"
    assert routes.match("GET", "/b", "h").route.label == "2"


def test_a_rule_for_another_method_is_passed_over() -> None:
    routes = Routes([rule("/a", "GET", "1"), rule("/a", "POST", "2")], {})
    assert routes.match("POST", "/a", "h").route.label == "2"


@pytest.mark.parametrize("path", ["/", "/b", "/b/", "//", "/a//", "/A", "/a/b", "/a/b/"])
def test_what_no_rule_names_is_not_there(path: str) -> None:
    routes = Routes([rule("/a"), rule("/a", host="only.test")], {})
    assert denial_of(routes.match, "GET", path, "h") == Denial(
        Reason.ROUTE_NOT_FOUND, "The gateway has no route for this path."
    )
    assert denial_of(Routes([], {}).match, "GET", path, "h").reason is Reason.ROUTE_NOT_FOUND


def test_a_slash_too_many_leads_to_what_some_rule_names() -> None:
    routes = Routes([rule("/a", "POST"), rule("/b/{x*}"), rule("/c", host="only.test")], {})
    for path, asked, there in (
        ("/a/", "/alias/?b=/c/", b"/alias?b=/c/"), ("/a/", "", b"/a"), ("/b/c/d/", "/b/c/d/", b"/b/c/d")
    ):  # fmt: skip
        denial = denial_of(routes.match, "GET", path, "h", asked=asked)
        assert (denial.reason, denial.lines) == (Reason.TRAILING_SLASH, (b"Location: " + there,))
    assert denial_of(routes.match, "GET", "/c/", "h").reason is Reason.ROUTE_NOT_FOUND


def test_another_method_is_told_which_are_allowed() -> None:
    routes = Routes(
        [rule("/a", "PUT GET"), rule("/{x}", "POST"), rule("/b", "DELETE"), rule("/a", "PATCH", host="o")], {}
    )
    denial = denial_of(routes.match, "HEAD", "/a", "h")
    assert denial.reason is Reason.METHOD_NOT_ALLOWED
    assert denial.allow == ("GET", "POST", "PUT")
    assert denial_of(routes.match, "get", "/a", "h").reason is Reason.METHOD_NOT_ALLOWED


@pytest.mark.parametrize(
    ("configured", "sent", "matches"),
    [
        (None, "anything:1", True),
        ("a.test", "a.test", True),
        ("a.test", "A.Test:8443", True),
        ("a.test", "a.test.", False),
        ("a.test", "b.a.test", False),
        ("[::1]", "[::1]", True),
        ("[::1]", "[::1]:8443", True),
        ("[::1]", "[::2]", False),
    ],
)
def test_a_rule_may_be_for_one_host(configured: str | None, sent: str, matches: bool) -> None:
    routes = Routes([rule("/a", host=configured)], {})
    if matches:
        assert routes.match("GET", "/a", sent).host == configured
    else:
        assert denial_of(routes.match, "GET", "/a", sent).reason is Reason.ROUTE_NOT_FOUND


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("/api/v1/convert", "/api/v1/marker"),
        ("/api/v1/convert/17", "/api/v1/marker/17"),
        ("/api/v1/convert/", "/api/v1/marker/"),
        ("/api/v1/converter", "/api/v1/converter"),
        ("/x/api/v1/convert", "/x/api/v1/convert"),
        ("/b/1", "/api/v1/convert/1"),  # once: what comes out is no alias again
        ("/other", "/other"),
    ],
)
def test_aliases_are_written_by_whole_segments_once(path: str, written: str) -> None:
    aliases = {"/api/v1/convert": "/api/v1/marker", "/b": "/api/v1/convert"}
    assert Routes([], aliases).unaliased(path) == written
    assert Routes([], {}).unaliased(path) == path


# The rules


@pytest.mark.parametrize(
    ("is_allowed", "own", "passes"),
    [
        (True, "", True),
        (True, "10.0.0.0/24 192.0.2.0/24", True),
        (True, "10.0.0.0/24", False),
        (True, "::/0", False),
        (False, "", False),
        (False, "192.0.2.0/24", False),  # a route narrows network.allow, and never widens it
    ],
)
def test_an_address_must_be_allowed_everywhere(is_allowed: bool, own: str, passes: bool) -> None:
    client = ClientAddress(ip("192.0.2.1"), "peer")
    if passes:
        check_address(client, is_allowed, rule("/a", networks=own))
    else:
        denial = denial_of(check_address, client, is_allowed, rule("/a", networks=own))
        assert denial.reason is Reason.ADDRESS_DENIED
        assert "192.0.2.1" not in denial.detail


@pytest.mark.parametrize(
    ("access", "scopes", "passes"),
    [
        (Access.KEY, set(), True),
        (Access.ANYONE, set(), True),
        (Access.ADMIN, {"admin"}, True),
        (Access.ADMIN, {"admin", "more"}, True),
        (Access.ADMIN, set(), False),
        (Access.ADMIN, {"Admin", "admins"}, False),
    ],
)
def test_admin_routes_need_the_scope(access: Access, scopes: set[str], passes: bool) -> None:
    route, identity = Route("r", Kind.PLAIN, access), make_identity(scopes=frozenset(scopes))
    if passes:
        check_access(route, identity, HERE)
    else:
        assert denial_of(check_access, route, identity, HERE).reason is Reason.FORBIDDEN


@pytest.mark.parametrize(
    ("networks", "passes"),
    [("", True), ("192.0.2.0/24", True), ("10.0.0.0/8 192.0.2.0/24", True), ("10.0.0.0/8", False), ("::/0", False)],
)
def test_a_profile_may_be_for_some_networks(networks: str, passes: bool) -> None:
    route = Route("r", Kind.PLAIN, Access.KEY)
    profile = Profile("p", 1, networks=tuple(map(ip_network, networks.split())))
    identity = make_identity(profile=profile)
    if passes:
        check_access(route, identity, HERE)
    else:
        denial = denial_of(check_access, route, identity, HERE)
        assert denial.reason is Reason.ADDRESS_DENIED
        assert str(HERE) not in denial.detail


@pytest.mark.parametrize(
    ("routes", "label", "is_ours", "passes"),
    [
        (set(), "r", False, True),
        ({"r"}, "r", False, True),
        ({"q", "r"}, "r", False, True),
        ({"q"}, "r", False, False),
        ({"q"}, "me", True, True),  # everyone may ask how he stands
        ({"q"}, "me", False, False),
    ],
)
def test_a_profile_may_be_for_some_routes(routes: set[str], label: str, is_ours: bool, passes: bool) -> None:
    route = Route(label, Kind.PLAIN, Access.KEY, is_ours=is_ours)
    identity = make_identity(profile=Profile("p", 1, routes=frozenset(routes)))
    if passes:
        check_access(route, identity, HERE)
    else:
        denial = denial_of(check_access, route, identity, HERE)
        assert denial.reason is Reason.FORBIDDEN
        assert "profiles.<name>.routes" in denial.detail


@PROPERTY
@given(st.none() | st.integers(0, 2**62), st.integers(1, 2**62))
def test_a_body_is_refused_by_its_length(length: int | None, limit: int) -> None:
    if length is None or length <= limit:
        check_length(length, limit)
        return
    denial = denial_of(check_length, length, limit)
    assert denial == body_too_large(length, limit).denial
    assert denial.reason is Reason.BODY_TOO_LARGE
    assert {str(length), str(limit)} <= set(re.findall(r"\d+", denial.detail))
    assert "profiles.<name>.body_limit" in denial.detail


@pytest.mark.parametrize(
    ("limit", "allowance"),
    [(1, 1), (999, 999), (1000, 1001), (8_192_000, 8_200_192), (200 * 1024**2, 200 * 1024**2 + 8192)],
)
def test_framing_may_add_a_little_to_a_body(limit: int, allowance: int) -> None:
    assert body_allowance(limit) == allowance


@pytest.mark.parametrize(
    ("method", "id_in", "passes"),
    [
        ("POST", "path", True),
        ("PUT", "path", True),
        ("GET", "path", False),
        ("HEAD", "query", False),
        ("DELETE", "path", False),
        ("OPTIONS", "path", False),
        ("DELETE", "body", True),
    ],
)
def test_a_body_without_a_key_is_taken_where_one_is_due(method: str, id_in: str, passes: bool) -> None:
    route = Route("r", Kind.PLAIN, Access.ANYONE, id_in=id_in)
    if passes:
        check_takes_body(route, method)
    else:
        assert denial_of(check_takes_body, route, method).reason is Reason.BAD_REQUEST


@pytest.mark.parametrize(
    ("path", "beginning", "may"),
    [
        ("/api/v1/marker", "/api/v1", True),
        ("/api/v1/marker", "/api/v1/marker", True),
        ("/api/v1/marker", "/api/v1/marker/x", False),
        ("/api/v1/marker", "/api/v2", False),
        ("/api/v1/marker", "/ap", False),
        ("/api/{version}/marker", "/api/v9", True),
        ("/api/{version:v1|v2}/marker", "/api/v9", False),
        ("/api/{version:v1|v2}/marker", "/api/v2", True),
        ("/static/{path*}", "/static/a/b/c", True),
        ("/static/{path*}", "/other/a", False),
    ],
)
def test_whether_a_path_may_begin_so(path: str, beginning: str, may: bool) -> None:
    assert may_begin(path, beginning) is may
