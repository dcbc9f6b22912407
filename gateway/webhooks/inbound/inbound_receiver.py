"""Receives inbound webhooks: verifies them, and forwards each message once (deduplication), across replicas.

    first      -> forwarded: 200 processed, and remembered for `remember`; or not taken: 502, and forgotten, so that
                  the sender's next attempt counts as the first
    meanwhile  -> waits for the first one's result; 503 if that takes too long
    afterwards -> 200 already processed

Forwarding continues to its end even if the sender leaves: its next attempt gets the result.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Final, NamedTuple

import structlog

from gateway.aio.background import keep_task
from gateway.aio.in_turn import run_in_later_turn, run_in_turn
from gateway.aio.iteration import Iteration
from gateway.errors import LedgerUnavailable, Refused, ledger_unavailable, refuse
from gateway.http.strict_json import read_object
from gateway.ledger.engine import turn_of_sender
from gateway.ledger.inbound_webhooks import Message, Taken, give_back, handled, take
from gateway.ledger.ledger import Ledger
from gateway.limits.pauses import doubled
from gateway.model.reasons import RETRY_SOON, Denial, Reason
from gateway.model.request import BodyLimit
from gateway.policy.body_limits import check_length
from gateway.webhooks.inbound.forward import Forward, NotTaken
from gateway.webhooks.inbound.settings import InboundSettings
from gateway.webhooks.inbound.verification import SenderCheck, malformed, without_secret
from gateway.webhooks.signature import STANDARD_ID

LEASE_SECONDS: Final = 10.0  # longer than the longest wait for forward_to
LOOK_EVERY: Final = 0.25  # seconds
_LONGEST: Final = 8  # times LOOK_EVERY: with hundreds of copies, four looks a second of each are half a processor
MAX_AT_ONCE: Final = 256
_PIECE: Final = 262_144  # bytes of a body; each secret takes a fifth of a millisecond for them
RETRY_DELAYS: Final = (0.0, 0.5, 2.0)  # seconds
log = structlog.get_logger()


PROCESSED: Final = b'{"status": "processed"}'
ALREADY: Final = b'{"status": "already processed"}'


@dataclass(slots=True)
class Expected:
    """A webhook whose head has come. `check` has to take the body, in turns: a megabyte costs it 3 ms."""

    name: str
    limit: BodyLimit
    headers: Mapping[bytes, Sequence[bytes]]
    check: SenderCheck


class _Incoming(NamedTuple):
    """A verified webhook: what it is known by, and the body to forward."""

    message: Message
    body: bytes


class _Judged(NamedTuple):
    """A webhook that was verified, and by which settings."""

    settings: InboundSettings
    incoming: _Incoming


class Receiver:
    """Receives webhooks. Not thread-safe: belongs to one event loop.

    Args:
        ledger: records what was forwarded.
        settings: returns the present webhooks.in.
        wall: seconds since the epoch.
        iteration: of the loop, in whose turns the service's answers are read.
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: Callable[[], Sequence[InboundSettings]],
        wall: Callable[[], float],
        iteration: Iteration,
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._wall = wall
        self._iteration = iteration
        self._forward = Forward(iteration)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._taking: Counter[str] = Counter()  # how many of each name

    def __repr__(self) -> str:
        return f"<Receiver taking={len(self._tasks)}>"

    def expect(self, name: str, headers: Mapping[bytes, Sequence[bytes]]) -> Expected:
        """Judges a webhook by its head.

        Args:
            name: the last part of the path.
            headers: values by names in lower case.

        Raises:
            Refused: route_not_found; unauthenticated, if no body could make it acceptable.
        """
        found = self._find(name)
        return Expected(name, _limit_of(found), headers, SenderCheck(found, headers, self._wall()))

    async def follow(self, expected: Expected, body: bytes) -> None:
        """Begins to judge anew, in turns, if other settings came into force while the body came.

        Raises:
            Refused: as `expect`.
        """
        while not expected.check.is_by(found := self._find(expected.name)):
            check = SenderCheck(found, expected.headers, self._wall())
            for begin in range(0, len(body), _PIECE):
                await run_in_turn(self._iteration, partial(check.take, body[begin : begin + _PIECE]))
            expected.check = check

    async def take(self, expected: Expected, body: bytes, request: str | None = None) -> bytes:
        """Takes one webhook; returns the answer, JSON.

        May run in a Drive (gateway/aio/drive.py) and be cancelled: what was begun goes on.

        Args:
            expected: from `expect`; its check has taken all of the body, and followed the settings (`follow`).
            body: the bytes as received.
            request: the id of the request, which is forwarded as X-Request-Id.

        Raises:
            Refused: route_not_found, unauthenticated, body_too_large, body_malformed; upstream_unreachable if
                forwarding failed; ledger_unavailable if the ledger is away, or if another attempt at this webhook
                takes too long.
        """
        judge = partial(self._judge, expected, body)
        judged = await judge()
        name = judged.settings.name
        # So one whose service hangs leaves the others their part.
        share = max(1, MAX_AT_ONCE // max(1, len(self._settings())))
        if len(self._tasks) >= MAX_AT_ONCE or self._taking[name] >= share:
            raise _later("Too many webhooks are being handed on.")
        task = asyncio.get_running_loop().create_task(self._take(judged, judge, request))
        keep_task(task, self._tasks)
        self._taking[name] += 1
        task.add_done_callback(partial(self._end, name))
        return await asyncio.shield(task)

    def _end(self, name: str, _: "asyncio.Task[bytes]") -> None:
        self._taking[name] -= 1
        if not self._taking[name]:
            del self._taking[name]

    async def close(self, within: float) -> None:
        """Waits up to `within` seconds for running forwards, then cancels them."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within)
        left = [*self._tasks]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _find(self, name: str) -> InboundSettings:
        found = next((entry for entry in self._settings() if entry.name == name), None)
        if found is None:
            raise refuse(Reason.ROUTE_NOT_FOUND, "The gateway has no route for this path.")
        return found

    async def _judge(self, expected: Expected, body: bytes) -> _Judged:
        """Judges a webhook by the settings that are in force now, which are given with it.

        A body that tells the secret is rewritten without that member; any other is forwarded byte for byte.
        """
        while True:
            await self.follow(expected, body)
            found = self._find(expected.name)
            check_length(len(body), _limit_of(found))
            message, tells_secret = expected.check.read(found, body, self._wall())
            if not tells_secret:
                return _Judged(found, _Incoming(message, body))
            bare = await self._without_secret(body)
            if expected.check.is_by(self._find(expected.name)):
                return _Judged(found, _Incoming(message, bare))

    async def _without_secret(self, body: bytes) -> bytes:
        """Reads a body once more, with its numbers, and writes it, each in a turn of its own: it takes as long."""
        members = await run_in_later_turn(self._iteration, partial(read_object, body))
        bare = None if members is None else await run_in_later_turn(self._iteration, partial(without_secret, members))
        if bare is None:
            raise malformed()
        return bare

    async def _take(self, judged: _Judged, judge: Callable[[], Awaitable[_Judged]], request: str | None) -> bytes:
        try:
            async with asyncio.timeout(judged.settings.timeout + LEASE_SECONDS):
                judged, lease = await self._lease(judged, judge)
        except LedgerUnavailable:
            raise _later("The ledger is not available.") from None
        except TimeoutError:
            raise _later("This webhook is still being handed on by another request.") from None
        if lease is None:
            return ALREADY
        await self._hand_on(*judged, request, lease)
        return PROCESSED

    async def _lease(self, judged: _Judged, judge: Callable[[], Awaitable[_Judged]]) -> tuple[_Judged, int | None]:
        """Waits until no other forwards it; gives the end of our own lease, or None if it was forwarded already.

        Where other settings are in force after a wait, it is judged again.
        """
        looks = count()
        while True:
            now, (settings, incoming) = self._wall(), judged
            until = int(now + settings.timeout + LEASE_SECONDS)
            work = partial(take, name=settings.name, message=incoming.message, now=now, until=until)
            taken = await self._ledger.write(work, in_turn_of=turn_of_sender(settings.name))
            if taken is not Taken.BUSY:
                return judged, until if taken is Taken.FIRST else None
            await asyncio.sleep(doubled(LOOK_EVERY, next(looks), _LONGEST * LOOK_EVERY))
            if self._find(settings.name) is not settings:
                judged = await judge()

    async def _hand_on(self, settings: InboundSettings, incoming: _Incoming, request: str | None, lease: int) -> None:
        message = incoming.message
        headers = {} if request is None else {"X-Request-Id": request}
        if message.signed_id is not None:
            headers[STANDARD_ID] = message.signed_id
        try:
            await self._forward(settings.forward_to, incoming.body, headers, settings.timeout)
        except NotTaken as error:
            log.warning("webhook not handed on", webhook=settings.name, why=str(error))
            await self._forget(settings.name, message, lease)
            detail = "The service that webhooks are handed on to did not take it."
            raise Refused(Denial(Reason.UPSTREAM_UNREACHABLE, detail, title="Webhook not taken")) from None
        await self._note_handed_on(settings.name, message, lease, self._wall() + settings.remember)

    async def _note_handed_on(self, name: str, message: Message, lease: int, until: float) -> None:
        """Has it remembered `until` then, so that its copies are answered; its sender hears if that is in vain."""
        for pause in RETRY_DELAYS:
            await asyncio.sleep(pause)
            try:
                await self._ledger.write(
                    lambda c: handled(c, name, message, lease, until), in_turn_of=turn_of_sender(name)
                )
            except LedgerUnavailable:
                continue
            return
        log.error("webhook handed on but not noted", webhook=name)
        raise _later("The ledger is not available.")

    async def _forget(self, name: str, message: Message, lease: int) -> None:
        # Only once: by the time of a retry, another process may have a lease that ends in the same second.
        try:
            await self._ledger.write(lambda c: give_back(c, name, message, lease), in_turn_of=turn_of_sender(name))
        except LedgerUnavailable:
            log.warning("webhook waits for its lease", webhook=name)


def _limit_of(settings: InboundSettings) -> BodyLimit:
    return BodyLimit(settings.body_limit, "webhooks.in[].body_limit")


def _later(detail: str) -> Refused:
    return ledger_unavailable(detail, retry_after=RETRY_SOON, title="Try again later")
