"""The parts with memory: ledger and its sync, submits in flight, issuers' keys. Part of the composition root."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final

import structlog
from prometheus_client.registry import Collector

from gateway.admission.admission import Admission
from gateway.admission.throttle import Throttle
from gateway.aio.background import Background
from gateway.aio.host_lookups import HostLookups
from gateway.aio.iteration import Iteration
from gateway.aio.shared_context import SharedContext
from gateway.app.prepare import Prepared
from gateway.auth.jwks.fetch import fetch_keys
from gateway.auth.jwks.store import KeySets
from gateway.auth.jwt.key_set import KeySet
from gateway.config.compile import with_issuers_keys
from gateway.config.ledger_url import url_of
from gateway.config.settings import Settings
from gateway.config.state import Live, State, clashes, profile_of, with_blocked, with_ring
from gateway.errors import ConfigurationError, Fault, LedgerUnavailable
from gateway.ledger.ledger import Ledger, open_ledger
from gateway.ledger.migrate import HEAD, Upkeep
from gateway.ledger.replica import Replica
from gateway.ledger.sync import MAX_NAMED, LedgerSync, SyncListeners
from gateway.ledger.url import shown_url
from gateway.ledger.writeahead import log_bytes
from gateway.limits.quotas import AccountCounts, ratios_of
from gateway.model.keys import KeyRecord
from gateway.model.times import Times
from gateway.observe.account_metrics import AccountMetrics
from gateway.observe.collectors import KeySetMetrics, Number, Numbers
from gateway.uploads.pages.counter import PageCounter
from gateway.uploads.spool import Spool, require_usable

_AT_ONCE: Final = 100  # accounts whose metrics are set in one turn of the loop: some two milliseconds
_PATIENCE: Final = 5  # a wait for the account's own turn, as a multiple of a transaction's: that is no late ledger
log = structlog.get_logger()


class LedgerParts:
    """Creates these parts, and merges the keys they learn into the State in force."""

    def __init__(
        self,
        live: Live,
        prepared: Prepared,
        times: Times,
        new_id: Callable[[], str],
        iteration: Iteration,
    ) -> None:
        settings = prepared.state.settings
        self._live = live
        self._wall = wall = times.wall
        self.uses: dict[tuple[str, int], float] = {}
        self.metrics = AccountMetrics()
        self.ledger = _open(live, settings)
        self.replica = Replica(new_id(), self.ledger, wall, Background())
        throttle = Throttle(wall, _PATIENCE * settings.ledger.turn_timeout)
        self.admission = Admission(self.replica, throttle, self.metrics, new_id)
        self.spool = Spool(settings.body.spool_dir, settings.body.spool_limit)
        self.counter = PageCounter(timeout=settings.body.count_timeout, memory=settings.body.count_memory)
        fetch = partial(fetch_keys, iteration, lookups=HostLookups(), shared=SharedContext(iteration.clock))
        self.key_sets = KeySets(self._issuers_changed, fetch)
        self._ignored: dict[str, KeyRecord] = {}
        self.sync = self._make_sync(times)
        live.state = with_blocked(live.state, None)  # until the ledger has said it
        live.state = self.joined(prepared)

    def _make_sync(self, times: Times) -> LedgerSync:
        return LedgerSync(
            self.ledger,
            times,
            self.uses,
            SyncListeners(
                self._keys_changed, lambda settled: self.metrics.pages(*settled), self._show_counts, self._block
            ),
            self.admission.renew_held,
        )

    async def open(self) -> None:
        """Reads the ledger's keys before the first request; starts without them when the ledger is unavailable.

        Raises:
            ConfigurationError: an id is in the configuration and in the ledger, or no upload could be spooled.
        """
        require_usable(self._live.state.settings.body.spool_dir)
        try:
            await self.sync.begin()
        except LedgerUnavailable:
            return  # the sync has logged it; the gateway starts without keys, and /readyz says so
        if self._ignored:
            raise ConfigurationError(_faults(self._live.state, sorted(self._ignored)))

    def work(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """What runs in the background until the gateway ends."""
        return self.sync.run_keys(), self.sync.run(), self.admission.run(), self.key_sets.run()

    async def close(self, within: float) -> None:
        """Writes what the ledger still has to learn, for at most `within` seconds, and closes all parts."""
        await self.replica.background.close(within)
        try:
            await self.sync.note_uses()
        except LedgerUnavailable:
            log.warning("when keys were last used could not be noted")
        await self.ledger.close()
        self.counter.close()
        self.spool.close()

    def problems(self) -> list[str]:
        """What /readyz reports: words of a closed set."""
        found = [("ledger", self.ledger.problem is not None), ("jwks", not self.key_sets.is_ready)]
        return [word for word, is_so in found if is_so]

    def numbers(self) -> Numbers:
        """The metrics of ledger and spool that have no labels."""
        return Numbers(
            Number("gateway_ledger_up", "Whether submits can be counted.", lambda: self.ledger.problem is None),
            Number("gateway_ledger_wal_bytes", "Bytes of the log beside SQLite's file.", self._log_bytes),
            Number("gateway_spool_used_bytes", "Bytes of uploads in the spool.", lambda: self.spool.used),
            Number("gateway_spool_limit_bytes", "Most bytes of uploads in the spool.", lambda: self.spool.limit),
        )

    def collectors(self) -> tuple[Collector, ...]:
        """The collectors of these parts' metrics."""
        return self.metrics, self.numbers(), KeySetMetrics(self.key_sets)

    def _log_bytes(self) -> int:
        return log_bytes(url_of(self._live.state.settings))

    def joined(self, new: Prepared) -> State:
        """A configuration together with the ledger's and the issuers' keys as known now.

        Raises:
            ConfigurationError: an id is in the configuration and in the ledger.
        """
        ring = self._live.state.ring
        faults = _faults(new.state, clashes(new.state, {*ring.records, *self._ignored}))
        if faults:
            raise ConfigurationError(faults)
        sets = self.key_sets.configure(new.state.settings.authentication.jwt, new.local_keys)
        ignored, self._ignored = self._ignored, {}
        joined = with_issuers_keys(with_ring(new.state, ring.changed(ignored.values())), sets)
        joined = with_blocked(joined, self._live.state.blocked)
        lost = sorted(record.id for record in joined.ring.records.values() if record.profile not in joined.profiles)
        if lost:
            log.warning("keys of the ledger have lost their profile", keys=lost[:MAX_NAMED], count=len(lost))
        return joined

    def _keys_changed(self, records: list[KeyRecord]) -> None:
        state = self._live.state
        twice = clashes(state, (record.id for record in records))
        if twice:
            log.error("keys of the ledger are ignored, for the configuration has their ids", keys=twice)
        self._ignored |= {record.id: record for record in records if record.id in twice}
        self._live.state = with_ring(state, state.ring.changed(found for found in records if found.id not in twice))

    def _block(self, accounts: frozenset[str]) -> None:
        self._live.state = with_blocked(self._live.state, accounts)

    def _issuers_changed(self, sets: Mapping[str, KeySet]) -> None:
        self._live.state = with_issuers_keys(self._live.state, sets)

    async def _show_counts(self, counts: dict[str, AccountCounts]) -> None:
        """Updates the metrics of accounts; an account shown before and missing now has used nothing in this month."""
        now = self._wall()
        for number, account in enumerate({*counts, *self.metrics.shown()}):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
            profile = profile_of(self._live.state, account)
            if profile is None:
                self.metrics.forget(account)
            else:
                self.metrics.set_ratios(account, ratios_of(profile, counts.get(account, AccountCounts()), now))


def _open(live: Live, settings: Settings) -> Ledger:
    return open_ledger(
        url_of(settings),
        settings.ledger.timeout,
        lambda: url_of(live.state.settings),
        turn=settings.ledger.turn_timeout,
        behind_pooler=settings.ledger.pooler,
        upkeep=Upkeep(changed=partial(_log_change, shown_url(url_of(settings)))),
    )


def _log_change(ledger: str, before: str) -> None:
    if before:
        log.warning("ledger tables changed", ledger=ledger, before=before, now=HEAD)
    else:
        log.info("ledger made", ledger=ledger)


def _faults(state: State, twice: list[str]) -> list[Fault]:
    ids = [key.id for key in state.settings.keys]
    return [
        Fault(f"keys[{ids.index(key_id)}].id", f"{key_id} is in the ledger, too; take one of them away")
        for key_id in twice
    ]
