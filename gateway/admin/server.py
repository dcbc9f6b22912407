"""The admin listener: /livez, /readyz and /metrics.

The probes need no token, all else does. Without a token only loopback peers are served, and only under a loopback
Host, so that no web page can reach it through its visitor's browser (DNS rebinding).
"""

import hmac
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from gateway.auth.apikey import digest_of
from gateway.state import Live

_PROBES: Final = frozenset({"/livez", "/readyz"})
_BEARER: Final = "bearer "
_Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_admin(live: Live, registry: CollectorRegistry, upstream_is_up: Callable[[], bool]) -> web.Application:
    """Makes the application of the admin listener."""

    @web.middleware
    async def guard(request: web.Request, handler: _Handle) -> web.StreamResponse:
        refusal = None if request.path in _PROBES else _refusal(live, request)
        try:
            response = refusal or await handler(request)
        except web.HTTPException as error:
            response = _answer(error.status, error.reason)
        response.headers["Cache-Control"] = "no-store"
        return response

    async def livez(_: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def readyz(_: web.Request) -> web.Response:
        status = "draining" if live.is_draining else "ready"
        body = {"status": status, "upstream": "up" if upstream_is_up() else "down"}
        return web.json_response(body, status=503 if live.is_draining else 200)

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = _encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    app = web.Application(middlewares=[guard])
    app.on_response_prepare.append(_without_server)
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return app


async def _without_server(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.popall("Server", None)


def _refusal(live: Live, request: web.Request) -> web.Response | None:
    token = live.state.settings.admin.token
    if token is None:
        if _is_loopback(request.remote or "") and _is_loopback_host(request.headers.get("Host", "")):
            return None
        return _answer(403, "Set admin.token to use this from elsewhere than the machine itself.")
    given = request.headers.getall("Authorization", [])
    if len(given) == 1 and given[0][: len(_BEARER)].lower() == _BEARER:
        digest = digest_of(given[0][len(_BEARER) :].strip().encode("utf-8", "surrogateescape"))
        if hmac.compare_digest(digest, token.digest):
            return None
    return _answer(401, "Send the admin token as Authorization: Bearer.")


def _answer(status: int, detail: str) -> web.Response:
    headers = {"WWW-Authenticate": 'Bearer realm="gateway admin"'} if status == 401 else {}  # noqa: PLR2004 -- 401 itself
    return web.json_response(
        {"status": status, "detail": detail}, status=status, headers=headers, content_type="application/problem+json"
    )


def _encoder(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    try:
        return choose_encoder(accept)
    except Exception:  # noqa: BLE001 -- it reads versions unguarded; what can't be read is not asked for
        return choose_encoder("")


def _is_loopback(address: str) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return bool((mapped or parsed).is_loopback)


def _is_loopback_host(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and host.rpartition(":")[0] else host
    return name == "localhost" or _is_loopback(name.strip("[]"))
