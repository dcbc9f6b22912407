"""The metrics registry for /metrics: the source of each number. Part of the composition root."""

import platform
import ssl
import time
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry

from gateway import __version__
from gateway.app.gateway import Public
from gateway.app.observation import Observation
from gateway.app.reload import Reloader
from gateway.listener.accept import Acceptor
from gateway.listener.traffic import Traffic
from gateway.observe.collectors import BuildInfo, ByLabel, Named, Number, Numbers, NumbersByName
from gateway.tls.contexts import Certificates
from gateway.upstream.health import HealthProbe


def make_registry(
    observation: Observation, public: Public, certificates: Certificates, reloader: Reloader, health: HealthProbe
) -> CollectorRegistry:
    """Registers the metrics of requests, of the public listener, of the configuration and of the process."""
    acceptor, stream = public.acceptor, observation.stream
    registry = CollectorRegistry(auto_describe=False)
    registry.register(observation.requests)
    registry.register(_of_listener(acceptor, public.traffic))
    registry.register(_of_configuration(certificates, reloader))
    registry.register(
        Numbers(
            Number("gateway_upstream_up", "Whether every upstream's health path answered.", lambda: health.is_up),
            Number("gateway_log_dropped", "Log events that could not be written.", lambda: stream.dropped, True),
        )
    )
    registry.register(health)
    refused = "Connections turned away before a request."
    registry.register(ByLabel("gateway_connections_refused", refused, "why", acceptor.refused))
    reloads = "Attempts to reload, by result."
    registry.register(ByLabel("gateway_config_reloads", reloads, "result", reloader.results))
    waits = "1 for each setting that waits for a restart."
    waiting = Named("gateway_config_waits_for_restart", waits, "setting", lambda: reloader.waiting)
    registry.register(waiting)
    registry.register(_of_files(reloader))
    started = time.time()
    start = Number(
        "gateway_start_time_seconds", "When it began to serve, in seconds since the epoch.", lambda: started
    )
    registry.register(Numbers(start))
    registry.register(BuildInfo(__version__, platform.python_version(), ssl.OPENSSL_VERSION))
    return registry


def of_admin(acceptor: Acceptor) -> ByLabel:
    """Connections that the admin listener turned away; registered last, as this listener starts after the others."""
    refused = "Connections of the admin listener turned away before a request."
    return ByLabel("gateway_admin_connections_refused", refused, "why", acceptor.refused)


def _of_listener(acceptor: Acceptor, traffic: Traffic) -> Numbers:
    return Numbers(
        Number("gateway_connections", "Client connections, handshakes included.", lambda: acceptor.connections),
        Number("gateway_received_bytes", "Bytes from clients, in the clear.", lambda: traffic.received, True),
        Number("gateway_sent_bytes", "Bytes to clients, in the clear.", lambda: traffic.sent, True),
    )


def _of_files(reloader: Reloader) -> NumbersByName:
    return NumbersByName(
        "gateway_certificate_file_not_after_seconds",
        "When the first certificate of each certificate or CA file in force ends, in seconds since the epoch.",
        "setting",
        lambda: [(found.setting, found.not_after(datetime.now(UTC)).timestamp()) for found in reloader.ends],
    )


def _of_configuration(certificates: Certificates, reloader: Reloader) -> Numbers:
    return Numbers(
        Number(
            "gateway_tls_certificate_not_after_seconds",
            "When the first certificate of the public listener ends, in seconds since the epoch.",
            certificates.not_after_timestamp,
        ),
        Number(
            "gateway_config_last_reload_successful",
            "Whether the latest configuration is in force.",
            lambda: reloader.was_successful,
        ),
        Number(
            "gateway_config_last_reload_success_timestamp_seconds",
            "When the configuration in force was loaded, in seconds since the epoch.",
            lambda: reloader.succeeded_at,
        ),
    )
