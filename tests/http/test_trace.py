import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.http.trace import given_request_id, given_trace, trace_of
from gateway.model.request import Trace
from tests.support.pure import PROPERTY

FRESH = "0123456789abcdef0123456789abcdef"
PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def never() -> str:
    raise AssertionError


# Request ids


@pytest.mark.parametrize("value", [b"a", b"A-b_c.9", b"0" * 64])
def test_takes_a_usable_request_id(value: bytes) -> None:
    assert given_request_id({b"x-request-id": [value]}) == value.decode()


@pytest.mark.parametrize(
    "known",
    [
        {},
        *(
            {b"x-request-id": values}
            for values in (
                [b""],
                [b"a", b"a"],
                [b"a b"],
                [b"a\n"],
                [b"0" * 65],
                [b"\xe4"],
                [b"a,b"],
                [b"sum-0123"],
                [],
            )
        ),
    ],
)
def test_takes_no_request_id_that_could_do_harm(known: dict[bytes, list[bytes]]) -> None:
    assert given_request_id(known) is None


@PROPERTY
@given(st.binary(max_size=70))
def test_a_request_id_is_plain_whatever_was_sent(value: bytes) -> None:
    taken = given_request_id({b"x-request-id": [value]})
    assert taken is None or re.fullmatch(r"[A-Za-z0-9._-]{1,64}", taken)


# The trace context that came


@pytest.mark.parametrize(
    ("states", "kept"),
    [
        (None, None),
        ([b"a=1"], b"a=1"),
        ([b"a=1", b"b=2"], b"a=1,b=2"),
        ([b""], None),
        ([b"a\x00"], None),
        ([b"a" * 513], None),
    ],
)
def test_passes_on_what_is_well_formed(states: list[bytes] | None, kept: bytes | None) -> None:
    known = {b"traceparent": [PARENT], **({b"tracestate": states} if states is not None else {})}
    assert given_trace(known) == (PARENT, kept)


@pytest.mark.parametrize(
    "value",
    [b"", b"00", PARENT + b"-00", PARENT.upper(), b"ff" + PARENT[2:], PARENT[:3] + b"0" * 32 + PARENT[35:],
     PARENT[:36] + b"0" * 16 + PARENT[52:], PARENT + b"\n", b" " + PARENT, PARENT[:-1] + b"g", PARENT.replace(b"-",
     b"_")],
)  # fmt: skip
def test_passes_on_nothing_malformed(value: bytes) -> None:
    assert given_trace({b"traceparent": [value], b"tracestate": [b"a=1"]}) is None


def test_two_parents_are_none() -> None:
    assert given_trace({b"traceparent": [PARENT, PARENT]}) is None
    assert given_trace({b"tracestate": [b"a=1"]}) is None


@PROPERTY
@given(st.lists(st.binary(max_size=60), max_size=3), st.lists(st.binary(max_size=300), max_size=3))
@example([PARENT], [b"a\r\nX-Gateway-Key-Id: root"])
def test_what_is_passed_on_fits_a_header_line(parents: list[bytes], states: list[bytes]) -> None:
    found = given_trace({b"traceparent": parents, b"tracestate": states})
    if found is not None:
        assert re.fullmatch(rb"[0-9a-f-]{55}", found[0])
        assert found[1] is None or re.fullmatch(rb"[\x20-\x7e]{1,512}", found[1])


# The trace of a request


def test_what_came_is_passed_on_under_the_id_of_the_request() -> None:
    assert trace_of(FRESH, None, (PARENT, b"a=1"), never) == Trace(
        FRESH.encode(), PARENT[3:35].decode(), PARENT, b"a=1"
    )
    assert trace_of(FRESH, "given", (PARENT, None), never) == Trace(b"given", PARENT[3:35].decode(), PARENT)
    assert trace_of(FRESH, None, (PARENT, None), never).traceparent == PARENT


def test_a_trace_that_starts_here_is_named_by_the_fresh_id() -> None:
    started = b"00-0123456789abcdef0123456789abcdef-0123456789abcdef-00"
    assert trace_of(FRESH, None, None, never) == Trace(FRESH.encode(), FRESH)
    assert trace_of(FRESH, "given", None, never) == Trace(b"given", FRESH)
    assert trace_of(FRESH, "given", None, never).traceparent == started


@pytest.mark.parametrize("zeros", ["0" * 32, "1" * 16 + "0" * 16])
def test_ids_of_zeros_are_never_used(zeros: str) -> None:
    ids = iter([zeros, "0" * 16 + "a" * 16])
    trace = trace_of(zeros, None, None, ids.__next__)
    assert trace == Trace(zeros.encode(), "0" * 16 + "a" * 16)
    assert trace.traceparent == b"00-" + b"0" * 16 + b"a" * 16 + b"-" + b"a" * 16 + b"-00"
    assert given_trace({b"traceparent": [trace.traceparent]}) == (trace.traceparent, None)
