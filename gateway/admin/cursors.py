"""Pagination cursors: where a page of a list ended, as a word that clients send back (`next`, `after`). Pure.

Clients send it back unchanged. It holds nothing but fields of the page's last row, encoded so that it needs no
escapes in a URL.
"""

import re
from base64 import b64decode, urlsafe_b64encode
from typing import Any, Final

from gateway.ledger.audit import AuditMark
from gateway.ledger.listings import JobMark, WebhookMark
from gateway.ledger.refusals import RefusalMark

MAX_LENGTH: Final = 2000
_SECONDS: Final = re.compile(r"[0-9]{1,12}\Z")
_NUMBER: Final = re.compile(r"[0-9]{1,10}\Z")
_MOST: Final = 2**31 - 1  # PostgreSQL numbers the rows of the audit so far
_NONE: Final = "is not what `next` of an answer was"


def written(mark: JobMark | WebhookMark | AuditMark | RefusalMark) -> str:
    """Encodes a mark; only its last part may contain spaces."""
    return urlsafe_b64encode(" ".join(map(str, mark)).encode()).decode("ascii").rstrip("=")


def job_mark(word: Any) -> JobMark:
    """Decodes the cursor of a list of jobs.

    Raises:
        ValueError: it is not such a cursor.
    """
    seconds, upstream, request_id = _parts(word, 3)
    return JobMark(int(seconds), upstream, request_id)


def webhook_mark(word: Any) -> WebhookMark:
    """Decodes the cursor of a list of webhooks.

    Raises:
        ValueError: it is not such a cursor.
    """
    seconds, name = _parts(word, 2)
    return WebhookMark(int(seconds), name)


def audit_mark(word: Any) -> AuditMark:
    """Decodes the cursor of the audit trail.

    Raises:
        ValueError: it is not such a cursor.
    """
    seconds, number = _parts(word, 2)
    if not _NUMBER.match(number) or int(number) > _MOST:
        raise ValueError(_NONE)
    return AuditMark(int(seconds), int(number))


def refusal_mark(word: Any) -> RefusalMark:
    """Decodes the cursor of the list of refused requests.

    Raises:
        ValueError: it is not such a cursor.
    """
    seconds, request_id = _parts(word, 2)
    return RefusalMark(int(seconds), request_id)


def _parts(word: Any, count: int) -> list[str]:
    if not isinstance(word, str) or len(word) > MAX_LENGTH:
        raise ValueError(_NONE)
    try:
        text = b64decode(word + "=" * (-len(word) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:
        raise ValueError(_NONE) from None
    parts = text.split(" ", count - 1)
    if len(parts) != count or not _SECONDS.match(parts[0]):
        raise ValueError(_NONE)
    return parts
