"""The page in the browser: its files, as they lie in web/, and the headers that confine them.

The table is fixed: nothing of a request's path ever names a file. The files hold nothing but the page itself, so they
need no token; everything that it shows comes from the admin API.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from aiohttp import web

_HERE: Final = Path(__file__).parent / "web"
_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FILES: Final = {
    "/": "index.html",
    **{
        f"/console/{name}": name
        for name in (
            "style.css", "icon.svg", "main.js", "api.js", "dom.js", "words.js", "chart.js", "lists.js", "limits.js",
            "dialogs.js", "now.js", "keys.js", "callers.js", "usage.js", "jobs.js", "webhooks.js", "audit.js",
            "refusals.js", "renewal.js", "looks.js", "head.js",
        )
    },
}  # fmt: skip
CONFINED: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def page_routes() -> Iterator[web.RouteDef]:
    """One route for each file, which is read now."""
    for path, name in FILES.items():
        yield web.get(path, _answer((_HERE / name).read_bytes(), _TYPES[Path(name).suffix]))


def _answer(body: bytes, content_type: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def file(_: web.Request) -> web.Response:
        return web.Response(body=body, headers=CONFINED, content_type=content_type, charset="utf-8")

    return file
