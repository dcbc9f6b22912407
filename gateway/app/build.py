"""The composition root: makes the parts in their order, joins them, and runs them."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from gateway.admin.context import Context
from gateway.admin.listener import listening_on
from gateway.admin.server import Probed, make_admin
from gateway.aio.iteration import Iteration
from gateway.aio.sweep import DeadlineSweep
from gateway.app.gateway import Addresses, Gateway
from gateway.app.ids import HttpDate, RandomIds
from gateway.app.job_parts import JobParts
from gateway.app.ledger_parts import LedgerParts
from gateway.app.memory import release_memory
from gateway.app.metrics import make_registry, of_admin
from gateway.app.reload import Prepared, Reloader
from gateway.app.systemd import Notifier
from gateway.app.tasks import work
from gateway.audit.refusals import Refusals
from gateway.audit.trail import AuditTrail
from gateway.authorize.caller import PreparedRequest
from gateway.authorize.login import Login
from gateway.authorize.recheck import permit_again
from gateway.config.settings import Log
from gateway.config.state import Live, routed_upstreams
from gateway.errors import ClientGone, SetupError
from gateway.keys.service import KeyService
from gateway.listener.accept import Acceptor, bind
from gateway.listener.connection import ClientConnection, Traffic
from gateway.listener.connections import Connections, door_of
from gateway.model.reasons import Reason
from gateway.model.request import Permit
from gateway.observe.log import LogStream, configure, console_line, json_line
from gateway.observe.metrics import KeySetMetrics, RequestMetrics
from gateway.observe.observer import Observer
from gateway.proxy.forwarder import Forwarder
from gateway.proxy.handler import Handler, HandlerParts
from gateway.tls.contexts import Certificates
from gateway.upstream.health import HealthProbe
from gateway.upstream.pool import Upstreams

log = structlog.get_logger()

_RENDER: Final = {"json": json_line, "console": console_line}


@asynccontextmanager
async def running(path: Path, environ: Mapping[str, str], prepared: Prepared) -> AsyncIterator[Gateway]:
    """Runs a gateway for as long as the context lasts.

    Raises:
        SetupError: when an address can't be bound.
    """
    settings = prepared.state.settings
    async with AsyncExitStack() as stack:
        public = _bind(stack, "listen", settings.listen.address, settings.listen.port)
        admin = _bind(stack, "admin", settings.admin.address, settings.admin.port)
        live = Live(prepared.state)
        refusals = Refusals()
        stream, requests, observer = _observation(stack, settings.log, refusals)
        certificates = Certificates(prepared.pairs, settings.tls.profile)
        admin_certificates = (
            Certificates(prepared.admin_pairs, settings.tls.profile) if prepared.admin_pairs else None
        )
        pace = _pace(stack)
        # uvloop's own clock stands still within an iteration
        iteration = Iteration(time.perf_counter, asyncio.get_running_loop().call_soon)
        upstreams = _upstreams(stack, iteration)
        _sweep(pace, upstreams.close_expired, observer.tell)

        ledger_parts = _ledger_parts(stack, live, prepared)
        await ledger_parts.open()
        trail = AuditTrail(ledger_parts.ledger, lambda: live.state.settings, refusals, stream, _now, time.time)
        stack.push_async_callback(trail.close, settings.ledger.timeout)

        def put_in_force(new: Prepared) -> None:
            live.state = ledger_parts.joined(new)
            certificates.swap(new.pairs)
            connections.trust(certificates.client_ca)
            if admin_certificates is not None:
                admin_certificates.swap(new.admin_pairs)
            upstreams.keep_only(frozenset(new.state.upstreams.values()))
            _set_log(new.state.settings.log, stream, observer)

        jobs = JobParts(live, ledger_parts.admission, upstreams, time.monotonic, time.time, RandomIds(), iteration)
        stack.push_async_callback(jobs.close)
        date, again = HttpDate(), partial(_permit_again, live)
        parts = HandlerParts(
            live=live,
            login=Login(live, ledger_parts.key_sets.refetch, time.time),
            admission=ledger_parts.admission,
            spool=ledger_parts.spool,
            counter=ledger_parts.counter,
            forwarder=Forwarder(upstreams, time.monotonic, date, jobs.completion, again),
            again=again,
            observer=observer,
            date=date,
            uses=ledger_parts.uses,
            jobs=jobs.desk,
            webhooks=jobs.planning,
            receiver=jobs.receiver,
            unverified=jobs.unverified,
            trail=trail,
        )
        handler = Handler(parts, time.monotonic, RandomIds())
        connections, traffic = (
            Connections(live, handler, pace, time.time, iteration, certificates.client_ca),
            Traffic(),
        )
        acceptor = Acceptor(
            public,
            lambda: door_of(live.state),
            certificates.for_handshake,
            lambda peer: connections.make(peer, acceptor, traffic),
            iteration,
        )
        reloader = Reloader(path, environ, prepared, put_in_force, Notifier(environ, ledger_parts.problems))
        health = HealthProbe(lambda: routed_upstreams(live.state))
        registry = make_registry(requests, acceptor, traffic, certificates, reloader, health, stream)
        accounts = ledger_parts.metrics, ledger_parts.numbers(), KeySetMetrics(ledger_parts.key_sets)
        for collector in (*accounts, jobs, jobs.metrics, trail):
            registry.register(collector)

        keys = KeyService(ledger_parts.ledger, lambda: live.state.settings, time.time, os.urandom)
        desk = Context(keys, ledger_parts.ledger, live, ledger_parts.sync.follow, time.time)
        application = make_admin(
            live, registry, _probed(health, ledger_parts, reloader), desk, time.monotonic, iteration
        )
        admin_tls = admin_certificates.listener_context if admin_certificates else None
        admin_acceptor = await stack.enter_async_context(listening_on(admin, application, admin_tls, iteration))
        registry.register(of_admin(admin_acceptor))
        work(
            stack, reloader.run(), health.run(),
            ledger_parts.sync.run(), ledger_parts.admission.run(), ledger_parts.key_sets.run(),
            jobs.housekeeping.run(), jobs.relay.run(), trail.run(), release_memory(lambda: requests.in_flight == 0),
        )  # fmt: skip
        acceptor.start()
        stack.push_async_callback(_cut_off, acceptor, connections)
        addresses = Addresses(public.getsockname()[:2], admin.getsockname()[:2])
        log.info("listening", address=addresses.public[0], port=addresses.public[1], admin_port=addresses.admin[1])
        yield Gateway(live, acceptor, connections, reloader, registry, addresses, jobs.desk, admin_acceptor)


def _probed(health: HealthProbe, ledger_parts: LedgerParts, reloader: Reloader) -> Probed:
    return Probed(lambda: health.is_up, ledger_parts.problems, lambda: reloader.waiting)


def _ledger_parts(stack: AsyncExitStack, live: Live, prepared: Prepared) -> LedgerParts:
    settings = prepared.state.settings
    ledger_parts = LedgerParts(live, prepared, time.time, time.monotonic, RandomIds())
    stack.push_async_callback(ledger_parts.close, settings.ledger.timeout)
    return ledger_parts


def _observation(
    stack: AsyncExitStack, settings: Log, refusals: Refusals
) -> tuple[LogStream, RequestMetrics, Observer]:
    stream = LogStream(1, _RENDER[settings.format])
    stream.start()
    stack.callback(stream.close)
    requests = RequestMetrics()

    def refused(key_id: str | None, reason: Reason) -> None:
        refusals.add(key_id, reason, time.time())

    observer = Observer(requests, stream, settings.level, _now, refused)
    _set_log(settings, stream, observer)
    stack.callback(observer.close)
    return stream, requests, observer


def _upstreams(stack: AsyncExitStack, iteration: Iteration) -> Upstreams:
    upstreams = Upstreams(asyncio.get_running_loop(), iteration)
    stack.callback(upstreams.close)
    return upstreams


def _set_log(settings: Log, stream: LogStream, observer: Observer) -> None:
    stream.render = _RENDER[settings.format]
    observer.level = settings.level
    configure(stream, settings.level, _now)


def _pace(stack: AsyncExitStack) -> DeadlineSweep:
    pace = DeadlineSweep(asyncio.get_running_loop())
    pace.start()
    stack.callback(pace.stop)
    return pace


def _sweep(pace: DeadlineSweep, *sweeps: Callable[[float], object]) -> None:
    def tick(_: float) -> None:
        now = time.monotonic()
        for sweep in sweeps:
            sweep(now)

    pace.also(tick)


def _now() -> datetime:
    return datetime.now(UTC)


def _permit_again(live: Live, prepared: PreparedRequest, client: ClientConnection) -> Permit:
    """What a request that has waited is worth by what is in force now."""
    return permit_again(live.state, prepared, client.peer, time.time())


def _bind(stack: AsyncExitStack, section: str, address: str, port: int) -> socket.socket:
    try:
        listening = bind(address, port)
    except OSError as error:
        raise SetupError(f"{section}: can't listen on {address} port {port}: {error.strerror}") from None
    stack.callback(listening.close)
    return listening


async def _cut_off(acceptor: Acceptor, connections: Connections) -> None:
    if not acceptor.is_stopped:
        acceptor.stop()
    await acceptor.close()
    for connection in connections.all():
        connection.abort()
    await asyncio.sleep(0)
    for connection in connections.all():  # exchanges that would go on without their client, while the ledger is there
        connection.interrupt(ClientGone("The gateway ended before the upstream's answer."))
