"""A permitted request in the form in which it goes upstream: values."""

from dataclasses import dataclass
from typing import NamedTuple

from gateway.jobs.job import Job
from gateway.jobs.status_answer import Poll
from gateway.model.request import Headers, Permit
from gateway.upstream.job_api import JobShape
from gateway.upstream.target import UpstreamTarget


class RequestLine(NamedTuple):
    """A request's method and target, as the parser read them."""

    method: str
    target: str


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A permit with all that forwarding needs, for one method and target.

    `opening` is the head that goes upstream, without the trace's headers; `body_length` is the body size that it
    announces: bytes, 0 for no body, None for chunks. `origin` is our public origin, empty when the client's Host
    is not one of our names: URLs are then written as paths alone. `good_until`, in seconds of the loop's clock,
    is when the caller must be checked again: keys and tokens expire. `subject` names the rate limit bucket for
    polls, `use` the secret that was used, if the ledger records its uses. `path_and_query` is the request target
    that goes upstream; `boundary` is that of a submit's multipart body. `shape` is that of the route's jobs;
    `hold` is for how many seconds a long poll waits while its job runs; `poll` is what another poll has to have in
    common with this one to share its answer, None if this one always asks for itself.
    """

    method: str
    raw_target: str
    headers: Headers
    permit: Permit
    upstream: UpstreamTarget
    opening: bytes
    body_length: int | None
    origin: str
    path_and_query: str
    good_until: float
    subject: str
    use: tuple[str, int] | None = None
    boundary: bytes | None = None
    shape: JobShape | None = None
    hold: float = 0.0
    poll: Poll | None = None

    @property
    def job_shape(self) -> JobShape:
        """The shape of a route's jobs, of a route that has some: a configuration with an unknown one is refused."""
        if self.shape is None:
            raise AssertionError
        return self.shape

    @property
    def gives_content(self) -> bool:
        """Whether its answer may give the client something of a job."""
        return self.permit.route.kind.gives_content and self.method != "HEAD"

    def asks_status(self, job: Job) -> bool:
        """Whether it goes to where the job's status is read."""
        return self.path_and_query == job.target

    def is_for(self, method: str, raw_target: str, now: float) -> bool:
        """Whether this permits a request for this target with the same headers."""
        return raw_target == self.raw_target and method == self.method and now < self.good_until
