"""Every setting, its type, default and reason. Chapter by chapter the same as docs/configuration.md.

The models are frozen and refuse keys they don't know. Secrets never stand in the file: wherever one is due the value
is a reference, and what is kept of an API key or a token is its SHA-256 alone.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from gateway.model import Access, Kind
from gateway.policy import compile_pattern
from gateway.units import seconds, size

_DURATION = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)$", "examples": ["5s", "1h"]}
_SIZE = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?(B|KB|MB|GB)$", "examples": ["200MB"]}
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?|\[[0-9a-f:.]+\]")
_DIGEST_BYTES = 32


def _positive(value: float) -> float:
    if value <= 0:
        raise ValueError("must be more than zero")
    return value


def _readable(path: Path) -> Path:
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError("is no IP address, such as 0.0.0.0, 127.0.0.1 or ::") from None


Duration = Annotated[float, BeforeValidator(seconds), WithJsonSchema(_DURATION)]
Timeout = Annotated[float, BeforeValidator(seconds), AfterValidator(_positive), WithJsonSchema(_DURATION)]
Size = Annotated[int, BeforeValidator(size), AfterValidator(_positive), WithJsonSchema(_SIZE)]
Port = Annotated[int, Field(ge=0, le=65535, strict=True)]
Switch = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Address = Annotated[str, AfterValidator(_address)]
ReadableFile = Annotated[Path, AfterValidator(_readable)]
Network = IPv4Network | IPv6Network
Methods = Annotated[list[Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]], Field(min_length=1)]


def _check_origin(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("is no URL") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise ValueError("needs the form http://host:port or https://host:port")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("is an origin: scheme, host and port, with no path behind it")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if not _HOST.fullmatch(host):
        raise ValueError("has a host name with characters that none has")
    return f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")


def _plain_path(path: str) -> str:
    if "{" in path or "}" in path or path.endswith("/"):
        raise ValueError(f"{path} is no plain path, such as /api/v1/marker")
    compile_pattern(path)
    return path


def _default(text: str | dict[str, str]) -> Any:
    """A default as its author would write it, unit and all; validated like what a file says."""
    return Field(default=text)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)


def _network(value: object) -> object:
    # Left to pydantic, the union of both versions would report two errors for one bad network.
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str):
        raise ValueError("is no network, such as 10.0.0.0/8 or ::1/128")  # noqa: TRY004 -- pydantic wants ValueError
    try:
        return IPv6Network(value) if ":" in value else IPv4Network(value)
    except ValueError as error:
        raise ValueError(f"is no network, such as 10.0.0.0/8 or ::1/128: {error}") from None


CIDR = Annotated[Any, BeforeValidator(_network), WithJsonSchema({"type": "string", "examples": ["10.0.0.0/8"]})]


class SecretDigest(_Section):
    """A reference to a secret: exactly one of env, file and sha256. Only its SHA-256 is kept."""

    env: str | None = None
    """Name of the environment variable that holds the secret."""
    file: Path | None = None
    """File that holds the secret; one newline at its end is not part of it."""
    sha256: str | None = None
    """SHA-256 of the secret, as 64 hexadecimal digits."""
    digest: SkipJsonSchema[bytes] = Field(default=b"", exclude=True, repr=False)
    length: SkipJsonSchema[int] = Field(default=0, exclude=True, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, dict) or len(value) != 1 or not set(value) <= {"env", "file", "sha256"}:
            raise ValueError("a secret is never written here: use {env: NAME}, {file: /path} or {sha256: HEX}")
        ((form, reference),) = value.items()
        if not isinstance(reference, str) or not reference:
            raise ValueError(f"{form} needs a text")
        if form == "sha256":
            return {form: reference, "digest": _hex_digest(reference), "length": _DIGEST_BYTES}
        environ: Mapping[str, str] = (info.context or {}).get("environ", {})
        secret = environ.get(reference, "").encode() if form == "env" else _read_secret(Path(reference))
        if not secret:
            raise ValueError(f"{'the variable' if form == 'env' else 'the file'} {reference} is empty or not there")
        return {form: reference, "digest": sha256(secret).digest(), "length": len(secret)}


def _hex_digest(text: str) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != _DIGEST_BYTES:
        raise ValueError("sha256 takes the 64 hexadecimal digits of the secret's SHA-256")
    return digest


def _read_secret(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(65536).removesuffix(b"\n").removesuffix(b"\r")
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None


class Listen(_Section):
    """The public listener."""

    address: Address = "0.0.0.0"  # noqa: S104 -- a gateway is reached from outside; network.allow has no default
    """Address to bind; `::` takes IPv4 clients too."""
    port: Port = 8443
    """Port to bind; 0 lets the kernel choose."""
    proxy_protocol: Switch = False
    """Peers in network.trusted_proxies must begin with a PROXY protocol header (version 1 or 2); others must not."""
    handshake_timeout: Timeout = _default("10s")
    """Longest TLS handshake, PROXY header included."""
    head_timeout: Timeout = _default("15s")
    """Longest wait for a whole request head, from the connection's start or the head's first byte."""
    idle_timeout: Timeout = _default("75s")
    """Longest idle keep-alive between two requests."""
    body_idle_timeout: Timeout = _default("30s")
    """Longest silence within a request body; also the window that body_min_rate is measured over."""
    send_idle_timeout: Timeout = _default("30s")
    """Longest time a client may take nothing of its answer; also the window of body_min_rate for reading clients."""
    body_min_rate: Annotated[int, BeforeValidator(size), WithJsonSchema(_SIZE)] = _default("1KB")
    """Least bytes a second of a body, in either direction; `0B` switches it off."""
    max_connections: Count = 10000
    """Most connections at once."""
    max_connections_per_address: Count = 1000
    """Most connections at once from one address; trusted proxies are exempt."""


class CertificatePair(_Section):
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


class NetworkSection(_Section):
    """Who may connect, and whom we believe."""

    allow: Annotated[list[CIDR], Field(min_length=1)]
    """Networks whose clients may use the service. Required: there is no default, and no default-open."""
    trusted_proxies: list[CIDR] = []
    """Networks of proxies whose X-Forwarded-For, Forwarded, X-Request-Id and PROXY headers are believed."""
    login_failures_per_minute: Count = 60
    """Failed credentials an address may send each minute before they are answered 429."""


class Upstream(_Section):
    """The container."""

    url: str = "http://127.0.0.1:8000"
    """Origin of the container: scheme, host and port."""
    connect_timeout: Timeout = _default("5s")
    """Longest wait for a connection."""
    read_timeout: Timeout = _default("300s")
    """Longest silence of the upstream, before its answer and within it."""
    idle_timeout: Timeout = _default("3s")
    """How long an idle connection is kept for reuse. uvicorn closes them after 5s: stay below."""
    health_path: str = "/health_check"
    """Path asked every few seconds for gateway_upstream_up."""

    @field_validator("url")
    @classmethod
    def _origin(cls, url: str) -> str:
        return _check_origin(url)

    @field_validator("health_path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        return _plain_path(path)


class ApiKeys(_Section):
    """API keys as a way to log in."""

    enabled: Switch = True
    """Whether X-API-Key and Bearer keys are accepted."""


class Authentication(_Section):
    """Ways to log in."""

    api_keys: ApiKeys = ApiKeys()
    """API keys."""


class KeySettings(_Section):
    """An API key of the configuration."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}$")]
    """What metrics and logs call the key."""
    secret: SecretDigest
    """Where its secret is."""
    profile: str = "default"
    """The profile whose limits it has."""
    owner: Annotated[str, Field(pattern=r"^[A-Za-z0-9._@-]{1,128}$")] | None = None
    """Whom its jobs belong to; its own id by default. Keys of one owner share jobs."""
    scopes: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9:._-]{1,64}$")]] = []
    """`admin` opens the routes with access: admin."""
    networks: list[CIDR] = []
    """Networks it may be used from, within network.allow; empty: all of these."""


class ProfileSettings(_Section):
    """Limits that keys share."""

    body_limit: Size = _default("200MB")
    """Largest request body; multipart framing may add 0.1 %, at most 8 KB."""


class RouteSettings(_Section):
    """One line of the default-deny table; the first that matches wins."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,63}$")]
    """What metrics and logs call it."""
    methods: Methods
    """Methods it takes."""
    path: str
    """Pattern, exact by segment: text, {name}, {name:a|b}, and a last {name*} for the rest."""
    kind: Kind = Kind.PLAIN
    """submit starts a job, result reads one, plain does neither."""
    access: Access = Access.KEY
    """anyone (whose address is allowed), key, or admin (a key with the scope admin)."""
    host: str | None = None
    """Host header it is for, without port; any by default."""
    networks: list[CIDR] = []
    """Networks it may be used from, within network.allow; empty: all of these."""

    @field_validator("path")
    @classmethod
    def _pattern(cls, path: str) -> str:
        compile_pattern(path)
        return path

    @field_validator("host")
    @classmethod
    def _host(cls, host: str | None) -> str | None:
        if host is not None and not _HOST.fullmatch(host.lower()):
            raise ValueError("is no host name without a port")
        return host.lower() if host else None


class AdminTls(CertificatePair):
    """TLS of the admin listener."""


class Admin(_Section):
    """The second listener: probes and metrics."""

    address: Address = "127.0.0.1"
    """Address to bind."""
    port: Port = 9090
    """Port to bind; 0 lets the kernel choose."""
    token: SecretDigest | None = None
    """Bearer token for all but /livez and /readyz; without one only loopback peers and Hosts are served."""
    tls: AdminTls | None = None
    """Certificate and key, when the listener is to speak TLS."""


class Shutdown(_Section):
    """What SIGTERM starts."""

    drain_delay: Duration = _default("5s")
    """How long connections are still accepted after /readyz has fallen."""
    drain_timeout: Duration = _default("60s")
    """How long running exchanges may take to end after that."""


class LogLevel(StrEnum):
    """Least level that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Log(_Section):
    """The event stream on standard output."""

    format: Literal["json", "console"] = "json"
    """json: one object a line; console: for people."""
    level: LogLevel = LogLevel.INFO
    """Requests are logged at info."""


def _shipped_routes() -> list[RouteSettings]:
    return [
        RouteSettings(name="submit", methods=["POST"], path="/api/v1/{operation:marker|ocr}", kind=Kind.SUBMIT),
        RouteSettings(name="usage", methods=["GET"], path="/api/v1/usage", access=Access.ADMIN),
        RouteSettings(
            name="result",
            methods=["GET"],
            path="/api/v1/{operation:marker|ocr}/{request_id}",
            kind=Kind.RESULT,
        ),
        RouteSettings(name="health", methods=["GET"], path="/health_check", access=Access.ANYONE),
    ]


class Settings(_Section):
    """The whole configuration."""

    listen: Listen = Listen()
    public_url: str | None = None
    """Origin that request_check_url is given; https://<Host of the request> by default."""
    tls: Tls = _default({})
    network: NetworkSection
    upstream: Upstream = Upstream()
    authentication: Authentication = Authentication()
    keys: list[KeySettings] = []
    profiles: dict[Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,63}$")], ProfileSettings] = {}
    """Limits by name; `default` is always there."""
    routes: list[RouteSettings] = Field(default_factory=_shipped_routes)
    aliases: dict[str, str] = {}
    """Paths (with all below them) that are written anew before routes are matched."""
    admin: Admin = Admin()
    shutdown: Shutdown = Shutdown()
    log: Log = Log()

    @field_validator("public_url")
    @classmethod
    def _public(cls, url: str | None) -> str | None:
        return None if url is None else _check_origin(url)

    @field_validator("aliases")
    @classmethod
    def _alias(cls, aliases: dict[str, str]) -> dict[str, str]:
        for path in (*aliases, *aliases.values()):
            _plain_path(path)
        return aliases

    @field_validator("profiles")
    @classmethod
    def _with_default(cls, profiles: dict[str, ProfileSettings]) -> dict[str, ProfileSettings]:
        return {"default": ProfileSettings(), **profiles}
