"""Methods as logs and metrics name them: anybody may send any word."""

from typing import Final

_KNOWN: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def method_named(method: str) -> str:
    """One of a closed set of words."""
    return method if method in _KNOWN else "OTHER"
