"""Strictly parses URLs that webhooks go to: pure.

A URL that two programs read differently lets an attacker bypass a check. So only a small, plain part of RFC 3986 is
accepted; anything odd is refused, with what to write instead.
"""

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

MAX_CHARACTERS: Final = 2048
_URL: Final = re.compile(r"(?i:https)://([^/?]*)((?:/[^?]*)?)((?:\?.*)?)")
_ODD: Final = re.compile(r'[^\x21-\x7e]|[\\"<>^`{|}]')
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LAST_PORT: Final = 65535
_HTTPS: Final = 443


class Target(NamedTuple):
    """Where a URL leads. `path` is path and query, as sent.

    `literal` is the host's address if the URL contains one; then `host` is that address in its canonical form.
    """

    host: str
    port: int
    path: str
    literal: IPv4Address | IPv6Address | None = None

    @property
    def authority(self) -> str:
        """Host and port as in a URL, without its secret parts."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The canonical URL, which is connected to."""
        return f"https://{self.authority}{self.path}"


def read_url(text: str) -> Target:
    """Parses a URL.

    Raises:
        ValueError: what is wrong with it, in words for its author that quote nothing of it.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"is longer than {MAX_CHARACTERS} characters")
    if _ODD.search(text):
        raise ValueError("has characters that are percent-encoded in a URL")
    if "#" in text:
        raise ValueError("has a fragment, which is never sent")
    match = _URL.fullmatch(text)
    if match is None:
        raise ValueError("needs the form https://host/path")
    if "@" in match[1]:
        raise ValueError("has a user name in it")
    host, port = _authority(match[1])
    literal = read_literal(host)
    return Target(host if literal is None else str(literal), port, (match[2] or "/") + match[3], literal)


def read_host(text: str) -> str:
    """Parses a host name; returns it in lower case.

    Raises:
        ValueError: it is malformed.
    """
    host = text.lower()
    if not _NAME.fullmatch(host):
        raise ValueError("has no host name that can be looked up")
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        # 2130706433, 0x7f.1, 0177.0.0.1: to some programs these are 127.0.0.1.
        raise ValueError("has an address in an odd notation; write four numbers, such as 192.0.2.1")
    return host


def read_literal(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is; None for a name.

    Raises:
        ValueError: it is neither.
    """
    try:
        return IPv6Address(host[1:-1]) if host.startswith("[") else IPv4Address(host)
    except ValueError:
        if host.startswith("["):
            raise ValueError("has a malformed address") from None
    read_host(host)
    return None


def _authority(text: str) -> tuple[str, int]:
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise ValueError("has a malformed host or port")
    port = int(match[2] or _HTTPS)
    if not 0 < port <= _LAST_PORT:
        raise ValueError("has a port that does not exist")
    return match[1].lower(), port
