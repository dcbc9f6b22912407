"""What is carried: one permitted request, whoever waits for it, and what is asked on its way."""

from typing import NamedTuple, Protocol

from aiohttp.streams import StreamReader

from gateway.authorize.prepared_request import PreparedRequest
from gateway.jobs.job import Job
from gateway.listener.connection import ClientConnection
from gateway.model.request import Delivery, Trace


class Inspection(Protocol):
    """Looks into the body of a request for a job as it passes, and holds its end back until that may go on."""

    async def take(self, data: bytes) -> bytes:
        """Takes the next bytes; gives what may go upstream now. Raises Refused."""

    async def release(self) -> bytes:
        """Called behind the last byte; gives what was held back, once the job may start. Raises Refused."""

    def released(self) -> None:
        """Called right before that is sent."""


class Submit(Inspection, Protocol):
    """What is asked on the way of a submit: by its body, and by its answer."""

    @property
    def lines(self) -> tuple[bytes, ...]:
        """Header lines for the client."""

    @property
    def is_released(self) -> bool:
        """Whether the end of the body went upstream."""

    def refused(self) -> None:
        """Called when the upstream refused the job (status 300 or more)."""

    async def answered(self, content: bytes, check_url: str | None) -> None:
        """Takes a 2xx answer, and where its client will ask, before it sees it. Raises Refused and UpstreamFailed."""


class Forwarding(NamedTuple):
    """One request to carry: who waits for it, what may be sent where, and the record of how it went.

    `submit` belongs to requests that start jobs, `job` to those that are of one; `inspection` looks into the body of
    those that have one: it may have to name the job, or to name none.
    """

    client: ClientConnection
    body: StreamReader
    prepared: PreparedRequest
    trace: Trace
    delivery: Delivery
    submit: Submit | None = None
    job: Job | None = None
    inspection: Inspection | None = None
