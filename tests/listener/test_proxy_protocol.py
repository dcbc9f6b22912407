import struct
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.listener.proxy_protocol import (
    DeclaredClient,
    ProxyHeaderError,
    header_end,
    parse_v1,
    parse_v2,
    read_header,
)
from gateway.model.networks import unmapped
from tests.support.pure import PROPERTY, Address, ip

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # as TLS begins


def read(data: bytes) -> tuple[DeclaredClient | None, bytes]:
    """What one header says, and what is left behind it."""
    end = header_end(data)
    if end is None:
        raise EOFError
    return read_header(data[:end]), data[end:]


def v2(command: int, family: int, rest: bytes, version: int = 2) -> bytes:
    return SIGNATURE + struct.pack("!BBH", version << 4 | command, family, len(rest)) + rest


# Version 1


@pytest.mark.parametrize(
    ("line", "origin"),
    [
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", DeclaredClient(ip("192.0.2.1"), 56324)),
        (b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", DeclaredClient(IPv4Address(0), 0)),
        (b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n", DeclaredClient(ip("2001:db8::1"), 1)),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2\r\n", DeclaredClient(ip("192.0.2.1"), 1)),
        (
            b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n",
            DeclaredClient(ip("ffff:" * 7 + "ffff"), 65535),
        ),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff:: ffff:: 65535 65535\r\n", None),
    ],
)
def test_reads_a_line_and_not_a_byte_more(line: bytes, origin: DeclaredClient | None) -> None:
    assert read(line + HELLO) == (origin, HELLO)
    assert parse_v1(line) == origin


@pytest.mark.parametrize(
    "line",
    [b"PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n", b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443 1\r\n",
     b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
     b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", b"PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
     b"PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n",
     b"PROXY TCP4 192.0.2.1 a 1 2\r\n", b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
     b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
     b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 x\r\n",
     b"PROXY TCP4 192.0.2.1 192.0.2.2  2\r\n",
     b"PROXY TCP4 192.0.2.\xb2 192.0.2.2 1 2\r\n", b"PROXY TCP6 fe80::1%lo ::1 1 2\r\n", b"PROXY TCP4\r\n",
     b"PROXY \r\n\r\n\r\n\r\n",
     b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n\r\n", b"PROXY  UNKNOWN\r\n", b"PROXY TCP4 ::1 ::1 1 2\r\n",
     b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", b"PROXY TCP4 192.0.2.1 ::1 1 2\r\n",
     b"PROXY TCP6 ::1 192.0.2.1 1 2\r\n"],
)  # fmt: skip
def test_refuses_a_line_that_is_malformed(line: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        read(line + HELLO)


def test_a_line_ends_within_107_bytes() -> None:
    longest = b"PROXY UNKNOWN ".ljust(105, b"x") + b"\r\n"
    assert read(longest + HELLO) == (None, HELLO)
    with pytest.raises(ProxyHeaderError, match="a line without an end"):
        read(b"PROXY UNKNOWN ".ljust(106, b"x") + b"\r\n")
    with pytest.raises(ProxyHeaderError, match="a line without an end"):
        read(b"PROXY TCP4 " + b"1" * 1000)


@pytest.mark.parametrize(
    "data",
    [HELLO * 2, b"GET / HTTP/1.1\r\n", b"proxy TCP4 1", b"PROXY\tTCP4 1", b"\r\n\r\n\x00\r\nQUIT\r", b"\x00" * 12],
)
def test_refuses_what_is_no_header(data: bytes) -> None:
    with pytest.raises(ProxyHeaderError, match="no PROXY protocol header"):
        read(data)


# Version 2


@PROPERTY
@given(
    st.ip_addresses(),
    st.ip_addresses(),
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.binary(max_size=60),
    st.binary(max_size=20),
)
def test_reads_addresses_of_both_families_and_not_a_byte_more(
    source: Address, other: Address, port: int, other_port: int, tlvs: bytes, behind: bytes
) -> None:
    mapped = [ip(f"::ffff:{a}") if a.version == 4 and source.version == 6 else a for a in (source, other)]
    width = 4 if source.version == 4 else 16
    packed = b"".join(address.packed[-width:] for address in mapped)
    data = v2(1, 0x11 if width == 4 else 0x21, packed + struct.pack("!HH", port, other_port) + tlvs)
    assert read(data + behind) == (DeclaredClient(unmapped(source), port), behind)


@pytest.mark.parametrize(
    ("command", "family", "rest"),
    [(0, 0, b""), (0, 0x11, b"x" * 12), (0, 0x31, b"x"), (1, 0, b""), (1, 0, b"x" * 2048)],
)
def test_a_proxy_may_speak_for_itself(command: int, family: int, rest: bytes) -> None:
    assert read(v2(command, family, rest) + HELLO) == (None, HELLO)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (v2(1, 0x11, b"x" * 11), "a truncated address"),
        (v2(1, 0x21, b"x" * 35), "a truncated address"),
        (v2(1, 0x11, b""), "a truncated address"),
        (v2(2, 0x11, b"x" * 12), "an unknown version or command"),
        (v2(15, 0x11, b"x" * 12), "an unknown version or command"),
        (v2(1, 0x11, b"x" * 12, version=1), "an unknown version or command"),
        (v2(1, 0x11, b"x" * 12, version=3), "an unknown version or command"),
        (v2(1, 0x12, b"x" * 12), "an address family that is not TCP"),
        (v2(1, 0x22, b"x" * 36), "an address family that is not TCP"),
        (v2(1, 0x31, b"x" * 216), "an address family that is not TCP"),
        (v2(1, 0x10, b"x" * 12), "an address family that is not TCP"),
        (SIGNATURE + b"\x21\x11\x08\x01", "a header of more than 2048 bytes"),
        (SIGNATURE + b"\x21\x11\xff\xff" + b"x" * 65535, "a header of more than 2048 bytes"),
    ],
)
def test_refuses_a_binary_header_that_is_malformed(data: bytes, message: str) -> None:
    with pytest.raises(ProxyHeaderError, match=message):
        read(data)


def test_a_mapped_address_is_the_one_it_maps() -> None:
    rest = ip("::ffff:192.0.2.1").packed + ip("::1").packed + b"\x00\x01\x00\x02"
    assert parse_v2(0x21, 0x21, rest) == DeclaredClient(ip("192.0.2.1"), 1)


@PROPERTY
@given(
    st.one_of(
        st.binary(), st.binary().map(lambda b: SIGNATURE + b), st.binary().map(lambda b: b"PROXY TCP4 " + b + b"\r\n")
    )
)
def test_no_bytes_make_it_stumble(data: bytes) -> None:
    try:
        origin, _ = read(data)
    except (ProxyHeaderError, EOFError):
        return
    assert origin is None or 0 <= origin.port <= 65535


@PROPERTY
@given(st.sampled_from([b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", v2(1, 0x11, b"x" * 40)]), st.binary(max_size=9))
def test_a_header_that_is_not_whole_is_waited_for(header: bytes, behind: bytes) -> None:
    assert [header_end(header[:size]) for size in range(len(header))] == [None] * len(header)
    assert header_end(header + behind) == len(header)
