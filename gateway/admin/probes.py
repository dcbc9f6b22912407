"""/livez and /readyz: for orchestrators, without a token."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from aiohttp import web

from gateway.config.state import Live


class Probed(NamedTuple):
    """What /readyz reports: what is not ready yet, token issuers without keys, and what waits for a restart."""

    upstream_is_up: Callable[[], bool]
    problems: Callable[[], list[str]]
    without_keys: Callable[[], list[str]]
    waiting: Callable[[], Sequence[str]]


def probe_routes(live: Live, probed: Probed) -> list[web.RouteDef]:
    """The routes of both."""

    async def livez(_: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def readyz(_: web.Request) -> web.Response:
        missing = probed.problems()
        status = "draining" if live.is_draining else "not ready" if missing else "ready"
        upstream, waiting = "up" if probed.upstream_is_up() else "down", list(probed.waiting())
        told = {"issuers_without_keys": probed.without_keys(), "waits_for_restart": waiting}
        body = {"status": status, "upstream": upstream, "missing": missing, **told}
        return web.json_response(body, status=200 if status == "ready" else 503)

    return [web.get("/livez", livez), web.get("/readyz", readyz)]
