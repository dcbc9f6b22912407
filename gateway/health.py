"""Is the upstream up? Asked every few seconds, for gateway_upstream_up; no request waits for it."""

import asyncio
from collections.abc import Callable
from typing import Final

import aiohttp
import structlog
from yarl import URL

from gateway.state import UpstreamTarget

_INTERVAL: Final = 5.0
_TIMEOUT: Final = 3.0
_OK: Final = 200
log = structlog.get_logger()


class HealthProbe:
    """Asks the upstream's health path; `is_up` tells of the latest answer."""

    def __init__(self, target: Callable[[], UpstreamTarget]) -> None:
        self._target = target
        self._problem: str | None = "not asked yet"
        self._was_asked = False

    async def run(self) -> None:
        """Asks until it is cancelled."""
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT),
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(force_close=True),
            auto_decompress=False,
        ) as session:
            while True:
                self._note(await probe(session, self._target()))
                await asyncio.sleep(_INTERVAL)

    @property
    def is_up(self) -> bool:
        """Whether the latest answer was good."""
        return self._problem is None

    def _note(self, problem: str | None) -> None:
        if not self._was_asked or (problem is None) != self.is_up:
            log.warning("upstream is down", why=problem) if problem else log.info("upstream is up")
        self._problem, self._was_asked = problem, True


async def probe(session: aiohttp.ClientSession, target: UpstreamTarget) -> str | None:
    """Asks once; None when the upstream is healthy, else what is wrong."""
    url = URL(f"{target.scheme}://{target.authority}{target.health_path}", encoded=True)
    try:
        async with session.get(url, allow_redirects=False) as response:
            return None if response.status == _OK else f"{target.health_path} answers {response.status}"
    except TimeoutError:
        return f"no answer within {_TIMEOUT:g} s"
    except (aiohttp.ClientError, OSError) as error:
        return f"no answer ({_in_words(error)})"


def _in_words(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientSSLError):
        return "its TLS certificate is not trusted, or it speaks no TLS"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "no such host"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "no connection"
    return "it closed the connection or does not speak HTTP"
