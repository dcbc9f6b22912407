"""Reads the 2xx answer to a submit: what its client gets, and the job that it names. Pure.

Two readers, for two ends. check_url.py looks for a URL in all that some client may read, and knows each byte's place.
What the gateway itself believes of a job has to be sound JSON (orjson).
"""

from typing import Any, Final, NamedTuple

import orjson

from gateway.errors import UpstreamBrokeOff
from gateway.upstream.check_url import public_answer
from gateway.upstream.job_api import JobShape, job_id
from gateway.upstream.response_head import ResponseHead

_CODED: Final = "The upstream's answer to a submit used a content coding that was not requested."


class SubmitAnswer(NamedTuple):
    """What a submit's client gets, and what it says of the job.

    `check_url` is where the job can be read, None when it names none. `request_id` is the job's id, None if there is
    none. `has_failed`: the answer says that the submit failed.
    """

    content: bytes
    check_url: str | None
    request_id: str | None
    has_failed: bool


def read_submit_answer(
    head: ResponseHead, content: bytes, origin: str, submit_path: str, shape: JobShape
) -> SubmitAnswer:
    """Reads an answer, with its check URL rewritten to our origin.

    Raises:
        UpstreamBrokeOff: it can't be read here, but a client might manage; it has an id that can't be used.
    """
    if any(name == b"content-encoding" for name, _ in head.headers):
        raise UpstreamBrokeOff(_CODED, arrived=True)
    public = public_answer(content, origin, submit_path, shape)
    request_id, has_failed = _job_of(public.answer, shape)
    return SubmitAnswer(
        content=public.answer, check_url=public.check_url, request_id=request_id, has_failed=has_failed
    )


def _job_of(content: bytes, shape: JobShape) -> tuple[str | None, bool]:
    """The job's id, and whether the answer says that the submit failed."""
    try:
        answer: Any = orjson.loads(content)
    except ValueError:
        return None, False
    if not isinstance(answer, dict):
        return None, False
    named = job_id(shape, answer)
    has_failed = shape.success_member is not None and answer.get(shape.success_member) is False
    if named is None and answer.get(shape.id_member) is not None and not has_failed:
        raise UpstreamBrokeOff("The upstream gave this job an id that can't be used.", arrived=True)
    return named, has_failed
