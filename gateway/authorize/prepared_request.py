"""A request that was permitted, as it will go upstream: values."""

from dataclasses import dataclass
from typing import NamedTuple

from gateway.model.request import Fields, Permit
from gateway.upstream.job_api import JobShape
from gateway.upstream.target import UpstreamTarget


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
