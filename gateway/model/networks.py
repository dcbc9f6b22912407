"""Sets of IP networks, as rules name them: pure.

An IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) counts as its IPv4 address: a dual-stack socket shows every IPv4
client so, and a rule for 10.0.0.0/8 must match it. ipaddress refuses leading zeros, we refuse scope ids.
"""

from bisect import bisect_right
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network


def parse_address(text: str) -> IPv4Address | IPv6Address:
    """Parses one address, without brackets, port or scope id.

    Raises:
        ValueError: it is not an address.
    """
    if "%" in text:
        raise ValueError("an address with a scope id")
    return unmapped(ip_address(text))


def unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Unwraps an IPv4-mapped IPv6 address; returns any other as it is."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def client_prefix(address: IPv4Address | IPv6Address) -> bytes:
    """The unit of limits per address: an IPv4 address or an IPv6 /64, since an IPv6 client has at least that."""
    return address.packed[:8] if isinstance(address, IPv6Address) else address.packed


class Networks:
    """An immutable set of networks. Looking for an address costs the same, be there ten of them or ten thousand."""

    __slots__ = ("_ranges",)

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network] = ()) -> None:
        of_version: dict[int, list[tuple[int, int]]] = {}
        for network in networks:
            span = int(network.network_address), int(network.broadcast_address)
            of_version.setdefault(network.version, []).append(span)
        self._ranges = {version: _merged(spans) for version, spans in of_version.items()}

    @classmethod
    def of(cls, *texts: str) -> "Networks":
        """Parses networks such as `10.0.0.0/8` or `::1`.

        Raises:
            ValueError: one is malformed, or has host bits set.
        """
        return cls(ip_network(text) for text in texts)

    def __contains__(self, address: IPv4Address | IPv6Address) -> bool:
        ranges = self._ranges.get(address.version)
        if ranges is None:
            return False
        firsts, lasts = ranges
        place = bisect_right(firsts, int(address)) - 1
        return place >= 0 and int(address) <= lasts[place]

    def __bool__(self) -> bool:
        return bool(self._ranges)


def _merged(spans: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """The first and the last address of each range, in order; ranges that overlap are one."""
    firsts, lasts = list[int](), list[int]()
    for first, last in sorted(spans):
        if lasts and first <= lasts[-1]:
            lasts[-1] = max(lasts[-1], last)
        else:
            firsts.append(first)
            lasts.append(last)
    return firsts, lasts
