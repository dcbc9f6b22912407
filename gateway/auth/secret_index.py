"""Which key a secret is of, by the secret's digest: a snapshot, of which a change copies only what it touches. Pure.

A key that rotates daily has hundreds of secrets. Those of a thousand keys in one dictionary were copied at each
change of any key: a fiftieth of a second, in which the loop served nobody.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_PARTS: Final = 16384  # few enough to copy their list, many enough that a thousand changes copy a tenth of them


@dataclass(frozen=True, slots=True)
class SecretIndex:
    """Ids of keys by the digests of their secrets, in parts by the digest."""

    parts: tuple[Mapping[bytes, str], ...] = ({},) * _PARTS

    def get(self, digest: bytes) -> str | None:
        """The id of the key with this secret; None if no secret has this digest."""
        return self.parts[hash(digest) % _PARTS].get(digest)

    def changed(self, owners: Mapping[bytes, str | None]) -> "SecretIndex":
        """The index with these owners in place of the old ones; None for a secret that nobody has any more."""
        parts = list(self.parts)
        copies: dict[int, dict[bytes, str]] = {}
        for digest, owner in owners.items():
            number = hash(digest) % _PARTS
            if number not in copies:
                parts[number] = copies[number] = dict(parts[number])
            if owner is None:
                copies[number].pop(digest, None)
            else:
                copies[number][digest] = owner
        return SecretIndex(tuple(parts))

    def __iter__(self) -> Iterator[bytes]:
        return (digest for part in self.parts for digest in part)

    def __len__(self) -> int:
        return sum(map(len, self.parts))
