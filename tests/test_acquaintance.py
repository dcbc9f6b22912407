from pathlib import Path

import pytest

from gateway.acquaintance import ANYONE, RequestLine, make_passage, meet
from gateway.acquaintance import make_permit as permit_of
from gateway.model import ClientAddress, Kind, Peer, Profile, Reason
from gateway.state import State, compile_settings
from tests.support.pure import denial_of, ip, make_identity, make_permit, make_settings

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PAIRS = (
    (b"Host", b"gw.test:8443"),
    (b"Accept", b"*/*"),
    (b"X-Forwarded-For", b"10.1.2.3"),
    (b"X-Request-Id", b"theirs"),
    (b"traceparent", TRACE),
)
PROXY, STRANGER = Peer(ip("10.9.0.1"), 1), Peer(ip("10.0.0.1"), 2)
VERSION = (1, 1)
LINE = RequestLine("GET", "/alias?a=b")


def state_with(directory: Path, **sections: object) -> State:
    network = {"allow": ["10.0.0.0/8"], "trusted_proxies": ["10.9.0.0/16"]}
    return compile_settings(make_settings(directory, {}, **{"network": network, **sections}))


@pytest.fixture
def state(tmp_path: Path) -> State:
    return state_with(tmp_path)


def test_a_trusted_proxy_says_who_calls_and_names_the_request(state: State) -> None:
    caller = meet(state, PROXY, VERSION, PAIRS)
    assert (caller.client_ip, caller.address.via, caller.request_id) == ("10.1.2.3", "x-forwarded-for", "theirs")
    assert caller.is_allowed
    assert caller.passed_on == (TRACE, None)
    assert caller.passage is None


def test_a_stranger_says_neither(state: State) -> None:
    caller = meet(state, STRANGER, VERSION, PAIRS)
    assert (caller.client_ip, caller.request_id) == ("10.0.0.1", None)
    assert not meet(state, Peer(ip("192.0.2.1"), 3), VERSION, PAIRS).is_allowed


def test_bad_headers_are_refused_each_time(state: State) -> None:
    assert denial_of(meet, state, STRANGER, VERSION, PAIRS[1:]).reason is Reason.BAD_REQUEST


def test_it_is_the_same_only_for_the_same_state_version_and_bytes(state: State, tmp_path: Path) -> None:
    caller = meet(state, STRANGER, VERSION, PAIRS)
    assert caller.is_same(state, VERSION, tuple((bytes(name), bytes(value)) for name, value in PAIRS))
    assert not caller.is_same(state, (1, 0), PAIRS)
    assert not caller.is_same(state, VERSION, PAIRS[:-1])
    assert not caller.is_same(state, VERSION, ((b"host", b"gw.test:8443"), *PAIRS[1:]))
    assert not caller.is_same(state_with(tmp_path), VERSION, PAIRS)


def test_a_passage_is_for_one_method_and_target_and_for_a_while(state: State) -> None:
    caller = meet(state, STRANGER, VERSION, PAIRS)
    passage = make_passage(state, caller, LINE, "?a=b", make_permit("/real"), 100.0)
    assert passage.is_for("GET", "/alias?a=b", 99.9)
    assert not passage.is_for("GET", "/alias?a=b", 100.0)
    assert not passage.is_for("POST", "/alias?a=b", 99.9)
    assert not passage.is_for("GET", "/alias?a=c", 99.9)
    assert not passage.is_for("GET", "/real?a=b", 99.9)


FORM = ((b"Content-Type", b"multipart/form-data; boundary=abc"), (b"Content-Length", b"17"))


def test_a_passage_holds_what_goes_upstream(state: State) -> None:
    caller = meet(state, STRANGER, VERSION, PAIRS + FORM)
    permit = make_permit("/real", Kind.SUBMIT, make_identity(key_id="ci"))
    passage = make_passage(state, caller, LINE, "?a=b", permit, 100.0)
    lines = passage.opening.split(b"\r\n")
    assert lines[0] == b"GET /real?a=b HTTP/1.1"
    assert b"Host: 127.0.0.1:8000" in lines
    assert b"X-Forwarded-For: 10.0.0.1" in lines
    assert b"X-Gateway-Key-Id: ci" in lines
    assert b"Accept-Encoding: identity" in lines
    assert b"theirs" not in passage.opening
    assert b"Transfer-Encoding: chunked" in lines
    assert passage.target is state.upstreams["default"]
    assert passage.boundary == b"abc"


@pytest.mark.parametrize(
    "pairs",
    [
        (),
        FORM[:1],
        FORM[1:],
        ((b"Content-Type", b"multipart/form-data"), FORM[1]),
        ((b"Content-Type", b"application/x-www-form-urlencoded"), FORM[1]),
        (FORM[0], *FORM),
        ((b"Content-Encoding", b"gzip"), *FORM),
    ],
)
def test_a_submit_is_one_unambiguous_form(pairs: tuple[tuple[bytes, bytes], ...], state: State) -> None:
    caller = meet(state, STRANGER, VERSION, PAIRS + pairs)
    permit = make_permit("/real", Kind.SUBMIT)
    assert denial_of(make_passage, state, caller, LINE, "", permit, 0.0).reason is Reason.UNSUPPORTED_MEDIA_TYPE
    assert make_passage(state, caller, LINE, "", make_permit("/real"), 0.0).boundary is None


def test_a_permit_has_the_limits_of_who_calls(state: State) -> None:
    rule = state.routes.match("GET", "/api/v1/marker/job-7", "gw.test")
    client = ClientAddress(ip("192.0.2.7"), "peer")
    identity = make_identity(account="key:ci", profile=Profile("small", 2000))
    permit = permit_of(state, rule, "/api/v1/marker/job-7", client, identity)
    assert (permit.route, permit.path, permit.client, permit.identity) == (
        rule.route, "/api/v1/marker/job-7", client, identity,
    )  # fmt: skip
    assert (permit.account, permit.profile, permit.body_limit) == ("key:ci", identity.profile, 2002)
    assert permit.request_id == "job-7"


def test_a_permit_for_anyone_has_the_limits_of_nobody(state: State) -> None:
    rule = state.routes.match("GET", "/health_check", "gw.test")
    permit = permit_of(state, rule, "/health_check", ClientAddress(ip("192.0.2.7"), "peer"), None)
    assert (permit.account, permit.profile, permit.request_id) == (ANYONE, state.anonymous, None)


def test_clients_know_us_by_the_host_they_named_or_the_public_url(state: State, tmp_path: Path) -> None:
    caller = meet(state, STRANGER, VERSION, PAIRS)
    assert make_passage(state, caller, LINE, "", make_permit(), 0.0).origin == "https://gw.test:8443"
    public = state_with(tmp_path, public_url="https://docs.test")
    assert make_passage(public, caller, LINE, "", make_permit(), 0.0).origin == "https://docs.test"
