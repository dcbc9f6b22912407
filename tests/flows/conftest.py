import pytest

from tests.support.backend import Backend
from tests.support.jobs import Jobs


@pytest.fixture
def jobs(backend: Backend) -> Jobs:
    """The upstream runs jobs."""
    backend.script = jobs = Jobs()
    return jobs
