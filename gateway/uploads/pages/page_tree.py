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


def is_graph(document: bytes) -> bool:
    """Whether who follows the kids of some node meets more nodes than a document of MAX_BYTES can hold.

    So does who comes back to where it was. A node that is its own kid is met once: readers pass it over.
    """
    kids = _kids_of(document)
    visits: dict[int, int] = {}
    for node in kids:
        if node not in visits:
            _count(node, kids, visits)
    return max(visits.values(), default=0) > _MAX_VISITS


def _count(first: int, kids: dict[int, list[int]], visits: dict[int, int]) -> None:
    """Counts what who follows the kids of a node meets, for it and all nodes below."""
    path = {first: iter(kids[first])}
    while path:
        node, below = path.popitem()
        kid = next((kid for kid in below if kid in kids and kid not in visits and kid != node), None)
        if kid is None:
            visits[node] = min(_MAX_VISITS + 1, 1 + sum(visits.get(kid, 1) for kid in kids[node]))
        elif kid in path:
            visits[node] = _MAX_VISITS + 1
        else:
            path[node] = below
            path[kid] = iter(kids[kid])


def _kids_of(document: bytes) -> dict[int, list[int]]:
    """The kids of each node, by its number; the last one of a number counts, as in an update of the document."""
    kids: dict[int, list[int]] = {}
    for text in document.split(b"endobj"):
        node, found = _OBJECT.search(text), _KIDS.search(text)
        if node is not None and found is not None:
            kids[int(node[1])] = list(map(int, _REFERENCE.findall(found[1])))
    return kids
