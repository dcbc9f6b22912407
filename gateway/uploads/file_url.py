"""Judges the address in the field file_url, which the container fetches: of http or https alone. Pure.

Where it may lead is not judged: a container's own name resolution and redirects decide that (docs/threat-model.md).
"""

import re
from typing import Final

from gateway.errors import refuse
from gateway.model.reasons import Reason

_DROPPED: Final = {ord(sign): None for sign in "\t\r\n"}  # by readers of URLs, wherever they stand (WHATWG, urllib)
_FETCHED: Final = re.compile(r" *https?://", re.IGNORECASE | re.ASCII)


def check_file_url(value: str | None) -> None:
    """Checks the field's value: it begins as an address of the web does, or it is refused.

    Readers take other spellings for a scheme that is hidden in them: `<URL:file:///x>`, or one behind a space that is
    not ASCII; and what has no scheme may be a path.

    Raises:
        Refused: field_refused.
    """
    if value and _FETCHED.match(value.translate(_DROPPED)) is None:
        raise refuse(Reason.FIELD_REFUSED, "The field file_url is an address of http or https.")
