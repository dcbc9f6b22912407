import gc
import resource
import sys
from collections.abc import Iterator

import pytest

from gateway.app.garbage import NEVER
from gateway.app.process import prepare_process, tune_memory


@pytest.fixture
def collector() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)


def test_the_limit_of_files_is_raised_to_what_may_be() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowered = min(256, before[0])
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowered, before[1]))
        prepare_process()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert hard == before[1]
        assert soft == min(hard, 1_048_576)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_thread_that_computes_gives_the_loop_its_turn_ten_times_as_often() -> None:
    before = sys.getswitchinterval()
    try:
        prepare_process()
        assert sys.getswitchinterval() == pytest.approx(0.0005)
    finally:
        sys.setswitchinterval(before)


@pytest.mark.usefixtures("collector")
def test_what_the_start_made_is_never_collected_again() -> None:
    before = gc.get_freeze_count()
    tune_memory()
    assert gc.get_freeze_count() > before
    assert gc.get_threshold() == (700, 10, NEVER)
