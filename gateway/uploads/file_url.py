"""Judges the address in the field file_url, which the container fetches: of http or https alone. Pure.

Where it may lead is not judged: a container's own name resolution and redirects decide that (docs/threat-model.md).
"""

import re
from typing import Final

from gateway.errors import refuse
from gateway.model.reasons import Reason

_DROPPED: Final = {ord(sign): None for sign in "\t\r\n"}  # by readers of URLs, wherever they stand (WHATWG, urllib)
_BEFORE: Final = "".join(map(chr, range(0x21)))
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_FETCHED: Final = frozenset({"http", "https"})


def check_file_url(value: str | None) -> None:
    """Checks the field's value; what has no scheme is left to the container, which can't fetch it.

    Raises:
        Refused: field_refused.
    """
    named = _SCHEME.match((value or "").translate(_DROPPED).lstrip(_BEFORE))
    if named is not None and named[1].lower() not in _FETCHED:
        raise refuse(Reason.FIELD_REFUSED, "The field file_url is an address of http or https.")
