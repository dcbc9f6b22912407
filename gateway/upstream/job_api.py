"""What a job looks like at a container: where its id is, how it is read, what says that it has ended. Pure.

All of it is configuration (jobs.shapes): nothing here knows Datalab's API, and whatever the upstream says may be
hostile.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from gateway.model.endings import FailedCosts

MAX_ID: Final = 256
_MAX_BITS: Final = 64  # of an id that is a number
_MAX_PAGES: Final = 10_000_000
_UNREADABLE: Final = frozenset("/\\%;")  # no path that we let through names them
_PLACE: Final = re.compile(r"\{(path|id)\}")


@dataclass(frozen=True, slots=True)
class DeleteCall:
    """The request that makes the container forget a job. `path` and the values of `body` are templates."""

    method: str
    path: str
    body: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class JobShape:
    """How jobs of one kind are spoken of. Members are those at the top of the container's JSON objects.

    `read` is the template of the path that a job is read at: `{path}` stands for the path of its submit as it went
    upstream, `{id}` for the job's id. `result` is that of the request that gives the result, if one does.
    `page_fields` are the fields of a submit that bound its pages, `checkpoint_field` is the one that names a
    checkpoint, `checkpoint_member` that of a status answer, `options_field` the field that is a JSON object of
    further fields, `options_members` are those that it may have (none: any). `failed_costs` is what a job costs that
    failed, or that the container lost. Words are casefolded.
    """

    name: str
    id_member: str
    id_pattern: re.Pattern[str] | None
    check_url_member: str | None
    read: str
    status_member: str
    processing: frozenset[str]
    complete: frozenset[str]
    failed: frozenset[str]
    success_member: str | None
    pages_member: str | None
    delete: DeleteCall | None
    failed_costs: FailedCosts = FailedCosts.IF_TAKEN
    page_fields: frozenset[str] = frozenset({"page_range", "max_pages"})
    checkpoint_field: str | None = "checkpoint_id"
    checkpoint_member: str | None = "checkpoint_id"
    options_field: str | None = "additional_config"
    options_members: frozenset[str] = frozenset()
    result: str | None = None


class Said(StrEnum):
    """All that an answer about a job can mean."""

    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    GONE = "gone"
    """The container does not know the job."""
    UNREADABLE = "unreadable"
    """Nobody can tell: it is asked again, and the job is never free for it."""

    __hash__ = str.__hash__


class Finding(NamedTuple):
    """What an answer means; `pages` is None where the container did not say.

    `is_processing` says that a word of the shape's told that it runs, `unknown` is a status word that the shape does
    not know, `why` says what can't be read, `checkpoint` is the one that the answer names.
    """

    said: Said
    pages: int | None = None
    unknown: str | None = None
    why: str = ""
    checkpoint: str | None = None
    is_processing: bool = False

    @property
    def gives_nothing(self) -> bool:
        """Whether this very answer can have nothing of a result in it: it says that there is none, or none yet."""
        return self.is_processing or self.said is Said.FAILED


def read_target(shape: JobShape, submit_path: str, job_id: str) -> str:
    """The target (path, and query if any) that a job's status and result are read at."""
    return _filled(shape.read, submit_path, quote(job_id, safe=""))


def result_target(shape: JobShape, submit_path: str, job_id: str) -> str:
    """The target that a job's result is read at: where its status is, unless the shape says another."""
    return _filled(shape.result or shape.read, submit_path, quote(job_id, safe=""))


def delete_request(shape: JobShape, submit_path: str, job_id: str) -> tuple[str, str, bytes | None] | None:
    """Method, target and JSON body of the request that deletes a job; None where the container has none."""
    call = shape.delete
    if call is None:
        return None
    target = _filled(call.path, submit_path, quote(job_id, safe=""))
    if call.body is None:
        return call.method, target, None
    body = {name: _filled(value, submit_path, job_id) for name, value in call.body.items()}
    return call.method, target, json.dumps(body).encode()


def wanted(shape: JobShape) -> tuple[str, ...]:
    """The members of a status answer that say whether and how a job has ended, and what it left behind."""
    members = (shape.status_member, shape.success_member, shape.pages_member, shape.checkpoint_member)
    return tuple(member for member in members if member is not None)


def finding(shape: JobShape, values: Mapping[str, Any]) -> Finding:
    """What a status answer means, by its members at the top.

    The words in the shape end a job, whatever their case; any other word, or none, means that it still runs.
    """
    checkpoint = checkpoint_of(shape, values)
    status = values.get(shape.status_member)
    if not isinstance(status, str):
        return Finding(Said.RUNNING, checkpoint=checkpoint)
    word = status.casefold()
    if word not in shape.complete and word not in shape.failed:
        is_processing = word in shape.processing
        unknown = None if is_processing else word
        return Finding(Said.RUNNING, unknown=unknown, checkpoint=checkpoint, is_processing=is_processing)
    success = None if shape.success_member is None else values.get(shape.success_member)
    said = Said.FAILED if word in shape.failed or success is False else Said.COMPLETE
    pages = None if shape.pages_member is None else values.get(shape.pages_member)
    is_count = type(pages) is int and 0 <= pages <= _MAX_PAGES
    return Finding(said, pages if is_count else None, checkpoint=checkpoint)


def checkpoint_of(shape: JobShape, values: Mapping[str, Any]) -> str | None:
    """The checkpoint that a status answer names; None when there is none that can be used."""
    found = None if shape.checkpoint_member is None else values.get(shape.checkpoint_member)
    if type(found) is int and found.bit_length() <= _MAX_BITS:
        found = str(found)
    return found if isinstance(found, str) and is_checkpoint(found) else None


def is_checkpoint(text: str) -> bool:
    """Whether a text can name a checkpoint; nothing else is ever kept as one, or asked of the ledger."""
    return 0 < len(text) <= MAX_ID and text.isprintable()


def job_id(shape: JobShape, answer: Mapping[str, Any]) -> str | None:
    """The id that a submit's answer gives its job; None when there is none that can be used."""
    found = answer.get(shape.id_member)
    if type(found) is int and found.bit_length() <= _MAX_BITS:
        found = str(found)
    return found if isinstance(found, str) and is_id(shape, found) else None


def is_id(shape: JobShape, text: str) -> bool:
    """Whether a text can be the id of such a job; nothing else is ever sent to the container as one."""
    if not 0 < len(text) <= MAX_ID or not text.isprintable() or text in {".", ".."} or _UNREADABLE & set(text):
        return False
    return shape.id_pattern is None or shape.id_pattern.fullmatch(text) is not None


def _filled(template: str, path: str, job: str) -> str:
    """In one pass, so that what is put in is not read as a template again."""
    return _PLACE.sub(lambda place: path if place[1] == "path" else job, template)
