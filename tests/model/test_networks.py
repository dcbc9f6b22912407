from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.networks import Networks, parse_address, unmapped
from tests.support.pure import PROPERTY, ip


@st.composite
def any_network(draw: st.DrawFn) -> IPv4Network | IPv6Network:
    address = draw(st.ip_addresses())
    return ip_network(f"{address}/{draw(st.integers(0, address.max_prefixlen))}", strict=False)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", IPv4Address("192.0.2.1")),
        ("::1", IPv6Address("::1")),
        ("::ffff:192.0.2.1", IPv4Address("192.0.2.1")),
        ("::FFFF:C000:201", IPv4Address("192.0.2.1")),
        ("::192.0.2.1", IPv6Address("::c000:201")),  # compatible is not mapped
    ],
)
def test_reads_an_address(text: str, address: IPv4Address | IPv6Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["", " 192.0.2.1", "192.0.2.1 ", "192.0.2.01", "192.0.2", "[::1]", "::1%lo", "%", "::1/128", "1", "a", "٣.0.0.1"],
)
def test_refuses_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        parse_address(text)


@PROPERTY
@given(st.ip_addresses(v=4), any_network())
def test_a_rule_holds_for_the_mapped_address_too(address: IPv4Address, network: IPv4Network | IPv6Network) -> None:
    mapped = IPv6Address(f"::ffff:{address}")
    assert unmapped(mapped) == address == unmapped(address)
    assert (unmapped(mapped) in Networks([network])) == (address in network)


@PROPERTY
@given(st.lists(any_network(), max_size=5), st.ip_addresses())
def test_holds_what_one_of_its_networks_holds(
    networks: list[IPv4Network | IPv6Network], address: IPv4Address | IPv6Address
) -> None:
    assert (address in Networks(networks)) == any(address in network for network in networks)
    assert bool(Networks(networks)) == bool(networks)
    if networks:
        assert networks[0][0] in Networks(networks)


def test_reads_networks_and_single_addresses() -> None:
    networks = Networks.of("10.0.0.0/8", "::1", "192.0.2.1")
    assert [ip(text) in networks for text in ("10.1.2.3", "::1", "192.0.2.1", "192.0.2.2", "::2", "11.0.0.0")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "::1/64", "a", "10.0.0.0/8/8", "010.0.0.0/8"])
def test_refuses_what_is_no_network(text: str) -> None:
    with pytest.raises(ValueError, match=r"host bits|netmask|does not appear|Only one"):
        Networks.of("10.0.0.0/8", text)


def test_no_network_holds_nobody() -> None:
    assert ip("10.0.0.1") not in Networks()
    assert not Networks()
