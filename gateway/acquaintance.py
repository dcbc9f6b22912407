"""What one set of headers on one connection means under one State: pure.

A client that polls sends the same headers again and again, byte for byte; only the target changes. Everything that
follows from the connection's peer, the State and the headers alone is worked out once and kept with the connection,
until any of the three is another. It is a memory of pure functions: nothing that counts, waits or expires is in it.
"""

from dataclasses import dataclass
from typing import NamedTuple

from gateway.clientaddr import client_address
from gateway.headers import read_fields
from gateway.model import ClientAddress, Fields, Kind, Peer, Permit
from gateway.state import State, UpstreamTarget
from gateway.trace import given_request_id, given_trace
from gateway.upstreamlines import upstream_lines

Pairs = tuple[tuple[bytes, bytes], ...]


class RequestLine(NamedTuple):
    """Method and target of a request, as the parser read them."""

    method: str
    target: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A permit with all that forwarding needs of it, for one method and target.

    `opening` is the head that goes upstream, but for the headers of the trace; `origin` is what clients know us by.
    """

    method: str
    raw_target: str
    fields: Fields
    permit: Permit
    target: UpstreamTarget
    opening: bytes
    origin: str

    def is_for(self, method: str, raw_target: str) -> bool:
        """Whether a request for this target, with the same headers, is permitted by this."""
        return raw_target == self.raw_target and method == self.method


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


def make_passage(state: State, caller: Acquaintance, line: RequestLine, query: str, permit: Permit) -> Passage:
    """Works out what forwarding needs; `query` is the request's own, with its question mark."""
    target = state.upstreams[permit.route.upstream]
    key_id = permit.identity.key_id if permit.identity else None
    is_submit = permit.route.kind is Kind.SUBMIT
    lines = upstream_lines(caller.fields, caller.client_ip, key_id, target.authority, is_submit=is_submit)
    return Passage(
        method=line.method,
        raw_target=line.target,
        fields=caller.fields,
        permit=permit,
        target=target,
        opening=f"{line.method} {permit.path}{query} HTTP/1.1\r\n".encode("ascii") + lines,
        origin=state.public_url or f"https://{caller.fields.host}",
    )
