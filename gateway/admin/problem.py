"""Errors of the admin API: problem+json, as on the public listener.

The reasons are a closed set, each with its status and title; those that both listeners use are the same on both.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from gateway.errors import Refused
from gateway.http.problem import TYPE_PREFIX
from gateway.model.reasons import VERDICTS

PROBLEM_TYPE: Final = "application/problem+json"
_CHALLENGE: Final = 'Bearer realm="gateway admin"'
TITLES: Final[Mapping[str, tuple[int, str]]] = {
    "bad_request": (400, "Malformed request"),
    "body_malformed": (400, "Malformed request body"),
    "unauthenticated": (401, "No valid admin token"),
    "forbidden": (403, "Not from here"),
    "route_not_found": (404, "No such route"),
    "key_not_found": (404, "No such key"),
    "job_not_found": (404, "No such job"),
    "webhook_not_found": (404, "No such webhook"),
    "refusal_not_found": (404, "No such refusal"),
    "method_not_allowed": (405, "Method not allowed"),
    "body_too_slow": (408, "Request body too slow"),
    "conflict": (409, "In conflict with what is there"),
    "body_too_large": (413, "Request body too large"),
    "unsupported_media_type": (415, "Unsupported media type"),
    "invalid": (422, "Values that are not valid"),
    "too_many_bad_logins": (429, "Too many bad logins"),
    "internal": (500, "Internal error of the gateway"),
    "ledger_unavailable": (503, "Ledger unavailable"),
    "timed_out": (503, "Took too long"),
}


class InvalidValue(BaseModel):
    """One fault of a request: where it is, such as `limits.pages_per_day`, and what is wrong."""

    path: str
    message: str


class Problem(BaseModel):
    """Why there is no answer (RFC 9457)."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: str
    title: str
    status: int
    detail: str
    """One sentence for people."""
    reason: str
    """One word for programs."""
    errors: list[InvalidValue]
    """Each fault of what was sent that is in one value: of `invalid`, and of some with `conflict`; else empty."""


class AdminProblem(Exception):
    """A request that is answered with a problem; `reason` is a key of TITLES."""

    def __init__(
        self,
        reason: str,
        detail: str,
        *,
        errors: Sequence[InvalidValue] = (),
        retry_after: int | None = None,
        allow: str | None = None,
    ) -> None:
        self.reason = reason
        self.detail = detail
        self.errors = list(errors)
        self.retry_after = retry_after
        self.allow = allow
        super().__init__(detail)


def problem_answer(problem: AdminProblem) -> web.Response:
    """The answer to a request that aiohttp could parse."""
    status, title = TITLES[problem.reason]
    body = _body(status, title, problem.reason, problem.detail, problem.errors)
    headers = {"X-Gateway-Reason": problem.reason}
    if problem.reason == "unauthenticated":
        headers["WWW-Authenticate"] = _CHALLENGE
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    if problem.allow is not None:
        headers["Allow"] = problem.allow
    return web.Response(body=body, status=status, reason=title, headers=headers, content_type=PROBLEM_TYPE)


def written_problem(refused: Refused) -> bytes:
    """The answer, head and body, to input that is not HTTP; the connection closes after it."""
    reason = refused.denial.reason
    verdict = VERDICTS[reason]
    body = _body(verdict.status, verdict.title, reason, refused.denial.detail, [])
    lines = [
        f"HTTP/1.1 {verdict.status} {verdict.title}",
        f"Content-Type: {PROBLEM_TYPE}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        f"X-Gateway-Reason: {reason}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def _body(status: int, title: str, reason: str, detail: str, errors: list[InvalidValue]) -> bytes:
    problem = Problem(
        type=TYPE_PREFIX + reason, title=title, status=status, detail=detail, reason=str(reason), errors=errors
    )
    return problem.model_dump_json(ensure_ascii=True).encode("ascii")
