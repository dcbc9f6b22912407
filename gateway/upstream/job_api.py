"""The container's job API: where a job's id is, how a job is read, which words mean that it has ended. Pure.

All of it is configuration (jobs.shapes): nothing here is specific to Datalab's API. Everything from the upstream may
be hostile.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from gateway.http.headers import SEPARATORS
from gateway.limits.job_cost import FailedCosts
from gateway.uploads.form import FormRules

MAX_ID: Final = 256
_MAX_BITS: Final = 64  # of a numeric id
_MAX_PAGES: Final = 10_000_000
_PLACE: Final = re.compile(r"\{(path|id)\}")


@dataclass(frozen=True, slots=True)
class DeleteCall:
    """The request that makes the container delete a job. `path` and the values of `body` are templates."""

    method: str
    path: str
    body: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class JobShape:
    """The API of one kind of job. Members are top-level members of the container's JSON objects.

    `read` is the template of the path at which a job is read: `{path}` is the path of its submit as it went
    upstream, `{id}` the job's id. `result` is the template for the request that gives the result, if it is another.
    `page_fields` are the fields of a submit that limit its pages, `checkpoint_field` is the one that names a
    checkpoint, `checkpoint_member` the same in a status answer. `options_field` is the field whose value is a JSON
    object of further fields, `options_members` are those that it may have (empty: any). `failed_costs` is what a job
    costs that failed or that the container lost. Words are casefolded.
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

    def form_rules(self, rules: FormRules) -> FormRules:
        """The rules for forms of its submits, by those for all forms."""
        return replace(
            rules, checkpoint=self.checkpoint_field, options=self.options_field, members=self.options_members
        )


class Said(StrEnum):
    """All possible meanings of an answer about a job."""

    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    GONE = "gone"
    """The container does not know the job."""
    UNREADABLE = "unreadable"
    """The state is unknown: the gateway asks again, and this never makes the job free of charge."""

    __hash__ = str.__hash__


class Finding(NamedTuple):
    """What an answer means; `pages` is None if the container did not say.

    `is_processing`: the status is one of the shape's processing words. `unknown` is a status word that the shape does
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
        """Whether this answer certainly contains no result: it says that there is none, or none yet."""
        return self.is_processing or self.said is Said.FAILED

    @property
    def has_no_word(self) -> bool:
        """Whether this answer runs only because it has no status word: it may be a result all the same."""
        return self.said is Said.RUNNING and self.unknown is None and not self.is_processing


def status_target(shape: JobShape, submit_path: str, job_id: str) -> str:
    """The target (path, and query if any) for a job's status and result."""
    return _filled(shape.read, submit_path, quote(job_id, safe=""))


def result_target(shape: JobShape, submit_path: str, job_id: str) -> str:
    """The target for a job's result: that of its status, unless the shape has another."""
    return _filled(shape.result or shape.read, submit_path, quote(job_id, safe=""))


def delete_request(shape: JobShape, submit_path: str, job_id: str) -> tuple[str, str, bytes | None] | None:
    """Method, target and JSON body of the request that deletes a job; None if the container has no such request."""
    call = shape.delete
    if call is None:
        return None
    target = _filled(call.path, submit_path, quote(job_id, safe=""))
    if call.body is None:
        return call.method, target, None
    body = {name: _filled(value, submit_path, job_id) for name, value in call.body.items()}
    return call.method, target, json.dumps(body).encode()


def wanted(shape: JobShape) -> tuple[str, ...]:
    """The members of a status answer that say whether and how a job ended, its pages and its checkpoint."""
    members = (shape.status_member, shape.success_member, shape.pages_member, shape.checkpoint_member)
    return tuple(member for member in members if member is not None)


def finding(shape: JobShape, values: Mapping[str, Any]) -> Finding:
    """What a status answer means, by its top-level members.

    The shape's words, in any case, mean that a job has ended; any other word, or none, means that it still runs.
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
    """The checkpoint that a status answer names; None unless it is usable."""
    found = None if shape.checkpoint_member is None else values.get(shape.checkpoint_member)
    if type(found) is int and found.bit_length() <= _MAX_BITS:
        found = str(found)
    return found if isinstance(found, str) and is_checkpoint(found) else None


def is_checkpoint(text: str) -> bool:
    """Whether a text can name a checkpoint; nothing else is stored as one or looked up in the ledger."""
    return 0 < len(text) <= MAX_ID and text.isprintable()


def job_id(shape: JobShape, answer: Mapping[str, Any]) -> str | None:
    """The id that a submit's answer gives its job; None unless it is usable."""
    found = answer.get(shape.id_member)
    if type(found) is int and found.bit_length() <= _MAX_BITS:
        found = str(found)
    return found if isinstance(found, str) and is_id(shape, found) else None


def is_id(shape: JobShape, text: str) -> bool:
    """Whether a text can be the id of such a job; nothing else is sent to the container as an id."""
    if not 0 < len(text) <= MAX_ID or not text.isprintable() or text in {".", ".."} or SEPARATORS & set(text):
        return False
    return shape.id_pattern is None or shape.id_pattern.fullmatch(text) is not None


def _filled(template: str, path: str, job: str) -> str:
    """Fills a template in one pass, so that inserted text is not read as a template again."""
    return _PLACE.sub(lambda place: path if place[1] == "path" else job, template)
