"""Puts a reloaded configuration into force: all of it at once."""

from typing import NamedTuple

from gateway.app.ledger_parts import LedgerParts
from gateway.app.observation import Observation
from gateway.app.prepare import Prepared
from gateway.config.state import Live
from gateway.listener.connections import Connections
from gateway.tls.contexts import Certificates
from gateway.upstream.pool import Upstreams


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
        self._observation.configure_log(new.state.settings.log)
