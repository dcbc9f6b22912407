from pathlib import Path

import pytest

from gateway.acquaintance import RequestLine, make_passage, meet
from gateway.model import Kind, Peer, Reason
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


def test_a_passage_is_for_one_method_and_target(state: State) -> None:
    caller = meet(state, STRANGER, VERSION, PAIRS)
    passage = make_passage(state, caller, LINE, "?a=b", make_permit("/real"))
    assert passage.is_for("GET", "/alias?a=b")
    assert not passage.is_for("POST", "/alias?a=b")
    assert not passage.is_for("GET", "/alias?a=c")
    assert not passage.is_for("GET", "/real?a=b")


def test_a_passage_holds_what_goes_upstream(state: State) -> None:
    caller = meet(state, STRANGER, VERSION, PAIRS)
    passage = make_passage(state, caller, LINE, "?a=b", make_permit("/real", Kind.SUBMIT, make_identity(key_id="ci")))
    lines = passage.opening.split(b"\r\n")
    assert lines[0] == b"GET /real?a=b HTTP/1.1"
    assert b"Host: 127.0.0.1:8000" in lines
    assert b"X-Forwarded-For: 10.0.0.1" in lines
    assert b"X-Gateway-Key-Id: ci" in lines
    assert b"Accept-Encoding: identity" in lines
    assert b"theirs" not in passage.opening
    assert passage.target is state.upstreams["default"]


def test_clients_know_us_by_the_host_they_named_or_the_public_url(state: State, tmp_path: Path) -> None:
    caller = meet(state, STRANGER, VERSION, PAIRS)
    assert make_passage(state, caller, LINE, "", make_permit()).origin == "https://gw.test:8443"
    public = state_with(tmp_path, public_url="https://docs.test")
    assert make_passage(public, caller, LINE, "", make_permit()).origin == "https://docs.test"
