"""Servers that the gateway calls choose no group of their own: one of 9984 bits held the loop for a second."""

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from unittest.mock import patch

import pytest

from gateway.aio.bounded_connector import bounded_context
from gateway.upstream import pool as pools
from gateway.upstream.pool import Pool
from gateway.upstream.target import UpstreamTarget
from gateway.webhooks.outbound.sender import make_context
from tests.support.iteration import iteration_now


class _CaughtError(Exception):
    """Instead of a connection."""


async def context_of_a_pool() -> ssl.SSLContext:
    """What connections to a container use."""
    loop = asyncio.get_running_loop()
    pool = Pool(UpstreamTarget("https", "h", 1, "h:1", 1.0, 1.0, 1.0, "/", 3.0), loop, iteration_now())
    with patch.object(pools, "TlsTransport", side_effect=_CaughtError) as transport, pytest.raises(_CaughtError):
        await pool.connect()
    context = transport.call_args.args[0]
    assert isinstance(context, ssl.SSLContext)
    return context


async def made_by(make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    return make()


@pytest.mark.parametrize(
    "context",
    [context_of_a_pool, partial(made_by, bounded_context), partial(made_by, partial(make_context, None))],
    ids=["container", "services", "receivers"],
)
async def test_servers_choose_no_group_of_their_own(context: Callable[[], "asyncio.Future[ssl.SSLContext]"]) -> None:
    names = {cipher["name"] for cipher in (await context()).get_ciphers() if cipher["protocol"] != "TLSv1.3"}
    assert names
    assert {name.partition("-")[0] for name in names} == {"ECDHE"}
