"""Checkpoints of containers: a submit may name one only if an answer to its own owner did.

This process caches recent checkpoints, so that a client that submits at once does not outrun the ledger's writer. The
ledger keeps them as long as results, for other replicas and the next start. A write that fails is retried until the
ledger is back.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import Final

import structlog

from gateway.admission.lease import ledger_away
from gateway.errors import LedgerUnavailable, OwnerWaited, Refused, ValueNotKept, refuse, whereabouts
from gateway.jobs.job import Job
from gateway.ledger.checkpoints import is_owned, note
from gateway.ledger.replica import Replica
from gateway.model.reasons import Reason
from gateway.upstream.job_api import is_checkpoint

MAX: Final = 10_000
_SETTLES: Final = 0.5  # seconds; another replica names a checkpoint to its owner before it has written that down
_SOME: Final = 100
_TOGETHER: Final = 50  # owners whose turns are waited for at the same time: a wait in vain takes seconds
PAUSE: Final = 5.0  # seconds between two tries at a ledger that is away
_Key = tuple[str, str, str]
log = structlog.get_logger()


class Checkpoints:
    """Who owns a checkpoint. `ttl` returns how long to keep one, in seconds."""

    def __init__(self, replica: Replica, ttl: Callable[[], float]) -> None:
        self._ledger = replica.ledger
        self._wall = replica.wall
        self._ttl = ttl
        self._background = replica.background
        self.seen: OrderedDict[_Key, float] = OrderedDict()  # until when its owner may use it
        self._unwritten: dict[str, dict[_Key, float]] = {}  # by owner

    def record(self, job: Job, checkpoint: str | None) -> None:
        """Records the checkpoint that a job's status answer named, if any: from now on the job's owner may use it."""
        key = job.upstream, checkpoint or "", job.owner
        now = self._wall()
        if checkpoint is None or self.seen.get(key, 0.0) > now:
            return
        until = now + self._ttl()
        self.seen[key] = until
        self.seen.move_to_end(key)
        while len(self.seen) > MAX:
            self.seen.popitem(last=False)
        self._background.start(self._note(key, until))

    async def check(self, upstream: str, checkpoint: str, owner: str) -> None:
        """Checks that a submit may name this checkpoint.

        Raises:
            Refused: job_not_found, whatever the reason; or ledger_unavailable.
        """
        now = self._wall()
        if self.seen.get((upstream, checkpoint, owner), 0.0) > now:
            return
        if not is_checkpoint(checkpoint):  # PostgreSQL refuses NUL, which would look like an outage
            raise _not_theirs()
        key = upstream, checkpoint, owner
        if await self._is_owned(key, now):
            return
        await asyncio.sleep(_SETTLES)
        if not await self._is_owned(key, now):
            raise _not_theirs()

    async def _is_owned(self, key: _Key, now: float) -> bool:
        try:
            return await self._ledger.read(lambda c: is_owned(c, *key, now), in_turn_of=key[2])
        except LedgerUnavailable:
            raise ledger_away() from None

    async def _note(self, key: _Key, until: float) -> None:
        try:
            await self._write(key, until)
        except LedgerUnavailable:
            self._postpone(key, until)

    async def _write(self, key: _Key, until: float) -> None:
        await self._ledger.write(lambda c: note(c, *key, until), in_turn_of=key[2])

    def _postpone(self, key: _Key, until: float) -> None:
        if not self._has_room(key[2]):
            log.warning("a checkpoint could not be written down; its owner has to read the result again")
            return
        is_first = not self._unwritten
        self._unwritten.setdefault(key[2], {})[key] = until
        if is_first:
            self._background.start(self._catch_up())

    def _has_room(self, owner: str) -> bool:
        """Whether one more of an owner's may wait: where there are MAX, its part of them is kept free."""
        mine = len(self._unwritten.get(owner, ()))
        return sum(map(len, self._unwritten.values())) < MAX or mine < MAX // max(1, len(self._unwritten))

    async def _catch_up(self) -> None:
        """Retries failed writes until the ledger takes them: some of each owner, then more of each."""
        while self._unwritten:
            if not await self._catch_up_once():
                await asyncio.sleep(PAUSE)

    async def _catch_up_once(self) -> bool:
        """Returns whether all that was tried was taken; an owner whose turns do not come holds up no other's."""
        left, is_well = list(self._unwritten.values()), True
        while left:
            some, left = left[:_TOGETHER], left[_TOGETHER:]
            faults = {*await asyncio.gather(*map(self._catch_up_with, some))} - {None}
            if not faults <= {OwnerWaited}:
                return False
            is_well = is_well and not faults
        return is_well

    async def _catch_up_with(self, of_owner: dict[_Key, float]) -> type[LedgerUnavailable] | None:
        """Writes some of an owner's; returns what kept it from that, if anything did."""
        try:
            for key, until in list(islice(of_owner.items(), _SOME)):
                await self._write_again(key, until)
                self._forget(key, until)
        except LedgerUnavailable as fault:
            return type(fault)
        return None

    async def _write_again(self, key: _Key, until: float) -> None:
        try:
            if until > self._wall():
                await self._write(key, until)
        except ValueNotKept:
            log.warning("a checkpoint could not be written down; its owner has to read the result again")
        except LedgerUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 -- a fault of ours: this one is lost, and no other after it
            log.error("a checkpoint could not be written down", error=whereabouts(error))

    def _forget(self, key: _Key, until: float) -> None:
        """It is written, unless it was named once more meanwhile."""
        of_owner = self._unwritten[key[2]]
        if of_owner[key] == until:
            del of_owner[key]
        if not of_owner:
            del self._unwritten[key[2]]


def _not_theirs() -> Refused:
    detail = "There is no checkpoint of yours with this id, or its time is over (jobs.result_ttl)."
    return refuse(Reason.JOB_NOT_FOUND, detail)
