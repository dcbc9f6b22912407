"""The three standard descriptors: always open at start, and no traceback when they fail at the end."""

import os
import sys
from contextlib import suppress
from typing import Final, TextIO

_STANDARD: Final = (0, 1, 2)
_OUTPUT: Final = 1
_ERROR: Final = 2


def hold_standard_descriptors() -> None:
    """Opens /dev/null for each one that the process was started without.

    Otherwise the next socket or file would get its number, and receive everything written to standard output.
    """
    for number in _STANDARD:
        try:
            os.fstat(number)
        except OSError:
            found = os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
            if found != number:
                os.dup2(found, number)
                os.close(found)


def end_output() -> bool:
    """Flushes standard output; returns whether that succeeded.

    Drops what can't be written, for standard error too: the interpreter would try again and show a traceback.
    """
    _end(sys.stderr, _ERROR)
    return _end(sys.stdout, _OUTPUT)


def _end(stream: TextIO | None, number: int) -> bool:
    if stream is None:
        return True
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, number)
            os.close(nothing)
        return False
    return True
