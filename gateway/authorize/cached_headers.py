"""Caches the meaning of one set of headers on one connection under one State: pure.

A polling client sends the same headers again and again, byte for byte; only the target changes. Everything that
depends only on the connection's peer, the State and the headers is computed once and kept with the connection, until
one of the three changes. The cache is for pure functions only: nothing in it counts, waits or expires.
"""

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from gateway.authorize.prepared_request import PreparedRequest
from gateway.config.state import State
from gateway.http.client_address import client_address
from gateway.http.headers import read_headers, with_host
from gateway.http.trace import given_request_id, given_trace
from gateway.jobs.job import Job
from gateway.model.identity import Peer
from gateway.model.request import Headers

Pairs = tuple[tuple[bytes, bytes], ...]


@dataclass(slots=True)
class CachedHeaders:
    """The checked headers, the client address we trust, and the last request that was permitted with them.

    `prepared` caches a permit, never a refusal: failures are judged, and counted, each time. `job` is the job that
    `job_of` reads.
    """

    state: State
    version: tuple[int, int]
    pairs: Pairs
    headers: Headers
    address: IPv4Address | IPv6Address
    client_ip: str
    is_allowed: bool
    request_id: str | None
    passed_on: tuple[bytes, bytes | None] | None
    prepared: PreparedRequest | None = None
    job: Job | None = None
    job_of: PreparedRequest | None = None

    def job_for(self, prepared: PreparedRequest) -> Job | None:
        """The job that this request's caller owns, as found earlier, while it runs; None: look it up."""
        job = self.job
        return job if job is not None and self.job_of is prepared and job.expires_at is None else None

    def addressed_to(self, host: str | None) -> "CachedHeaders":
        """A copy for a request whose target names a host (RFC 9112 3.2.2); without a host, this object."""
        return self if host is None else replace(self, headers=with_host(self.headers, host))

    def is_same(self, state: State, version: tuple[int, int], pairs: Pairs) -> bool:
        """Whether this was made from these same headers, under this State."""
        return state is self.state and pairs == self.pairs and version == self.version


def cache_headers(state: State, peer: Peer, version: tuple[int, int], pairs: Pairs) -> CachedHeaders:
    """Reads the headers of a request.

    Raises:
        Refused: the headers are invalid.
    """
    headers = read_headers(version, pairs)
    address = client_address(peer, headers.known, state.trusted_proxies)
    return CachedHeaders(
        state=state,
        version=version,
        pairs=pairs,
        headers=headers,
        address=address,
        client_ip=str(address),
        is_allowed=address in state.allow,
        request_id=given_request_id(headers.known) if peer.is_proxy(state.trusted_proxies) else None,
        passed_on=given_trace(headers.known),
    )
