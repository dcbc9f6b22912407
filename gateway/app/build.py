"""The composition root: creates the parts in order, wires them, and runs them."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from aiohttp.web import Application
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from gateway.admin.context import Context, Watch
from gateway.admin.listener import listening_on
from gateway.admin.near_accounts import NearAccounts, known_profile
from gateway.admin.probes import Probed
from gateway.admin.server import make_admin
from gateway.aio.iteration import Iteration
from gateway.aio.sweep import DeadlineSweep
from gateway.app.configuration_swap import CertificateStores, ConfigurationSwap
from gateway.app.garbage import collect_garbage
from gateway.app.gateway import Addresses, Gateway, Listeners, Public
from gateway.app.ids import HttpDate, RandomIds
from gateway.app.job_parts import JobParts
from gateway.app.ledger_parts import LedgerParts
from gateway.app.memory import release_memory, resident_bytes
from gateway.app.metrics import make_registry, of_admin
from gateway.app.observation import Observation, renderers, utc_now
from gateway.app.overview import Overview
from gateway.app.prepare import Prepared
from gateway.app.reload import Reloader
from gateway.app.systemd import Notifier
from gateway.app.tasks import work
from gateway.audit.refusal_log import RefusalLog
from gateway.audit.refusals import Refusals
from gateway.audit.trail import AuditTrail
from gateway.authorize.login import Login
from gateway.config.settings import Log, Settings
from gateway.config.state import Live, routed_upstreams
from gateway.errors import ClientGone, SetupError
from gateway.keys.callers import CallerService
from gateway.keys.key_changes import KeyService
from gateway.listener.accept import Acceptor, bind
from gateway.listener.connections import Connections, accept_limits_of
from gateway.listener.traffic import Traffic
from gateway.model.reasons import Reason
from gateway.model.times import Times
from gateway.observe.callers_seen import CallersSeen
from gateway.observe.log import LogStream
from gateway.observe.metrics import RequestMetrics
from gateway.observe.observer import Observer, ObserverHooks
from gateway.proxy.forwarder import Forwarder
from gateway.proxy.handler import Handler, HandlerParts
from gateway.proxy.job_requests import JobRequests
from gateway.proxy.own_requests import OwnRequests
from gateway.proxy.poll_examination import PollExaminer
from gateway.proxy.responses import Responses
from gateway.proxy.still_permitted import StillPermitted
from gateway.proxy.submits import SubmitRequests
from gateway.tls.contexts import Certificates
from gateway.upstream.health import HealthProbe
from gateway.upstream.pool import Upstreams

log = structlog.get_logger()


class Loop(NamedTuple):
    """What connections share on the event loop: the sweep of their deadlines, and the turns they take."""

    sweep: DeadlineSweep
    iteration: Iteration


class Sockets(NamedTuple):
    """What both listeners accept on."""

    public: socket.socket
    admin: socket.socket


@asynccontextmanager
async def running(
    path: Path, environ: Mapping[str, str], prepared: Prepared, built: Callable[[], None] = lambda: None
) -> AsyncIterator[Gateway]:
    """Runs a gateway while the context lasts: creates each part after the ones it needs.

    `built` is called when most of it exists and no connection has been accepted yet: it may block the loop.

    Raises:
        SetupError: an address can't be bound.
    """
    live = Live(prepared.state)
    async with AsyncExitStack() as stack:
        sockets = _bind_both(stack, prepared.state.settings)
        observation = _observe(stack, prepared.state.settings.log, environ)
        tls = _load_certificates(prepared)
        loop = _share_the_loop(stack)
        upstreams = _reach_upstreams(stack, loop, observation.observer)
        ledger_parts = await _open_ledger(stack, live, prepared, loop.iteration)
        trail = _keep_audit_trail(stack, live, ledger_parts, observation)
        jobs = _follow_jobs(stack, live, ledger_parts, upstreams, loop)
        handler = _handle_requests(live, ledger_parts, upstreams, jobs, observation.observer, trail)
        public = _accept_clients(live, sockets.public, handler, tls.public, loop)
        swap = ConfigurationSwap(live, ledger_parts, tls, public.connections, upstreams, observation)
        reloader = Reloader(path, environ, prepared, swap.put, Notifier(environ, ledger_parts.problems))
        health = HealthProbe(lambda: routed_upstreams(live.state), loop.iteration)
        registry = make_registry(observation, public, tls.public, reloader, health)
        _register(registry, *ledger_parts.collectors(), *jobs.collectors(), trail, observation.refusal_log)
        overview = Overview(live, ledger_parts, jobs, observation, public.acceptor, health)
        watch, probed = _watch(overview, reloader, tls, observation, ledger_parts, health)
        application = _administer(live, registry, probed, ledger_parts, watch, loop.iteration)
        built()
        admin = await _accept_administrators(stack, sockets.admin, application, tls.admin, loop.iteration)
        _register(registry, of_admin(admin))
        _work(stack, observation, ledger_parts, jobs, (reloader.run(), health.run(), trail.run(), overview.run()))
        yield Gateway(live, _serve(stack, sockets, public, admin), reloader, registry, jobs.access, watch)


# The steps, in order


def _bind_both(stack: AsyncExitStack, settings: Settings) -> Sockets:
    public = _bind(stack, "listen", settings.listen.address, settings.listen.port)
    return Sockets(public, _bind(stack, "admin", settings.admin.address, settings.admin.port))


def _bind(stack: AsyncExitStack, section: str, address: str, port: int) -> socket.socket:
    try:
        listening = bind(address, port)
    except OSError as error:
        raise SetupError(f"{section}: can't listen on {address} port {port}: {error.strerror}") from None
    stack.callback(listening.close)
    return listening


def _observe(stack: AsyncExitStack, settings: Log, environ: Mapping[str, str]) -> Observation:
    refusals, lines = Refusals(), renderers(environ)
    stream = LogStream(1, lines[settings.format])
    stream.start()
    stack.callback(stream.close)
    requests = RequestMetrics()

    def refused(key_id: str | None, reason: Reason) -> None:
        refusals.add(key_id, reason, time.time())

    seen, kept = CallersSeen(), RefusalLog(time.time, RandomIds())
    hooks = ObserverHooks(refused, lambda found: seen.note(found, time.time()), kept.note, kept.sum_up)
    observer = Observer(requests, stream, settings.level, utc_now, hooks)
    stack.callback(observer.close)
    observation = Observation(refusals, stream, requests, observer, seen, kept, lines)
    observation.configure_log(settings)
    return observation


def _load_certificates(prepared: Prepared) -> CertificateStores:
    profile, admin = prepared.state.settings.tls.profile, prepared.admin_pairs
    return CertificateStores(Certificates(prepared.pairs, profile), Certificates(admin, profile) if admin else None)


def _share_the_loop(stack: AsyncExitStack) -> Loop:
    loop = asyncio.get_running_loop()
    iteration = Iteration(time.perf_counter, loop.call_soon)  # uvloop's own clock stands still within an iteration
    sweep = DeadlineSweep(loop, iteration)
    sweep.start()
    stack.callback(sweep.stop)
    return Loop(sweep, iteration)


def _reach_upstreams(stack: AsyncExitStack, loop: Loop, observer: Observer) -> Upstreams:
    upstreams = Upstreams(asyncio.get_running_loop(), loop.iteration)
    stack.callback(upstreams.close)

    def tick(_: float) -> None:
        now = time.monotonic()
        upstreams.close_expired(now)
        observer.log_due_sums(now)

    loop.sweep.also(tick)
    return upstreams


async def _open_ledger(stack: AsyncExitStack, live: Live, prepared: Prepared, iteration: Iteration) -> LedgerParts:
    ledger_parts = LedgerParts(live, prepared, Times(time.monotonic, time.time), RandomIds(), iteration)
    stack.push_async_callback(ledger_parts.close, prepared.state.settings.ledger.timeout)
    await ledger_parts.open()
    return ledger_parts


def _keep_audit_trail(
    stack: AsyncExitStack, live: Live, ledger_parts: LedgerParts, observation: Observation
) -> AuditTrail:
    sinks = observation.refusals, observation.stream
    trail = AuditTrail(ledger_parts.ledger, lambda: live.state.settings, *sinks, time.time)
    within = live.state.settings.ledger.timeout
    stack.push_async_callback(trail.close, within)
    stack.push_async_callback(observation.refusal_log.close, ledger_parts.ledger, within)
    return trail


def _follow_jobs(
    stack: AsyncExitStack, live: Live, ledger_parts: LedgerParts, upstreams: Upstreams, loop: Loop
) -> JobParts:
    jobs = JobParts(live, ledger_parts, upstreams, Times(time.monotonic, time.time), RandomIds(), loop.iteration)
    loop.sweep.also(lambda _: jobs.kept_answers.drop_old(time.monotonic()))
    stack.push_async_callback(jobs.close)
    return jobs


def _handle_requests(
    live: Live,
    ledger_parts: LedgerParts,
    upstreams: Upstreams,
    jobs: JobParts,
    observer: Observer,
    trail: AuditTrail,
) -> Handler:
    date, access, wall = HttpDate(), jobs.access, ledger_parts.replica.wall
    permitted = StillPermitted(live, time.monotonic, time.time)
    examiner = PollExaminer(jobs.findings, time.monotonic)
    forwarder = Forwarder(upstreams, time.monotonic, date, examiner, permitted, access.registry.confirm)
    admission, responses = ledger_parts.admission, Responses(date, time.monotonic)
    submits = SubmitRequests(
        admission=admission,
        spool=ledger_parts.spool,
        counter=ledger_parts.counter,
        forwarder=forwarder,
        still_permitted=permitted,
        jobs=access,
        webhooks=jobs.planning,
    )
    parts = HandlerParts(
        live=live,
        login=Login(live, ledger_parts.key_sets.refetch, time.time),
        submits=submits,
        job_requests=JobRequests(access, forwarder, permitted, jobs.unverified, trail, time.monotonic),
        own_requests=OwnRequests(admission, jobs.receiver, jobs.unverified, permitted, responses, wall),
        forwarder=forwarder,
        responses=responses,
        observer=observer,
        wall=wall,
        uses=ledger_parts.uses,
    )
    return Handler(parts, time.monotonic, RandomIds())


def _accept_clients(
    live: Live, listening: socket.socket, handler: Handler, certificates: Certificates, loop: Loop
) -> Public:
    connections = Connections(live, handler, loop.sweep, time.time, loop.iteration, certificates.client_ca)
    traffic = Traffic()
    acceptor = Acceptor(
        listening,
        lambda: accept_limits_of(live.state),
        certificates.for_handshake,
        lambda peer: connections.make(peer, acceptor, traffic),
        loop.iteration,
    )
    return Public(acceptor, connections, traffic)


def _register(registry: CollectorRegistry, *collectors: Collector) -> None:
    for collector in collectors:
        registry.register(collector)


def _watch(
    overview: Overview,
    reloader: Reloader,
    tls: CertificateStores,
    observation: Observation,
    ledger_parts: LedgerParts,
    health: HealthProbe,
) -> tuple[Watch, Probed]:
    watch = Watch(partial(overview.read, reloader, tls), overview.history, observation.seen, overview.started_at)
    probed = Probed(
        lambda: health.is_up,
        ledger_parts.problems,
        lambda: ledger_parts.key_sets.without_keys,
        lambda: reloader.waiting,
    )
    return watch, probed


def _administer(
    live: Live,
    registry: CollectorRegistry,
    probed: Probed,
    ledger_parts: LedgerParts,
    watch: Watch,
    iteration: Iteration,
) -> Application:
    keys = KeyService(ledger_parts.ledger, lambda: live.state.settings, time.time, os.urandom)
    callers = CallerService(
        ledger_parts.ledger, time.time, lambda: live.state.settings.authentication.certificates.identity == "dns"
    )
    changes = ledger_parts.sync.apply_key_changes
    known = partial(known_profile, live, watch.seen)
    near = NearAccounts(ledger_parts.ledger, known, time.time, time.monotonic, iteration)
    context = Context(keys, ledger_parts.ledger, live, callers, near, watch, changes, time.time, iteration)
    return make_admin(live, registry, probed, context, time.monotonic, iteration)


async def _accept_administrators(
    stack: AsyncExitStack,
    listening: socket.socket,
    application: Application,
    certificates: Certificates | None,
    iteration: Iteration,
) -> Acceptor:
    tls = None if certificates is None else certificates.for_handshake
    return await stack.enter_async_context(listening_on(listening, application, tls, iteration))


def _work(
    stack: AsyncExitStack,
    observation: Observation,
    ledger_parts: LedgerParts,
    jobs: JobParts,
    others: tuple[Coroutine[Any, Any, None], ...],
) -> None:
    requests = observation.requests
    work(
        stack, *others, *ledger_parts.work(), *jobs.work(),
        observation.refusal_log.run(ledger_parts.ledger),
        release_memory(lambda: requests.in_flight == 0),
        collect_garbage(lambda: requests.in_flight == 0, time.monotonic, resident_bytes),
    )  # fmt: skip


def _serve(stack: AsyncExitStack, sockets: Sockets, public: Public, admin: Acceptor) -> Listeners:
    """Begins to accept clients."""
    public.acceptor.start()
    stack.push_async_callback(_cut_off, public.acceptor, public.connections)
    addresses = Addresses(sockets.public.getsockname()[:2], sockets.admin.getsockname()[:2])
    log.info("listening", address=addresses.public[0], port=addresses.public[1], admin_port=addresses.admin[1])
    return Listeners(public.acceptor, public.connections, admin, addresses)


async def _cut_off(acceptor: Acceptor, connections: Connections) -> None:
    if not acceptor.is_stopped:
        await acceptor.stop()
    await acceptor.close()
    for connection in connections.all():
        connection.abort()
    await asyncio.sleep(0)
    for connection in connections.all():  # exchanges that outlive their client, while the ledger is open
        connection.interrupt(ClientGone("The gateway ended before the upstream's answer."))
