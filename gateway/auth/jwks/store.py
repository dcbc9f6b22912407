"""The keys of all issuers, kept fresh: fetched at start, at half of `refresh`, and when a token names an unknown key.

While an identity provider is down its last good set stays in use for `stale`, then it is dropped. Failed fetches are
retried with exponential backoff: after 1, 2, 4 ... 60 seconds. Only requests that name an unknown key wait for the
provider. They all share one fetch, at most one per issuer and half minute: until the next one may start, every other
unknown key is refused at once, so that a flood of them costs nothing.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

import structlog

from gateway.aio.waiters import Waiters
from gateway.auth.jwks.fetch import FetchFailed
from gateway.auth.jwks.files import is_fetched
from gateway.auth.jwks.source import KeySource
from gateway.auth.jwt.key_set import KeySet
from gateway.errors import whereabouts
from gateway.limits.pauses import doubled, jittered

_DEADLINE: Final = 5.0
_MAX_PAUSE: Final = 60.0
_JITTER: Final = 0.1
log = structlog.get_logger()

Fetch = Callable[[KeySource, float], Coroutine[Any, Any, KeySet]]


@dataclass(slots=True)
class _Provider:
    """The state of one provider; times in seconds of the clock. `flight` is the fetch under way.

    `waiters` are the requests that wait for it.
    """

    settings: KeySource
    due: float
    keys: KeySet | None = None
    fetched: float | None = None
    refetched: float | None = None
    failures: int = 0
    trouble: str | None = None
    flight: asyncio.Future[None] | None = None
    waiters: Waiters = field(default_factory=Waiters)


class IssuerState(NamedTuple):
    """How an issuer's keys stand: how many (None: none yet), seconds since they were fetched (None: from a file).

    `failures` are fetches that failed since the last good one, `trouble` is why the last of them did; `lasts` are the
    seconds until the keys are dropped then, `due` those until the next fetch (None: they are never fetched).
    """

    keys: int | None
    age: float | None
    failures: int
    lasts: float | None
    trouble: str | None = None
    due: float | None = None


class KeySets:
    """Holds the keys of all issuers. Used on one loop; only `run` and `refetch` wait.

    Args:
        changed: called on the loop with all sets in force whenever one has changed, never by `configure`.
        fetch: gets the keys of an issuer within a deadline in seconds.
        clock: seconds, monotonic.
        dice: a number from 0 to 1, for the jitter.
        interval: seconds between two refetches of one issuer.
    """

    def __init__(
        self,
        changed: Callable[[Mapping[str, KeySet]], None],
        fetch: Fetch,
        *,
        clock: Callable[[], float] = time.monotonic,
        dice: Callable[[], float] = random.random,
        interval: float = 30.0,
    ) -> None:
        self._changed = changed
        self._clock = clock
        self._dice = dice
        self._fetch = fetch
        self._interval = interval
        self._local: Mapping[str, KeySet] = {}
        self._providers: dict[str, _Provider] = {}
        self._was_ready = False
        self._tasks = set[asyncio.Task[KeySet]]()
        self._woken = asyncio.Event()
        self._results = Counter(success=0, failure=0)

    def __repr__(self) -> str:
        return f"<KeySets sets={len(self.sets)} providers={len(self._providers)} fetching={len(self._tasks)}>"

    def configure(self, issuers: Sequence[KeySource], local: Mapping[str, KeySet]) -> Mapping[str, KeySet]:
        """Puts issuers into force, at start and at each reload; `local` comes from read_local_keys.

        Returns the sets available so far. A fetched set is kept when its issuer's source is unchanged.
        """
        now = self._clock()
        self._local = local
        former, self._providers = self._providers, {}
        for issuer in filter(is_fetched, issuers):
            known = former.get(issuer.issuer)
            if known is None or _source(known.settings) != _source(issuer):
                known = _Provider(issuer, due=now)
            if known.fetched is not None and issuer.refresh < known.settings.refresh:
                known.due = min(known.due, known.fetched + issuer.refresh / 2)
            known.settings = issuer
            self._providers[issuer.issuer] = known
        self._note_ready()
        self._woken.set()
        return self.sets

    @property
    def sets(self) -> Mapping[str, KeySet]:
        """The sets in force, by issuer."""
        fetched = {name: known.keys for name, known in self._providers.items() if known.keys is not None}
        return {**self._local, **fetched}

    @property
    def is_ready(self) -> bool:
        """Whether every issuer has had a good set once; no later failure and no later issuer changes that."""
        return self._was_ready

    @property
    def without_keys(self) -> list[str]:
        """The issuers that have no keys, never fetched or dropped: their tokens are refused."""
        return [name for name, known in self._providers.items() if known.keys is None]

    @property
    def counts(self) -> Mapping[str, int]:
        """How many keys of each issuer are in use."""
        return dict.fromkeys(self._providers, 0) | {name: len(keys.keys) for name, keys in self.sets.items()}

    @property
    def results(self) -> Mapping[str, int]:
        """How many fetches ended in `success` and in `failure`."""
        return self._results

    def ages(self) -> dict[str, float]:
        """Seconds since the last good fetch, by issuer; only for issuers that were fetched."""
        now = self._clock()
        return {name: now - known.fetched for name, known in self._providers.items() if known.fetched is not None}

    async def run(self) -> None:
        """Keeps the sets fresh until it is cancelled; then cancels all fetches."""
        try:
            while True:
                self._woken.clear()
                pause = await self.refresh()
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._woken.wait()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def refresh(self) -> float | None:
        """Fetches due sets and drops stale ones; returns the seconds until the next work, None for never."""
        now = self._clock()
        due = [known for known in self._providers.values() if known.due <= now]
        # Shielded: requests wait for the same flights. When `run` ends it cancels the tasks, which end the flights.
        await asyncio.gather(*(asyncio.shield(known.flight or self._begin(known)) for known in due))
        now = self._clock()
        for known in self._providers.values():
            self._drop_stale(known, now)
        times = [known.due for known in self._providers.values()]
        times += [end for known in self._providers.values() if (end := _end(known)) is not None]
        return max(0.0, min(times) - now) if times else None

    def state_of(self, issuer: str) -> IssuerState:
        """How an issuer's keys stand; see IssuerState."""
        keys = self.sets.get(issuer)
        count = None if keys is None else len(keys.keys)
        known = self._providers.get(issuer)
        if known is None:
            return IssuerState(count, None, 0, None)
        now, end = self._clock(), _end(known)
        age = None if known.fetched is None else now - known.fetched
        lasts = None if end is None else max(0.0, end - now)
        return IssuerState(count, age, known.failures, lasts, known.trouble, max(0.0, known.due - now))

    async def refetch(self, issuer: str) -> bool:
        """Fetches the keys of an issuer because a token names a key we don't have; true when they changed.

        Can be awaited without a task (gateway/aio/drive.py). A caller may give up: the fetch goes on for the others.
        """
        known = self._providers.get(issuer)
        if known is None:
            return False
        keys, flight = known.keys, known.flight
        if flight is None:
            now = self._clock()
            if known.refetched is not None and now - known.refetched < self._interval:
                return False
            known.refetched = now
            self._begin(known)
        await known.waiters.wait()
        return known.keys is not keys

    def _begin(self, known: _Provider) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        # Requests wait for this future, not for the task, so that shutdown raises no CancelledError in them.
        known.flight = flight = loop.create_future()
        waiters = known.waiters = Waiters()
        task = loop.create_task(self._fetch(known.settings, _DEADLINE))
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, known, flight, waiters))
        return flight

    def _ended(
        self, known: _Provider, flight: asyncio.Future[None], waiters: Waiters, task: asyncio.Task[KeySet]
    ) -> None:
        self._tasks.discard(task)
        known.flight = None
        flight.set_result(None)  # waiters continue at the loop's next turn, after the code below
        waiters.release()
        self._woken.set()
        if task.cancelled():
            return
        error = task.exception()
        self._failed(known, error) if error is not None else self._arrived(known, task.result())

    def _failed(self, known: _Provider, error: BaseException) -> None:
        self._results["failure"] += 1
        pause = doubled(1.0, known.failures, _MAX_PAUSE)
        known.failures = min(known.failures + 1, 10)
        known.due = self._clock() + jittered(pause, _JITTER, self._dice())
        known.trouble = why = error.why if isinstance(error, FetchFailed) else whereabouts(error)
        held = 0 if known.keys is None else len(known.keys.keys)
        log.warning("jwks fetch failed", issuer=known.settings.issuer, why=why, retry_in=round(pause), held=held)

    def _arrived(self, known: _Provider, keys: KeySet) -> None:
        self._results["success"] += 1
        now = self._clock()
        known.failures, known.trouble, known.fetched = 0, None, now
        self._note_ready()
        known.due = now + jittered(known.settings.refresh / 2, _JITTER, self._dice())
        if keys != known.keys:
            log.info("jwks fetched", issuer=known.settings.issuer, keys=len(keys.keys), skipped=dict(keys.skipped))
            self._put(known, keys)

    def _note_ready(self) -> None:
        self._was_ready |= all(known.fetched is not None for known in self._providers.values())

    def _drop_stale(self, known: _Provider, now: float) -> None:
        end = _end(known)
        if end is not None and now >= end:
            log.error("jwks dropped", issuer=known.settings.issuer, age=round(now - (known.fetched or now)))
            self._put(known, None)

    def _put(self, known: _Provider, keys: KeySet | None) -> None:
        known.keys = keys
        if self._providers.get(known.settings.issuer) is known:  # a reload may have removed the issuer meanwhile
            self._changed(self.sets)


def _end(known: _Provider) -> float | None:
    """When the last good keys are dropped while fetches fail; None while they succeed."""
    if known.keys is None or known.fetched is None or not known.failures:
        return None
    return known.fetched + known.settings.stale


def _source(issuer: KeySource) -> tuple[str | None, bool]:
    return issuer.jwks, issuer.discovery
