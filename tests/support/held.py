"""What an object holds, however deep: for tests that nothing secret lies in it."""

import gc
from collections.abc import Iterator
from types import FunctionType, ModuleType


def texts_within(whole: object) -> Iterator[str]:
    """Every text that an object holds; bytes as Latin-1."""
    seen, coming = set[int](), [whole]
    while coming:
        part = coming.pop()
        if id(part) in seen or isinstance(part, type | ModuleType | FunctionType):
            continue
        seen.add(id(part))
        if isinstance(part, str):
            yield part
        elif isinstance(part, bytes | bytearray):
            yield part.decode("latin-1")
        coming += gc.get_referents(part)
