"""What one set of headers on one connection means under one State: pure.

A client that polls sends the same headers again and again, byte for byte; only the target changes. Everything that
follows from the connection's peer, the State and the headers alone is worked out once and kept with the connection,
until any of the three is another. It is a memory of pure functions: nothing that counts, waits or expires is in it.
"""

from dataclasses import dataclass, field

from gateway.auth.login import Attempt
from gateway.clientaddr import client_address
from gateway.headers import read_fields
from gateway.model import ClientAddress, Fields, Peer
from gateway.state import State
from gateway.trace import given_request_id, given_trace

Pairs = tuple[tuple[bytes, bytes], ...]


@dataclass(slots=True)
class Acquaintance:
    """The headers read and checked, whom we believe they are from, and what goes upstream because of them.

    `accepted` remembers a credential that was good, never one that was not: failures are counted each time.
    `upstream_lines` remembers the stable part of the head that goes upstream, by what else it depends on.
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
    accepted: Attempt | None = None
    upstream_lines: dict[tuple[str, str | None, bool], bytes] = field(default_factory=dict)

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
