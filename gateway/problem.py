"""Our own answers: problem+json (RFC 9457) with a plain `detail`, the shape that Datalab's clients know. Pure.

The SDK shows its user nothing but the reason phrase of the status line, so that is the title. Nothing that the
client or the upstream sent stands in an answer of ours.
"""

from typing import Final

import orjson

from gateway.model import VERDICTS, Denial, Reason

_TYPE: Final = "urn:document-gateway:problem:"
_CHALLENGE: Final = b'WWW-Authenticate: Bearer realm="gateway"'


def problem(denial: Denial, request_id: str, date: bytes, *, closes: bool, bodiless: bool = False) -> bytes:
    """A whole answer, head and body; `bodiless` for a HEAD, whose answer states the length alone."""
    verdict = VERDICTS[denial.reason]
    body = orjson.dumps({
        "type": _TYPE + denial.reason,
        "title": verdict.title,
        "status": verdict.status,
        "detail": denial.detail,
        "reason": denial.reason,
        "request_id": request_id,
    })  # fmt: skip
    lines = [
        b"HTTP/1.1 %d %b" % (verdict.status, verdict.title.encode("ascii")),
        b"Content-Type: application/problem+json",
        b"Content-Length: %d" % len(body),
        b"Cache-Control: no-store",
        b"Date: " + date,
        b"X-Request-Id: " + request_id.encode("ascii"),
        b"X-Gateway-Reason: " + denial.reason.encode("ascii"),
    ]
    lines += _particular(denial)
    if closes:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if bodiless else body)


def _particular(denial: Denial) -> list[bytes]:
    lines = []
    if denial.reason == Reason.UNAUTHENTICATED:
        lines.append(_CHALLENGE)
    if denial.retry_after is not None:
        lines.append(b"Retry-After: %d" % denial.retry_after)
    if denial.allow:
        lines.append(b"Allow: " + ", ".join(denial.allow).encode("ascii"))
    return lines
