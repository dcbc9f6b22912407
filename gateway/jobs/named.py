"""A request whose body names its job: held back whole until it is known that the job is its caller's."""

from collections.abc import Awaitable, Callable
from typing import Final

from gateway.auth.strict import read_object
from gateway.errors import refuse
from gateway.jobs.job import Job, job_not_found
from gateway.jobs.shape import JobShape, is_id
from gateway.model import Reason

_MOST: Final = 65_536


class NamedInBody:
    """Looks into such a body; `job` is whose request it was let through for. `owned` gives a job by its id."""

    __slots__ = ("_body", "_member", "_owned", "_shape", "job")

    def __init__(self, member: str, shape: JobShape, owned: Callable[[str], Awaitable[Job]]) -> None:
        self._member = member
        self._shape = shape
        self._owned = owned
        self._body = b""
        self.job: Job | None = None

    async def take(self, data: bytes) -> bytes:
        """Takes the next bytes; lets none through.

        Raises:
            Refused: body_too_large.
        """
        self._body += data
        if len(self._body) > _MOST:
            raise refuse(Reason.BODY_TOO_LARGE, f"The body of this request has at most {_MOST} bytes.")
        return b""

    async def release(self) -> bytes:
        """Called behind the last byte; gives the body once the job it names is its caller's.

        Raises:
            Refused: body_malformed, job_not_found or ledger_unavailable.
        """
        named = self._named()
        if named is None or not is_id(self._shape, named):
            raise job_not_found()
        self.job = await self._owned(named)
        return self._body

    def released(self) -> None:
        """Called right before it is sent."""

    def _named(self) -> str | None:
        members = read_object(self._body)
        if members is None:
            raise refuse(Reason.BODY_MALFORMED, "The body is no JSON object that can be read in one way.")
        found = members.get(self._member)
        return found if isinstance(found, str) else None
