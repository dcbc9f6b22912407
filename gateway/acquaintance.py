"""What one set of headers on one connection means under one State: pure.

A client that polls sends the same headers again and again, byte for byte; only the target changes. Everything that
follows from the connection's peer, the State and the headers alone is worked out once and kept with the connection,
until any of the three is another. It is a memory of pure functions: nothing that counts, waits or expires is in it.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import unquote

from gateway.body.contenttype import boundary_of
from gateway.clientaddr import client_address
from gateway.errors import refuse
from gateway.headers import read_fields
from gateway.model import ClientAddress, Fields, Identity, Kind, Peer, Permit, Reason
from gateway.policy import Rule, body_allowance
from gateway.state import State, UpstreamTarget
from gateway.trace import given_request_id, given_trace
from gateway.upstreamlines import upstream_lines

Pairs = tuple[tuple[bytes, bytes], ...]
_BODY_OF_ANYONE: Final = 1_048_576
ANYONE: Final = "anyone"  # the account of submits that need no key: all of them share it


class RequestLine(NamedTuple):
    """Method and target of a request, as the parser read them."""

    method: str
    target: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A permit with all that forwarding needs of it, for one method and target.

    `opening` is the head that goes upstream, but for the headers of the trace; `origin` is what clients know us by.
    `good_until`, in seconds of the loop's clock, is when the caller has to be looked at again: keys and tokens end.
    `subject` is whose bucket a poll is taken from, `use` the secret that was used, when the ledger notes such uses.
    `boundary` is the one of a submit's multipart body.
    """

    method: str
    raw_target: str
    fields: Fields
    permit: Permit
    target: UpstreamTarget
    opening: bytes
    origin: str
    good_until: float
    subject: str
    use: tuple[str, int] | None = None
    boundary: bytes | None = None

    def is_for(self, method: str, raw_target: str, now: float) -> bool:
        """Whether a request for this target, with the same headers, is permitted by this."""
        return raw_target == self.raw_target and method == self.method and now < self.good_until


@dataclass(slots=True)
class Acquaintance:
    """The headers read and checked, whom we believe they are from, and the last request that was permitted to them.

    `passage` remembers a permit, never a refusal: what fails is judged, and counted, each time.
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
    passage: Passage | None = None

    def is_same(self, state: State, version: tuple[int, int], pairs: Pairs) -> bool:
        """Whether these headers are the ones that this was made of."""
        return state is self.state and pairs == self.pairs and version == self.version


def meet(state: State, peer: Peer, version: tuple[int, int], pairs: Pairs) -> Acquaintance:
    """Reads the headers of a request.

    Raises:
        Refused: for what is wrong with them.
    """
    fields = read_fields(version, pairs)
    address = client_address(peer.ip, fields.known, state.trusted_proxies)
    return Acquaintance(
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


def make_permit(state: State, rule: Rule, path: str, client: ClientAddress, identity: Identity | None) -> Permit:
    """Puts together what was decided."""
    profile = identity.profile if identity else state.anonymous
    named = rule.pattern.fullmatch(path) if rule.route.kind is Kind.RESULT else None
    return Permit(
        rule.route,
        path,
        client,
        identity,
        body_allowance(profile.body_limit if identity or rule.route.kind is Kind.SUBMIT else _BODY_OF_ANYONE),
        identity.account if identity else ANYONE,
        profile,
        _decoded(named.groupdict().get("request_id")) if named else None,
    )


def _decoded(segment: str | None) -> str | None:
    """A job's id as the upstream knows it: clients may percent-encode what needs it in a path."""
    try:
        return None if segment is None else unquote(segment, errors="strict")
    except UnicodeDecodeError:
        return segment


def make_passage(
    state: State, caller: Acquaintance, line: RequestLine, query: str, permit: Permit, good_until: float
) -> Passage:
    """Works out what forwarding needs; `query` is the request's own, with its question mark.

    Raises:
        Refused: unsupported_media_type, for a submit that is not unambiguous multipart.
    """
    target = state.upstreams[permit.route.upstream]
    key_id = permit.identity.key_id if permit.identity else None
    is_submit = permit.route.kind is Kind.SUBMIT
    lines = upstream_lines(caller.fields, caller.client_ip, key_id, target.authority, permit.route.kind)
    return Passage(
        method=line.method,
        raw_target=line.target,
        fields=caller.fields,
        permit=permit,
        target=target,
        opening=f"{line.method} {permit.path}{query} HTTP/1.1\r\n".encode("ascii") + lines,
        origin=state.public_url or f"https://{caller.fields.host}",
        good_until=good_until,
        subject=permit.account if permit.identity else caller.client_ip,
        use=_use(permit.identity),
        boundary=_boundary(caller.fields) if is_submit else None,
    )


def _use(identity: Identity | None) -> tuple[str, int] | None:
    return (identity.key_id, identity.generation) if identity is not None and identity.generation else None


def _boundary(fields: Fields) -> bytes:
    if not fields.has_body:
        raise refuse(Reason.UNSUPPORTED_MEDIA_TYPE, "A submit needs a body: multipart/form-data with a file.")
    return boundary_of(fields.known)
