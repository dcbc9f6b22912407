"""Requests as the rooms above have them once they are permitted, of a caller without a key, and their clients."""

from pathlib import Path
from typing import Any, Final

from gateway.authorize.cached_headers import cache_headers
from gateway.authorize.permit import make_permit
from gateway.authorize.preparation import prepare_request
from gateway.authorize.prepared_request import RequestLine
from gateway.config.compile import compile_settings
from gateway.config.state import State
from gateway.jobs.job import Job
from gateway.model.identity import Peer
from gateway.model.jobs import JobRef
from gateway.model.request import Delivery, Trace
from gateway.proxy.forward_order import ForwardOrder
from tests.support.pure import ip, make_settings

OWNER: Final = "anyone"
SUBMIT: Final = "/api/v1/marker"
RESULT: Final = "/api/v1/marker/job-1"
_TRACE: Final = Trace(b"f" * 32, "1" * 32)


class StandInClient:
    """A client's connection, as far as decisions ask for it."""

    def __init__(self) -> None:
        self.is_gone = False
        self.peer = Peer(ip("10.0.0.1"), 1)


def state_of(directory: Path, **sections: Any) -> State:
    """A State in force, of a configuration that is right as it stands."""
    directory.mkdir(exist_ok=True)
    return compile_settings(make_settings(directory, **{"public_url": "https://g", **sections}))


def job_in(state: State, shape: str = "default", request_id: str = "job-1") -> Job:
    """A job that runs."""
    return Job(JobRef("default", request_id, "r1"), OWNER, state.shapes[shape], SUBMIT, 0.0)


def order_of(
    state: State,
    *headers: tuple[bytes, bytes],
    method: str = "GET",
    target: str = RESULT,
    job: Job | None = None,
    **others: Any,
) -> ForwardOrder:
    """A request that is permitted until 1000 s of the loop's clock; `others` are members of the order."""
    client: Any = StandInClient()
    path, mark, rest = target.partition("?")
    cached = cache_headers(state, client.peer, (1, 1), ((b"Host", b"g"), *headers))
    rule = state.routes.match(method, path, "g")
    permit = make_permit(state, rule, path, mark + rest, cached.address, None)
    prepared = prepare_request(state, cached, RequestLine(method, target), mark + rest, permit, 1000.0)
    body: Any = None  # nothing is read of it
    return ForwardOrder(client, body, prepared, _TRACE, Delivery(), job=job, **others)
