"""Bodies of requests about a job: pure.

Such a body is read completely before any byte goes upstream, because an upstream may act on the head alone. Where
the route reads the id from the body, the job is looked up by it. Where the route reads the id elsewhere, the body
may not name a job, because the upstream might read that one.
"""

import re
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import unquote_plus

from gateway.errors import refuse
from gateway.http.media_type import BodyFormat
from gateway.http.names import taken_for
from gateway.http.strict_json import read_texts
from gateway.jobs.job import job_not_found
from gateway.model.reasons import Reason
from gateway.model.request import BodyLimit
from gateway.upstream.job_api import JobShape, is_id

LIMIT: Final = BodyLimit(65_536, "fixed for a body about a job")
_MAX_MEMBERS: Final = 128  # of the object itself, or pairs of a form: the name of each is folded, for microseconds
_MAX_CODED: Final = 4096  # bytes that are percent-encoded
_SEPARATOR: Final = re.compile("[&;]")
_FORM: Final = re.compile(rb"[A-Za-z0-9._~*+%&=;,:@/!$'()-]*")
_UNREADABLE: Final = (
    "The body of a request for a job is a JSON object or a urlencoded form, as its Content-Type says,"
    f" with at most {_MAX_MEMBERS} members."
)


def named_in(body: bytes, member: str, shape: JobShape) -> str:
    """Returns the job id in `member` of a JSON object.

    Raises:
        Refused: body_malformed, also if another name might be taken for `member`; or job_not_found, if it is not an
            id of this shape.
    """
    members = _members_of(body)
    if members is None:
        detail = f"The body is not a JSON object that can be read in one way, with at most {_MAX_MEMBERS} members."
        raise refuse(Reason.BODY_MALFORMED, detail)
    if taken_for(member, members) not in ([], [member]):
        raise refuse(Reason.BODY_MALFORMED, f"The body names {member} more than once, or in another spelling.")
    named = members.get(member)
    if not isinstance(named, str) or not is_id(shape, named):
        raise job_not_found()
    return named


def check_names_none(body: bytes, member: str, written_in: BodyFormat) -> None:
    """Checks that a body does not name a job in `member`.

    Raises:
        Refused: body_malformed, if it does, or if it can't be read in one way only.
    """
    names = _members_of(body) if written_in is BodyFormat.JSON else _names_in(body)
    if names is None:
        raise refuse(Reason.BODY_MALFORMED, _UNREADABLE)
    if taken_for(member, names):
        raise refuse(Reason.BODY_MALFORMED, f"The job is named elsewhere: the body may have no {member}.")


def _members_of(body: bytes) -> dict[str, Any] | None:
    """The members of a JSON object; None if it is not one, or has too many."""
    members = read_texts(body)
    return None if members is None or len(members) > _MAX_MEMBERS else members


def _names_in(body: bytes) -> Iterable[str] | None:
    """The names of a form's fields; None if the body is not a form."""
    if not _FORM.fullmatch(body) or body.count(b"%") > _MAX_CODED:
        return None
    pairs = _SEPARATOR.split(body.decode("ascii"), maxsplit=_MAX_MEMBERS)
    return [unquote_plus(pair.partition("=")[0]) for pair in pairs] if len(pairs) <= _MAX_MEMBERS else None
