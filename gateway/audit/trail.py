"""Writes the audit trail to the ledger and the log, in the background: no request waits for it.

Notes stay in memory until the next turn, a second later. While the ledger is unavailable they wait, up to a limit;
notes beyond it go to the log only and are counted. Records written elsewhere (the command line, the admin API) are in
the ledger first, and one replica writes them to its log.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from gateway.aio.periodic import take_turns
from gateway.audit.refusals import Refusals
from gateway.audit.unwritten import Unwritten
from gateway.config.secrets import Declared, declared_secrets
from gateway.config.settings import Settings
from gateway.errors import LedgerUnavailable, ValueNotKept
from gateway.jobs.job import Job
from gateway.ledger import audit
from gateway.ledger.audit import FirstRead
from gateway.ledger.ledger import Ledger
from gateway.ledger.news import Question
from gateway.model.audit import Action, Entry
from gateway.observe.log import LogStream
from gateway.units import moment

_PURGE: Final = 600
_AT_ONCE: Final = 200
_MAX_WAITING: Final = 10_000
_MAX_PURGES: Final = 50
_ACTOR: Final = "configuration"
log = structlog.get_logger()


class AuditTrail:
    """Runs until it is cancelled. `wall` is in seconds since the epoch.

    `dropped` counts the records that the ledger did not get.
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: Callable[[], Settings],
        refusals: Refusals,
        stream: LogStream,
        wall: Callable[[], float],
        most: int = _MAX_WAITING,
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._refusals = refusals
        self._stream = stream
        self._wall = wall
        self._waiting: Unwritten[Entry | FirstRead] = Unwritten(most)
        self._stated: Settings | None = None
        self._declared: dict[str, Declared] = {}
        self._purging: asyncio.Task[None] | None = None
        self._at_once = _AT_ONCE
        self._untold = Question(ledger.version)
        self.dropped = 0

    def read(self, job: Job, actor: str, client: str) -> None:
        """Notes that a client got a job's result, or a part of it; only the first time counts."""
        if job.read_is_noted:
            return
        job.read_is_noted = True
        detail = {"upstream": job.upstream, "owner": job.owner, "client": client}
        entry = Entry(int(self._wall()), actor, Action.READ, job.request_id, detail)
        self._put(FirstRead(entry, job.upstream, job.owner))

    async def run(self) -> None:
        """Runs a turn each second."""
        await take_turns(self.turn, lambda error: log.error("the audit trail could not be written", error=error))

    async def turn(self, turn: int) -> None:
        """Does the work of one turn.

        Raises:
            LedgerUnavailable: some of it is not done yet.
        """
        for entry in self._refusals.over(self._wall()):
            self._put(entry)
        await self._write()
        await self._state_secrets()
        await self._log_changes()
        if turn % _PURGE == 0 and (self._purging is None or self._purging.done()):
            self._purging = asyncio.get_running_loop().create_task(self._purge())

    async def close(self, within: float) -> None:
        """Writes the rest, within `within` seconds; records that the ledger does not take go to the log only."""
        if self._purging is not None:
            self._purging.cancel()
            await asyncio.wait([self._purging])
        for entry in self._refusals.all():
            self._put(entry)
        try:
            async with asyncio.timeout(within):
                await self._write()
        except (LedgerUnavailable, TimeoutError):
            while self._waiting:
                self._drop(self._waiting.take_oldest())

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at each scrape."""
        yield CounterMetricFamily(
            "gateway_audit_records_dropped",
            "Audit records that the log has and the ledger has not.",
            self.dropped,
        )

    def _put(self, note: Entry | FirstRead) -> None:
        without = self._waiting.put(note)
        if without is not None:
            self._drop(without)

    def _drop(self, note: Entry | FirstRead) -> None:
        self.dropped += 1
        self._log(note.entry if isinstance(note, FirstRead) else note)

    def _log(self, entry: Entry) -> None:
        self._stream.put(audit_event(entry, datetime.fromtimestamp(self._wall(), UTC)))

    async def _write(self) -> None:
        while self._waiting:
            try:
                with self._waiting.some(self._at_once) as some:
                    written = await self._ledger.write(lambda c, some=some: audit.append(c, some))  # type: ignore[misc]
            except ValueNotKept:  # of one of them, and for ever: it goes to the log only
                self._at_once = max(1, len(some) // 2)
                if len(some) == 1:
                    self._drop(self._waiting.take_oldest())
                continue
            except LedgerUnavailable:
                self._at_once = max(1, self._at_once // 2)  # a slow ledger may manage fewer in time
                raise
            self._at_once = _AT_ONCE
            for entry in written:
                self._log(entry)

    async def _state_secrets(self) -> None:
        """Records which secrets a new configuration has changed, once it is in force."""
        settings = self._settings()
        if settings is self._stated:
            return
        # On a thread: for thousands of keys it would hold the loop.
        declared, fingerprints, replaced = await asyncio.to_thread(_declare, settings, self._declared)
        now = self._wall()
        entries = await self._ledger.write(lambda c: audit.state_secrets(c, fingerprints, replaced, _ACTOR, now))
        self._stated, self._declared = settings, declared
        await self._log_all(deque(entries))

    async def _log_all(self, left: deque[Entry]) -> None:
        """Logs what is in the ledger already, a few in each turn of the loop; all the rest if it is cancelled."""
        try:
            while left:
                for _ in range(min(len(left), _AT_ONCE)):
                    self._log(left.popleft())
                await asyncio.sleep(0)
        finally:
            for entry in left:
                self._log(entry)

    async def _log_changes(self) -> None:
        if not await self._untold.is_open():
            return
        while await self._ledger.read(audit.has_untold):
            entries = await self._ledger.write(audit.take_untold)
            for entry in entries:
                self._log(entry)
            if not entries:  # another replica is writing them, and its transaction has not ended yet
                return
        self._untold.mark_answered()

    async def _purge(self) -> None:
        """Deletes what is old or too much: apart, for searches may have the turn of reports for a minute."""
        kept = self._settings().audit
        with suppress(LedgerUnavailable):  # the next one does it
            cuts = await self._ledger.report(lambda c: audit.surplus(c, kept.most))
            for _ in range(_MAX_PURGES):
                if not await self._ledger.write(lambda c: audit.purge(c, self._wall() - kept.keep, cuts)):
                    return


def _declare(
    settings: Settings, before: Mapping[str, Declared]
) -> tuple[dict[str, Declared], dict[str, str | None], set[str]]:
    """The secrets of settings, their fingerprints, and those that replace one of `before`."""
    declared = declared_secrets(settings)
    fingerprints = {path: secret.fingerprint for path, secret in declared.items()}
    return declared, fingerprints, {path for path, secret in declared.items() if before.get(path, secret) != secret}


def audit_event(entry: Entry, now: datetime) -> dict[str, Any]:
    """The record as a log event, with the record's own time beside the event's; `now` is in UTC."""
    return {"timestamp": now, "level": "info", "event": "audit", **entry._asdict(), "at": moment(entry.at)}
