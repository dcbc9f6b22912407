"""The gateway's own answers: problem+json (RFC 9457) with a plain-text `detail`, as Datalab's clients expect. Pure.

The SDK shows its user only the reason phrase of the status line, so the phrase is the problem's title. Our answers
contain nothing that the client or the upstream sent.
"""

from typing import Final

import orjson

from gateway.model.reasons import VERDICTS, Denial, Reason

TYPE_PREFIX: Final = "urn:document-gateway:problem:"
_UNAUTHORIZED: Final = 401
_CHALLENGE: Final = b'WWW-Authenticate: Bearer realm="gateway"'
_CHALLENGES: Final = {  # RFC 6750 3.1
    Reason.TOKEN_EXPIRED: _CHALLENGE + b', error="invalid_token", error_description="expired"',
    Reason.TOKEN_INVALID: _CHALLENGE + b', error="invalid_token"',
}


def problem(denial: Denial, request_id: str, date: bytes, *, closes: bool, bodiless: bool = False) -> bytes:
    """A whole answer, head and body; `bodiless` for a HEAD request: the answer then only states the length."""
    verdict = VERDICTS[denial.reason]
    title = denial.heading
    body = orjson.dumps({
        "type": TYPE_PREFIX + denial.reason,
        "title": title,
        "status": verdict.status,
        "detail": denial.detail,
        "reason": denial.reason,
        "request_id": request_id,
    })  # fmt: skip
    lines = [
        b"HTTP/1.1 %d %b" % (verdict.status, title.encode("ascii")),
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


def own_answer(content: bytes, request_id: bytes, date: bytes, *, closes: bool, bodiless: bool) -> bytes:
    """A 200 answer of the gateway's own: JSON, head and body."""
    lines = [
        b"HTTP/1.1 200 OK",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(content),
        b"Cache-Control: no-store",
        b"Date: " + date,
        b"X-Request-Id: " + request_id,
    ]
    if closes:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if bodiless else content)


def _particular(denial: Denial) -> list[bytes]:
    lines = []
    if VERDICTS[denial.reason].status == _UNAUTHORIZED:
        lines.append(_CHALLENGES.get(denial.reason, _CHALLENGE))
    if denial.retry_after is not None:
        lines.append(b"Retry-After: %d" % denial.retry_after)
    if denial.allow:
        lines.append(b"Allow: " + ", ".join(denial.allow).encode("ascii"))
    lines += denial.lines
    return lines
