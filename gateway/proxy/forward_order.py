"""What a request carries along when it is forwarded: the client, the record, and the checks on its way."""

from typing import NamedTuple, Protocol

from aiohttp.streams import StreamReader

from gateway.authorize.prepared_request import PreparedRequest
from gateway.jobs.job import Job
from gateway.jobs.shared_polls import AskingPoll
from gateway.listener.connection import ClientConnection
from gateway.model.request import Delivery, Trace


class Submit(Protocol):
    """The checks of a submit: of its body, whose end is held back until the job may start, and of its answer."""

    async def take(self, data: bytes) -> bytes:
        """Takes the next bytes; returns those that may go upstream now. Raises Refused."""

    async def reserve_pages(self) -> bytes:
        """Called after the last byte; returns what was held back, once the pages are reserved. Raises Refused."""

    def mark_released(self) -> None:
        """Called right before that is sent: from then on the upstream may have the whole request."""

    @property
    def lines(self) -> tuple[bytes, ...]:
        """Header lines for the client."""

    @property
    def is_released(self) -> bool:
        """Whether the end of the body went upstream."""

    def mark_refused(self) -> None:
        """Called when the upstream refused the job (status 300 or more)."""

    async def take_answer(self, content: bytes, check_url: str | None) -> None:
        """Takes a 2xx answer and the check URL, before the client sees them. Raises Refused and UpstreamFailed."""


class ForwardOrder(NamedTuple):
    """One request to forward: the client, what to send where, and the record of the delivery.

    `submit` is for requests that start jobs, `job` for those about a job; `content` is the body of those that have
    one, read completely and checked. `delete_before` is set once a DELETE has made the job unreadable: until
    then, by the loop's clock, the upstream may get it; later the id may be another job's. `question` is set
    when other polls may wait for this one's answer.
    """

    client: ClientConnection
    body: StreamReader
    prepared: PreparedRequest
    trace: Trace
    delivery: Delivery
    submit: Submit | None = None
    job: Job | None = None
    content: bytes | None = None
    delete_before: float | None = None
    question: AskingPoll | None = None
