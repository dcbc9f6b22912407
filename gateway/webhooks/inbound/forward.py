"""Forwards a verified webhook to a service of the operator's own."""

import asyncio

import aiohttp
from yarl import URL

from gateway.aio.bounded_connector import USER_AGENT, BoundedConnector, make_session
from gateway.aio.host_lookups import HostLookups
from gateway.aio.iteration import Iteration
from gateway.aio.shared_context import NoContext, SharedContext
from gateway.aio.tls.buffers import TlsBuffers
from gateway.aio.tls.step_threads import StepThreads
from gateway.model.statuses import SUCCESS


class NotTaken(Exception):
    """Why the service did not take it, in our own words."""


class Forward:
    """Hands webhooks on; their services' answers are read in turns of the loop's `iteration`."""

    def __init__(self, iteration: Iteration) -> None:
        self._iteration = iteration
        self._context = SharedContext(iteration.clock)
        self._lookups = HostLookups()
        self._buffers = TlsBuffers(StepThreads.of_one(iteration.clock))

    async def __call__(self, url: str, body: bytes, headers: dict[str, str], deadline: float) -> None:
        """Sends a body by POST, within `deadline` seconds; only a 2xx answer counts as taken.

        Raises:
            NotTaken: another answer, or none.
        """
        try:
            async with asyncio.timeout(deadline), make_session(await self._connector(url)) as session:
                sent = {"Content-Type": "application/json", "User-Agent": USER_AGENT, **headers}
                response = await session.post(URL(url, encoded=True), data=body, headers=sent, allow_redirects=False)
                status = response.status
                response.close()
        except TimeoutError:
            raise NotTaken("no answer in time") from None
        except NoContext:
            raise NotTaken("the system's CAs can't be read") from None
        except (aiohttp.ClientError, OSError, ValueError):  # ValueError: what only resembles HTTP
            raise NotTaken("no connection, or no answer") from None
        if status not in SUCCESS:
            raise NotTaken(f"the answer is {status}")

    async def _connector(self, url: str) -> BoundedConnector:
        context = await self._context.get() if url.lower().startswith("https:") else True
        return BoundedConnector(
            self._iteration,
            url,
            buffers=self._buffers,
            lookups=self._lookups,
            untrusted=self._context.doubt,
            force_close=True,
            ssl=context,
        )
