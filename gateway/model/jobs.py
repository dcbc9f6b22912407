"""Which job it is, and the words for its states."""

from typing import Final, NamedTuple

JOB_STATES: Final = ("running", "complete", "failed")
"""Those that a client can ask about; the ledger also knows what is gone."""


class JobRef(NamedTuple):
    """Which job is meant: upstream, id, and its reservation, since an id may later go to another job."""

    upstream: str
    request_id: str
    reservation: str

    @property
    def key(self) -> tuple[str, str]:
        """Upstream and id, by which it is asked for."""
        return self.upstream, self.request_id
