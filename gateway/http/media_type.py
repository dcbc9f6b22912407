"""Chooses how to read a small body, by its Content-Type alone (RFC 9110, section 8.3). Pure.

Sniffing would give a body two meanings: `{"a": "&id=1&b="}` is an object, and a form with a field `id`. So the body
is checked as the format that it announces, and goes upstream announced as that format.
"""

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from gateway.errors import refuse
from gateway.model.reasons import Reason

_UTF_8: Final = rb"(?:;[ \t]*charset=\"?[Uu][Tt][Ff]-?8\"?)?\Z"
_JSON: Final = re.compile(rb"application/json" + _UTF_8, re.IGNORECASE)
_FORM: Final = re.compile(rb"application/x-www-form-urlencoded" + _UTF_8)  # FastAPI 0.88 reads no capitals


class BodyFormat(Enum):
    """How to read a body."""

    JSON = auto()
    FORM = auto()


def body_format(known: Mapping[bytes, list[bytes]], *allowed: BodyFormat) -> BodyFormat:
    """The format that a request's headers (names in lower case) announce; JSON without a Content-Type.

    Servers do not read a body without a Content-Type as a form.

    Raises:
        Refused: unsupported_media_type: the format is not allowed, there are two, or the body has a content coding.
    """
    types = known.get(b"content-type", [b"application/json"])
    found = _format_of(types[0]) if len(types) == 1 and b"content-encoding" not in known else None
    if found is None or found not in allowed:
        raise refuse(Reason.UNSUPPORTED_MEDIA_TYPE, _HELP[BodyFormat.FORM in allowed])
    return found


def _format_of(value: bytes) -> BodyFormat | None:
    if _JSON.match(value):
        return BodyFormat.JSON
    return BodyFormat.FORM if _FORM.match(value) else None


_HELP: Final = {
    False: "Send the body as it is, with Content-Type: application/json.",
    True: "Send the body as it is, with Content-Type: application/json or application/x-www-form-urlencoded.",
}
