"""Runs the process: handles signals, and shuts down without losing a request.

Graceful shutdown, on SIGTERM or SIGINT: /readyz fails first. For drain_delay connections are still accepted, because
load balancers need a while to notice, and every answer says Connection: close. Then the listening socket and idle
connections close, and running requests may finish within drain_timeout. A second signal ends the process at once.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog
from aiohttp import http_parser

from gateway.app.build import running
from gateway.app.gateway import Addresses
from gateway.app.prepare import Prepared, prepare
from gateway.app.process import prepare_process, tune_memory
from gateway.app.tasks import work
from gateway.errors import SetupError, whereabouts
from gateway.uploads.pages.confinement import lacking

log = structlog.get_logger()


def serve(
    path: Path,
    environ: Mapping[str, str],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
    listening: Callable[[Addresses], None] = lambda _: None,
    ended_by: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT),
) -> None:
    """Runs the gateway until a signal of `ended_by`; calls `listening` once with its addresses.

    SIGHUP reloads, unless it is in `ended_by`.

    Raises:
        SetupError: why it can't start.
    """
    require_c_parser()
    prepared = prepare(path, environ)
    prepare_process()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_serve(path, environ, prepared, listening, ended_by))


async def _serve(
    path: Path,
    environ: Mapping[str, str],
    prepared: Prepared,
    listening: Callable[[Addresses], None],
    ended_by: tuple[signal.Signals, ...],
) -> None:
    loop = asyncio.get_running_loop()
    async with running(path, environ, prepared, _before_clients) as gateway:
        ends = asyncio.Event()
        at_once = asyncio.Event()
        loop.add_signal_handler(signal.SIGHUP, gateway.reloader.force)
        for number in ended_by:
            loop.add_signal_handler(number, _signal(ends, at_once))
        loop.set_exception_handler(_log_loop_error)
        sys.unraisablehook = _log_unraisable
        listening(gateway.listeners.addresses)
        async with AsyncExitStack() as beside:
            work(beside, gateway.reloader.notifier.run(gateway.listeners.addresses.public[1]))
            await ends.wait()
            await gateway.drain(at_once)


def require_c_parser() -> None:
    """Refuses to run on aiohttp's pure-Python parser: only the framing of the C parser was audited.

    Raises:
        SetupError: the C extension is missing.
    """
    if http_parser.HttpRequestParser.__module__ != "aiohttp._http_parser":
        raise SetupError("aiohttp has no C extension here (AIOHTTP_NO_EXTENSIONS, or no wheel): not starting")


def _before_clients() -> None:
    """Does what may block the loop for a tenth of a second, before there are clients."""
    _log_confinement()
    tune_memory()


def _log_confinement() -> None:
    lacks = lacking()
    if lacks:
        log.warning("page counters are not wholly confined", lacks=lacks)


def _log_loop_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    log.error("loop error", what=context["message"], error=whereabouts(error) if error else None)


def _log_unraisable(unraisable: Any) -> None:
    # CPython decodes a client's SNI before any code of ours runs, and prints one that is not ASCII to stderr, with
    # its bytes.
    log.warning("error nobody could be told of", error=type(unraisable.exc_value).__name__)


def _signal(first: asyncio.Event, second: asyncio.Event) -> Callable[[], None]:
    def received() -> None:
        (second if first.is_set() else first).set()

    return received
