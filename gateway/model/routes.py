"""What a route is: its kind, and who may use it."""

from dataclasses import dataclass
from enum import StrEnum


class Access(StrEnum):
    """What a route requires of its caller."""

    ANYONE = "anyone"
    KEY = "key"
    ADMIN = "admin"


class Kind(StrEnum):
    """What a route is for: a submit starts a job, a result reads it, an asset belongs to it, a delete ends it."""

    SUBMIT = "submit"
    RESULT = "result"
    ASSET = "asset"
    DELETE = "delete"
    PLAIN = "plain"

    @property
    def is_of_a_job(self) -> bool:
        """Whether a request names a job, which must belong to its caller."""
        return self in _OF_A_JOB

    @property
    def is_about_jobs(self) -> bool:
        """Whether it starts, reads or ends jobs."""
        return self is not Kind.PLAIN

    @property
    def changes_job(self) -> bool:
        """Whether it begins or ends a job."""
        return self in _CHANGES_JOB

    @property
    def gives_content(self) -> bool:
        """Whether its answer may have content of a job."""
        return self in _GIVES_CONTENT

    __hash__ = str.__hash__  # as for Reason


_OF_A_JOB = frozenset({Kind.RESULT, Kind.ASSET, Kind.DELETE})
_CHANGES_JOB = frozenset({Kind.SUBMIT, Kind.DELETE})
_GIVES_CONTENT = frozenset({Kind.RESULT, Kind.ASSET})


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the default-deny table, compiled. `label` is its name in metrics and logs.

    `is_ours`: the gateway answers itself. `job` names the shape of its jobs; `id_in` (path, query or body) and
    `id_name` say where a request for a job has its id. `rewrites`: the upstream's own URLs in answers become ours.
    """

    label: str
    kind: Kind
    access: Access
    upstream: str = "default"
    is_ours: bool = False
    job: str = "default"
    id_in: str = "path"
    id_name: str = "request_id"
    rewrites: bool = False
