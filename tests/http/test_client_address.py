import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.client_address import client_address
from gateway.model.identity import Peer
from gateway.model.networks import Networks
from gateway.model.reasons import Reason
from tests.support.pure import PROPERTY, Address, addresses, denial_of, ip

TRUSTED = Networks.of("10.0.0.0/8", "fd00::/8")
PROXY = ip("10.0.0.1")
XFF, FORWARDED = b"x-forwarded-for", b"forwarded"

strangers = addresses.filter(lambda address: address not in TRUSTED)
proxies = st.integers(1, 2**24 - 2).map(lambda n: ip(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"))
junk = st.binary(max_size=20).filter(lambda value: b"," not in value)


@st.composite
def hops(draw: st.DrawFn, of: st.SearchStrategy[object]) -> bytes:
    """An address as some proxy writes it: bare, bracketed, with a port, with space around it."""
    address = draw(of)
    host = f"[{address}]" if ":" in str(address) else str(address)
    text = draw(st.sampled_from([str(address), host, f"{host}:1", f"{host}:65535", f" {host}", f"{host}\t"]))
    return text.encode()


@st.composite
def split(draw: st.DrawFn, values: list[bytes]) -> list[bytes]:
    """The same list, spread over several header lines."""
    lines: list[bytes] = []
    for value in values:
        is_joined = draw(st.booleans())
        if lines and is_joined:
            lines[-1] += b"," + value
        else:
            lines.append(value)
    return lines


# Whom nobody has to believe


@PROPERTY
@given(strangers, st.dictionaries(st.sampled_from([XFF, FORWARDED]), st.lists(st.binary(max_size=40), min_size=1)))
def test_an_untrusted_peer_is_the_client_whatever_it_claims(peer: Address, known: dict[bytes, list[bytes]]) -> None:
    assert client_address(Peer(peer, 1), known, TRUSTED) == peer


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert client_address(Peer(PROXY, 1), {XFF: [b"192.0.2.1"]}, Networks()) == PROXY


def test_a_trusted_peer_that_forwards_for_nobody_is_the_client() -> None:
    assert client_address(Peer(PROXY, 1), {b"host": [b"a"]}, TRUSTED) == PROXY


@pytest.mark.parametrize("named", ["192.0.2.1", "10.0.0.2"])
def test_whom_a_proxy_named_that_is_trusted_no_more_is_that_proxy(named: str) -> None:
    peer, known = Peer(ip(named), 1, named_by=ip("198.51.100.1")), {XFF: [b"192.0.2.7"]}
    assert client_address(peer, known, TRUSTED) == ip("198.51.100.1")
    assert client_address(peer, {}, Networks.of("198.51.100.1/32")) == ip(named)
    assert not peer.is_proxy(TRUSTED)


# The walk from the right


@PROPERTY
@given(st.data())
def test_the_right_most_untrusted_hop_wins_whatever_is_prepended(data: st.DataObject) -> None:
    client = data.draw(strangers)
    claimed = data.draw(st.lists(junk | hops(addresses), max_size=20))
    passed = data.draw(st.lists(hops(proxies), max_size=10))
    values = data.draw(split([*claimed, data.draw(hops(st.just(client))), *passed]))
    assert client_address(Peer(PROXY, 1), {XFF: values}, TRUSTED) == client


@PROPERTY
@given(st.data())
def test_forwarded_is_walked_the_same_way(data: st.DataObject) -> None:
    client = data.draw(strangers)
    texts = [*data.draw(st.lists(addresses, max_size=10)), client, *data.draw(st.lists(proxies, max_size=10))]
    elements = [f'For="[{a}]:4711"' if ":" in str(a) else f"for={a};proto=https;by=_secret" for a in texts]
    values = data.draw(split([element.encode() for element in elements]))
    assert client_address(Peer(PROXY, 1), {FORWARDED: values}, TRUSTED) == client


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (b"10.9.9.9, 10.8.8.8", "10.9.9.9"),  # trusted proxies all the way: the left-most is the client
        (b"192.0.2.1, ::ffff:10.0.0.9", "192.0.2.1"),  # a mapped address is the one it maps
        (b"::ffff:192.0.2.1", "192.0.2.1"),
        (b"2001:db8::1", "2001:db8::1"),
        (b"[2001:db8::1]:443", "2001:db8::1"),
        (b"unknown, 192.0.2.1", "192.0.2.1"),  # not reached, so not read
        (b"192.0.2.1:80,fd00::1", "192.0.2.1"),
    ],
)
def test_reads_x_forwarded_for(value: bytes, client: str) -> None:
    assert client_address(Peer(PROXY, 1), {XFF: [value]}, TRUSTED) == ip(client)


@pytest.mark.parametrize(
    "value",
    [b"", b" ", b",", b"192.0.2.1,", b"192.0.2.1,,10.0.0.9", b"unknown", b"_hidden", b"localhost", b"192.0.2",
     b"192.0.2.1.1",
     b"192.0.2.256", b"192.0.02.1", b"192.0.2.1:", b"192.0.2.1:123456", b"192.0.2.1:x", b"[::1", b"::1]",
     b"[192.0.2.1]:x",
     b"fe80::1%eth0", b"[fe80::1%25eth0]", b'"192.0.2.1"', b"192.0.2.1 192.0.2.2", b"192.0.2.1;", b"\xb2.0.0.1", b"1",
     b"0x7f000001",
     b"192.0.2.1\x0b", b"for=192.0.2.1"],
)  # fmt: skip
def test_refuses_a_hop_that_is_no_address(value: bytes) -> None:
    denial = denial_of(client_address, Peer(PROXY, 1), {XFF: [value]}, TRUSTED)
    assert denial.reason is Reason.BAD_REQUEST
    assert denial.detail == "The forwarding header holds a hop that is not an address."


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (b"for=192.0.2.1", "192.0.2.1"),
        (b"FOR=192.0.2.1;Proto=http", "192.0.2.1"),
        (b'for="192.0.2.1:80"', "192.0.2.1"),
        (b'by=10.0.0.1; for="[2001:db8::1]" ;host=a', "2001:db8::1"),
        (b'for=192.0.2.1 , for="10.0.0.2"', "192.0.2.1"),
    ],
)
def test_reads_forwarded(value: bytes, client: str) -> None:
    assert client_address(Peer(PROXY, 1), {FORWARDED: [value]}, TRUSTED) == ip(client)


@pytest.mark.parametrize(
    "value",
    [b"", b"for", b"for=", b"192.0.2.1", b"for=192.0.2.1;", b";for=192.0.2.1", b"for = 192.0.2.1",
     b"for=192.0.2.1;for=192.0.2.2",
     b'for="192.0.2.1', b'for="192.0.2.1\\"', b"for=192.0.2.1 192.0.2.2", b"proto=https", b"for=unknown",
     b"for=_hidden",
     b'for=""', b'for="";for=192.0.2.1', b"for=192.0.2.1,", b"for=192.0.2.1\x00"],
)  # fmt: skip
def test_refuses_a_forwarded_that_can_not_be_read(value: bytes) -> None:
    assert denial_of(client_address, Peer(PROXY, 1), {FORWARDED: [value]}, TRUSTED).reason is Reason.BAD_REQUEST


def test_refuses_both_headers_together() -> None:
    known = {XFF: [b"192.0.2.1"], FORWARDED: [b"for=192.0.2.1"]}
    assert (
        denial_of(client_address, Peer(PROXY, 1), known, TRUSTED).detail
        == "X-Forwarded-For and Forwarded exclude each other."
    )


@pytest.mark.parametrize(("name", "hop"), [(XFF, b"10.0.0.9"), (FORWARDED, b"for=10.0.0.9")])
def test_bounds_the_walk(name: bytes, hop: bytes) -> None:
    assert client_address(Peer(PROXY, 1), {name: [hop] * 32}, TRUSTED) == ip("10.0.0.9")
    assert denial_of(client_address, Peer(PROXY, 1), {name: [hop] * 33}, TRUSTED).reason is Reason.BAD_REQUEST
    assert (
        denial_of(client_address, Peer(PROXY, 1), {name: [b",".join([hop] * 33)]}, TRUSTED).reason
        is Reason.BAD_REQUEST
    )
    assert denial_of(client_address, Peer(PROXY, 1), {name: [b"," * 60_000]}, TRUSTED).reason is Reason.BAD_REQUEST
    assert denial_of(client_address, Peer(PROXY, 1), {name: [b";" * 60_000]}, TRUSTED).reason is Reason.BAD_REQUEST


@PROPERTY
@given(st.sampled_from([XFF, FORWARDED]), st.text("QZXJ", min_size=8), st.binary(max_size=4))
def test_a_refusal_never_holds_what_was_sent(name: bytes, canary: str, tail: bytes) -> None:
    detail = denial_of(
        client_address, Peer(PROXY, 1), {name: [canary.encode() + tail.replace(b",", b"")]}, TRUSTED
    ).detail
    assert canary not in detail
