"""What a running gateway says of itself. Pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

Labels = frozenset[tuple[str, str]]


class Samples(NamedTuple):
    """What a gateway says of itself; metrics by name, then by labels.

    Of its admin API, if it tells: the overview, and who is near a limit.
    """

    readiness: Mapping[str, Any]
    metrics: Mapping[str, Mapping[Labels, float]]
    overview: Mapping[str, Any] = MappingProxyType({})
    near: Mapping[str, Any] = MappingProxyType({})

    def total(self, name: str, **labels: str) -> float:
        """The sum over all that have these labels; 0 when there is none."""
        wanted = labels.items()
        return sum(value for given, value in self.metrics.get(name, {}).items() if wanted <= set(given))
