"""The settings of jobs: their form at the container, how long they are kept, how they are followed."""

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from gateway.config.settings.fields import Count, Duration, Name, Section, Switch, Timeout, default

_PLACE: Final = re.compile(r"\{([^{}]*)\}")
_SAMPLE: Final = re.compile(r"(?:/[A-Za-z0-9\-._~!$&'()*+,=:@%]+)+(?:\?[A-Za-z0-9\-._~!$&'()*+,=:@%/?]*)?")
_MAX_PATTERN: Final = 1000
_OLDEST: Final = 10.0  # seconds of status_age

Member = Annotated[str, Field(min_length=1, max_length=256)]
Words = Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=100)]


def _template(text: str) -> str:
    """Checks a template of a target at the container."""
    for name in _PLACE.findall(text):
        if name not in {"path", "id"}:
            raise ValueError(f"has {{{name}}}; there are {{path}}, the submit's path, and {{id}}, the job's id")
    if not text.startswith(("/", "{path}")) or "{path}" in text[1:]:
        raise ValueError("is not a target: it begins with {path} or /, and {path} stands nowhere else")
    sample = text.replace("{path}", "/x").replace("{id}", "x")
    if not _SAMPLE.fullmatch(sample) or {".", ".."} & set(sample.partition("?")[0].split("/")):
        raise ValueError("is not a target, such as {path}/{id} or /results?id={id}")
    return text


def _read_template(text: str) -> str:
    if "{id}" not in _template(text):
        raise ValueError("has no {id}, so that all jobs would be read as one")
    return text


def _pattern(text: str) -> str:
    if len(text) > _MAX_PATTERN:
        raise ValueError(f"is longer than {_MAX_PATTERN} characters")
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    return text


class StatusWords(Section):
    """Where a status answer says how far its job is, and in which words."""

    member: Member = "status"
    """The member of the answer that says it."""
    processing: Words = default(["processing", "pending", "queued"])
    """Words that say that the job still runs. One that is in no list says so, too, and is logged."""
    complete: Annotated[Words, Field(min_length=1)] = default(["complete"])
    """Words that say that it has ended well."""
    failed: Words = default(["failed"])
    """Words that say that it has failed. Words are compared without case."""

    @field_validator("complete", "failed")
    @classmethod
    def _said_once(cls, words: list[str], info: ValidationInfo) -> list[str]:
        for other in ("processing", "complete"):
            for word in info.data.get(other, []):
                if other != info.field_name and word.casefold() in {one.casefold() for one in words}:
                    raise ValueError(f"{word} is in {other}, too: a word means one thing")
        return words


class DeleteSettings(Section):
    """The request that makes the container forget a job."""

    method: Literal["DELETE", "POST", "PUT", "PATCH"] = "DELETE"
    """Its method."""
    path: Annotated[str, AfterValidator(_template)] = "{path}/{id}"
    """Its path, a template as `read`."""
    body: dict[Member, str] | None = None
    """Its JSON object: names, and texts with {id} (and {path}) in them; null: no body."""

    @model_validator(mode="after")
    def _names_the_job(self) -> "DeleteSettings":
        if not any("{id}" in text for text in (self.path, *(self.body or {}).values())):
            raise ValueError("has {id} neither in its path nor in its body: which job is it to delete?")
        return self


class ShapeSettings(Section):
    """What a job is at a container; members are those at the top of its JSON objects."""

    id: Member = "request_id"
    """The member of a submit's answer that names the job."""
    id_pattern: Annotated[str, AfterValidator(_pattern)] | None = None
    """Regular expression that a whole id must match, here and in requests; null: any id."""
    check_url: Member | None = "request_check_url"
    """The member of a submit's answer that says where to ask; it is rewritten to us. null: there is none."""
    read: Annotated[str, AfterValidator(_read_template)] = "{path}/{id}"
    """Where a job is read at the container: {path} is the submit's path, {id} the job's id."""
    result: Annotated[str, AfterValidator(_read_template)] | None = None
    """Where a job's result is read at the container, a template as `read`; null: `read` answers with the result."""
    status: StatusWords = StatusWords()
    success: Member | None = "success"
    """The member of a final answer that is false when the job failed; null: there is none."""
    pages: Member | None = "page_count"
    """The member of a final answer that counts the pages; null: what was reserved is charged."""
    failed_costs: Literal["nothing", "reserved"] | None = None
    """What a job costs that failed, or that the container lost. null: what was reserved, once something of its result
    was read, and nothing before; `nothing`: what the container says has failed is free whatever was read; `reserved`:
    it never is."""
    page_fields: list[Literal["page_range", "max_pages"]] = default(["page_range", "max_pages"])
    """Fields of a submit's form that bound its pages there; one that the container does not obey is ignored."""
    checkpoint_field: Name | None = "checkpoint_id"
    """The field of a submit that names a checkpoint, which must have been shown to its owner. null: there is none."""
    checkpoint_member: Member | None = "checkpoint_id"
    """The member of a status answer that names a checkpoint; null: there is none."""
    options_field: Name | None = "additional_config"
    """The field of a submit that is a JSON object of further fields, which are judged as fields are. null: none."""
    options_members: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,63}$")]] = default([])
    """The members that options_field may have; empty: all but those that body.refused_fields names."""
    delete: DeleteSettings | None = None
    """What makes the container forget a job; null: it can't."""


class Jobs(Section):
    """Jobs: how long they are kept, how they are followed, and what they are."""

    result_ttl: Timeout = default("1h")
    """How long a job can be read once it was seen to have ended; then its id is gone for everyone."""
    watch: Switch = True
    """Whether jobs that nobody polls are followed to their end."""
    status_age: Duration = default("200ms")
    """How old an answer may be that said that a job runs, to answer another poll of it; 0s: each poll asks."""
    hold: Duration = default("0s")
    """How long a poll for an unfinished job is held for its end, when the client says nothing of it."""
    hold_limit: Duration = default("60s")
    """The most that a client may ask for by `Prefer: wait=N`."""
    delete_after_read: Switch = False
    """Whether a job is gone once its owner has read its result whole, by the request that its shape says gives it."""
    give_up_after: Timeout = default("24h")
    """How long a job may run; then it counts as failed, and is charged as reserved."""
    records_kept: Timeout = default("90d")
    """How long the ledger keeps ended jobs and settled reservations."""
    most_status_requests: Count = 32
    """Most requests for the status of jobs that are under way at once, to one upstream."""
    shapes: dict[Name, ShapeSettings] = {}
    """What a job is, by the names that routes give in `job`; `default` is always there: Datalab's."""

    @field_validator("status_age")
    @classmethod
    def _young(cls, age: float) -> float:
        if age > _OLDEST:
            raise ValueError("is more than 10s: clients would learn of the end too late")
        return age

    @field_validator("hold_limit")
    @classmethod
    def _room_for_hold(cls, limit: float, info: ValidationInfo) -> float:
        if limit < info.data.get("hold", 0):
            raise ValueError("is less than jobs.hold")
        return limit

    @field_validator("records_kept")
    @classmethod
    def _longer_than_results(cls, kept: float, info: ValidationInfo) -> float:
        if kept < info.data.get("result_ttl", 0):
            raise ValueError("is less than jobs.result_ttl")
        return kept

    @field_validator("shapes")
    @classmethod
    def _result_known(cls, shapes: dict[str, ShapeSettings], info: ValidationInfo) -> dict[str, ShapeSettings]:
        for name, shape in shapes.items():
            if info.data.get("delete_after_read") and shape.result is None and "read" in shape.model_fields_set:
                raise ValueError(
                    f"{name} does not say which request gives the result, and jobs.delete_after_read would take an"
                    f" answer of status for it: write result, the same as read where that answers with the result"
                )
        return shapes

    @field_validator("shapes")
    @classmethod
    def _with_default(cls, shapes: dict[str, ShapeSettings]) -> dict[str, ShapeSettings]:
        return {"default": ShapeSettings(), **shapes}
