"""How a replica stands, from all its parts, for the admin API and its history. Part of the composition root."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from gateway import __version__
from gateway.admin import overview_answers
from gateway.app.configuration_swap import CertificateStores
from gateway.app.job_parts import JobParts
from gateway.app.ledger_parts import LedgerParts
from gateway.app.observation import Observation
from gateway.app.reload import Reloader
from gateway.auth.jwks.source import described_source
from gateway.auth.jwks.store import KeySets
from gateway.config.ledger_url import url_of
from gateway.config.state import Live
from gateway.ledger.postgres_url import is_postgres_url
from gateway.ledger.schema import DeliveryState
from gateway.ledger.url import shown_url
from gateway.listener.accept import Acceptor
from gateway.model.jobs import JOB_STATES
from gateway.observe.history import EVERY, Gauges, History, Reading, reading_of
from gateway.tls.contexts import Certificates
from gateway.tls.file_ends import FileEnd
from gateway.units import maybe_moment, moment
from gateway.upstream.health import HealthProbe, HealthState


class Overview:
    """Reads the parts when it is asked."""

    def __init__(
        self,
        live: Live,
        parts: LedgerParts,
        jobs: JobParts,
        observation: Observation,
        acceptor: Acceptor,
        health: HealthProbe,
    ) -> None:
        self._live = live
        self._parts = parts
        self._jobs = jobs
        self._requests = observation.requests
        self._acceptor = acceptor
        self._health = health
        self._wall = parts.replica.wall
        self.started_at = self._wall()
        self.history = History()

    async def run(self) -> None:
        """Adds a point to the history every ten seconds, until cancelled."""
        while True:
            self.history.note(self._reading())
            await asyncio.sleep(EVERY)

    def _reading(self) -> Reading:
        """All counters as they are now."""
        gauges = Gauges(
            in_flight=self._requests.in_flight,
            uploads=self._parts.admission.running,
            connections=self._acceptor.connections,
            jobs_running=self._jobs.housekeeping.counts.get("running", 0),
            polls_held=len(self._jobs.long_polls),
            upstreams_up=self._health.is_up,
            ledger_up=self._parts.ledger.problem is None,
        )
        return reading_of(self._requests.routes.values(), self._wall(), self._parts.metrics.settled, gauges)

    def read(self, reloader: Reloader, tls: CertificateStores) -> overview_answers.Overview:
        """How it stands now."""
        missing = self._parts.problems()
        return overview_answers.Overview(
            at=moment(self._wall()),
            version=__version__,
            started_at=moment(self.started_at),
            status="draining" if self._live.is_draining else "not ready" if missing else "ready",
            missing=missing,
            issuers_without_keys=self._parts.key_sets.without_keys,
            upstreams=[self._upstream(name, state) for name, state in self._health.states.items()],
            ledger=self._ledger(),
            certificates=_certificates(tls),
            certificate_files=[_file(found, self._wall()) for found in reloader.ends],
            issuers=self._issuers(self._parts.key_sets),
            configuration=self._configuration(reloader),
            standing=self._standing(),
        )

    def _upstream(self, name: str, state: HealthState) -> overview_answers.UpstreamState:
        now, age = self._wall(), self._health.age
        return overview_answers.UpstreamState(
            name=name,
            url=self._url(name),
            up=state.trouble is None,
            trouble=state.trouble,
            since=moment(now - age(state.since)),
            last_trouble=state.last_trouble,
            last_trouble_at=None if state.failed_at is None else moment(now - age(state.failed_at)),
        )

    def _url(self, name: str) -> str | None:
        settings = self._live.state.settings
        upstream = settings.upstream if name == "default" else settings.upstreams.get(name)
        return None if upstream is None else str(upstream.url)

    def _ledger(self) -> overview_answers.LedgerState:
        trouble = self._parts.ledger.problem
        url = url_of(self._live.state.settings)
        engine: Literal["sqlite", "postgresql"] = "postgresql" if is_postgres_url(url) else "sqlite"
        return overview_answers.LedgerState(engine=engine, name=shown_url(url), up=trouble is None, trouble=trouble)

    def _issuers(self, key_sets: KeySets) -> list[overview_answers.IssuerState]:
        now = self._wall()
        found = []
        for source in self._live.state.settings.authentication.jwt:
            issuer, state = source.issuer, key_sets.state_of(source.issuer)
            found.append(
                overview_answers.IssuerState(
                    issuer=issuer,
                    keys=state.keys,
                    fetched_at=maybe_moment(None if state.age is None else now - state.age),
                    failures=state.failures,
                    dropped_at=maybe_moment(None if state.lasts is None else now + state.lasts),
                    source=described_source(source),
                    trouble=state.trouble,
                    next_fetch_at=maybe_moment(None if state.due is None else now + state.due),
                )
            )
        return found

    def _configuration(self, reloader: Reloader) -> overview_answers.ConfigurationState:
        settings = self._live.state.settings
        return overview_answers.ConfigurationState(
            file=str(reloader.file),
            loaded_at=moment(reloader.succeeded_at),
            is_latest=reloader.was_successful,
            faults=list(reloader.faults),
            waits_for_restart=list(reloader.waiting),
            profiles=sorted(self._live.state.profiles),
            keys=len(settings.keys),
            routes=len(settings.routes),
        )

    def _standing(self) -> overview_answers.Standing:
        states = self._jobs.metrics.states
        undelivered = (DeliveryState.WAITING, DeliveryState.DUE, DeliveryState.DEAD)
        return overview_answers.Standing(
            requests_in_flight=self._requests.in_flight,
            connections=self._acceptor.connections,
            uploads=self._parts.admission.running,
            spool_used_bytes=self._parts.spool.used,
            spool_limit_bytes=self._parts.spool.limit,
            jobs={state: self._jobs.housekeeping.counts.get(state, 0) for state in JOB_STATES},
            is_counted=bool(self._jobs.housekeeping.counts),
            polls_held=len(self._jobs.long_polls),
            webhooks={state.name.lower(): states.get(state, 0) for state in undelivered},
        )


def _certificates(tls: CertificateStores) -> list[overview_answers.CertificateState]:
    found: list[overview_answers.CertificateState] = []
    stores: Sequence[tuple[Literal["public", "admin"], Certificates | None]] = (
        ("public", tls.public),
        ("admin", tls.admin),
    )
    for listener, store in stores:
        for pair in store.pairs if store is not None else ():
            names, not_after = [*pair.names, *pair.addresses], moment(pair.not_after.timestamp())
            found.append(overview_answers.CertificateState(listener=listener, names=names, not_after=not_after))
    return found


def _file(found: FileEnd, now: float) -> overview_answers.CertificateFile:
    not_after = moment(found.not_after(datetime.fromtimestamp(now, UTC)).timestamp())
    return overview_answers.CertificateFile(setting=found.setting, file=str(found.path), not_after=not_after)
