from ipaddress import ip_network

import pytest

from gateway.model.identity import Profile
from gateway.model.networks import Networks
from gateway.model.reasons import Reason
from gateway.model.routes import Access, Kind, Route
from gateway.policy.route_access import check_access, check_address, check_takes_body
from gateway.policy.routes import Rule, compile_pattern
from tests.support.pure import denial_of, ip, make_identity

HERE = ip("192.0.2.1")


def rule(path: str, networks: str) -> Rule:
    route = Route("a", Kind.PLAIN, Access.KEY)
    return Rule(route, frozenset({"GET"}), compile_pattern(path), None, Networks.of(*networks.split()))


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
    client = ip("192.0.2.1")
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
