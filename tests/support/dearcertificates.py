"""A TLS client whose certificates take OpenSSL long: it proves nothing, and needs no key of anybody's.

The key of each is a point on a curve of its own, over a prime k * 2**e + 1, with the point and the generator in their
compressed form. To read it takes two square roots, each of e * e / 2 squarings (Tonelli and Shanks at their worst):
half a second for 468 bytes. The rest of the certificate need not be right.
"""

import socket
import ssl
from contextlib import suppress
from functools import cache
from typing import Final

_EC: Final = bytes.fromhex("06072a8648ce3d0201")
_PRIME_FIELD: Final = bytes.fromhex("06072a8648ce3d0101")
_SHA256: Final = bytes.fromhex("06082a8648ce3d040302")
_TIMES: Final = (b"250101000000Z", b"350101000000Z")


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    width = (size.bit_length() + 7) // 8
    return bytes([tag, 0x80 | width]) + size.to_bytes(width, "big") + content


def _seq(*parts: bytes) -> bytes:
    return _tlv(0x30, b"".join(parts))


def _number(value: int) -> bytes:
    return _tlv(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _bits(content: bytes) -> bytes:
    return _tlv(3, b"\0" + content)


def _field(bits: int, twos: int) -> tuple[int, int, int]:
    """A prime k * 2**twos + 1 (by Proth's theorem), its k, and a number that is no square."""
    k = (1 << (bits - twos - 1)) + 1
    while True:
        prime = (k << twos) + 1
        for root in range(2, 22):
            found = pow(root, (prime - 1) // 2, prime)
            if found == prime - 1:
                return prime, k, root
            if found != 1:
                break
        k += 2


@cache
def dear_certificate(bits: int = 661, twos: int = 645) -> bytes:
    """A certificate, in DER; fewer bits are cheaper."""
    prime, k, root = _field(bits, twos)
    right = pow(pow(root, k, prime), 2 * pow(k, -1, 1 << twos), prime)
    size = (bits + 7) // 8
    point = b"\2" + (1).to_bytes(size, "big")
    curve = _seq(_tlv(4, b"\1"), _tlv(4, ((right - 2) % prime).to_bytes(size, "big")))
    parameters = _seq(_number(1), _seq(_PRIME_FIELD, _number(prime)), curve, _tlv(4, point), _number(3))
    key = _seq(_seq(_EC, parameters), _bits(point))
    times = _seq(*(_tlv(0x17, moment) for moment in _TIMES))
    body = _seq(_number(1), _seq(_SHA256), _seq(), times, _seq(), key)
    return _seq(body, _seq(_SHA256), _bits(_seq(_number(1), _number(1))))


def certificate_message(certificates: list[bytes]) -> bytes:
    """The message of TLS 1.2, in records."""
    chain = b"".join(len(one).to_bytes(3, "big") + one for one in certificates)
    body = len(chain).to_bytes(3, "big") + chain
    message = b"\x0b" + len(body).to_bytes(3, "big") + body
    pieces = (message[place : place + 16_384] for place in range(0, len(message), 16_384))
    return b"".join(b"\x16\x03\x03" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def show(port: int, certificates: list[bytes], host: str = "127.0.0.1") -> socket.socket:
    """Says hello from that address in TLS 1.2, and shows the certificates; what the server says to them is unread."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    outgoing = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    sock = socket.create_connection(("127.0.0.1", port), 60, (host, 0))
    sock.sendall(outgoing.read())
    came = b""
    while not came.endswith(b"\x0e\0\0\0"):  # ServerHelloDone
        piece = sock.recv(65_536)
        assert piece, came
        came += piece
    sock.sendall(certificate_message(certificates))
    return sock
