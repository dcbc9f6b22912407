"""The composition root: makes the parts in order, runs the listeners, and ends them without losing a request.

How it ends, on SIGTERM or SIGINT: /readyz falls first; for drain_delay connections are still accepted, because load
balancers need a while to notice, and every answer says Connection: close; then the listening socket closes, idle
connections too, and what runs may end within drain_timeout. A second signal ends it at once.
"""

import asyncio
import gc
import os
import platform
import resource
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from email.utils import formatdate
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog
from aiohttp import http_parser, web
from prometheus_client import CollectorRegistry

from gateway import __version__
from gateway.admin.server import make_admin
from gateway.errors import SetupError
from gateway.forward.courier import Courier
from gateway.forward.pool import Upstreams
from gateway.handler import Handler
from gateway.health import HealthProbe
from gateway.listener.accept import Acceptor, bind
from gateway.listener.connection import ClientConnection, Traffic
from gateway.listener.pace import Pace
from gateway.model import Peer
from gateway.observe.log import LogStream, configure, console_line, json_line
from gateway.observe.metrics import BuildInfo, ByLabel, Number, Numbers, RequestMetrics
from gateway.observe.observer import Observer
from gateway.reload import Prepared, Reloader, prepare
from gateway.settings import Log
from gateway.state import Live
from gateway.tls import Certificates

log = structlog.get_logger()
_RENDER: Final = {"json": json_line, "console": console_line}
_CHECK_DRAINED: Final = 0.05


class Addresses(NamedTuple):
    """Where a running gateway listens: (address, port)."""

    public: tuple[str, int]
    admin: tuple[str, int]


def serve(
    path: Path,
    environ: Mapping[str, str],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
    listening: Callable[[Addresses], None] = lambda _: None,
) -> None:
    """Runs the gateway until a signal ends it; `listening` is told once where.

    Raises:
        SetupError: why it can't start.
    """
    require_c_parser()
    prepared = prepare(path, environ)
    _raise_file_limit()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_serve(path, environ, prepared, listening))


async def _serve(
    path: Path, environ: Mapping[str, str], prepared: Prepared, listening: Callable[[Addresses], None]
) -> None:
    loop = asyncio.get_running_loop()
    async with running(path, environ, prepared) as gateway:
        ends = asyncio.Event()
        at_once = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _signal(ends, at_once))
        loop.add_signal_handler(signal.SIGHUP, gateway.reloader.force)
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        listening(gateway.addresses)
        await ends.wait()
        await gateway.drain(at_once)


def require_c_parser() -> None:
    """Refuses to run on aiohttp's parser in Python, whose framing is not the one that was audited.

    Raises:
        SetupError: when the C extension is not there.
    """
    if http_parser.HttpRequestParser.__module__ != "aiohttp._http_parser":
        raise SetupError("aiohttp has no C extension here (AIOHTTP_NO_EXTENSIONS, or no wheel): not starting")


class Gateway:
    """A running gateway."""

    def __init__(
        self,
        live: Live,
        acceptor: Acceptor,
        connections: set[ClientConnection],
        reloader: Reloader,
        registry: CollectorRegistry,
        addresses: Addresses,
    ) -> None:
        self.live = live
        self.reloader = reloader
        self.registry = registry
        self.addresses = addresses
        self._acceptor = acceptor
        self._connections = connections

    async def drain(self, at_once: asyncio.Event) -> None:
        """Ends what runs without losing it; `at_once` cuts that short."""
        shutdown = self.live.state.settings.shutdown
        self.live.is_draining = True
        log.info("draining", connections=self._acceptor.connections)
        await _either(at_once, shutdown.drain_delay)
        self._acceptor.stop()
        deadline = asyncio.get_running_loop().time() + shutdown.drain_timeout
        while self._connections and asyncio.get_running_loop().time() < deadline and not at_once.is_set():
            for connection in [connection for connection in self._connections if connection.is_idle]:
                connection.force_close()
            await _either(at_once, _CHECK_DRAINED)
        log.info("drained", cut_off=len(self._connections))


@asynccontextmanager
async def running(path: Path, environ: Mapping[str, str], prepared: Prepared) -> AsyncIterator[Gateway]:
    """Runs a gateway for as long as the context lasts.

    Raises:
        SetupError: when an address can't be bound.
    """
    loop = asyncio.get_running_loop()
    settings = prepared.state.settings
    async with AsyncExitStack() as stack:
        public = _bind(stack, "listen", settings.listen.address, settings.listen.port)
        admin_socket = _bind(stack, "admin", settings.admin.address, settings.admin.port)
        addresses = Addresses(public.getsockname()[:2], admin_socket.getsockname()[:2])

        stream = LogStream(1, _RENDER[settings.log.format])
        stream.start()
        stack.callback(stream.close)
        metrics = RequestMetrics()
        observer = Observer(metrics, stream, settings.log.level, time.time)
        set_log = _log_setter(stream, observer)
        set_log(settings.log)

        live = Live(prepared.state)
        certificates = Certificates(prepared.pairs, settings.tls.profile)
        admin_certificates = (
            Certificates(prepared.admin_pairs, settings.tls.profile) if prepared.admin_pairs else None
        )
        upstreams = Upstreams(loop)
        stack.callback(upstreams.close)
        pace = Pace(loop)
        pace.also(upstreams.close_expired)
        pace.start()
        stack.callback(pace.stop)
        date = HttpDate()
        courier = Courier(upstreams, time.monotonic, date)
        handler = Handler(live, courier, observer, time.monotonic, new_id, date)
        connections: set[ClientConnection] = set()
        traffic = Traffic()
        server = web.Server(_unused)

        def make(peer: Peer) -> ClientConnection:
            return ClientConnection(server, loop, live, peer, handler, traffic, started, ended)

        def started(connection: ClientConnection) -> None:
            connections.add(connection)
            pace.add(connection)

        def ended(connection: ClientConnection) -> None:
            connections.discard(connection)
            pace.remove(connection)
            acceptor.ended(connection)

        acceptor = Acceptor(
            public, live, certificates.listener_context, make, proxy_protocol=settings.listen.proxy_protocol
        )

        def put_in_force(new: Prepared) -> None:
            live.state = new.state
            certificates.swap(new.pairs)
            if admin_certificates is not None:
                admin_certificates.swap(new.admin_pairs)
            upstreams.keep_only(frozenset(new.state.upstreams.values()))
            set_log(new.state.settings.log)

        reloader = Reloader(path, environ, prepared, put_in_force)
        health = HealthProbe(lambda: live.state.upstreams["default"])
        registry = CollectorRegistry(auto_describe=False)
        for collector in (
            metrics,
            *_collectors(acceptor, traffic, certificates, reloader, health, stream),
        ):
            registry.register(collector)

        runner = web.AppRunner(
            make_admin(live, registry, lambda: health.is_up), access_log=None, handle_signals=False
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        admin_tls = admin_certificates.listener_context if admin_certificates else None
        await web.SockSite(runner, admin_socket, ssl_context=admin_tls).start()
        for work in (reloader.run(), health.run()):
            stack.push_async_callback(_end, loop.create_task(work))
        acceptor.start()
        stack.push_async_callback(_cut_off, acceptor, connections)
        log.info("listening", address=addresses.public[0], port=addresses.public[1], admin_port=addresses.admin[1])
        yield Gateway(live, acceptor, connections, reloader, registry, addresses)


def _collectors(
    acceptor: Acceptor,
    traffic: Traffic,
    certificates: Certificates,
    reloader: Reloader,
    health: HealthProbe,
    stream: LogStream,
) -> tuple[Any, ...]:
    return (
        Numbers(
            Number("gateway_connections", "Client connections, handshakes included.", lambda: acceptor.connections),
            Number("gateway_received_bytes", "Bytes from clients, in the clear.", lambda: traffic.received, True),
            Number("gateway_sent_bytes", "Bytes to clients, in the clear.", lambda: traffic.sent, True),
            Number(
                "gateway_tls_certificate_not_after_seconds",
                "When the first certificate in force ends, in seconds since the epoch.",
                certificates.not_after_timestamp,
            ),
            Number(
                "gateway_config_last_reload_successful",
                "Whether the latest configuration is in force.",
                lambda: float(reloader.was_successful),
            ),
            Number(
                "gateway_config_last_reload_success_timestamp_seconds",
                "When the configuration in force was loaded, in seconds since the epoch.",
                lambda: reloader.succeeded_at,
            ),
            Number(
                "gateway_upstream_up", "Whether the upstream's health path answered.", lambda: float(health.is_up)
            ),
            Number("gateway_log_dropped", "Log events that could not be written.", lambda: stream.dropped, True),
        ),
        ByLabel("gateway_connections_refused", "Connections turned away before a request.", "why", acceptor.refused),
        ByLabel("gateway_config_reloads", "Attempts to reload, by result.", "result", reloader.results),
        BuildInfo(__version__, platform.python_version(), ssl.OPENSSL_VERSION),
    )


class HttpDate:
    """The value of a Date header (RFC 9110 5.6.7), formatted once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = b""

    def __call__(self) -> bytes:
        """The value for now."""
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True).encode("ascii")
        return self._text


def new_id() -> str:
    """32 random hexadecimal digits."""
    return os.urandom(16).hex()


def _log_setter(stream: LogStream, observer: Observer) -> Callable[[Log], None]:
    def apply(settings: Log) -> None:
        stream.render = _RENDER[settings.format]
        observer.level = settings.level
        configure(stream, settings.level, time.time)

    return apply


def _bind(stack: AsyncExitStack, section: str, address: str, port: int) -> socket.socket:
    try:
        listening = bind(address, port)
    except OSError as error:
        raise SetupError(f"{section}: can't listen on {address} port {port}: {error.strerror}") from None
    stack.callback(listening.close)
    return listening


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 1_048_576)), hard))


def _signal(first: asyncio.Event, second: asyncio.Event) -> Callable[[], None]:
    def received() -> None:
        (second if first.is_set() else first).set()

    return received


async def _either(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _cut_off(acceptor: Acceptor, connections: set[ClientConnection]) -> None:
    if not acceptor.is_stopped:
        acceptor.stop()
    await acceptor.close()
    for connection in list(connections):
        connection.abort()
    await asyncio.sleep(0)


async def _unused(_: web.BaseRequest) -> web.StreamResponse:
    raise AssertionError  # requests are served by Handler; web.Server only wants to be given something
