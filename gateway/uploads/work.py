"""What the end of a form costs, counted: pure.

A form is judged in one piece, which holds the loop. Each kind of its bytes has a price, in nanoseconds as they were
measured at the worst; bounds for each kind alone would add up. So what one form costs is one sum, with one bound.
"""

from typing import Final

from gateway.uploads.multipart.part_head import ambiguous

BYTE: Final = 15
"""Of a url-encoded form."""
CODED: Final = 450
"""One that is percent-encoded, beside its three bytes."""
MARK: Final = 900
"""A quotation mark, comma, backslash or opening bracket of a JSON text, with what may stand between two."""
NAME: Final = 50
"""A character of a member's name, which is matched with patterns."""
RANGE: Final = 200
"""A character of a page_range."""
MOST: Final = 6_000_000
_DEAR: Final = (
    "The form takes too long to read: too much is percent-encoded (send it as multipart/form-data), or the options"
    " are too many or too long."
)


class Work:
    """The sum of one form."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MOST

    def spend(self, price: int, count: int) -> None:
        """Says what is done next, before it is done.

        Raises:
            Refused: unsupported_media_type, when all together is too much.
        """
        self._left -= price * count
        if self._left < 0:
            raise ambiguous(_DEAR)
