"""The admin listener's application: /livez, /readyz, /metrics, the admin API, and the page that uses it.

The probes need no token, nor do the page's files. All other paths need one (authentication.py), and all but the
probes a head that the public listener would accept (headers.py). Errors after that become a problem here. No answer
may be cached (Cache-Control: no-store).
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from gateway.admin.authentication import Guard
from gateway.admin.connection import KEEPS, prefix_of
from gateway.admin.console_files import FILES, page_routes
from gateway.admin.context import Context
from gateway.admin.probes import Probed, probe_routes
from gateway.admin.problem import AdminProblem, InvalidValue, problem_answer
from gateway.admin.routes import ACTOR, JUDGES, add_operations
from gateway.admin.sending import answer_in_turns
from gateway.aio.iteration import Iteration
from gateway.config.state import Live
from gateway.errors import LedgerUnavailable, Refused, whereabouts, without_calls
from gateway.http.headers import origin_form, read_headers, with_host
from gateway.ledger.keys import KeyProblem
from gateway.model.reasons import RETRY_SOON
from gateway.observe.exposition import write_in_pieces

_PROBES: Final = frozenset({"/livez", "/readyz"})
SECONDS: Final = 30.0
_READING: Final = frozenset({"GET", "HEAD"})
_PERHAPS: Final = "a change that was asked for may have been made all the same."
_NOTHING: Final = "ask again in some seconds."
_OF_KIND: Final = {"not_found": "key_not_found", "conflict": "conflict", "invalid": "invalid"}
_Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]
log = structlog.get_logger()


def make_admin(
    live: Live,
    registry: CollectorRegistry,
    probed: Probed,
    context: Context,
    monotonic: Callable[[], float],
    iteration: Iteration,
) -> web.Application:
    """Makes the application of the admin listener; large output is written in turns of the loop's `iteration`."""
    app = web.Application(middlewares=[_boundary(Guard(live, monotonic))])
    app.on_response_prepare.append(_without_server)
    probes = probe_routes(live, probed)
    app.add_routes([*probes, web.get("/metrics", _metrics(registry, iteration)), *page_routes()])
    add_operations(app, context, iteration)
    return app


def _boundary(guard: Guard) -> Middleware:
    @web.middleware
    async def boundary(request: web.Request, handler: _Handle) -> web.StreamResponse:
        try:
            async with asyncio.timeout(SECONDS):
                if request.path not in _PROBES:
                    _let_in(request, guard)
                response = await handler(request)
        except Exception as error:  # noqa: BLE001 -- the one error boundary of this listener
            response = problem_answer(_problem(error, request.method))
            without_calls(error)  # aiohttp keeps its own with the request, which is in these calls
        finally:
            request.pop(JUDGES, None)  # it has the request
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    return boundary


def _let_in(request: web.Request, guard: Guard) -> None:
    try:
        headers = read_headers((request.version.major, request.version.minor), request.raw_headers)
        host, path = origin_form(request.raw_path)
    except Refused as refused:
        raise AdminProblem("bad_request", refused.denial.detail) from None
    if not path.startswith("/"):
        raise AdminProblem("bad_request", "The request target is not a path.")
    headers = with_host(headers, host)
    if request.path in FILES:
        guard.check_page(request, headers)
        return
    request[JUDGES] = judges = partial(guard.actor_of, request, headers)
    request[ACTOR] = judges()
    request[KEEPS] = headers.keep_alive


def _problem(error: Exception, method: str) -> AdminProblem:
    advice = _NOTHING if method in _READING else _PERHAPS
    match error:
        case AdminProblem():
            problem = error
        case KeyProblem():
            errors = [InvalidValue(path=error.path, message=str(error))] if error.path else []
            problem = AdminProblem(_OF_KIND[error.kind], f"{error}.", errors=errors)
        case LedgerUnavailable():
            problem = AdminProblem(
                "ledger_unavailable", f"The ledger does not answer; {advice}", retry_after=RETRY_SOON
            )
        case TimeoutError():
            problem = AdminProblem("timed_out", f"This took too long; {advice}", retry_after=RETRY_SOON)
        case web.HTTPMethodNotAllowed():
            allow = ", ".join(sorted(error.allowed_methods))
            problem = AdminProblem("method_not_allowed", f"Methods of this path: {allow}.", allow=allow)
        case web.HTTPNotFound():
            problem = AdminProblem("route_not_found", "There is nothing here; see /admin/v1/openapi.json.")
        case _:
            log.error("internal error", error=whereabouts(error))
            problem = AdminProblem("internal", "Something went wrong here; the log has more.")
    return problem


def _metrics(registry: CollectorRegistry, iteration: Iteration) -> _Handle:
    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = _encoder(request.headers.get("Accept", ""))
        pieces = write_in_pieces(registry, encode)
        return await answer_in_turns(iteration, pieces, prefix_of(request), content_type)

    return metrics


async def _without_server(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.popall("Server", None)


def _encoder(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    try:
        return choose_encoder(accept)
    except Exception:  # noqa: BLE001 -- it parses versions without a guard; an unreadable Accept counts as none
        return choose_encoder("")
