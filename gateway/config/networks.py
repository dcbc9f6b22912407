"""Networks as people write them, and how to write what is none. Pure."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network, summarize_address_range
from itertools import islice
from typing import Final

Network = IPv4Network | IPv6Network
_WRONG: Final = "is not a network, such as 10.0.0.0/8 or ::1/128"
_NAME: Final = re.compile(r"(?=.*[g-zG-Z.])[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\Z")
_MOST: Final = 4


def read_network(value: object) -> Network:
    """Reads a network in CIDR notation, or an address.

    Raises:
        ValueError: it is none; says how to write what was perhaps meant.
    """
    if not isinstance(value, str):
        raise ValueError(_WRONG)  # noqa: TRY004 -- pydantic wants ValueError
    try:
        return IPv6Network(value) if ":" in value else IPv4Network(value)
    except ValueError as error:
        raise ValueError(_mend(value) or f"{_WRONG}: {error}") from None


def _mend(value: str) -> str | None:
    address, slash, length = value.partition("/")
    first, dash, last = value.partition("-")
    if " - " in value and "/" in first:
        return f"{_WRONG}: a list item stands further right than the one above it: indent them alike"
    if slash and length.isdigit() and _is_address(address):
        return _by_length(value, address, int(length))
    if dash and _is_address(first.strip()) and _is_address(last.strip()):
        return _by_range(first.strip(), last.strip())
    if _NAME.match(value) and not value.replace(".", "").isdigit():
        return f"{_WRONG}: names are not looked up, so write addresses"
    return None


def _by_length(value: str, address: str, length: int) -> str:
    most = 128 if ":" in address else 32
    if length > most:
        return f"{_WRONG}: after the slash is at most {most}"
    whole = ip_network(value, strict=False)
    return f"{_WRONG}: {address} is within one, so write {whole}, or {address} alone"


def _by_range(first: str, last: str) -> str:
    try:
        found = list(map(str, islice(summarize_address_range(ip_address(first), ip_address(last)), _MOST + 1)))
    except (TypeError, ValueError):
        return f"{_WRONG}: a range is not read, and this one ends before it begins"
    more = ", ..." if len(found) > _MOST else ""
    return f"{_WRONG}: a range is not read, so write {', '.join(found[:_MOST])}{more}"


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
