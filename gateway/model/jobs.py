"""Which job it is."""

from typing import NamedTuple


class JobRef(NamedTuple):
    """Which job is meant: upstream, id, and its reservation, since an id may later go to another job."""

    upstream: str
    request_id: str
    reservation: str

    @property
    def key(self) -> tuple[str, str]:
        """Upstream and id, by which it is asked for."""
        return self.upstream, self.request_id
