"""Floods of KeyUpdate, which Python's ssl can't send: records of TLS 1.3 made by hand (RFC 8446, 4.6.3, 5.2, 7.1)."""

import struct
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

CIPHER: Final = "TLS_AES_256_GCM_SHA384"
_KEY_UPDATE: Final = bytes((24, 0, 0, 1, 1))  # one that asks for ours
_HANDSHAKE: Final = b"\x16"
_DATA: Final = b"\x17"


class Sealing:
    """What a peer sends behind its handshake, by the secret in its key log."""

    def __init__(self, log: Path, label: str) -> None:
        (line,) = [line for line in log.read_text().splitlines() if line.startswith(label)]
        self._secret = bytes.fromhex(line.split()[2])
        self._sequence = 0

    def key_update(self) -> bytes:
        """A record with a KeyUpdate; what follows is under the next key."""
        record = self._record(_KEY_UPDATE + _HANDSHAKE)
        self._secret, self._sequence = self._expand(b"traffic upd", 48), 0
        return record

    def messages(self, messages: bytes) -> bytes:
        """A record of messages of TLS itself."""
        return self._record(messages + _HANDSHAKE)

    def data(self, data: bytes) -> bytes:
        """A record of data."""
        return self._record(data + _DATA)

    def _record(self, inner: bytes) -> bytes:
        head = struct.pack(">BHH", 23, 0x0303, len(inner) + 16)
        key, nonce = self._expand(b"key", 32), int.from_bytes(self._expand(b"iv", 12), "big") ^ self._sequence
        self._sequence += 1
        return head + AESGCM(key).encrypt(nonce.to_bytes(12, "big"), inner, head)

    def _expand(self, label: bytes, length: int) -> bytes:
        name = b"tls13 " + label
        info = struct.pack(">HB", length, len(name)) + name + b"\0"
        return HKDFExpand(SHA384(), length, info).derive(self._secret)
