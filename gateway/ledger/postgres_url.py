"""PostgreSQL URLs, as libpq writes them and asyncpg reads them: pure.

The @ occurs once, after user and password. A password that is not percent-encoded spills into hosts, database or
parameters, which are shown and looked up; so such a URL is refused, and no error quotes any of it.
"""

import re
from typing import Final, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

SCHEMES: Final = ("postgresql://", "postgres://")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:@]+)(?::([0-9]{1,5}))?")
_SETTING: Final = re.compile(r"[a-z][a-z0-9_.]*")
_MAX_PORT: Final = 65535
_PORT: Final = 5432
_MAX_LABEL: Final = 63
_MODES: Final = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})
_SESSIONS: Final = frozenset({"any", "read-write", "read-only", "primary", "standby", "prefer-standby"})
# Where and how to connect: all except the session settings for the server.
_HOW: Final = frozenset(
    {
        "host", "port", "dbname", "database", "user", "password", "passfile", "sslmode", "sslcert", "sslkey",
        "sslrootcert", "sslnegotiation", "sslcrl", "sslpassword", "ssl_min_protocol_version",
        "ssl_max_protocol_version", "target_session_attrs", "krbsrvname", "gsslib", "application_name",
    }
)  # fmt: skip
# libpq knows these, asyncpg does not: it would send them to the server, which refuses them.
_UNHEARD: Final = frozenset(
    {
        "channel_binding", "connect_timeout", "gssencmode", "hostaddr", "keepalives", "keepalives_count",
        "keepalives_idle", "keepalives_interval", "load_balance_hosts", "require_auth", "sslcompression", "sslsni",
        "tcp_user_timeout",
    }
)  # fmt: skip


class Host(NamedTuple):
    """A server: a name, an address, or the directory of its socket."""

    name: str
    port: int


class PostgresUrl(NamedTuple):
    """The contents of a URL, except for the password itself."""

    hosts: tuple[Host, ...]
    database: str
    told: tuple[tuple[str, str], ...]
    """Session settings for the server, such as search_path."""
    has_password: bool
    shown: str
    """The URL without user, password and parameters."""


def is_postgres_url(url: str) -> bool:
    """Whether it is a PostgreSQL URL."""
    return url.startswith(SCHEMES)


def read_postgres_url(url: str) -> PostgresUrl:
    """Parses a URL; `hosts` is empty if the environment is to supply them.

    Raises:
        ValueError: what is wrong with it, in words that quote nothing of it.
    """
    parts = _split(url)
    asked = _parameters(parts.query)
    user, _, at = parts.netloc.rpartition("@")
    hosts = _hosts(unquote(at), None) if at else _hosts(asked.get("host", ""), asked.get("port"))
    name, _, password = user.partition(":")
    database = unquote(parts.path.removeprefix("/")) or asked.get("dbname") or asked.get("database")
    owner = unquote(name) or asked.get("user", "")
    return PostgresUrl(
        hosts=hosts,
        database=database or owner,
        told=tuple(sorted((name, value) for name, value in asked.items() if name not in _HOW)),
        has_password=bool(password) or "password" in asked,
        shown=f"{parts.scheme}://{at}{parts.path}",
    )


def _split(url: str) -> SplitResult:
    if any(ord(character) <= ord(" ") or ord(character) == 0x7F for character in url) or "%00" in url:  # noqa: PLR2004 -- DEL
        raise ValueError("has a space or a control character: percent-encode it, or take it away")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("has a host or port that can't be read") from None
    if url.count("@") != parts.netloc.count("@") or url.count("@") > 1 or "#" in url:
        told = "percent-encode those of user, password and parameters: @ is %40, / %2F, ? %3F, # %23"
        raise ValueError(f"has special characters where none belong: {told}")
    return parts


def _parameters(query: str) -> dict[str, str]:
    try:
        asked = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True)) if query else {}
    except ValueError:
        raise ValueError("has parameters that can't be read: name=value&name=value after the ?") from None
    for name in asked:
        if not _SETTING.fullmatch(name):
            raise ValueError("has a parameter whose name can't be read")
        if name in _UNHEARD:
            raise ValueError(f"has {name}, which has no effect here: leave it out")
    _one_of(asked, "sslmode", _MODES)
    _one_of(asked, "target_session_attrs", _SESSIONS)
    return asked


def _one_of(asked: dict[str, str], name: str, known: frozenset[str]) -> None:
    if asked.get(name) is not None and asked[name] not in known:
        raise ValueError(f"has an unknown {name}: use one of {', '.join(sorted(known))}")


def _hosts(text: str, ports: str | None) -> tuple[Host, ...]:
    found = [_host(part) for part in text.split(",")] if text else []
    if ports is None:
        return tuple(Host(name, port or _PORT) for name, port in found)
    given = [_port(part) for part in ports.split(",")]
    if len(given) == 1:
        given *= max(1, len(found))
    if found and len(given) != len(found):
        raise ValueError("has another number of ports than of hosts")
    return tuple(Host(name, port or default) for (name, port), default in zip(found, given, strict=False))


def _host(text: str) -> tuple[str, int | None]:
    if text.startswith("/"):
        return text, None
    found = _HOST.fullmatch(text)
    if found is None or not text.isascii() or not all(0 < len(part) <= _MAX_LABEL for part in _labels(found[1])):
        raise ValueError("has a host or port that can't be read")
    return found[1].strip("[]"), None if found[2] is None else _port(found[2])


def _labels(name: str) -> list[str]:
    """The labels of a host name; looking up an empty or too long one raises arbitrary errors."""
    return name.removesuffix(".").split(".")


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= _MAX_PORT:
        raise ValueError("has a host or port that can't be read")
    return int(text)
