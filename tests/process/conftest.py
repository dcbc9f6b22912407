"""What the process tests share: development certificates, and a gateway before a plain upstream."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.process import Served, Upstream, configure, serving


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A plain upstream in this process."""
    with Upstream() as running:
        yield running


@pytest.fixture
def served(tmp_path: Path, certificates: Path, upstream: Upstream) -> Iterator[Served]:
    """A gateway process before `upstream`."""
    with serving(configure(tmp_path, certificates, upstream.url)) as gateway:
        yield gateway
