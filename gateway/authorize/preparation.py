"""Turns a permitted request into the one that goes upstream. Pure."""

import re
from typing import Final

from gateway.authorize.cached_headers import CachedHeaders
from gateway.authorize.prepared_request import PreparedRequest, RequestLine
from gateway.config.state import State
from gateway.errors import refuse
from gateway.jobs.status_answer import MAX_HEADERS, Poll
from gateway.model.identity import Identity
from gateway.model.networks import client_prefix
from gateway.model.reasons import Reason
from gateway.model.request import Headers, Permit
from gateway.model.routes import Kind, Route
from gateway.uploads.multipart.content_type import boundary_of
from gateway.upstream.request_head import passed_on, upstream_body_length, upstream_lines
from gateway.upstream.target import UpstreamTarget

_MISDIRECTED: Final = (
    "The Host of this request is not a name of this service: use public_url, or a name in its certificates or routes."
)
_CONDITIONS: Final = frozenset(
    {
        b"range",
        b"if-range",
        b"if-match",
        b"if-none-match",
        b"if-modified-since",
        b"if-unmodified-since",
        b"cache-control",
    }
)
_WAIT: Final = re.compile(rb"(?:\A|[,;])[ \t]*wait[ \t]*=[ \t]*\"?([0-9]{1,9})\"?[ \t]*(?=[,;]|\Z)", re.IGNORECASE)


def prepare_request(
    state: State, cached: CachedHeaders, line: RequestLine, query: str, permit: Permit, good_until: float
) -> PreparedRequest:
    """Prepares all that forwarding needs; `query` is the request's own, with its question mark.

    Raises:
        Refused: unsupported_media_type, for a submit that is not unambiguous multipart; misdirected, when our origin
            has to be written and the Host is not one of our names.
    """
    origin = origin_for(state, cached.headers.host, permit.route)
    upstream = state.upstreams[permit.route.upstream]
    key_id = permit.identity.key_id if permit.identity else None
    route = permit.route
    is_submit = route.kind is Kind.SUBMIT
    lines = upstream_lines(cached.headers, cached.client_ip, key_id, upstream.authority, route, origin)
    return PreparedRequest(
        method=line.method,
        raw_target=line.target,
        headers=cached.headers,
        permit=permit,
        upstream=upstream,
        opening=f"{line.method} {permit.path}{query} HTTP/1.1\r\n".encode("ascii") + lines,
        body_length=upstream_body_length(cached.headers, route),
        origin=origin,
        path_and_query=permit.path + query,
        good_until=good_until,
        subject=permit.account if permit.identity else client_prefix(cached.address).hex(),
        use=_use(permit.identity),
        boundary=_boundary(cached.headers) if is_submit else None,
        shape=state.shapes.get(route.job),
        hold=_hold(cached.headers, state) if route.kind is Kind.RESULT and line.method == "GET" else 0.0,
        poll=_poll(cached.headers, line.method, route, upstream, origin),
    )


def origin_for(state: State, host: str, route: Route) -> str:
    """The public origin for a client that sent this Host; empty when the Host is not one of our names.

    Raises:
        Refused: misdirected, when it is not, and the route's answers contain our origin.
    """
    origin = state.origins.of(host)
    if not origin and (route.kind is Kind.SUBMIT or route.rewrites):
        raise refuse(Reason.MISDIRECTED, _MISDIRECTED)
    return origin


def _hold(headers: Headers, state: State) -> float:
    """How many seconds to hold a long poll: the client's preference (RFC 7240) up to a limit, else as configured."""
    jobs = state.settings.jobs
    preferred = _WAIT.search(b",".join(headers.known.get(b"prefer", ())))
    return jobs.hold if preferred is None else min(float(preferred[1]), jobs.hold_limit)


def _poll(headers: Headers, method: str, route: Route, upstream: UpstreamTarget, origin: str) -> Poll | None:
    """What another poll has to have in common with this request to share its answer; None: it asks for itself.

    So does what asks for something of its own, by a body, a condition or a range, and what has an answer rewritten.
    """
    is_poll = route.kind is Kind.RESULT and method == "GET" and not route.rewrites
    if not is_poll or headers.has_body or any(name.lower() in _CONDITIONS for name, _ in headers.kept):
        return None
    lines = passed_on(headers, route)
    is_short = sum(len(name) + len(value) for name, value in lines) <= MAX_HEADERS
    return Poll.of(upstream, origin, lines) if is_short else None


def _use(identity: Identity | None) -> tuple[str, int] | None:
    return (identity.key_id, identity.generation) if identity is not None and identity.generation else None


def _boundary(headers: Headers) -> bytes:
    if not headers.has_body:
        raise refuse(Reason.UNSUPPORTED_MEDIA_TYPE, "A submit needs a body: multipart/form-data with a file.")
    return boundary_of(headers.known)
