"""What one set of headers on one connection means under one State: pure.

A client that polls sends the same headers again and again, byte for byte; only the target changes. Everything that
follows from the connection's peer, the State and the headers alone is worked out once and kept with the connection,
until any of the three is another. It is a memory of pure functions: nothing that counts, waits or expires is in it.
"""

from dataclasses import dataclass, replace

from gateway.authorize.prepared_request import PreparedRequest
from gateway.config.state import State
from gateway.http.client_address import client_address
from gateway.http.headers import meant_by, read_fields
from gateway.http.trace import given_request_id, given_trace
from gateway.jobs.job import Job
from gateway.model.caller import ClientAddress, Peer
from gateway.model.request import Fields

Pairs = tuple[tuple[bytes, bytes], ...]


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
        return self if host is None else replace(self, fields=meant_by(self.fields, host))

    def is_same(self, state: State, version: tuple[int, int], pairs: Pairs) -> bool:
        """Whether these headers are the ones that this was made of."""
        return state is self.state and pairs == self.pairs and version == self.version


def read_caller(state: State, peer: Peer, version: tuple[int, int], pairs: Pairs) -> Caller:
    """Reads the headers of a request.

    Raises:
        Refused: for what is wrong with them.
    """
    fields = read_fields(version, pairs)
    address = client_address(peer, fields.known, state.trusted_proxies)
    return Caller(
        state=state,
        version=version,
        pairs=pairs,
        fields=fields,
        address=address,
        client_ip=str(address.ip),
        is_allowed=address.ip in state.allow,
        request_id=given_request_id(fields.known) if peer.is_proxy(state.trusted_proxies) else None,
        passed_on=given_trace(fields.known),
    )
