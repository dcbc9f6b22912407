"""Which hosts and addresses webhooks may go to."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webhooks.egress.forbidden import is_forbidden, is_wholly_forbidden
from gateway.webhooks.egress.rules import Rules, read_entry
from gateway.webhooks.egress.webhook_url import read_url
from tests.support.pure import PROPERTY, ip

FORBIDDEN = [
    "0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.255", "169.254.169.254", "169.254.0.1", "100.100.100.200",  # noqa: S104
    "168.63.129.16", "192.0.0.192", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "febf::1", "fec0::1", "ff02::1", "fd00:ec2::254", "fd20:ce::254",
    "fd00:ec2::23", "fd00:ec2::253", "fd00:c1::a9fe:a9fe", "fd00:42::42", "fd00:a9fe:a9fe::1", "fd00:100::100:200",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:7f00:1::",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "2001:db8::5efe:127.0.0.1", "fd00::200:5efe:169.254.169.254",
    "64:ff9b:1::127.0.0.1", "64:ff9b:1:7f00:0:100::", "64:ff9b:1:a9fe:a9:fe00::",
]  # fmt: skip
FREE = [
    "1.1.1.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.100.100.201", "100.64.0.1", "169.253.255.255",
    "223.255.255.255",
    "fd00::1", "2606:4700::1111", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:a00:1::", "2001:db8::5efe:10.0.0.1",
    "64:ff9b:1::10.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("text", FORBIDDEN)
def test_addresses_that_no_network_opens(text: str) -> None:
    assert is_forbidden(ip(text))
    everything = Rules.of(["0.0.0.0/0", "::/0", "*.example"])
    host = f"[{text}]" if ":" in text else text
    assert not everything.allows(read_url(f"https://{host}/"), [ip(text)])
    assert not everything.allows(read_url("https://a.example/"), [ip(text)])
    assert not everything.allows(read_url("https://a.example/"), [ip("1.1.1.1"), ip(text)])


@pytest.mark.parametrize("text", FREE)
def test_addresses_that_a_network_may_open(text: str) -> None:
    assert not is_forbidden(ip(text))
    everything = Rules.of(["0.0.0.0/0", "::/0"])
    host = f"[{text}]" if ":" in text else text
    assert everything.allows(read_url(f"https://{host}/"), [ip(text)])
    assert everything.allows(read_url("https://a.example/"), [ip(text)])


@given(st.integers(0, 2**128 - 1).map(IPv6Address))
@PROPERTY
def test_every_address_is_judged(address: IPv6Address) -> None:
    assert is_forbidden(address) in {True, False}


@given(
    st.sampled_from(["127.0.0.1", "169.254.169.254", "100.100.100.200"]).map(IPv4Address), st.integers(0, 2**24 - 1)
)
@PROPERTY
def test_a_translators_own_prefixes_hide_nothing(inner: IPv4Address, rest: int) -> None:
    four = int(inner)
    prefix = int(IPv6Address("64:ff9b:1::"))
    of_64 = prefix | rest << 64 & 0xFFFF << 64 | four << 24 | rest & 0xFFFFFF
    of_56 = prefix | (four >> 24) << 64 | (four & 0xFFFFFF) << 32 | rest
    of_48 = prefix | (four >> 16) << 64 | (four & 0xFFFF) << 40 | rest
    for bits in (of_48, of_56, of_64):
        assert is_forbidden(IPv6Address(bits))


def test_nothing_is_allowed_when_nothing_is_written() -> None:
    rules = Rules()
    for url in ("https://a.example/", "https://1.1.1.1/"):
        assert not rules.may_allow(read_url(url))
        assert not rules.allows(read_url(url), [ip("1.1.1.1")])


def test_a_name_is_the_operators_word() -> None:
    rules = Rules.of(["Hooks.Example", "127.0.0.1", "::1", "[fd00::1]"])
    assert rules.allows(read_url("https://hooks.example/"), [ip("127.0.0.1")])
    assert rules.allows(read_url("https://hooks.example/"), [ip("169.254.169.254"), ip("10.0.0.1")])
    assert not rules.allows(read_url("https://hooks.example/"), [])
    assert not rules.may_allow(read_url("https://127.0.0.2/"))
    for url in ("https://127.0.0.1/", "https://[::1]:4/", "https://[::ffff:127.0.0.1]/", "https://[fd00::1]/"):
        target = read_url(url)
        assert target.literal is not None
        assert rules.may_allow(target)
        assert rules.allows(target, [target.literal])
    # The address that is written is meant as that: a name that leads there is another thing.
    assert not rules.allows(read_url("https://other.example/"), [ip("127.0.0.1")])
    assert rules.allows(read_url("https://other.example/"), [ip("fd00::1")])


def test_a_suffix_allows_what_is_below_it() -> None:
    rules = Rules.of(["*.Example.com"])
    assert rules.allows(read_url("https://a.b.example.com/"), [ip("10.0.0.1")])
    for host in ("example.com", "badexample.com", "example.com.evil.example", "10.0.0.1"):
        assert not rules.may_allow(read_url(f"https://{host}/"))


def test_a_network_judges_every_address() -> None:
    rules = Rules.of(["10.0.0.0/8", "fd00::/8"])
    target = read_url("https://a.example/")
    assert rules.may_allow(target)
    assert rules.allows(target, [ip("10.0.0.1"), ip("fd00::2"), ip("::ffff:10.0.0.1")])
    assert not rules.allows(target, [ip("10.0.0.1"), ip("11.0.0.1")])
    assert not rules.allows(target, [])
    assert not rules.allows(target, [ip("64:ff9b::10.0.0.1")])  # a translator is a network of its own


@pytest.mark.parametrize(
    "text",
    ["2002:a00:1::1", "2001:0:808:808::f5ff:fffe", "64:ff9b::a00:1", "64:ff9b:1::a00:1", "::a00:1", "::ffff:0:a00:1",
     "::ffff:10.0.0.1", "2001:db8::5efe:a00:1"],
)  # fmt: skip
def test_an_ipv4_address_within_another_needs_a_network_itself(text: str) -> None:
    """On the way a tunnel or a translator may take it out, and so lead to where no network is allowed."""
    target = read_url("https://a.example/")
    assert not Rules.of(["::/0"]).allows(target, [ip(text)])
    assert not Rules.of(["::/0", "11.0.0.0/8"]).allows(target, [ip(text)])
    assert Rules.of(["::/0", "10.0.0.0/8", "8.8.8.8"]).allows(target, [ip(text)])
    assert Rules.of([text]).allows(target, [ip(text)])
    assert Rules.of(["*.example"]).allows(target, [ip(text)])
    assert not Rules.of(["::/0"]).may_allow(read_url(f"https://[{text}]/"))


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("10.0.0.1/8", "not a network"),
        ("10.0.0.0/33", "not a network"),
        ("127.0.0.0/8", "never allowed as a network"),
        ("169.254.169.254/32", "never allowed as a network"),
        ("::1/128", "never allowed as a network"),
        ("fe80::/64", "never allowed as a network"),
        ("https://a.example", "write the host alone, without https:// and path"),
        ("https://a.example/hook", "write the host alone"),
        ("a.example/hook", "not a network"),
        ("a.example:443", "a port is not part of it"),
        ("*", "not a host name"),
        ("*.", "not a host name"),
        ("a.*.example", "not a host name"),
        ("2130706433", "not a host name"),
        ("", "not a host name"),
        ("b\u00fccher.example", "not a host name"),
    ],
)
def test_entries_that_are_none(entry: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_entry(entry)


def test_a_network_with_more_than_that_is_one() -> None:
    assert not is_wholly_forbidden(read_entry("0.0.0.0/0"))  # type: ignore[arg-type] # it is a network
