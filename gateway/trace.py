"""Request ids and W3C trace context: pure, fed with random bytes.

An id that a stranger chose is never believed: only a trusted proxy may name a request. A traceparent is passed on
when it is well formed, and started anew when not; it says nothing about who may do what.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from gateway.model import Trace

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}\Z")
_TRACEPARENT: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")
_TRACE_ID: Final = re.compile(r"(?!0{16})[0-9a-f]{16}(?!0{16})[0-9a-f]{16}\Z")
_TRACESTATE: Final = re.compile(rb"[\x20-\x7e]{1,512}\Z")


def request_id_of(known: Mapping[bytes, list[bytes]], fresh: str) -> str:
    """The request id that a trusted proxy gave, when it gave one usable; else the fresh one."""
    given = known.get(b"x-request-id")
    if given is not None and len(given) == 1 and _REQUEST_ID.match(given[0]):
        return given[0].decode("ascii")
    return fresh


def trace_of(known: Mapping[bytes, list[bytes]], request_id: str, new_id: Callable[[], str]) -> Trace:
    """The trace context to pass on; `new_id` gives 32 hexadecimal digits to start one with."""
    given = known.get(b"traceparent")
    if given is None or len(given) != 1 or not _TRACEPARENT.match(given[0]):
        fresh = request_id if _TRACE_ID.match(request_id) else new_id()
        started = f"00-{fresh}-{fresh[16:]}-00".encode("ascii")
        return Trace(request_id.encode("ascii"), started, None)
    state = b",".join(known.get(b"tracestate", ()))
    return Trace(request_id.encode("ascii"), given[0], state if _TRACESTATE.match(state) else None)
