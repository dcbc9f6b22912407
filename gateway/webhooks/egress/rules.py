"""Where webhooks may go (against SSRF): parses and applies webhooks.out.allow. Pure.

An entry is a host name, `*.` and a domain for all names below it, an address, or a network. A host name there allows
all its addresses, on the operator's word. A network or a `*.` never allows the addresses of forbidden.py, no matter
who owns the name. An IPv4 address within an IPv6 address needs a network of its own, too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from gateway.model.networks import Networks, unmapped
from gateway.webhooks.egress.forbidden import embedded_in, is_forbidden, is_wholly_forbidden
from gateway.webhooks.egress.webhook_url import Target, read_host

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NONE: Final = Networks()


@dataclass(frozen=True, slots=True)
class Rules:
    """The entries by kind. `suffixes` begin with a dot."""

    names: frozenset[str] = frozenset()
    suffixes: tuple[str, ...] = ()
    literals: frozenset[Address] = frozenset()
    networks: Networks = _NONE

    @classmethod
    def of(cls, entries: Iterable[str]) -> "Rules":
        """Parses entries.

        Raises:
            ValueError: one is malformed.
        """
        read = [read_entry(entry) for entry in entries]
        literals = [entry for entry in read if isinstance(entry, Address)]
        return cls(
            frozenset(entry for entry in read if isinstance(entry, str) and not entry.startswith(".")),
            tuple(entry for entry in read if isinstance(entry, str) and entry.startswith(".")),
            frozenset(literals),
            Networks([*(entry for entry in read if isinstance(entry, Network)), *map(ip_network, literals)]),
        )

    def names_host(self, target: Target) -> bool:
        """Whether the host is listed by name, or, if the URL has an address, by that address."""
        if target.literal is not None:
            return unmapped(target.literal) in self.literals
        return target.host in self.names or target.host.endswith(self.suffixes)

    def may_allow(self, target: Target) -> bool:
        """Whether any addresses would make the host allowed; else it need not be looked up."""
        if target.literal is not None:
            return self.allows(target, [target.literal])
        return bool(self.networks) or self.names_host(target)

    def allows(self, target: Target, addresses: Sequence[Address]) -> bool:
        """Whether a webhook may go to a host with these addresses: each of them must be allowed."""
        if target.host in self.names or (target.literal is not None and self.names_host(target)):
            return bool(addresses)
        is_named = self.names_host(target)
        return bool(addresses) and all(
            not is_forbidden(address) and (is_named or self._opens(unmapped(address))) for address in addresses
        )

    def _opens(self, address: Address) -> bool:
        """Whether a network allows an address and each IPv4 address in it; one that is listed itself is enough."""
        if address in self.literals:
            return True
        return address in self.networks and all(inner in self.networks for inner in embedded_in(address))


def read_entry(text: str) -> str | Address | Network:
    """Parses one entry; returns the part of `*.example.com` from the dot on.

    Raises:
        ValueError: what is wrong with it.
    """
    if "://" in text:
        raise ValueError(f"{text} is a URL; write the host alone, without https:// and path")
    if "/" in text:
        return _network(text)
    try:
        return unmapped(ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        pass
    try:
        return "." + read_host(text[2:]) if text.startswith("*.") else read_host(text)
    except ValueError:
        raise ValueError(
            f"{text} is not a host name, *.domain, address or network, such as 10.1.0.0/16; a port is not part of it"
        ) from None


def _network(text: str) -> Network:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise ValueError(f"is not a network, such as 10.1.0.0/16: {error}") from None
    if is_wholly_forbidden(network):
        raise ValueError(f"{text} is never allowed as a network; name the host, or the one address without a slash")
    return network
