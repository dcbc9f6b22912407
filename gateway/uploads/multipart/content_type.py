"""The allowed Content-Types of a submit: multipart/form-data with one unambiguous boundary, or url-encoded. Pure.

Facts this file rests on:
- FastAPI accepts url-encoded forms, too, with any charset; urlencoded.py reads their fields.
- Starlette decodes field names with the charset parameter: with any but utf-8 it sees other names than we do.
- FastAPI 0.88 (python-multipart 0.0.6) does not recognize a type with a blank before the first `;`, or in capitals.
  All versions read blanks and tabs after a `;`, and a final `;`, alike (tests/uploads/test_fastapis.py).
- RFC 2046 5.1.1: a boundary has 1 to 70 characters of bchars and does not end with a space; RFC 9110 5.6.6: a value
  with characters outside of tokens must be quoted. All servers accept clients that omit the quotes, except FastAPI
  0.88, which then finds no boundary and refuses the form.
- All field names are ASCII here, so charsets that extend ASCII do not change them.
"""

import re
from collections.abc import Mapping
from typing import Final

from gateway.errors import refuse
from gateway.model.reasons import Reason

_WHOLE: Final = re.compile(
    rb"""multipart/form-data(?:;[ \t]*[A-Za-z]+=(?:[0-9A-Za-z'+_./:=-]+|"[0-9A-Za-z'()+_,./:=?\ -]+"))+;?\Z""",
)
_URLENCODED: Final = re.compile(rb"application/x-www-form-urlencoded(?:;[ \t]*charset=\"?[Uu][Tt][Ff]-?8\"?)?\Z")
_PARAMETER: Final = re.compile(rb""";[ \t]*([A-Za-z]+)=(?:"([^"]*)"|([^ ;"]+))""")
_CHARSETS: Final = frozenset({b"utf-8", b"utf8", b"us-ascii", b"ascii", b"iso-8859-1", b"latin-1", b"latin1"})
_MAX_BOUNDARY: Final = 70
_HELP: Final = "Send the document as multipart/form-data, with one boundary of 1 to 70 plain characters."


def boundary_of(known: Mapping[bytes, list[bytes]]) -> bytes:
    """Reads the boundary from a request's headers (names in lower case); empty for a url-encoded form.

    Raises:
        Refused: unsupported_media_type; the detail never contains the client's input.
    """
    if b"content-encoding" in known:
        raise refuse(Reason.UNSUPPORTED_MEDIA_TYPE, "Send the form as it is, without a Content-Encoding.")
    types = known.get(b"content-type", ())
    if len(types) == 1 and _URLENCODED.match(types[0]):
        return b""
    if len(types) != 1 or not _WHOLE.match(types[0]):
        raise refuse(Reason.UNSUPPORTED_MEDIA_TYPE, _HELP)
    found = [(name.lower(), quoted or token) for name, quoted, token in _PARAMETER.findall(types[0])]
    parameters = dict(found)
    boundary: bytes = parameters.pop(b"boundary", b"")
    if len(found) > len(parameters) + 1 or not 0 < len(boundary) <= _MAX_BOUNDARY or boundary.endswith(b" "):
        raise refuse(Reason.UNSUPPORTED_MEDIA_TYPE, _HELP)
    if parameters.pop(b"charset", b"utf-8").lower() not in _CHARSETS or parameters:
        detail = "The only parameters of the form's Content-Type are its boundary and a charset such as utf-8."
        raise refuse(Reason.UNSUPPORTED_MEDIA_TYPE, detail)
    return boundary
