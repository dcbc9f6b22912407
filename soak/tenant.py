"""The quiet tenant of the soak: a poll every 50 ms, one submit of a PDF of a page a second; how long they took."""

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from gateway.demo.sample import sample_pdf

_BETWEEN: Final = 0.05
_POLLS_A_SUBMIT: Final = 20
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30)


@dataclass
class Fared:
    """Seconds of each answer, and what was no success."""

    polls: list[float] = field(default_factory=list)
    submits: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def p95(seconds: list[float]) -> float:
    """The 95th of a hundred; 0 when there are none."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))] if ordered else 0.0


class Tenant:
    """Asks as one who pays and has little to do."""

    def __init__(self, origin: str, tls: ssl.SSLContext, key: str) -> None:
        self._origin = origin
        self._tls = tls
        self._key = key

    async def fare(self, seconds: float) -> Fared:
        """Asks for so many seconds."""
        fared = Fared()
        connector = aiohttp.TCPConnector(ssl=self._tls)
        headers = {"X-API-Key": self._key}
        async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=_TIMEOUT) as session:
            until = time.monotonic() + seconds
            where = await self._submit(session, fared)
            turn = 0
            while time.monotonic() < until:
                turn += 1
                if turn % _POLLS_A_SUBMIT == 0:
                    where = await self._submit(session, fared) or where
                await self._poll(session, where, fared)
                await asyncio.sleep(_BETWEEN)
        return fared

    async def _submit(self, session: aiohttp.ClientSession, fared: Fared) -> str:
        form = aiohttp.FormData()
        form.add_field("file", sample_pdf(1), filename="page.pdf", content_type="application/pdf")
        began = time.monotonic()
        try:
            async with session.post(f"{self._origin}/api/v1/marker", data=form) as answer:
                content = await answer.json()
                if answer.ok:
                    fared.submits.append(time.monotonic() - began)
                    return f"/api/v1/marker/{content['request_id']}"
                fared.failures.append(f"submit {answer.status} {content.get('reason')}")
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            fared.failures.append(f"submit {type(error).__name__}")
        return ""

    async def _poll(self, session: aiohttp.ClientSession, where: str, fared: Fared) -> None:
        began = time.monotonic()
        try:
            async with session.get(self._origin + (where or "/health_check")) as answer:
                await answer.read()
                if answer.ok:
                    fared.polls.append(time.monotonic() - began)
                else:
                    fared.failures.append(f"poll {answer.status}")
        except (aiohttp.ClientError, TimeoutError) as error:
            fared.failures.append(f"poll {type(error).__name__}")
