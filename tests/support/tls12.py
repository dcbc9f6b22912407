"""What a peer sends behind its handshake of TLS 1.2, which Python's ssl can't: requests to renegotiate.

Records of AES-GCM made by hand (RFC 5246, 6.3; RFC 5288), for a handshake by CIPHER.
"""

import hashlib
import hmac
import struct
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CIPHER: Final = "ECDHE-ECDSA-AES256-GCM-SHA384"
HELLO_REQUEST: Final = bytes(4)
HANDSHAKE: Final = 22
DATA: Final = 23
_RANDOM: Final = slice(11, 43)  # of a hello that begins a stream
_KEY: Final = 32
_SALT: Final = 4


class Sealing12:
    """Of a server, or of a client; by the key log and the first record of each side."""

    def __init__(self, log: Path, client_hello: bytes, server_hello: bytes, *, is_server: bool) -> None:
        (line,) = [line for line in log.read_text().splitlines() if line.startswith("CLIENT_RANDOM")]
        seed = b"key expansion" + server_hello[_RANDOM] + client_hello[_RANDOM]
        block = _expanded(bytes.fromhex(line.split()[2]), seed, 2 * (_KEY + _SALT))
        salts = block[2 * _KEY :]
        self._key = AESGCM(block[_KEY : 2 * _KEY] if is_server else block[:_KEY])
        self._salt = salts[_SALT:] if is_server else salts[:_SALT]
        self._sequence = 1  # Finished had the first

    def record(self, kind: int, data: bytes) -> bytes:
        """A record of this type."""
        sequence = struct.pack(">Q", self._sequence)
        self._sequence += 1
        bound = sequence + struct.pack(">BHH", kind, 0x0303, len(data))
        sealed = sequence + self._key.encrypt(self._salt + sequence, data, bound)
        return struct.pack(">BHH", kind, 0x0303, len(sealed)) + sealed


def _expanded(secret: bytes, seed: bytes, length: int) -> bytes:
    made, chained = b"", seed
    while len(made) < length:
        chained = hmac.new(secret, chained, hashlib.sha384).digest()
        made += hmac.new(secret, chained + seed, hashlib.sha384).digest()
    return made[:length]
