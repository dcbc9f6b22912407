"""Forwards a verified webhook to a service of the operator's own."""

import asyncio

import aiohttp
from yarl import URL

from gateway.aio.bounded_connector import BoundedConnector, bounded_context, make_session
from gateway.aio.iteration import Iteration
from gateway.model.statuses import SUCCESS


class NotTaken(Exception):
    """Why the service did not take it, in our own words."""


async def hand_on(iteration: Iteration, url: str, body: bytes, headers: dict[str, str], deadline: float) -> None:
    """Sends a body by POST, within `deadline` seconds; only a 2xx answer counts as taken.

    Raises:
        NotTaken: another answer, or none.
    """
    try:
        context = await asyncio.to_thread(bounded_context) if url.lower().startswith("https:") else True
        async with (
            asyncio.timeout(deadline),
            make_session(BoundedConnector(iteration, url, force_close=True, ssl=context)) as session,
        ):
            sent = {"Content-Type": "application/json", "User-Agent": "document-gateway", **headers}
            response = await session.post(URL(url, encoded=True), data=body, headers=sent, allow_redirects=False)
            status = response.status
            response.close()
    except TimeoutError:
        raise NotTaken("no answer in time") from None
    except (aiohttp.ClientError, OSError, ValueError):  # ValueError: what only resembles HTTP
        raise NotTaken("no connection, or no answer") from None
    if status not in SUCCESS:
        raise NotTaken(f"the answer is {status}")
