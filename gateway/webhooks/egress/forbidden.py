"""Addresses that no network in webhooks.out.allow allows (against SSRF): pure.

They lead into this machine, to its link-local neighbours, or to a service that gives out the machine's credentials.
An IPv6 address may contain an IPv4 address that a translator or a tunnel on the way extracts: that one is checked,
too.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

Address = IPv4Address | IPv6Address

_FORBIDDEN: Final[tuple[IPv4Network | IPv6Network, ...]] = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",
            "127.0.0.0/8",
            "169.254.0.0/16",  # link-local, and metadata services of AWS, Azure, GCP and others
            "100.100.100.200",  # metadata of Alibaba Cloud
            "168.63.129.16",  # the host of an Azure machine
            "192.0.0.192",  # metadata of Oracle Cloud
            "224.0.0.0/4",
            "240.0.0.0/4",
            "::",
            "::1",
            "fe80::/10",
            "fec0::/10",
            "ff00::/8",
            "fd00:ec2::/32",  # AWS: metadata (::254), credentials of EKS' pods (::23), names and time
            "fd20:ce::254",  # metadata of GCP
            "fd00:c1::a9fe:a9fe",  # metadata of Oracle Cloud
            "fd00:42::42",  # metadata of Scaleway
            "fd00:a9fe:a9fe::1",  # metadata of Akamai (Linode)
            "fd00:100::100:200",  # metadata of Alibaba Cloud
        ),
    )
)
# Prefixes whose last 32 bits are an IPv4 address: compatible, mapped, translated (RFC 2765), NAT64 (RFC 6052, 8215).
_LAST_32: Final = tuple(map(IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
_LOCAL_NAT64: Final = IPv6Network("64:ff9b:1::/48")
_ISATAP: Final = (0x0000_5EFE, 0x0200_5EFE)
_32_BITS: Final = 0xFFFF_FFFF
_56_BITS: Final = 2**56 - 1


def is_forbidden(address: Address) -> bool:
    """Whether an address, or an IPv4 address within it, is never allowed by a network."""
    return any(one in network for one in (address, *embedded_in(address)) for network in _FORBIDDEN)


def is_wholly_forbidden(network: IPv4Network | IPv6Network) -> bool:
    """Whether all addresses of a network are forbidden."""
    return any(
        network.version == forbidden.version and network.subnet_of(forbidden)  # type: ignore[arg-type] # one version
        for forbidden in _FORBIDDEN
    )


def embedded_in(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that an IPv6 address may contain, for a translator or a tunnel on the way."""
    if isinstance(address, IPv4Address):
        return
    bits = int(address)
    if any(address in network for network in _LAST_32):
        yield IPv4Address(bits & _32_BITS)
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if bits >> 32 & _32_BITS in _ISATAP:
        yield IPv4Address(bits & _32_BITS)
    if address in _LOCAL_NAT64:
        yield from _of_local_nat64(bits)


def _of_local_nat64(bits: int) -> Iterator[IPv4Address]:
    """RFC 6052 2.2: after a prefix of 48, 56, 64 or 96 bits; bits 64 to 71 are left out.

    The length of the prefix is unknown: tries each, and skips the zeros of a longer one, which are not an address.
    """
    without = (bits >> 64) << 56 | bits & _56_BITS  # 120 bits
    found = (bits & _32_BITS, *(without >> (120 - prefix - 32) & _32_BITS for prefix in (48, 56, 64)))
    yield from (IPv4Address(four) for four in found if four >> 24)
