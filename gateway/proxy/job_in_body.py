"""Bodies of requests for a job: held back completely until it is certain that they name no other owner's job.

If the route reads the id from the body, the job is looked up by it; if the route reads it elsewhere, the body must
not name a job, for the upstream might read that one.
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Final
from urllib.parse import unquote_plus

from gateway.errors import refuse
from gateway.http.media_type import BodyFormat
from gateway.http.strict_json import read_object
from gateway.jobs.job import Job, job_not_found
from gateway.model.reasons import Reason
from gateway.upstream.job_api import JobShape, is_id

_MAX: Final = 65_536
_MAX_PAIRS: Final = 128
_MAX_CODED: Final = 4096  # bytes that are percent-encoded
_FORM: Final = re.compile(rb"[A-Za-z0-9._~*+%&=;,:@/!$'()-]*")


class NamedInBody:
    """Checks a body that names its job. `job` is set once the body may go on; `owned` looks up the caller's job."""

    __slots__ = ("_body", "_member", "_owned", "_shape", "job")

    def __init__(self, member: str, shape: JobShape, owned: Callable[[str], Awaitable[Job]]) -> None:
        self._member = member
        self._shape = shape
        self._owned = owned
        self._body = b""
        self.job: Job | None = None

    async def take(self, data: bytes) -> bytes:
        """Takes the next bytes; passes none on.

        Raises:
            Refused: body_too_large.
        """
        self._body = _grown(self._body, data)
        return b""

    async def release(self) -> bytes:
        """Called after the last byte; returns the body if the job it names belongs to the caller.

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
        """The id in the body."""
        members = read_object(self._body)
        if members is None:
            raise refuse(Reason.BODY_MALFORMED, "The body is no JSON object that can be read in one way.")
        found = members.get(self._member)
        return found if isinstance(found, str) else None


class NamesNone:
    """Checks the body of a request whose job is named elsewhere: JSON or a form, as announced, without `name`."""

    __slots__ = ("_body", "_format", "_name")

    def __init__(self, name: str, written_in: BodyFormat) -> None:
        self._name = name
        self._format = written_in
        self._body = b""

    async def take(self, data: bytes) -> bytes:
        """Takes the next bytes; passes none on.

        Raises:
            Refused: body_too_large.
        """
        self._body = _grown(self._body, data)
        return b""

    async def release(self) -> bytes:
        """Called after the last byte; returns the body.

        Raises:
            Refused: body_malformed, if it names a job or can't be read in one way only.
        """
        names = read_object(self._body) if self._format is BodyFormat.JSON else _names_in(self._body)
        if names is None:
            told = "The body of a request for a job is a JSON object or a urlencoded form, as its Content-Type says."
            raise refuse(Reason.BODY_MALFORMED, told)
        if self._name.lower() in {name.lower() for name in names}:
            raise refuse(Reason.BODY_MALFORMED, f"The job is named elsewhere: the body may have no {self._name}.")
        return self._body

    def released(self) -> None:
        """Called right before it is sent."""


def _names_in(body: bytes) -> Iterable[str] | None:
    """The names of a form's fields; None if the body is not a form."""
    if not _FORM.fullmatch(body) or body.count(b"&") + body.count(b";") > _MAX_PAIRS or body.count(b"%") > _MAX_CODED:
        return None
    return [unquote_plus(pair.partition("=")[0]) for pair in re.split("[&;]", body.decode("ascii"))]


def _grown(body: bytes, data: bytes) -> bytes:
    if len(body) + len(data) > _MAX:
        raise refuse(Reason.BODY_TOO_LARGE, f"The body of this request has at most {_MAX} bytes.")
    return body + data
