"""What a request carries along when it is forwarded: the client, the record, and what is asked on its way."""

from typing import NamedTuple

from aiohttp.streams import StreamReader

from gateway.authorize.prepared_request import PreparedRequest
from gateway.jobs.job import Job
from gateway.jobs.shared_polls import AskingPoll
from gateway.listener.connection import ClientConnection
from gateway.model.request import Delivery, Trace
from gateway.proxy.submission import Submission


class ForwardOrder(NamedTuple):
    """One request to forward: the client, what to send where, and the record of the delivery.

    `submit` is for requests that start jobs, `job` for those about a job; `content` is the body of those that have
    one, read completely and checked. `delete_before` is set once a DELETE has made the job unreadable: until
    then, by the loop's clock, the upstream may get it; later the id may be another job's. `asking_poll` is set
    when other polls may wait for this one's answer.
    """

    client: ClientConnection
    body: StreamReader
    prepared: PreparedRequest
    trace: Trace
    delivery: Delivery
    submit: Submission | None = None
    job: Job | None = None
    content: bytes | None = None
    delete_before: float | None = None
    asking_poll: AskingPoll | None = None

    @property
    def is_streamed(self) -> bool:
        """Whether it has a body that passes through, of which nothing is kept."""
        return self.content is None and self.prepared.headers.has_body
