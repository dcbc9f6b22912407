"""Which callers are labels of metrics: keys by their ids, the first so many. Pure.

Callers with a token or a certificate, and keys past the first ones, are `other`: we can't limit the number of their
names.
"""

from typing import Final

OTHER: Final = "other"
_MOST: Final = 1000


class KeyLabels:
    """Gives each key its label; an id that got one keeps it."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._known: set[str] = set()

    def of(self, key_id: str | None) -> str:
        """The label of a key; that of any other caller, whose name has a colon in it, is `other`."""
        if key_id is None or ":" in key_id:
            return OTHER
        if key_id not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(key_id)
        return key_id
