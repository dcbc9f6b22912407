"""buffers.py: memory is taken when a connection first reads, and once for all."""

import tracemalloc
from itertools import pairwise

from gateway.aio.tls.openssl import MAX_RECORD
from tests.support.iteration import buffers_now


def test_each_is_made_when_it_is_first_needed_and_once() -> None:
    sizes: list[int] = []
    tracemalloc.start()
    try:
        buffers = buffers_now()
        for _ in range(2):
            for take in (lambda: None, lambda: buffers.wire, lambda: buffers.clear):
                take()
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    large = len(buffers.wire)
    assert sizes[0] < large
    assert [after - before >= large for before, after in pairwise(sizes)] == [True, True, False, False, False]


def test_what_one_read_brings_has_room_in_the_clear_beside_a_record_that_began_before() -> None:
    buffers = buffers_now()
    assert len(buffers.clear) == len(buffers.wire) + MAX_RECORD
    assert [buffers.wire.readonly, buffers.clear.readonly] == [False, False]
