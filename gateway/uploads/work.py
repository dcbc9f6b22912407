"""Adds up the cost of judging a form: pure.

A form is judged in one piece, which blocks the event loop. Each kind of its bytes has a price, its worst measured
time in nanoseconds. Separate limits for each kind would add up, so a form has one sum with one limit.
"""

from typing import Final

from gateway.uploads.multipart.part_head import ambiguous

BYTE: Final = 15
"""A byte of a url-encoded form."""
CODED: Final = 60
"""A percent-encoded byte, in addition to its three bytes, or a `=`."""
MARK: Final = 900
"""A quotation mark, comma, backslash or opening bracket of a JSON text, with what may come between two of them."""
NAME: Final = 100
"""A character of a member's name, which is folded and compared."""
PATTERN: Final = 30
"""A character of a member's name, for each pattern that is an expression."""
RANGE: Final = 200
"""A character of a page_range."""
MOST: Final = 6_000_000
_DEAR: Final = (
    "The form takes too long to read: too much is percent-encoded (send it as multipart/form-data), or the options"
    " are too many or too long."
)


class Work:
    """The cost of one form."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MOST

    def spend(self, price: int, count: int) -> None:
        """Adds the cost of the next step, before it is done.

        Raises:
            Refused: unsupported_media_type, when the sum is too high.
        """
        self._left -= price * count
        if self._left < 0:
            raise ambiguous(_DEAR)
