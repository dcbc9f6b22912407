"""client_hello.py: what real clients say goes through however cut; what costs too much does not."""

import ssl
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.aio.tls.client_hello import MAX_BYTES, HelloError, HelloGate

X25519, P256, FFDHE2048, FFDHE8192 = 29, 23, 256, 260


def vector(width: int, data: bytes) -> bytes:
    return len(data).to_bytes(width, "big") + data


def groups(*named: int) -> bytes:
    return b"\x00\x0a" + vector(2, vector(2, b"".join(group.to_bytes(2, "big") for group in named)))


def shares(*named: int) -> bytes:
    each = b"".join(group.to_bytes(2, "big") + vector(2, b"k" * 32) for group in named)
    return b"\x00\x33" + vector(2, vector(2, each))


def message(*extensions: bytes, tail: bytes = b"") -> bytes:
    fixed = b"\x03\x03" + bytes(32) + vector(1, b"") + vector(2, b"\x13\x01") + vector(1, b"\x00")
    return b"\x01" + vector(3, fixed + vector(2, b"".join(extensions)) + tail)


def records(data: bytes, size: int = 16_384) -> bytes:
    pieces = [data[place : place + size] for place in range(0, len(data), size)]
    return b"".join(b"\x16\x03\x01" + vector(2, piece) for piece in pieces)


def real(change: Callable[[ssl.SSLContext], object] = lambda _: None) -> bytes:
    """What OpenSSL's client says first."""
    context = ssl.create_default_context()
    change(context)
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="gateway.test")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def version_1_2(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2


REAL = [real(), real(version_1_2), real(lambda context: context.set_ecdh_curve("secp384r1"))]


@pytest.mark.parametrize("hello", REAL, ids=["default", "1.2", "P-384"])
@given(cuts=st.lists(st.integers(1, 200), max_size=10))
def test_a_real_hello_goes_through_whole_however_it_is_cut(hello: bytes, cuts: list[int]) -> None:
    gate, place, given_on = HelloGate(), 0, b""
    for cut in (*cuts, len(hello)):
        piece = hello[place : place + cut]
        place += len(piece)
        given_on += piece if gate.is_open else gate.take(piece)
    assert (gate.is_open, given_on) == (True, hello)


@pytest.mark.parametrize(
    "hello",
    [
        message(groups(X25519), shares(X25519)),
        message(groups(FFDHE8192, P256), shares(P256)),
        message(groups(0x11EC, X25519), shares(0x11EC, X25519)),
        message(groups(X25519), shares()),
        message(groups(*[0x2A2A] * 127, X25519), shares(*[0x2A2A] * 31, X25519)),
        message(),
        message()[:4].replace(message()[1:4], b"\x00\x00\x29") + message()[4:-2],  # no extensions at all
    ],
    ids=["curve", "ffdhe-too", "post-quantum", "no-share", "many", "no-groups", "none"],
)
def test_what_names_a_curve_goes_through(hello: bytes) -> None:
    stream = records(hello, max(40, len(hello) // 10))
    assert HelloGate().take(stream) == stream


@pytest.mark.parametrize(
    ("hello", "words"),
    [
        (message(groups(FFDHE8192, X25519), shares(FFDHE8192)), "finite field"),
        (message(groups(X25519), shares(X25519, FFDHE2048)), "finite field"),
        (message(groups(FFDHE8192), shares()), "none of its groups"),
        (message(groups(0x11EC), shares(0x11EC)), "none of its groups"),
        (message(groups(X25519), groups(X25519)), "twice"),
        (message(groups(*[0x2A2A] * 128, X25519), shares(X25519)), "too many groups"),
        (message(groups(X25519), shares(*[0x2A2A] * 32, X25519)), "too many key shares"),
        (message(b"\x00\x00" + vector(2, vector(2, b"\x00" + vector(2, b"xn--\x80")))), "not ASCII"),
        (message(groups(X25519), tail=b"x"), "lengths"),
        (message(b"\x00\x33\xff\xff"), "lengths"),
        (message(b"\x00\x0a" + vector(2, vector(2, b"\x00\x1d") + b"x")), "lengths"),
        (b"\x01" + vector(3, bytes(20)), "lengths"),
        (b"\x02" + vector(3, bytes(60)), "not a ClientHello"),
        (b"\x01" + (MAX_BYTES - 3).to_bytes(3, "big"), "too long"),
    ],
    ids=["share", "second-share", "group", "post-quantum-alone", "twice", "groups", "shares", "name", "tail", "short",
         "longer", "cut", "server", "long"],
)  # fmt: skip
def test_what_costs_too_much_or_can_not_be_read_is_refused(hello: bytes, words: str) -> None:
    with pytest.raises(HelloError, match=words):
        HelloGate().take(records(hello))


def test_a_hello_in_very_many_records_or_behind_something_else_is_refused() -> None:
    with pytest.raises(HelloError, match="too many records"):
        HelloGate().take(records(message(groups(X25519)), 2))
    with pytest.raises(HelloError, match="something else"):
        HelloGate().take(b"\x15\x03\x01\x00\x02\x01\x00" + REAL[0])
    with pytest.raises(HelloError, match="something else"):
        HelloGate().take(b"GET / HTTP/1.1\r\n")


@pytest.mark.parametrize("hello", REAL, ids=["default", "1.2", "P-384"])
@pytest.mark.parametrize("more", [b"\x0b" + vector(3, vector(3, b"")), b"\x01", bytes(4)])
def test_nothing_may_follow_a_hello_in_its_record(hello: bytes, more: bytes) -> None:
    """A certificate was read with it, on the loop: one with 24 keys of curves of their own held everybody for 8 s."""
    with pytest.raises(HelloError, match="something follows"):
        HelloGate().take(records(hello[5:] + more))


@pytest.mark.parametrize("hello", REAL, ids=["default", "1.2", "P-384"])
def test_nor_may_a_record_announce_more_than_its_hello(hello: bytes) -> None:
    """The rest was sent in a later read, when the gate was open."""
    record = records(hello[5:] + bytes(4))
    for size in (9, 100, len(record) - 4):
        with pytest.raises(HelloError, match="something follows"):
            HelloGate().take(record[:size])


@given(st.binary(max_size=300))
def test_whatever_comes_goes_through_or_is_refused(data: bytes) -> None:
    gate = HelloGate()
    try:
        stream = records(b"\x01" + vector(3, data))
        assert gate.take(stream) == stream
    except HelloError:
        assert not gate.is_open
