"""Looks at a small PDF's page tree before pdfium walks it: pure.

A page tree may be written as a graph: a node whose kids are a hundred times the same node, which has again such kids.
Then some kilobytes are millions of pages, and pdfium goes through all of them. Only plain objects are looked at; what
hides its tree in compressed ones ends by the time that its size allows (worker.py).
"""

import re
from typing import Final

MAX_BYTES: Final = 65_536
"""The largest document that is looked at: those that take pdfium long are small."""

_OBJECT: Final = re.compile(rb"(\d{1,9})\s+\d{1,5}\s+obj\b")
_KIDS: Final = re.compile(rb"/Kids\s*\[([^\]/]*)\]")
_REFERENCE: Final = re.compile(rb"(\d{1,9})\s+\d{1,5}\s+R\b")
_MAX_VISITS: Final = 20_000  # more than a tree of this size can have nodes
_MAX_DEPTH: Final = 16


def is_graph(document: bytes) -> bool:
    """Whether who follows the kids of some node meets more nodes than a document of MAX_BYTES can hold."""
    kids = _kids_of(document)
    visits = dict.fromkeys(kids, 1)
    for _ in range(_MAX_DEPTH):
        more = {node: 1 + sum(visits.get(kid, 1) for kid in below) for node, below in kids.items()}
        if max(more.values(), default=0) > _MAX_VISITS:
            return True
        if more == visits:
            break
        visits = more
    return False


def _kids_of(document: bytes) -> dict[bytes, list[bytes]]:
    """The kids of each node, by its number; the last one of a number counts, as in an update of the document."""
    kids: dict[bytes, list[bytes]] = {}
    for text in document.split(b"endobj"):
        node, found = _OBJECT.search(text), _KIDS.search(text)
        if node is not None and found is not None:
            kids[node[1]] = _REFERENCE.findall(found[1])
    return kids
