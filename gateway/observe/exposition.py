"""Writes metrics in Prometheus's text formats, in pieces: those of a thousand keys at once would take 80 ms.

A collector yields a long family in portions, each a family of the same name; their head is written once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, Protocol, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

PORTION: Final = 100
"""Samples of a portion: one or two milliseconds."""

_END: Final = b"# EOF\n"  # of OpenMetrics
Encode = Callable[[CollectorRegistry], bytes]


class Family(Protocol):
    """What the families of prometheus_client with one value for each sample have in common."""

    def add_metric(self, labels: Sequence[str], value: float) -> None:
        """Adds one sample."""


F = TypeVar("F", bound=Family)


def in_portions(make: Callable[[], F], rows: Iterable[tuple[Sequence[str], float]]) -> Iterator[F]:
    """Families of rows (labels and value), at least one. The rows may not change while they are read."""
    left = iter(rows)
    portion = list(islice(left, PORTION))
    while True:
        family = make()
        for labels, value in portion:
            family.add_metric(labels, value)
        yield family
        portion = list(islice(left, PORTION))
        if not portion:
            return


def write_in_pieces(registry: CollectorRegistry, encode: Encode) -> Iterator[bytes]:
    """What `encode` makes of the registry's families, in pieces: each is the work of one portion."""
    name, end = "", b""
    for family in registry.collect():
        text = encode(_alone(family))
        if text.endswith(_END):
            text, end = text.removesuffix(_END), _END
        yield _without_head(text) if family.name == name else text
        name = family.name
    yield end


def _alone(family: Metric) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_One(family))
    return registry


class _One:
    """A collector of one family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        """Called by the encoder."""
        return (self._family,)


def _without_head(text: bytes) -> bytes:
    """The samples alone: no label has a line's end that is not escaped, so only the head has lines with a `#`."""
    return b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"#"))
