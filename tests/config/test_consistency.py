from typing import Any

import pytest

from gateway.config.consistency import inconsistencies, nearest

ROUTE = {"name": "mine", "methods": ["GET"], "path": "/mine"}
NO_CA = "but tls.client_ca names no CA to check them against"


def told(**sections: Any) -> list[str]:
    return [str(fault) for fault in inconsistencies(sections)]


def test_nothing_disagrees_with_defaults() -> None:
    assert told() == []


@pytest.mark.parametrize("mode", ["optional", "required"])
def test_client_certificates_need_a_ca(mode: str) -> None:
    assert told(tls={"client_certificates": mode}) == [f"tls.client_certificates: is {mode}, {NO_CA}"]
    assert told(tls={"client_certificates": mode, "client_ca": None}) != []
    assert told(tls={"client_certificates": mode, "client_ca": "ca.pem"}) == []
    assert told(tls={"client_certificates": "none"}) == []


def test_dns_names_that_differ_in_case_alone_are_one() -> None:
    """Which of the two had its profile and scopes would be the order's to say."""
    names = {"A.test": {"scopes": ["admin"]}, "b.test": {}, "a.test": {}}
    path = "authentication.certificates.names.a.test"
    assert told(authentication={"certificates": {"identity": "dns", "names": names}}) == [
        f"{path}: is there already: DNS names have no case"
    ]
    assert told(authentication={"certificates": {"identity": "uri", "names": names}}) == []


def test_every_profile_that_is_named_must_be_there() -> None:
    certificates = {"profile": "bigg", "names": {"a.test": {"profile": "bog"}, "b.test": {"profile": "big"}}}
    assert told(
        profiles={"big": {}},
        keys=[{"profile": "big"}, {"profile": "bgi"}, {}],
        authentication={"jwt": [{"profile": "zzz"}, {"profile": "default"}, {}], "certificates": certificates},
    ) == [
        "keys[1].profile: there is no profile bgi; did you mean big?",
        "authentication.jwt[0].profile: there is no profile zzz",
        "authentication.certificates.profile: there is no profile bigg; did you mean big?",
        "authentication.certificates.names.a.test.profile: there is no profile bog; did you mean big?",
    ]


def test_routes_of_profiles_are_those_that_are_written_or_those_shipped() -> None:
    profiles = {"a": {"routes": ["submit", "usage", "result", "health"]}, "b": {"routes": ["result", "sumbit"]}}
    assert told(profiles=profiles) == ["profiles.b.routes[1]: there is no route sumbit; did you mean submit?"]
    assert told(profiles={"a": {"routes": ["mine", "submit"]}}, routes=[ROUTE]) == [
        "profiles.a.routes[1]: there is no route submit"
    ]


def test_routes_name_upstreams_and_shapes_that_are_there() -> None:
    routes = [
        {**ROUTE, "upstream": "stagin"},
        {**ROUTE, "name": "a", "upstream": "staging", "kind": "result", "path": "/{request_id}", "job": "os"},
        {**ROUTE, "name": "b", "path": "/b", "upstream": "default", "job": "default"},
        {**ROUTE, "name": "c", "path": "/c", "upstream": 3, "job": None},
    ]
    upstreams = {"staging": {"url": "http://staging.test"}}
    assert told(routes=routes, upstreams=upstreams, jobs={"shapes": {"oss": {}}}) == [
        "routes[0].upstream: there is no upstream stagin; did you mean staging?",
        "routes[1].job: there is no shape in jobs.shapes named os; did you mean oss?",
    ]


@pytest.mark.parametrize(
    ("sections", "faults"),
    [
        ({"profiles": {"a": {"pages_in_flight": 4999}}}, {"profiles.a": (4999, 5000)}),
        ({"profiles": {"a": {"pages_per_request": 20001}}}, {"profiles.a": (20000, 20001)}),
        ({"profiles": {"a": {"pages_in_flight": 10, "pages_per_request": 11}, "b": {"pages_per_request": 1}}},
         {"profiles.a": (10, 11)}),
        ({"profiles": {"a": {"pages_in_flight": 10, "pages_per_request": 10}}}, {}),
        ({"keys": [{}, {"limits": {"pages_in_flight": 10}}]}, {"keys[1].limits": (10, 5000)}),
        ({"keys": [{"limits": {"pages_per_request": 20001}}]}, {"keys[0].limits": (20000, 20001)}),
        ({"keys": [{"limits": {"pages_in_flight": 10, "pages_per_request": 10}}]}, {}),
        ({"profiles": {"a": {"pages_per_request": 9}}, "keys": [{"profile": "a", "limits": {"pages_in_flight": 9}}]},
         {}),
        ({"profiles": {"default": {"pages_per_request": 10}}, "keys": [{"limits": {"pages_in_flight": 9}}]},
         {"keys[0].limits": (9, 10)}),
        # The profile's own fault is told once, not with each of its keys.
        ({"profiles": {"a": {"pages_in_flight": 1}}, "keys": [{"profile": "a", "limits": {"polls_per_minute": 1}}]},
         {"profiles.a": (1, 5000)}),
    ],
)  # fmt: skip
def test_fewer_pages_in_flight_than_a_request_may_have_is_a_fault(
    sections: dict[str, Any], faults: dict[str, tuple[int, int]]
) -> None:
    assert told(**sections) == [
        f"{path}.pages_in_flight: {few} is less than pages_per_request ({many}): such a job could never start"
        for path, (few, many) in faults.items()
    ]


@pytest.mark.parametrize(
    "wrong", [None, 3, "text", [], ["text"], [[]], {}, {"x": None}, {"x": 3}, {3: {"x": []}}, [{}]]
)
def test_what_has_the_wrong_shape_is_left_to_others(wrong: Any) -> None:
    sections = (
        "network",
        "listen",
        "admin",
        "tls",
        "profiles",
        "keys",
        "routes",
        "authentication",
        "upstreams",
        "jobs",
    )
    assert told(**dict.fromkeys(sections, wrong)) == []
    for name in ("jwt", "certificates"):
        assert told(authentication={name: wrong}) == []
    for name in ("identity", "profile", "names"):
        assert told(authentication={"certificates": {"identity": "dns", name: wrong}})[1:] == []
    for name in ("routes", "pages_in_flight", "pages_per_request"):
        told(profiles={"a": {name: wrong}}, keys=[{"limits": {name: wrong}, "profile": wrong}])
    assert told(keys=[{"limits": wrong, "profile": []}]) == []
    assert told(tls={"client_certificates": [wrong]}) == []
    assert told(profiles={"a": {"pages_in_flight": True}}) == []


def test_the_nearest_name_is_told_when_one_is_near() -> None:
    assert nearest("prot", {"port", "address"}) == "; did you mean port?"
    assert nearest("zzz", {"port", "address"}) == nearest("x", set()) == ""
