r"""Rewrites the upstream's own URLs to ours in a streamed answer: pure.

The container makes absolute URLs from the Host that we send, so they begin with a known text, with either scheme:
uvicorn takes `https` from our X-Forwarded-Proto when it runs on the same machine. The text is replaced everywhere,
also in JSON with escaped slashes (`http:\/\/`); all else stays as it is, byte for byte. Time is linear, and only a
possible beginning of that text is held back.
"""

from typing import Final

_SLASH: Final = b"/"
_ESCAPED: Final = rb"\/"


class UrlRewriter:
    """Replaces one origin by another in bytes that come in pieces of any size.

    Args:
        old: the beginning of the upstream's URLs, through the slash after the port: `http://127.0.0.1:8000/`; its
            scheme stands for http and https.
        new: the beginning that replaces it, with its slash.
    """

    __slots__ = ("_held", "_olds", "_written")

    def __init__(self, old: bytes, new: bytes) -> None:
        place = old.partition(b":")[2]
        plain = {scheme + b":" + place: new for scheme in (b"http", b"https")}
        escaped = {text.replace(_SLASH, _ESCAPED): new.replace(_SLASH, _ESCAPED) for text in plain}
        self._written = plain | escaped
        self._olds = tuple(self._written)
        self._held = b""

    def take(self, data: bytes) -> bytes:
        """Takes the next bytes; returns those that are certain."""
        data = self._held + data
        end = self._begun(data)
        done, self._held = data[:end], data[end:]
        for old, new in self._written.items():  # not match by match: a document may have very many
            done = done.replace(old, new)
        return done

    def end(self) -> bytes:
        """Returns the bytes held back, once there are no more."""
        held, self._held = self._held, b""
        return held

    def _begun(self, data: bytes) -> int:
        """Where the first origin begins that the end of the data cuts off; the end of the data if none is cut."""
        end = len(data)
        first = self._olds[0][:1]
        place = data.find(first, max(0, end - max(map(len, self._olds)) + 1))
        while place >= 0:
            tail = data[place:]
            if any(len(tail) < len(old) and old.startswith(tail) for old in self._olds):
                return place
            place = data.find(first, place + 1)
        return end
