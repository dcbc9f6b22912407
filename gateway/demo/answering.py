"""Answers in the form of FastAPI, on which both containers are built."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ValidationError

from gateway.demo.submitted_form import refusal

_Model = TypeVar("_Model", bound=BaseModel)
Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def fastapi_errors(request: web.Request, handler: Answering) -> web.StreamResponse:
    """Converts aiohttp's own errors to FastAPI's form."""
    try:
        return await handler(request)
    except ConnectionResetError:
        return web.Response(status=499)  # the gateway dropped the request midway: no reader is left
    except web.HTTPException as error:
        if error.content_type == "application/json":
            raise
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return json_answer({"detail": error.reason}, error.status, allow)


def json_answer(content: dict[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    return web.Response(body=orjson.dumps(content), status=status, headers=headers, content_type="application/json")


def valid(model: type[_Model], values: dict[str, Any], place: str) -> _Model:
    """Validates values with a model; `place` is where they came from: body or query.

    Raises:
        web.HTTPUnprocessableEntity: with every problem.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        detail = [
            {
                "type": problem["type"],
                "loc": [place, *problem["loc"]],
                "msg": problem["msg"],
                "input": problem["input"] if isinstance(problem["input"], str) else None,
            }
            for problem in error.errors(include_url=False, include_context=False)
        ]
        raise refusal(web.HTTPUnprocessableEntity, detail) from error
