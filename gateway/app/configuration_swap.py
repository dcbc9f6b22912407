"""Puts a reloaded configuration into force: all of it at once."""

import os
from datetime import UTC, datetime
from typing import Final, NamedTuple

from gateway.app.ledger_parts import LedgerParts
from gateway.app.reload import Prepared
from gateway.audit.refusal_log import RefusalLog
from gateway.audit.refusals import Refusals
from gateway.config.settings import Log
from gateway.config.state import Live
from gateway.listener.connections import Connections
from gateway.observe.callers_seen import CallersSeen
from gateway.observe.log import LogStream, coloured_line, configure, console_line, json_line, shows_colours
from gateway.observe.metrics import RequestMetrics
from gateway.observe.observer import Observer
from gateway.tls.contexts import Certificates
from gateway.upstream.pool import Upstreams

RENDER: Final = {"json": json_line, "console": coloured_line if shows_colours(os.environ) else console_line}


class Observation(NamedTuple):
    """Where requests are reported: the log, the metrics, the audit trail, and who called."""

    refusals: Refusals
    stream: LogStream
    requests: RequestMetrics
    observer: Observer
    seen: CallersSeen
    refusal_log: RefusalLog


class CertificateStores(NamedTuple):
    """The certificates of both listeners; the admin listener may have none."""

    public: Certificates
    admin: Certificates | None


class ConfigurationSwap:
    """Puts a new configuration into force, all of it within one iteration of the loop."""

    def __init__(
        self,
        live: Live,
        ledger_parts: LedgerParts,
        tls: CertificateStores,
        connections: Connections,
        upstreams: Upstreams,
        observation: Observation,
    ) -> None:
        self._live = live
        self._ledger_parts = ledger_parts
        self._tls = tls
        self._connections = connections
        self._upstreams = upstreams
        self._observation = observation

    def put(self, new: Prepared) -> None:
        """Called by the reload."""
        self._live.state = self._ledger_parts.joined(new)
        self._tls.public.swap(new.pairs)
        self._connections.trust(self._tls.public.client_ca)
        if self._tls.admin is not None:
            self._tls.admin.swap(new.admin_pairs)
        self._upstreams.keep_only(frozenset(new.state.upstreams.values()))
        set_log(new.state.settings.log, self._observation.stream, self._observation.observer)


# Shared with the start


def set_log(settings: Log, stream: LogStream, observer: Observer) -> None:
    """Applies a log configuration."""
    stream.render = RENDER[settings.format]
    observer.level = settings.level
    configure(stream, settings.level, utc_now)


def utc_now() -> datetime:
    """The wall clock, for moments that are written down."""
    return datetime.now(UTC)
