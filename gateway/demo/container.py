"""The stand-in for Datalab's on-prem container, as a process of its own: `python -m gateway.demo.container`."""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from typing import get_args

import uvloop
from aiohttp import web

from gateway.demo.api import Api, CheckUrl, Config, make_app

_KEEPALIVE = 5.0  # seconds, uvicorn's default
_LEAVE_WITHIN = 1.0  # seconds that open answers have at shutdown
_SLICE = 1 << 18  # bytes read at once
_ENDING = (signal.SIGTERM, signal.SIGINT)


async def _serve(host: str, port: int, config: Config, *, until_stdin_closes: bool) -> int:
    stop = asyncio.Event()
    _on_signals(stop)
    if until_stdin_closes:
        _on_closed_stdin(stop)
    app = make_app(config)
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=_KEEPALIVE,
        read_bufsize=_SLICE,
        shutdown_timeout=_LEAVE_WITHIN,
    )
    await runner.setup()
    try:
        if problem := await _listen(runner, host, port):
            print(f"container: cannot listen on {host}:{port}: {problem}", file=sys.stderr)
            return 1
        with contextlib.suppress(BrokenPipeError):  # its parent may have ended already
            print(f"container ready on http://{host}:{runner.addresses[0][1]}", flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()
    return 0


async def _listen(runner: web.AppRunner, host: str, port: int) -> str | None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
    return None


def _on_signals(stop: asyncio.Event) -> None:
    """Makes SIGTERM and SIGINT stop the server; a second signal does not disturb the shutdown."""
    loop = asyncio.get_running_loop()

    def ask(_signal: int, _frame: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: shutdown is complete
            loop.call_soon_threadsafe(stop.set)

    for number in _ENDING:
        signal.signal(number, ask)


def _on_closed_stdin(stop: asyncio.Event) -> None:
    """Stops the server when its standard input closes, so that it never outlives its parent, however that ended."""
    loop = asyncio.get_running_loop()

    def readable() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            stop.set()

    loop.add_reader(0, readable)


def _port(text: str) -> int:
    if not 0 <= (port := int(text)) <= 65535:  # noqa: PLR2004 - the largest port
        raise argparse.ArgumentTypeError("a port is 0 to 65535")
    return port


def _seconds(text: str) -> float:
    if not 0 <= (seconds := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError("seconds are 0 or more")
    return seconds


def main() -> int:
    """Runs the stand-in until SIGTERM or SIGINT; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m gateway.demo.container", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=_port, default=8000, help="0 takes a free one")
    parser.add_argument("--processing-time", type=_seconds, default=2.0, metavar="SECONDS")
    parser.add_argument(
        "--api", choices=get_args(Api), default="both", help="Datalab's, the open-source one's, or both"
    )
    parser.add_argument("--check-url", choices=get_args(CheckUrl), default="absolute")
    parser.add_argument(
        "--allow-overrides", action="store_true", help="obey processing_time, result_bytes and fail in forms"
    )
    parser.add_argument("--keep-jobs", type=int, default=1000, help="finished jobs kept at most")
    parser.add_argument("--keep-bytes", type=int, default=1 << 30, help="size of their results at most")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when standard input does")
    options = vars(parser.parse_args())
    host, port, until_stdin_closes = (options.pop(name) for name in ("host", "port", "until_stdin_closes"))
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # malformed input is not worth a log line
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_serve(host, port, Config(**options), until_stdin_closes=until_stdin_closes))
        for number in _ENDING:  # Python removes our handlers before it ends; a late signal would kill it
            signal.signal(number, signal.SIG_IGN)
        return code


if __name__ == "__main__":
    sys.exit(main())
