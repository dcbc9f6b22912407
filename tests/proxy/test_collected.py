"""What is read whole of an answer costs what it is long, however small its pieces are."""

import tracemalloc
from typing import Any

from gateway.proxy.collected import Collected


class Dribbling:
    """An upstream that sends two bytes at a time."""

    async def flow(self, sink: Collected, *, looks_inside: bool) -> None:
        assert not looks_inside
        tracemalloc.start()
        for number in range(100_000):
            sink.take(b"%02d" % (number % 100))
        self.kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()


async def test_a_small_answer_in_tiny_pieces_takes_no_more_room_than_in_one() -> None:
    """A list of them took twenty times as much."""
    upstream: Any = Dribbling()
    assert len(await Collected(upstream).run()) == 200_000
    assert upstream.kept < 300_000
