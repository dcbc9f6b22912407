"""Parses requests of the admin API: a JSON body of 64 KB at the most, and the query; reports all faults at once."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from aiohttp import web
from aiohttp.http import HttpVersion11
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.admin.connection import prefix_of
from gateway.admin.problem import AdminProblem, InvalidValue
from gateway.aio.in_turn import run_in_turn
from gateway.aio.iteration import Iteration
from gateway.config.fault_words import fault_words
from gateway.http.strict_json import MAX_MARKS, has_too_many_marks, member_twice
from gateway.model import patterns

MAX_BYTES: Final = 65_536
SECONDS: Final = 10.0
_MAX_FAULTS: Final = 100
_TOO_MANY_FAULTS: Final = 1000
_MAX_PARAMETERS: Final = 50
_MAX_LENGTH: Final = 300
_TOO_LARGE: Final = f"A body has {MAX_BYTES} bytes at the most."
_FORM: Final = "string_pattern_mismatch"
_OF_JSON: Final[Mapping[str, str]] = {  # where those of a configuration speak of lines
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "extra_forbidden": "is not known here",
}
_IN_WORDS: Final[Mapping[str, str]] = {
    patterns.ID: "has to be of 1 to 63 characters: a-z, 0-9 and -",
    patterns.NAME: "has to be of 1 to 63 characters: a-z, 0-9, _ and -",
    patterns.OWNER: "has to be of 1 to 128 characters: letters, digits, ., _, @ and -",
    patterns.SCOPE: "has to be of 1 to 64 characters: letters, digits, :, ., _ and -",
    patterns.OPERATION: "has to be of 1 to 128 visible characters of ASCII, without spaces",
    patterns.ANY_OWNER: "has to be of 1 to 600 characters, none of them a control character",
}
M = TypeVar("M", bound=BaseModel)


async def expect_later(_: web.Request) -> None:
    """Delays the answer to `Expect: 100-continue` until the request is authorized: read_body sends it."""


async def read_body(request: web.Request, model: type[M], iteration: Iteration) -> M:
    """Reads a body, in an iteration of the loop that has time for it; an empty one counts as `{}`.

    Raises:
        AdminProblem: it is malformed, invalid, too large, or does not arrive in time.
    """
    if len(request.headers.getall("Idempotency-Key", [])) > 1:
        raise AdminProblem("bad_request", "Send one Idempotency-Key.")
    if not _is_json(request.headers.getall("Content-Type", [])):
        raise AdminProblem("unsupported_media_type", "Send Content-Type: application/json.")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise AdminProblem("unsupported_media_type", "A body is not compressed.")
    if (request.content_length or 0) > MAX_BYTES:
        raise AdminProblem("body_too_large", _TOO_LARGE)
    try:
        async with asyncio.timeout(SECONDS):
            await _continue(request)
            body = await _whole(request)
    except TimeoutError:
        raise AdminProblem("body_too_slow", f"A body has to arrive within {SECONDS:.0f} s.") from None
    except (web.RequestPayloadError, ConnectionError):
        raise AdminProblem("body_malformed", "The body broke off, or its coding is malformed.") from None
    return await run_in_turn(iteration, partial(_validated_json, model, body or b"{}"), prefix_of(request))


def read_query(request: web.Request, model: type[M]) -> M:
    """Reads the parameters of the query.

    Raises:
        AdminProblem: one is unknown, invalid, or given twice, or there are too many to look at.
    """
    if request.rel_url.raw_query_string.count("&") >= _MAX_PARAMETERS:
        raise AdminProblem("bad_request", f"A query has {_MAX_PARAMETERS} parameters at the most.")
    counted = Counter(name for name, _ in request.query.items())
    twice = sorted(name for name, count in counted.items() if count > 1)
    if twice:
        raise _invalid(
            [InvalidValue(path=name[:_MAX_LENGTH], message="is there twice") for name in twice[:_MAX_FAULTS]]
        )
    return _validated(model, dict(request.query))


def _is_json(types: Sequence[str]) -> bool:
    """What aiohttp has as `content_type` goes to a parser of mail, for which 8 KB of quotes are three seconds."""
    return len(types) == 1 and types[0].partition(";")[0].strip().lower() == "application/json"


async def _continue(request: web.Request) -> None:
    if request.version >= HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # as aiohttp's own handler does: no part of the answer has been sent


async def _whole(request: web.Request) -> bytes:
    body = bytearray()
    while piece := await request.content.readany():
        body += piece
        if len(body) > MAX_BYTES:
            raise AdminProblem("body_too_large", _TOO_LARGE)
    return bytes(body)


def _validated_json(model: type[M], body: bytes) -> M:
    if has_too_many_marks(body):
        detail = f"A body has {MAX_MARKS:,} quotation marks, commas, backslashes and brackets at the most."
        raise AdminProblem("body_malformed", detail)
    twice = member_twice(body)
    if twice is not None:
        raise AdminProblem("body_malformed", f"The body has the member {twice[:_MAX_LENGTH]!a} twice.")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        if (faults := _faults(error)) is None:
            raise AdminProblem("body_malformed", "The body is not JSON in UTF-8, or nested too deeply.") from None
        raise _invalid(faults) from None


def _validated(model: type[M], values: Mapping[str, Any]) -> M:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _invalid(_faults(error) or []) from None


def _faults(error: ValidationError) -> list[InvalidValue] | None:
    """The first faults; None: it is no JSON. Each fault of all costs microseconds, so thousands are only counted."""
    if error.error_count() > _TOO_MANY_FAULTS:
        return [InvalidValue(path="", message=f"has {error.error_count():,} faults, too many to name")]
    found = error.errors(include_url=False, include_input=False)[:_MAX_FAULTS]
    if found[0]["type"] == "json_invalid":
        return None
    return [InvalidValue(path=_path(fault["loc"]), message=_message(fault)) for fault in found]


def _path(places: tuple[int | str, ...]) -> str:
    return ".".join(map(str, places))[:_MAX_LENGTH]


def _message(fault: ErrorDetails) -> str:
    kind, context = fault["type"], fault.get("ctx", {})
    words = _OF_JSON.get(kind) or fault_words("", kind, fault["msg"], context, None)
    return _IN_WORDS.get(context["pattern"] if kind == _FORM else "", words)[:_MAX_LENGTH]


def _invalid(faults: list[InvalidValue]) -> AdminProblem:
    first = faults[0]
    more = f" (and {len(faults) - 1} more, see errors)" if len(faults) > 1 else ""
    return AdminProblem("invalid", f"{first.path or 'body'}: {first.message}{more}", errors=faults)
