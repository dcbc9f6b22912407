"""Delivers due webhooks from the ledger, at least once.

Each second, or when nudged, it claims due deliveries for which there is room, and runs each in a task. A claim is a
lease in the ledger: only one replica at a time sends a delivery. If a replica dies, another one sends its deliveries
again when the leases expire. A delivery keeps its id, so that a receiver can recognize repeats.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Final, NamedTuple

import structlog
from sqlalchemy import Connection

from gateway.aio.daemon_threads import DaemonThreads
from gateway.aio.iteration import Iteration
from gateway.aio.nudge import Nudge
from gateway.aio.periodic import until_next
from gateway.aio.tls.buffers import TlsBuffers
from gateway.aio.tls.step_threads import StepThreads
from gateway.errors import LedgerUnavailable, OwnerWaited, Refused, SetupError, whereabouts
from gateway.ledger.deliveries import (
    DeliveryLease,
    DeliveryOutcome,
    Due,
    first_due,
    mark_dead,
    mark_delivered,
    release,
    schedule_retry,
)
from gateway.ledger.delivery_claims import Bounds, claim_due
from gateway.ledger.engine import OF_WEBHOOKS, is_postgres
from gateway.ledger.ledger import Ledger
from gateway.ledger.news import Question
from gateway.limits.served_owners import ServedOwners
from gateway.model.times import Times
from gateway.webhooks.egress.destination import ResolveFor, find
from gateway.webhooks.egress.resolver import NotFound, Saturated, Undecided
from gateway.webhooks.egress.rules import Rules
from gateway.webhooks.outbound.backoff import next_at, pause_after, read_retry_after
from gateway.webhooks.outbound.circuit_breaker import Breaker
from gateway.webhooks.outbound.giving_up import GivingUp
from gateway.webhooks.outbound.metrics import WebhookMetrics, log_attempt
from gateway.webhooks.outbound.outcome import DeliveryAttempt, Result, Trouble
from gateway.webhooks.outbound.sender import Link, body_of, make_context, send
from gateway.webhooks.outbound.settings import OutboundSettings
from gateway.webhooks.signature import sign

TURN: Final = 1.0  # seconds
_LOOK_EVERY: Final = 30.0  # seconds
# Longer than the longest attempt: look-up, last bytes, an outcome that waits for the ledger.
_LEASE_SECONDS: Final = 60.0
NOTE_AGAIN: Final = 1.0  # seconds
PATIENCE: Final = 30.0  # for the CA file
_QUICK: Final = 0.02
_REST: Final = 4
"""Times a claim's duration. With 300,000 deliveries that are due at paused destinations, one takes 0.2 s of SQLite's
only writer, and each end of a job brings one: submits of others waited for half a second. So claims have a fifth."""

_SHARE: Final = 4
# The errors that mean a destination is down. An answer with any status means that it is up.
_DOWN: Final = frozenset({Trouble.TIMEOUT, Trouble.CONNECTION, Trouble.TLS, Trouble.NOT_FOUND})
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _DispatcherParts:
    """What an attempt needs of the settings: built once for each version of them."""

    out: OutboundSettings
    rules: Rules
    link: Link


class Chance(NamedTuple):
    """What differs from run to run: the clocks, and a number from 0 to 1."""

    times: Times
    dice: Callable[[], float]


class Dispatcher:
    """Delivers webhooks until `close`. Not thread-safe: belongs to one event loop.

    Args:
        ledger: holds the deliveries.
        settings: returns the present webhooks.out.
        resolve: looks up the addresses of hosts, for an owner.
        me: the name of this replica in the ledger: 32 characters at most, different for each process.
        iteration: of the loop, in whose turns answers are read.
        chance: the clocks, and `dice`: a number from 0 to 1, for the jitter.
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: Callable[[], OutboundSettings],
        resolve: ResolveFor,
        me: str,
        iteration: Iteration,
        chance: Chance,
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._resolve = resolve
        self._wall = chance.times.wall
        self._clock = chance.times.monotonic
        self._dice = chance.dice
        self._me = me
        self.metrics = WebhookMetrics()
        self._iteration = iteration
        self._buffers = TlsBuffers(StepThreads(iteration.clock))
        self._breaker = Breaker()
        self._served = ServedOwners()
        self._parts: _DispatcherParts | None = None
        self._unusable: OutboundSettings | None = None
        self._daemons = DaemonThreads()
        self._tasks: dict[asyncio.Task[None], DeliveryLease] = {}
        self._giving_up = GivingUp(ledger, self._breaker, self.metrics, chance.times)
        self._nudged = Nudge()
        self._claims_at = 0.0
        self._due = Question(ledger.version)

    def __repr__(self) -> str:
        return f"<Dispatcher sending={len(self._tasks)}>"

    def nudge(self) -> None:
        """Wakes `run`, because something may be due."""
        self._due.reopen()
        self._nudged.set()

    async def run(self) -> None:
        """Runs a turn each second, or when nudged, until cancelled; `close` then ends running deliveries.

        Beside it, it looks after what waits: to give up thousands takes a while, in which others are sent.
        """
        looks = asyncio.get_running_loop().create_task(self._look_regularly())
        try:
            while True:
                self._nudged.clear()
                await _tried(self.turn)
                await self._nudged.wait(self._until_turn())
        finally:
            looks.cancel()
            await asyncio.wait([looks])

    async def _look_regularly(self) -> None:
        while True:
            await _tried(self.look_after)
            await asyncio.sleep(_LOOK_EVERY)

    def _until_turn(self) -> float:
        """Seconds until the next second, or the end of the rest after a claim."""
        rest = self._claims_at - self._clock()
        next_second = until_next(asyncio.get_running_loop().time(), TURN)
        return min(rest, next_second) if rest > 0 else next_second

    async def turn(self) -> None:
        """Claims due deliveries and starts to send them.

        Raises:
            LedgerUnavailable: nothing could be claimed.
        """
        now = self._wall()
        room = self._settings().most_in_flight - len(self._tasks)
        if room <= 0 or self._clock() < self._claims_at or not await self._is_any_due(now):
            return
        parts = await self._parts_now()  # only once something is due: the system's CAs take 60 ms and some memory
        if parts is None:
            return
        for place, due in enumerate(await self._claim(parts.out, room, now)):
            self._start(due, parts, place)

    async def _claim(self, out: OutboundSettings, room: int, now: float) -> list[Due]:
        """Claims what is due, `room` at most; after a claim that took long the next one has to wait."""
        until = now + out.timeout + _LEASE_SECONDS
        most, rooms = out.most_in_flight_per_destination, self._breaker.rooms(self._clock())
        # Per owner, so that one owner's slow receivers don't block the others.
        share = max(1, out.most_in_flight // _SHARE)
        bounds = Bounds(room, most, rooms, share, self._served, self._clock)
        claim = self._timed(lambda c: claim_due(c, self._me, now, until, bounds))
        claimed, took = await self._ledger.write(claim, in_turn_of=OF_WEBHOOKS)
        self._claims_at = self._clock() + (_REST * took if took > _QUICK else 0.0)
        return claimed

    def _start(self, due: Due, parts: _DispatcherParts, place: int) -> None:
        self._served.note(due.owner)
        deadline = self._clock() + parts.out.timeout + _LEASE_SECONDS
        task = asyncio.get_running_loop().create_task(self._deliver(due, parts, place, deadline))
        self._tasks[task] = due.lease
        task.add_done_callback(self._ended)

    def _timed(self, claim: Callable[[Connection], list[Due]]) -> Callable[[Connection], tuple[list[Due], float]]:
        """The claim, and for how many seconds it kept others from writing: on PostgreSQL it does not."""

        def work(connection: Connection) -> tuple[list[Due], float]:
            begun = self._clock()
            found = claim(connection)
            return found, 0.0 if is_postgres(connection) else self._clock() - begun

        return work

    async def _is_any_due(self, now: float) -> bool:
        if not await self._due.is_open(now):
            return False
        first = await self._ledger.read(first_due)
        self._due.mark_answered(inf if first is None else first)
        return first is not None and first <= now

    async def close(self, within: float) -> None:
        """Waits up to `within` seconds for running deliveries, then leaves the rest to other replicas.

        Cancel `run` first, else it would claim more.
        """
        await self._giving_up.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within)
        left = dict(self._tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
            with suppress(LedgerUnavailable):  # then they are sent when the leases expire
                await self._ledger.write(lambda c: release(c, [*left.values()], self._wall()), in_turn_of=OF_WEBHOOKS)

    async def _parts_now(self) -> _DispatcherParts | None:
        """The present settings, made ready; None, with a log event, while they are unusable."""
        out = self._settings()
        if self._parts is not None and self._parts.out is out:
            return self._parts
        try:
            context = await self._daemons.run(partial(make_context, out.ca), PATIENCE)
        except (SetupError, TimeoutError) as error:
            hangs = isinstance(error, TimeoutError)
            self._wait_for_usable(out, f"{out.ca} was not read within {PATIENCE:.0f} s" if hangs else str(error))
            return None
        self._parts = _DispatcherParts(out, Rules.of(out.allow), Link(context, self._iteration, self._buffers))
        return self._parts

    def _wait_for_usable(self, out: OutboundSettings, why: str) -> None:
        if self._unusable is not out:
            log.error("webhooks wait", why=why)
            self._unusable = out

    async def look_after(self) -> None:
        """Gives up what has waited for too long, and counts what is left (giving_up.py).

        Raises:
            LedgerUnavailable: some of it is still due.
        """
        await self._giving_up.look(self._settings().give_up_after)

    async def _deliver(self, due: Due, parts: _DispatcherParts, place: int, deadline: float) -> None:
        asked = None
        try:
            attempt = await self._attempt(due, parts, place)
            asked = read_retry_after(attempt.retry_after, self._wall())
        except Exception as error:  # noqa: BLE001 -- a delivery that breaks something must not be tried for ever
            log.error("webhook broke", delivery=due.lease.id, error=whereabouts(error))
            attempt = DeliveryAttempt(Result.RETRIED, None, Trouble.INTERNAL)
        self._judge(due, attempt)
        await self._note(due, parts.out, attempt, asked, deadline)

    async def _attempt(self, due: Due, parts: _DispatcherParts, place: int) -> DeliveryAttempt:
        """`place` is among those that were claimed together, whose addresses may be found at the same moment."""
        now = self._wall()
        secrets = parts.out.secrets_for(due.owner, now)
        if secrets is None:
            return DeliveryAttempt(Result.REFUSED, None, Trouble.NO_SECRET)
        try:
            destination = await find(due.url, parts.rules, partial(self._resolve, due.owner))
        except Refused:
            return DeliveryAttempt(Result.REFUSED, None, Trouble.NOT_ALLOWED)
        except Saturated:  # says nothing about the destination
            return DeliveryAttempt(Result.RETRIED, None, Trouble.INTERNAL)
        except (NotFound, Undecided):
            return DeliveryAttempt(Result.RETRIED, None, Trouble.NOT_FOUND)
        # One in an iteration of the loop: to sign, and to make a connection, takes a millisecond.
        for _ in range(place):
            await asyncio.sleep(0)
        body = body_of(due.request_id, due.check_url, due.status)
        headers = sign(secrets, due.lease.id, now, body)
        return await send(destination, parts.link, headers, body, parts.out.timeout)

    def _judge(self, due: Due, attempt: DeliveryAttempt) -> None:
        line = due.destination, due.owner
        if attempt.status is not None:
            if self._breaker.record_success(line):
                log.info("webhook destination answers again", destination=due.destination)
        elif attempt.trouble in _DOWN:
            pause = self._breaker.record_failure(line, self._clock())
            if pause is not None:
                log.warning("webhook destination paused", destination=due.destination, seconds=round(pause))

    async def _note(
        self, due: Due, out: OutboundSettings, attempt: DeliveryAttempt, asked: float | None, deadline: float
    ) -> None:
        """Counts, logs and records an attempt's outcome, and when the next one is due."""
        now = self._wall()
        result, at = attempt.result, None
        if result is Result.RETRIED:
            pause = pause_after(due.lease.attempt, self._dice(), asked)
            at = next_at(now, due.since, out.give_up_after, pause)
            result = Result.DEAD if at is None else result
        self.metrics.count_attempt(result)
        log_attempt(due, attempt, result, None if at is None else at - now)
        note = _noting(due.lease, DeliveryOutcome(attempt.status, attempt.trouble), result, at, now)
        await self._write_while_leased(due.lease, note, deadline)

    async def _write_while_leased(
        self, lease: DeliveryLease, note: Callable[[Connection], bool], deadline: float
    ) -> None:
        """Writes an outcome; if that fails until the lease has ended, the webhook is sent again."""
        while self._clock() < deadline:
            try:
                await self._ledger.write(note, in_turn_of=OF_WEBHOOKS)
            except LedgerUnavailable:
                await asyncio.sleep(NOTE_AGAIN)
            else:
                return
        log.warning("webhook outcome not noted", delivery=lease.id)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        del self._tasks[task]
        self._nudged.set()  # a slot is free
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("webhook broke", error=whereabouts(error))


async def _tried(work: Callable[[], Awaitable[None]]) -> None:
    """Does a work; what fails is done the next time."""
    try:
        await work()
    except OwnerWaited as error:
        log.warning("webhooks wait for the ledger", why=str(error))
    except LedgerUnavailable:
        pass  # the ledger has logged it
    except Exception as error:  # noqa: BLE001 -- after any error, webhooks must still be sent
        log.error("webhooks could not be sent", error=whereabouts(error))


def _noting(
    lease: DeliveryLease, outcome: DeliveryOutcome, result: Result, at: float | None, now: float
) -> Callable[[Connection], bool]:
    """What the ledger has to write of an attempt; `at` is when the next one is due, None: there is none."""
    if at is not None:
        return partial(schedule_retry, lease=lease, outcome=outcome, next_at=at)
    ended = mark_delivered if result is Result.DELIVERED else mark_dead
    return partial(ended, lease=lease, outcome=outcome, now=now)
