import re

import pytest
from hypothesis import given

from gateway.model.networks import Networks
from gateway.model.reasons import Denial, Reason
from gateway.model.routes import Access, Kind, Route
from gateway.policy.routes import (
    Routes,
    Rule,
    compile_pattern,
    may_begin,
)
from tests.support.pure import PROPERTY, denial_of, ip, paths

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
