"""Request ids and W3C trace context: pure, fed with random digits.

Only a trusted proxy may choose a request id; an id from any other client is ignored, and so is one that could be
taken for that of a sum of refusals (`sum-`). A well-formed traceparent is
passed on, else a new trace is started; it has no influence on authorization.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from gateway.model.request import Trace

_REQUEST_ID: Final = re.compile(rb"(?!sum-)[A-Za-z0-9._-]{1,64}\Z")
_TRACEPARENT: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")
_NO_SPAN: Final = "0" * 16
_TRACESTATE: Final = re.compile(rb"[\x20-\x7e]{1,512}\Z")


def given_request_id(known: Mapping[bytes, list[bytes]]) -> str | None:
    """The request id that a trusted proxy sent, if it is usable."""
    given = known.get(b"x-request-id")
    usable = given is not None and len(given) == 1 and _REQUEST_ID.match(given[0])
    return given[0].decode("ascii") if given is not None and usable else None


def given_trace(known: Mapping[bytes, list[bytes]]) -> tuple[bytes, bytes | None] | None:
    """The traceparent to pass on, and its tracestate; None without a well-formed traceparent."""
    given = known.get(b"traceparent")
    if given is None or len(given) != 1 or not _TRACEPARENT.match(given[0]):
        return None
    state = b",".join(known.get(b"tracestate", ()))
    return given[0], state if _TRACESTATE.match(state) else None


def trace_of(
    fresh: str, request_id: str | None, passed_on: tuple[bytes, bytes | None] | None, new_id: Callable[[], str]
) -> Trace:
    """The trace of one request. `fresh` is the request's own new id, which also names a trace that starts here.

    `new_id` returns 32 hexadecimal digits; it is called again if half of them are zeros, which W3C forbids.
    """
    identifier = (request_id or fresh).encode("ascii")
    if passed_on is not None:
        return Trace(identifier, passed_on[0][3:35].decode("ascii"), *passed_on)
    trace_id = fresh
    while trace_id[16:] == _NO_SPAN:
        trace_id = new_id()
    return Trace(identifier, trace_id)
