"""The types of setting values: durations, sizes, networks, files, origins, and references to secrets.

A file never contains secrets: where one is needed the value is a reference. Of an API key or a token only the SHA-256
is kept. A secret used in plain (a shared JWT secret, a database's URL) appears in no repr and no dump.
"""

import re
from collections.abc import Mapping
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
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from gateway.aio.named_files import SECRET_FILE_BYTES, read_named, require_named
from gateway.auth.credential import MAX_CREDENTIAL
from gateway.config.fault_words import is_path, is_variable_name
from gateway.config.networks import read_network
from gateway.errors import FileUnusable
from gateway.model import patterns
from gateway.policy.routes import compile_pattern
from gateway.units import DAY, MOST_COUNTED, seconds, size

DURATION_SCHEMA = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)$", "examples": ["5s", "1h"]}
SIZE_SCHEMA = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?(B|KB|MB|GB)$", "examples": ["200MB"]}
ONE_CONTAINER = "takes one container: its licence forbids balancing load, and a job lives in the one that made it"
HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?|\[[0-9a-f:.]+\]")
_DIGEST_BYTES = 32
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_MAX_BYTES = 2**50
_MAX_DAYS = 36_500
_SPAN_SCHEMA = {**DURATION_SCHEMA, "$comment": f"at most {_MAX_DAYS}d"}


def _positive(value: float) -> float:
    if value <= 0:
        raise ValueError("must be more than zero")
    return value


def _foreseeable(value: float) -> float:
    if value > _MAX_DAYS * DAY:
        raise ValueError(f"is more than a hundred years ({_MAX_DAYS}d)")
    return value


def _countable(value: int) -> int:
    if value > _MAX_BYTES:
        raise ValueError("is more than a petabyte")
    return value


def _readable(path: Path, info: ValidationInfo) -> Path:
    if (info.context or {}).get("goes_without_files"):
        return path
    try:
        require_named(path)
    except FileUnusable as error:
        raise ValueError(f"{path} {error}") from None
    return path


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError("is not an IP address, such as 0.0.0.0, 127.0.0.1 or ::") from None


Duration = Annotated[float, BeforeValidator(seconds), AfterValidator(_foreseeable), WithJsonSchema(_SPAN_SCHEMA)]
Timeout = Annotated[Duration, AfterValidator(_positive)]
Bound = Annotated[int, Field(ge=0, le=MOST_COUNTED, strict=True)]
Size = Annotated[
    int, BeforeValidator(size), AfterValidator(_positive), AfterValidator(_countable), WithJsonSchema(SIZE_SCHEMA)
]
Name = Annotated[str, Field(pattern=patterns.NAME)]
Port = Annotated[int, Field(ge=0, le=65535, strict=True)]
Switch = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(ge=1, le=MOST_COUNTED, strict=True)]
Address = Annotated[str, AfterValidator(_address)]
ReadableFile = Annotated[Path, AfterValidator(_readable)]
Methods = Annotated[list[Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]], Field(min_length=1)]


def check_origin(url: str) -> str:
    """Checks that a URL is scheme, host and port alone, and writes it without a slash at its end."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise ValueError("needs the form http://host:port or https://host:port")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("is an origin: scheme, host and port, with no path after it")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if not HOST.fullmatch(host):
        raise ValueError("has a host name with characters that none has")
    return f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")


def one_container(value: object) -> object:
    """Refuses several containers where one is due, with the reason."""
    if isinstance(value, list | tuple | dict) or (isinstance(value, str) and "," in value):
        raise ValueError(ONE_CONTAINER)
    return value


def plain_path(path: str) -> str:
    """Checks that a path is absolute and has no pattern in it."""
    if "{" in path or "}" in path or path.endswith("/"):
        raise ValueError(f"{path} is not a plain path, such as /api/v1/marker")
    compile_pattern(path)
    return path


PlainPath = Annotated[str, AfterValidator(plain_path)]


def default(text: str | dict[str, Any] | list[str]) -> Any:
    """A default as its author would write it, unit and all; validated like what a file says."""
    return Field(default=text)


class Section(BaseModel):
    """What all sections of the configuration have in common."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        use_attribute_docstrings=True,
        serialize_by_alias=True,  # the setting `in` can't be a Python name
    )


def _network(value: object) -> object:
    # pydantic's own union of both versions would report two errors for one bad network.
    return value if isinstance(value, IPv4Network | IPv6Network) else read_network(value)


CIDR = Annotated[Any, BeforeValidator(_network), WithJsonSchema({"type": "string", "examples": ["10.0.0.0/8"]})]


class SecretDigest(Section):
    """A reference to a secret: exactly one of env, file and sha256. Only its SHA-256 is kept."""

    env: str | None = None
    """Name of the environment variable that holds the secret."""
    file: Path | None = None
    """File that holds the secret; line ends at its end are not part of it."""
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
        secret = _look_up(form, reference, info)
        if not _carried(secret):
            told = "a control character, a blank at its start or end, or more than 8 KB"
            raise ValueError(f"what {form} {reference} holds can be in no header: it has {told}")
        return {form: reference, "digest": sha256(secret).digest(), "length": len(secret)}


class SecretValue(Section):
    """A reference to a secret that must be used as it is: exactly one of env and file."""

    env: str | None = None
    """Name of the environment variable that holds the secret."""
    file: Path | None = None
    """File that holds the secret; line ends at its end are not part of it."""
    value: SkipJsonSchema[bytes] = Field(default=b"", exclude=True, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict) or len(value) != 1 or not set(value) <= {"env", "file"}:
            raise ValueError("a secret is never written here: use {env: NAME} or {file: /path}")
        ((form, reference),) = value.items()
        if not isinstance(reference, str) or not reference:
            raise ValueError(f"{form} needs a text")
        return {form: reference, "value": _look_up(form, reference, info)}


def _look_up(form: str, reference: str, info: ValidationInfo) -> bytes:
    context = info.context or {}
    try:
        return _found(form, reference, context.get("environ", {}))
    except ValueError:
        if not context.get("goes_without_secrets"):
            raise
    return sha256(f"{form} {reference}".encode("utf-8", "surrogateescape")).hexdigest().encode()


def _found(form: str, reference: str, environ: Mapping[str, str]) -> bytes:
    found = environ.get(reference, "").encode("utf-8", "surrogateescape") if form == "env" else _read(reference)
    secret = found.rstrip(b"\r\n")
    if not secret:
        raise ValueError(_about(form, reference, "is empty or not there"))
    return secret


def _about(form: str, reference: str, what: str) -> str:
    """What is wrong with what a reference names; not its name, where that may be the secret itself."""
    name = "the variable" if form == "env" else "the file"
    if is_variable_name(reference) if form == "env" else is_path(reference):
        return f"{name} {reference} {what}"
    plain = "a name in capitals" if form == "env" else "plainly a path"
    return f"{name} {what}; its name is not {plain}, and not repeated: it may be the secret itself"


def _hex_digest(text: str) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != _DIGEST_BYTES:
        raise ValueError("sha256 takes the 64 hexadecimal digits of the secret's SHA-256")
    return digest


def _read(reference: str) -> bytes:
    try:
        return read_named(Path(reference), SECRET_FILE_BYTES)
    except FileUnusable as error:
        raise ValueError(_about("file", reference, str(error))) from None


def _carried(secret: bytes) -> bool:
    """Whether a header can have it as its value (RFC 9110 5.5)."""
    return len(secret) <= MAX_CREDENTIAL and secret.strip(b" \t") == secret and not _CONTROL.search(secret)
