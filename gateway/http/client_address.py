"""Finds the client's IP address from the peer, the headers and the trusted proxies. Pure.

Facts this file rests on:
- Any client can write any X-Forwarded-For. Only the hop that a trusted proxy appended is reliable, so the header
  counts only when the peer is trusted, and it is read from the right: the first hop that is not a trusted proxy is
  the client. Everything further left is the client's own claim.
- A PROXY header is authoritative for its connection. Where it names no address (UNKNOWN, LOCAL, no family), the peer
  is the client; where it names a trusted proxy, that proxy's header counts. It counts for as long as the proxy that
  sent it is trusted: afterwards that proxy is the client, on connections that stand as well.
- X-Forwarded-For together with Forwarded (RFC 7239) means that some proxy passes one of them through unread; we
  can't know which, so such a request is refused.
- An unreadable hop (`unknown`, `_hidden`, junk) is refused: a guess could let a wrong client in.
"""

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from gateway.errors import refuse
from gateway.model.identity import Peer
from gateway.model.networks import Networks, parse_address
from gateway.model.reasons import Reason

_MAX_HOPS: Final = 32
_MAX_BYTES: Final = 4096  # a proxy appends to whatever the client sent
_FORWARDED_FOR: Final = re.compile(r'for=(?:"(?P<quoted>[^"\\]*)"|(?P<plain>[^";,\s]+))\Z', re.IGNORECASE)
_PARAMETER: Final = re.compile(r'[A-Za-z0-9!#$%&\'*+.^_`|~-]+=(?:"[^"\\]*"|[A-Za-z0-9!#$%&\'*+.^_`|~:\[\]-]+)\Z')
_WITH_PORT: Final = re.compile(r"(?:(?P<v4>[0-9.]+)|\[(?P<v6>[0-9A-Fa-f:.]+)\])(?::[0-9]{1,5})?\Z")


def client_address(peer: Peer, known: Mapping[bytes, list[bytes]], trusted: Networks) -> IPv4Address | IPv6Address:
    """Finds the address that the rules apply to.

    Raises:
        Refused: bad_request, when a trusted proxy sent an unreadable header.
    """
    if not peer.is_proxy(trusted):
        return peer.address(trusted)
    x_forwarded_for = known.get(b"x-forwarded-for")
    forwarded = known.get(b"forwarded")
    if x_forwarded_for is not None and forwarded is not None:
        raise refuse(Reason.BAD_REQUEST, "X-Forwarded-For and Forwarded exclude each other.")
    if x_forwarded_for is not None:
        return _first_untrusted(_split(x_forwarded_for), trusted)
    if forwarded is not None:
        return _first_untrusted([_for_of(element) for element in _split(forwarded)], trusted)
    return peer.ip


def _split(values: list[bytes]) -> list[str]:
    commas = sum(value.count(b",") for value in values)
    if len(values) + commas > _MAX_HOPS or sum(map(len, values)) > _MAX_BYTES:
        raise refuse(Reason.BAD_REQUEST, "The request was forwarded too many times.")
    return [part.strip(" \t") for part in b",".join(values).decode("latin-1").split(",")]


def _for_of(element: str) -> str:
    found = None
    for parameter in element.split(";"):
        text = parameter.strip(" \t")
        if not _PARAMETER.match(text):
            raise refuse(Reason.BAD_REQUEST, "The Forwarded header is malformed.")
        match = _FORWARDED_FOR.match(text)
        if match and found is not None:
            raise refuse(Reason.BAD_REQUEST, "The Forwarded header is malformed.")
        if match:
            found = match["quoted"] if match["quoted"] is not None else match["plain"]
    return found or ""


def _first_untrusted(hops: list[str], trusted: Networks) -> IPv4Address | IPv6Address:
    address = None
    for hop in reversed(hops):
        address = _address_of(hop)
        if address not in trusted:
            return address
    if address is None:  # pragma: no cover -- split() of any string yields one part at least
        raise refuse(Reason.BAD_REQUEST, "The forwarding header is empty.")
    return address


def _address_of(hop: str) -> IPv4Address | IPv6Address:
    match = _WITH_PORT.match(hop)
    try:
        return parse_address((match["v4"] or match["v6"]) if match else hop)
    except ValueError:
        raise refuse(Reason.BAD_REQUEST, "The forwarding header holds a hop that is not an address.") from None
