"""The settings of the service itself: listeners, TLS, networks, the upstream, storage, shutdown, log."""

import fnmatch
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from gateway.config.settings.fields import (
    CIDR,
    ONE_CONTAINER,
    SIZE_SCHEMA,
    Address,
    Count,
    Duration,
    Port,
    ReadableFile,
    SecretDigest,
    SecretValue,
    Section,
    Size,
    Switch,
    Timeout,
    check_origin,
    default,
    one_container,
    plain_path,
)
from gateway.ledger.postgres_url import is_postgres_url, read_postgres_url
from gateway.units import size


class Listen(Section):
    """The public listener."""

    address: Address = "0.0.0.0"  # noqa: S104 -- a gateway is reached from outside; network.allow has no default
    """Address to bind; `::` takes IPv4 clients too."""
    port: Port = 8443
    """Port to bind; 0 lets the kernel choose."""
    proxy_protocol: Switch = False
    """Peers in network.trusted_proxies must begin with a PROXY protocol header (version 1 or 2); others must not."""
    handshake_timeout: Timeout = default("10s")
    """Longest TLS handshake, PROXY header included."""
    head_timeout: Timeout = default("15s")
    """Longest wait for a whole request head, from the connection's start or the head's first byte."""
    idle_timeout: Timeout = default("75s")
    """Longest idle keep-alive between two requests."""
    connection_lifetime: Timeout = default("1h")
    """Longest life of a connection: then it closes, idle at once, busy after its present answer."""
    body_idle_timeout: Timeout = default("30s")
    """Longest silence within a request body; also the window that body_min_rate is measured over."""
    send_idle_timeout: Timeout = default("30s")
    """Longest time a client may take nothing of its answer; also the window of body_min_rate for reading clients."""
    body_min_rate: Annotated[int, BeforeValidator(size), WithJsonSchema(SIZE_SCHEMA)] = default("1KB")
    """Least bytes a second of a body, in either direction; `0B` switches it off."""
    max_connections: Count = 10000
    """Most connections at once."""
    max_connections_per_address: Count = 1000
    """Most connections at once from one address; trusted proxies are exempt."""


class CertificatePair(Section):
    """A certificate chain and its private key, both PEM."""

    certificate: ReadableFile
    """PEM file: the certificate, then its intermediates."""
    private_key: ReadableFile
    """PEM file of the key, unencrypted."""


class Tls(CertificatePair):
    """TLS of the public listener."""

    certificate: ReadableFile = Path("certs/server.pem")
    """PEM file of the default certificate, then its intermediates."""
    private_key: ReadableFile = Path("certs/server.key")
    """PEM file of its key, unencrypted."""
    profile: Literal["intermediate", "modern"] = "intermediate"
    """Mozilla's profiles: intermediate is TLS 1.2 and 1.3 with AEAD ciphers, modern is TLS 1.3 alone."""
    certificates: list[CertificatePair] = []
    """More certificates, chosen by SNI; a name that none has gets the default one."""
    client_ca: ReadableFile | None = None
    """PEM file of the CAs whose client certificates are believed."""
    client_certificates: Literal["none", "optional", "required"] = "none"
    """Whether clients are asked for a certificate; required: a request without one is answered 401."""


class NetworkSection(Section):
    """Who may connect, and whom we believe."""

    allow: Annotated[list[CIDR], Field(min_length=1)]
    """Networks whose clients may use the service. Required: there is no default, and no default-open."""
    trusted_proxies: list[CIDR] = []
    """Networks of proxies whose X-Forwarded-For, Forwarded, X-Request-Id and PROXY headers are believed."""
    login_failures_per_minute: Count = 60
    """Failed credentials an address may send each minute before they are answered 429."""


_SEVERAL = frozenset(
    {"urls", "hosts", "servers", "targets", "endpoints", "backends", "replicas", "weight", "balance"}
)


class Upstream(Section):
    """A container: one, never a pool."""

    url: Annotated[str, BeforeValidator(one_container)] = "http://127.0.0.1:8000"
    """Origin of the container: scheme, host and port."""
    connect_timeout: Timeout = default("5s")
    """Longest wait for a connection."""
    read_timeout: Timeout = default("300s")
    """Longest wait for an answer's head, and for the rest of a submit's 2xx; of others longest silence within it."""
    idle_timeout: Timeout = default("3s")
    """How long an idle connection is kept for reuse. uvicorn closes them after 5s: stay below."""
    health_path: str = "/health_check"
    """Path asked every few seconds for gateway_upstream_up."""
    health_timeout: Timeout = default("3s")
    """Longest wait for its answer."""

    @model_validator(mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        if isinstance(value, list) or (isinstance(value, dict) and _SEVERAL & set(map(str, value))):
            raise ValueError(ONE_CONTAINER)
        return value

    @field_validator("url")
    @classmethod
    def _origin(cls, url: str) -> str:
        return check_origin(url)

    @field_validator("health_path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        return plain_path(path)


def check_ledger_url(url: str) -> str:
    """Checks that a URL names a ledger.

    Raises:
        ValueError: it does not.
    """
    if is_postgres_url(url):
        read_postgres_url(url)
    elif not url.startswith("sqlite:///") or url == "sqlite:///":
        raise ValueError("needs the form sqlite:///path/to/ledger.db or postgresql://user@host/database")
    elif "?" in url:  # they would be in the file's name, and so shown: a password, too
        raise ValueError("a file has no parameters: sqlite:///path/to/ledger.db is all of it")
    return url


def _ledger_reference(value: Any, info: ValidationInfo) -> str | SecretValue:
    if isinstance(value, str):
        return check_ledger_url(value)
    try:
        reference = SecretValue.model_validate(value, context=info.context)
    except ValidationError as error:
        said = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise ValueError(said.removeprefix("Value error, ")) from None
    check_ledger_url(reference.value.decode("utf-8", "surrogateescape"))
    return reference


class LedgerSettings(Section):
    """Where keys, reservations and usage are kept."""

    url: Annotated[str | SecretValue, BeforeValidator(_ledger_reference)] = "sqlite:///data/ledger.db"
    """sqlite:///FILE for one replica, postgresql://USER@HOST/DATABASE where several meet; or a reference to it."""
    pooler: Switch = False
    """Whether a pooler such as PgBouncer stands before PostgreSQL, in any of its modes."""
    timeout: Timeout = default("2s")
    """Longest time one of its transactions may take; then a submit is answered 503."""
    turn_timeout: Timeout = default("5s")
    """Longest wait for a turn (a connection to PostgreSQL, the one writer of SQLite) before that; then likewise."""
    reservation_ttl: Timeout = default("1h")
    """How long the pages of a job that nobody settles stay in flight; then they are charged as reserved."""


def _field_pattern(pattern: str) -> str:
    if fnmatch.fnmatchcase("file", pattern):
        raise ValueError("would refuse the document itself, which stands in the field file")
    return pattern


FieldPattern = Annotated[str, Field(pattern=r"^[a-z0-9_*.-]{1,63}$"), AfterValidator(_field_pattern)]


class Body(Section):
    """How submits are looked into as they pass."""

    spool_dir: Path | None = None
    """Where uploads lie while their pages are counted, without a name; null: the system's temporary directory."""
    spool_limit: Size = default("2GB")
    """Most bytes of all uploads that lie there; a submit that needs more is answered 503."""
    count_timeout: Timeout = default("10s")
    """Longest time to count the pages of a PDF, from when a process has it; then it counts as pages_per_request."""
    count_memory: Size = default("512MB")
    """Most memory of a process that counts pages."""
    unverified_limit: Size = default("32MB")
    """Most bytes of all bodies that nobody has vouched for (webhooks, some about a job); a quarter for an address."""
    refused_fields: list[FieldPattern] = default(
        ["llm_service", "*_base_url", "*_endpoint", "*_location", "processors", "converter_cls", "config_json",
         "debug_*", "*_folder", "*_dir"]
    )  # fmt: skip
    """Further fields that a form may not have, `*` for anything: by these callers name addresses, code or paths."""
    allow_file_url: Switch = False
    """Whether the form may have file_url, which makes the container fetch documents from your network."""
    allow_webhook_url: Switch = False
    """Whether the form may have webhook_url, which makes the container call into your network."""


class AdminTls(CertificatePair):
    """TLS of the admin listener."""


class Admin(Section):
    """The second listener: probes and metrics."""

    address: Address = "127.0.0.1"
    """Address to bind."""
    port: Port = 9090
    """Port to bind; 0 lets the kernel choose."""
    token: SecretDigest | None = None
    """Bearer token for all but /livez and /readyz; without one only loopback peers and Hosts are served."""
    tls: AdminTls | None = None
    """Certificate and key, when the listener is to speak TLS."""


class Audit(Section):
    """The audit trail in the ledger; the log has it, too."""

    keep: Timeout = default("365d")
    """How long its records are kept."""
    most: Count = 1_000_000
    """Most first reads of jobs, and most refusals, that are kept; changes go by `keep` alone."""


class Shutdown(Section):
    """What SIGTERM starts."""

    drain_delay: Duration = default("5s")
    """How long connections are still accepted after /readyz has fallen."""
    drain_timeout: Duration = default("60s")
    """How long running exchanges may take to end after that."""


class LogLevel(StrEnum):
    """Least level that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Log(Section):
    """The event stream on standard output."""

    format: Literal["json", "console"] = "json"
    """json: one object a line; console: for people."""
    level: LogLevel = LogLevel.INFO
    """Requests are logged at info."""
