"""Sets of IP networks, as lists of rules name them: pure.

An IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) is the IPv4 address it maps: a dual-stack socket shows every IPv4
client so, and a rule for 10.0.0.0/8 must hold for it. Leading zeros are refused by ipaddress, scope ids by us.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network


def parse_address(text: str) -> IPv4Address | IPv6Address:
    """Reads one address, without brackets, port or scope id.

    Raises:
        ValueError: when it is none.
    """
    if "%" in text:
        raise ValueError("an address with a scope id")
    return unmapped(ip_address(text))


def unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Unwraps an IPv4-mapped IPv6 address; any other is itself."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def household(address: IPv4Address | IPv6Address) -> bytes:
    """Whom an address belongs to, for what is counted by address: an IPv6 client owns a /64 at the least."""
    return address.packed[:8] if isinstance(address, IPv6Address) else address.packed


class Networks:
    """An immutable set of networks."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network] = ()) -> None:
        self._networks = tuple(networks)

    @classmethod
    def of(cls, *texts: str) -> "Networks":
        """Reads networks such as `10.0.0.0/8` or `::1`.

        Raises:
            ValueError: for the first that is none, host bits set included.
        """
        return cls(ip_network(text) for text in texts)

    def __contains__(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)

    def __bool__(self) -> bool:
        return bool(self._networks)
