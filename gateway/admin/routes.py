"""Makes routes from the table of operations: parses a request, runs the operation, writes its answer."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from aiohttp import web

from gateway.admin.answer_writing import write_in_pieces
from gateway.admin.api import Operation, make_operations
from gateway.admin.connection import prefix_of
from gateway.admin.context import Call, Context
from gateway.admin.parsing import expect_later, read_body, read_query
from gateway.admin.sending import answer_in_turns
from gateway.aio.iteration import Iteration

ACTOR: Final = web.RequestKey("actor", str)
JUDGES: Final = web.RequestKey("judges", partial[str])
"""Judges the caller by what is in force then, and names it: a body may take ten seconds."""
_Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add_operations(application: web.Application, context: Context, iteration: Iteration) -> None:
    """Adds all operations; their answers are serialized in turns of the loop's `iteration`."""
    for operation in make_operations():
        handle = _handle(operation, context, iteration)
        # An upstream's ids and callers' names may contain braces, which aiohttp excludes from path variables.
        path = operation.path.replace("{request_id}", "{request_id:[^/]+}").replace("{account}", "{account:[^/]+}")
        application.router.add_route(operation.method, path, handle, expect_handler=expect_later)


def _handle(operation: Operation, context: Context, iteration: Iteration) -> _Handle:
    async def handle(request: web.Request) -> web.Response:
        try:
            answer = await operation.run(context, await _call(operation, request, iteration))
        finally:
            if operation.method != "GET" and not operation.changes_nothing:
                context.near.forget()  # also after a failure: it may have been done
        pieces = write_in_pieces(answer)
        return await answer_in_turns(iteration, pieces, prefix_of(request), "application/json", operation.status)

    return handle


async def _call(operation: Operation, request: web.Request, iteration: Iteration) -> Call:
    query = None if operation.query is None else read_query(request, operation.query)
    body = None if operation.body is None else await read_body(request, operation.body, iteration)
    return Call(
        actor=request[ACTOR] if body is None else request[JUDGES](),
        subject=next(iter(request.match_info.values()), ""),
        query=query,
        body=body,
        idempotency_key=request.headers.get("Idempotency-Key") if operation.takes_idempotency_key else None,
    )
