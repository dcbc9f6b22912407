"""What one set of headers on one connection means under one State: pure.

A client that polls sends the same headers again and again, byte for byte; only the target changes. Everything that
follows from the connection's peer, the State and the headers alone is worked out once and kept with the connection,
until any of the three is another. It is a memory of pure functions: nothing that counts, waits or expires is in it.
"""

import re
from dataclasses import dataclass, replace
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote, unquote_plus

from gateway.config.state import State
from gateway.errors import refuse
from gateway.http.client_address import client_address
from gateway.http.headers import read_fields
from gateway.http.trace import given_request_id, given_trace
from gateway.jobs.job import Job, job_not_found
from gateway.model.caller import ClientAddress, Identity, Peer, Profile
from gateway.model.networks import household
from gateway.model.reasons import Reason
from gateway.model.request import Fields, Permit
from gateway.model.routes import Kind, Route
from gateway.policy.routes import Rule, body_allowance
from gateway.uploads.multipart.content_type import boundary_of
from gateway.upstream.heads import upstream_body_length, upstream_lines
from gateway.upstream.job_api import JobShape, is_id
from gateway.upstream.target import UpstreamTarget

Pairs = tuple[tuple[bytes, bytes], ...]
_BODY_OF_ANYONE: Final = 1_048_576
_MOST_FIELDS: Final = 50
_MISDIRECTED: Final = (
    "The Host of this request is no name of this service: public_url, or a name of its certificates or routes, is."
)
_WAIT: Final = re.compile(rb"(?:\A|[,;])[ \t]*wait[ \t]*=[ \t]*\"?([0-9]{1,9})\"?[ \t]*(?=[,;]|\Z)", re.IGNORECASE)
ANYONE: Final = "anyone"  # the account of submits that need no key: all of them share it


class RequestLine(NamedTuple):
    """Method and target of a request, as the parser read them."""

    method: str
    target: str


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A permit with all that forwarding needs of it, for one method and target.

    `opening` is the head that goes upstream, but for the headers of the trace; `body_length` is what it says of the
    body: bytes, 0 for none, None for chunks. `origin` is what clients know us by, empty when their Host is no name
    of ours: then URLs are written as paths alone. `good_until`, in seconds of the loop's clock, is when the caller
    has to be looked at again: keys and tokens end. `subject` is whose bucket a poll is taken from, `use` the secret
    that was used, when the ledger notes such uses. `asked` is the target that goes upstream; `boundary` is the one of
    a submit's multipart body. `shape` is that of the route's jobs; for `hold`
    seconds a poll of one that runs is held.
    """

    method: str
    raw_target: str
    fields: Fields
    permit: Permit
    target: UpstreamTarget
    opening: bytes
    body_length: int | None
    origin: str
    asked: str
    good_until: float
    subject: str
    use: tuple[str, int] | None = None
    boundary: bytes | None = None
    shape: JobShape | None = None
    hold: float = 0.0

    def is_for(self, method: str, raw_target: str, now: float) -> bool:
        """Whether a request for this target, with the same headers, is permitted by this."""
        return raw_target == self.raw_target and method == self.method and now < self.good_until


@dataclass(slots=True)
class Caller:
    """The headers read and checked, whom we believe they are from, and the last request that was permitted to them.

    `prepared` remembers a permit, never a refusal: what fails is judged, and counted, each time. `job` is the one
    that `job_of` reads.
    """

    state: State
    version: tuple[int, int]
    pairs: Pairs
    fields: Fields
    address: ClientAddress
    client_ip: str
    is_allowed: bool
    request_id: str | None
    passed_on: tuple[bytes, bytes | None] | None
    prepared: PreparedRequest | None = None
    job: Job | None = None
    job_of: PreparedRequest | None = None

    def job_for(self, prepared: PreparedRequest) -> Job | None:
        """The job that this request's caller was found to own, while it runs; None when that is to be asked."""
        job = self.job
        return job if job is not None and self.job_of is prepared and job.expires_at is None else None

    def addressed_to(self, host: str | None) -> "Caller":
        """The same, when its request names a host in its target (RFC 9112 3.2.2); None: it does not."""
        return self if host is None else replace(self, fields=replace(self.fields, host=host))

    def is_same(self, state: State, version: tuple[int, int], pairs: Pairs) -> bool:
        """Whether these headers are the ones that this was made of."""
        return state is self.state and pairs == self.pairs and version == self.version


def read_caller(state: State, peer: Peer, version: tuple[int, int], pairs: Pairs) -> Caller:
    """Reads the headers of a request.

    Raises:
        Refused: for what is wrong with them.
    """
    fields = read_fields(version, pairs)
    address = client_address(peer.ip, fields.known, state.trusted_proxies)
    return Caller(
        state=state,
        version=version,
        pairs=pairs,
        fields=fields,
        address=address,
        client_ip=str(address.ip),
        is_allowed=address.ip in state.allow,
        request_id=given_request_id(fields.known) if peer.ip in state.trusted_proxies else None,
        passed_on=given_trace(fields.known),
    )


def make_permit(
    state: State, rule: Rule, path: str, query: str, client: ClientAddress, identity: Identity | None
) -> Permit:
    """Puts together what was decided; `query` is the request's own, with its question mark.

    Raises:
        Refused: job_not_found, when what names a job can't be the id of one; bad_request, when two ids are named, or
            one in another place than the route reads it from.
    """
    profile = identity.profile if identity else state.anonymous
    if rule.route.kind.is_of_a_job and rule.route.id_in != "query":
        _refuse_in_query(rule.route.id_name, query)
    return Permit(
        rule.route,
        path,
        client,
        identity,
        body_allowance(_body_limit(state, rule, profile, is_known=identity is not None)),
        identity.account if identity else ANYONE,
        profile,
        _job_id(state, rule, path, query) if rule.route.kind.is_of_a_job and rule.route.id_in != "body" else None,
    )


def _body_limit(state: State, rule: Rule, profile: Profile, *, is_known: bool) -> int:
    if is_known or rule.route.kind is Kind.SUBMIT:
        return profile.body_limit
    received = state.settings.webhooks.in_ if rule.route.is_ours else ()
    return max((entry.body_limit for entry in received), default=_BODY_OF_ANYONE)


def _job_id(state: State, rule: Rule, path: str, query: str) -> str:
    """A job's id as the upstream knows it: clients may percent-encode what needs it."""
    found = _in_path(rule, path) if rule.route.id_in == "path" else _in_query(rule.route.id_name, query)
    if found is None or not is_id(state.shapes[rule.route.job], found):
        raise job_not_found()
    return found


def _in_path(rule: Rule, path: str) -> str | None:
    match = rule.pattern.fullmatch(path)
    segment = match.groupdict().get(rule.route.id_name) if match else None
    try:
        return None if segment is None else unquote(segment, errors="strict")
    except UnicodeDecodeError:
        return None


def _refuse_in_query(name: str, query: str) -> None:
    """Refuses a query that names a job, too, where it is named elsewhere: an upstream might read that one."""
    if name.lower() in {unquote_plus(pair.partition("=")[0]).lower() for pair in re.split("[?&;]", query)}:
        raise refuse(Reason.BAD_REQUEST, f"The job is named elsewhere: the query may have no {name}.")


def _in_query(wanted: str, query: str) -> str | None:
    try:
        pairs = parse_qsl(query[1:], keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        return None
    found = [value for name, value in pairs if name == wanted]
    if len(found) > 1:
        raise refuse(Reason.BAD_REQUEST, f"The query names {wanted} more than once.")
    return found[0] if found else None


def prepare_request(
    state: State, caller: Caller, line: RequestLine, query: str, permit: Permit, good_until: float
) -> PreparedRequest:
    """Works out what forwarding needs; `query` is the request's own, with its question mark.

    Raises:
        Refused: unsupported_media_type, for a submit that is not unambiguous multipart; misdirected, where our
            origin would have to be written and the Host is no name of ours.
    """
    origin = origin_for(state, caller.fields.host, permit.route)
    target = state.upstreams[permit.route.upstream]
    key_id = permit.identity.key_id if permit.identity else None
    route = permit.route
    is_submit = route.kind is Kind.SUBMIT
    lines = upstream_lines(caller.fields, caller.client_ip, key_id, target.authority, route, origin)
    return PreparedRequest(
        method=line.method,
        raw_target=line.target,
        fields=caller.fields,
        permit=permit,
        target=target,
        opening=f"{line.method} {permit.path}{query} HTTP/1.1\r\n".encode("ascii") + lines,
        body_length=upstream_body_length(caller.fields, route),
        origin=origin,
        asked=permit.path + query,
        good_until=good_until,
        subject=permit.account if permit.identity else household(caller.address.ip).hex(),
        use=_use(permit.identity),
        boundary=_boundary(caller.fields) if is_submit else None,
        shape=state.shapes.get(route.job),
        hold=_hold(caller.fields, state) if route.kind is Kind.RESULT and line.method == "GET" else 0.0,
    )


def origin_for(state: State, host: str, route: Route) -> str:
    """The origin that a client who sent this Host knows us by; empty when that is no name of ours.

    Raises:
        Refused: misdirected, when it is none and the route's answers name our origin.
    """
    origin = state.origins.of(host)
    if not origin and (route.kind is Kind.SUBMIT or route.rewrites):
        raise refuse(Reason.MISDIRECTED, _MISDIRECTED)
    return origin


def _hold(fields: Fields, state: State) -> float:
    """Seconds that a poll is held: as its client prefers (RFC 7240), within bounds, else as configured."""
    jobs = state.settings.jobs
    preferred = _WAIT.search(b",".join(fields.known.get(b"prefer", ())))
    return jobs.hold if preferred is None else min(float(preferred[1]), jobs.hold_limit)


def _use(identity: Identity | None) -> tuple[str, int] | None:
    return (identity.key_id, identity.generation) if identity is not None and identity.generation else None


def _boundary(fields: Fields) -> bytes:
    if not fields.has_body:
        raise refuse(Reason.UNSUPPORTED_MEDIA_TYPE, "A submit needs a body: multipart/form-data with a file.")
    return boundary_of(fields.known)
