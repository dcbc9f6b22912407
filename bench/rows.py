"""What stands behind the names of `--only`: measures of peers that stand ready, and of one just started."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from bench import measures, memory, standing, submitters, watched
from bench.measures import Bout, Sample, prepare, untouched
from bench.options import Options
from bench.peers import Peer
from bench.site import Site

Measure = Callable[[Bout], Sample]
TIMED: Final[Mapping[str, Measure]] = MappingProxyType(
    {
        "polls": measures.polls,
        "tokens": measures.tokens,
        "submits": measures.submits,
        "submits-one": submitters.of_one,
        "submits-many": submitters.of_many,
        "uploads": measures.uploads,
        "inspected": measures.inspected,
        "downloads": measures.downloads,
        "handshakes": measures.handshakes,
        "resumed": measures.resumed,
        "latency": measures.latency,
        "mixed": measures.mixed,
        "waits": measures.waits,
        "watched": watched.watched,
    }
)


@dataclass(frozen=True, slots=True)
class Alone:
    """Measures that each want a peer just started, before which `ready` does what it does."""

    measures: tuple[Measure, ...]
    ready: Callable[[Peer, Site, Options], Bout]


ALONE: Final[Mapping[str, Alone]] = MappingProxyType(
    {
        "memory": Alone((memory.idle, memory.uploads, memory.downloads), prepare),
        "start": Alone((standing.start,), untouched),
        "rest": Alone((standing.rest,), untouched),
    }
)
