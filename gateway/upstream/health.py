"""Health checks of the upstreams, every few seconds, for gateway_upstream_up; no request waits for them.

They only report. There is no circuit breaker to a container: it is the only one that has the jobs, so a request that
is kept from it is no better off than one that fails there. Our own questions about jobs have their backoff in
jobs/poll_interval.py; receivers of webhooks have a breaker (webhooks/outbound/circuit_breaker.py).
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final, NamedTuple

import aiohttp
import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from yarl import URL

from gateway.aio.bounded_connector import BoundedConnector, make_session
from gateway.aio.connection_faults import in_words
from gateway.aio.host_lookups import HostLookups
from gateway.aio.iteration import Iteration
from gateway.aio.periodic import until_next
from gateway.aio.shared_context import NoContext, SharedContext
from gateway.aio.tls.buffers import TlsBuffers
from gateway.aio.tls.step_threads import StepThreads
from gateway.errors import whereabouts
from gateway.model.statuses import OK
from gateway.upstream.target import UpstreamTarget

INTERVAL: Final = 5.0
_BEGIN: Final = 2  # in one iteration: each takes 0.3 ms
log = structlog.get_logger()


class HealthState(NamedTuple):
    """How an upstream is: `trouble` is None while it is healthy. Moments are of the checks' clock, in seconds.

    `since` is the first look that found it so. `last_trouble` is the latest that there was, `failed_at` its latest
    look.
    """

    trouble: str | None
    since: float
    last_trouble: str | None = None
    failed_at: float | None = None


class HealthProbe:
    """Requests the health path of every upstream that a route uses; keeps each one's latest result."""

    def __init__(self, targets: Callable[[], Mapping[str, UpstreamTarget]], iteration: Iteration) -> None:
        self._targets = targets
        self._iteration = iteration
        self._buffers = TlsBuffers(StepThreads(iteration.clock))
        self._context = SharedContext(iteration.clock)
        self._lookups = HostLookups()
        self._states: dict[str, HealthState] = {}

    async def run(self) -> None:
        """Runs the checks until cancelled."""
        while True:
            try:
                targets = self._targets()
                self._note(dict(zip(targets, await self._check_all(targets.values()), strict=True)))
            except Exception as error:  # noqa: BLE001 -- without checks the last result would stay for ever
                log.error("upstreams could not be asked", error=whereabouts(error))
            await asyncio.sleep(until_next(asyncio.get_running_loop().time(), INTERVAL))

    async def _check_all(self, targets: Collection[UpstreamTarget]) -> list[str | None]:
        """Checks all at once, but begins a few in one iteration of the loop: there may be hundreds."""
        loop, checks = asyncio.get_running_loop(), list[asyncio.Task[str | None]]()
        try:
            for number, target in enumerate(targets, 1):
                checks.append(loop.create_task(self._check(target)))
                if number % _BEGIN == 0:
                    await asyncio.sleep(0)
            return await asyncio.gather(*checks)
        finally:
            for check in checks:
                check.cancel()

    async def _check(self, target: UpstreamTarget) -> str | None:
        """Checks one upstream, whose answer may be hostile, on a connection that limits what it can cost."""
        try:
            context = await self._context.get() if target.scheme == "https" else True
        except NoContext:
            return "the system's CAs can't be read"
        connector = BoundedConnector(
            self._iteration,
            target.authority,
            buffers=self._buffers,
            lookups=self._lookups,
            untrusted=self._context.doubt,
            force_close=True,
            ssl=context,
        )
        async with make_session(connector) as session:
            return await probe(session, target)

    @property
    def is_up(self) -> bool:
        """Whether all upstreams were healthy at the last check."""
        return bool(self._states) and all(self.healthy.values())

    @property
    def healthy(self) -> Mapping[str, bool]:
        """Whether each upstream was healthy at the last check, by name."""
        return {name: state.trouble is None for name, state in self._states.items()}

    @property
    def states(self) -> Mapping[str, HealthState]:
        """How each upstream was at the last check."""
        return self._states

    def age(self, at: float) -> float:
        """How long ago a moment of a state was, in seconds."""
        return self._iteration.clock() - at

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at each scrape; for a single upstream gateway_upstream_up is enough."""
        healthy = self.healthy
        if len(healthy) > 1:
            family = GaugeMetricFamily(
                "gateway_upstream_healthy", "Whether an upstream's health path answered.", labels=("upstream",)
            )
            for name, is_healthy in healthy.items():
                family.add_metric((name,), is_healthy)
            yield family

    def _note(self, problems: dict[str, str | None]) -> None:
        now, before = self._iteration.clock(), self._states
        self._states = {name: _after(before.get(name), problem, now) for name, problem in problems.items()}
        for name, state in self._states.items():
            if name in before and before[name].since == state.since:
                continue
            if state.trouble:
                log.warning("upstream is down", upstream=name, why=state.trouble)
            else:
                log.info("upstream is up", upstream=name)


def _after(before: HealthState | None, problem: str | None, now: float) -> HealthState:
    """The state after a look."""
    is_same = before is not None and (before.trouble is None) == (problem is None)
    since = before.since if before is not None and is_same else now
    if problem is not None:
        return HealthState(problem, since, problem, now)
    return HealthState(None, since, *(before[2:] if before is not None else ()))


async def probe(session: aiohttp.ClientSession, target: UpstreamTarget) -> str | None:
    """Checks once, within target.health_timeout; None when the upstream is healthy, else what is wrong."""
    try:
        url = URL(f"{target.scheme}://{target.authority}{target.health_path}", encoded=True)
        timeout = aiohttp.ClientTimeout(total=target.health_timeout)
        async with session.get(url, allow_redirects=False, timeout=timeout) as response:
            return None if response.status == OK else f"{target.health_path} answers {response.status}"
    except TimeoutError:
        return f"no answer within {target.health_timeout:g} s"
    except (aiohttp.ClientError, OSError) as error:
        return f"no answer ({in_words(error)})"
    except Exception as error:  # noqa: BLE001 -- the checks must go on, whatever aiohttp makes of an odd answer
        return f"no answer ({whereabouts(error)})"
