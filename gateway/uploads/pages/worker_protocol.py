"""What the gateway and a worker say to each other. It imports nothing of the gateway: the worker reads it, too.

A worker says READY once, when it has started. A request is one byte, the content, beside the file's descriptor. An
answer is the pages or UNKNOWN.
"""

import struct
from enum import Enum
from typing import Final

ANSWER: Final = struct.Struct("<q")
UNKNOWN: Final = -1
READY: Final = b"+"
GAP_ROW: Final = struct.Struct("<QQ")
"""A row of the table that a document with gaps has at its end (pdf_gaps.py)."""


class Content(Enum):
    """The content of a file to count: a PDF, one with gaps and their table (pdf_gaps.py), a TIFF."""

    PDF = b"w"
    GAPPED_PDF = b"g"
    TIFF = b"t"
