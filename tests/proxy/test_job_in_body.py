"""A body that names its job: held back whole until it is known whose the job is."""

import json
import re

import pytest

from gateway.errors import Refused
from gateway.http.media_type import BodyFormat
from gateway.jobs.job import Job, job_not_found
from gateway.model.reasons import Reason
from gateway.proxy.job_in_body import NamedInBody, NamesNone
from tests.jobs.test_job import SHAPE, make_job
from tests.support.pure import at_once

ANY = SHAPE.__class__(**{**{name: getattr(SHAPE, name) for name in SHAPE.__slots__}, "id_pattern": None})
UUIDS = SHAPE.__class__(
    **{**{name: getattr(SHAPE, name) for name in SHAPE.__slots__}, "id_pattern": re.compile("[0-9a-f]{8}")}
)
JOB = make_job()


class Asked:
    """Whose job it is: `job` is the caller's, any other nobody's."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    async def __call__(self, named: str) -> Job:
        self.ids.append(named)
        if named != "job":
            raise job_not_found()
        return JOB


def reason_of(named: NamedInBody) -> Reason:
    with pytest.raises(Refused) as caught:
        at_once(named.release())
    return caught.value.denial.reason


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_nothing_is_let_through_before_its_owner_is_known(size: int) -> None:
    asked = Asked()
    named = NamedInBody("file_id", ANY, asked)
    body = json.dumps({"other": 1, "file_id": "job"}).encode()
    for start in range(0, len(body), size):
        assert at_once(named.take(body[start : start + size])) == b""
    assert (asked.ids, named.job) == ([], None)
    assert at_once(named.release()) == body
    assert (asked.ids, named.job) == (["job"], JOB)
    named.released()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b'"job"', b"{", b'{"file_id": "job"} x', b'{"file_id": "other", "file_id": "job"}',
        b"file_id=job", b"\xff", b'{"file_id": "job", "a": NaN}',
    ],
)  # fmt: skip
def test_a_body_that_can_be_read_in_two_ways_is_refused(body: bytes) -> None:
    asked = Asked()
    named = NamedInBody("file_id", ANY, asked)
    at_once(named.take(body))
    assert reason_of(named) is Reason.BODY_MALFORMED
    assert asked.ids == []


@pytest.mark.parametrize(
    "value", ["null", "5", "true", '["job"]', '{"a": "job"}', '""', '"' + "a" * 257 + '"', '"."']
)
def test_what_is_no_id_is_nobodys(value: str) -> None:
    asked = Asked()
    named = NamedInBody("file_id", ANY, asked)
    at_once(named.take(b'{"file_id": ' + value.encode() + b"}"))
    assert reason_of(named) is Reason.JOB_NOT_FOUND
    assert asked.ids == []


def test_a_missing_member_names_nobodys_job() -> None:
    named = NamedInBody("file_id", ANY, Asked())
    at_once(named.take(b'{"fileid": "job"}'))
    assert reason_of(named) is Reason.JOB_NOT_FOUND


def test_another_ones_job_is_nobodys() -> None:
    named = NamedInBody("file_id", ANY, Asked())
    at_once(named.take(b'{"file_id": "another"}'))
    assert reason_of(named) is Reason.JOB_NOT_FOUND
    assert named.job is None


def test_an_id_has_the_form_of_one() -> None:
    asked = Asked()
    named = NamedInBody("file_id", UUIDS, asked)
    at_once(named.take(b'{"file_id": "job"}'))
    assert reason_of(named) is Reason.JOB_NOT_FOUND
    assert asked.ids == []


def test_the_body_is_bounded() -> None:
    named = NamedInBody("file_id", ANY, Asked())
    at_once(named.take(b" " * 65_536))
    with pytest.raises(Refused) as caught:
        at_once(named.take(b" "))
    assert caught.value.denial.reason is Reason.BODY_TOO_LARGE


JSON_BODIES = [b"{}", b'{"other": "file_id"}', b" \n{}", b'{"a": "&file_id=x&"}']
FORM_BODIES = [b"", b"a=file_id&b", b"file=1"]
NAMING_JSON = [b'{"file_id": "x"}', b'{"File_ID": null}', b'{"\\u0066ile_id": 1}']
NAMING_FORMS = [b"file_id=x", b"a=b&file%5fid=x", b"a;FILE_id"]
UNREADABLE = [
    b"[]", b'{"a": 1, "a": 2}', b"\x1f\x8b\x08", b'--b\r\nContent-Disposition: form-data; name="file_id"', b"{",
    b"\xef\xbb\xbf{}",
]  # fmt: skip


def each(json: list[bytes], forms: list[bytes]) -> pytest.MarkDecorator:
    rows = [(body, BodyFormat.JSON) for body in json] + [(body, BodyFormat.FORM) for body in forms]
    return pytest.mark.parametrize(("body", "written_in"), rows)


@each(JSON_BODIES, FORM_BODIES)
def test_a_body_that_names_no_job_goes_on_as_it_came(body: bytes, written_in: BodyFormat) -> None:
    none = NamesNone("file_id", written_in)
    for start in range(len(body)):
        assert at_once(none.take(body[start : start + 1])) == b""
    assert at_once(none.release()) == body
    none.released()


@each(
    [*NAMING_JSON, *UNREADABLE, *FORM_BODIES, *NAMING_FORMS], [*NAMING_FORMS, *UNREADABLE, *JSON_BODIES, *NAMING_JSON]
)
def test_a_body_that_names_a_job_too_or_might_is_refused(body: bytes, written_in: BodyFormat) -> None:
    """Also one that is an object by its looks and a form by its Content-Type: who reads it so finds a job in it."""
    none = NamesNone("file_id", written_in)
    at_once(none.take(body))
    with pytest.raises(Refused) as caught:
        at_once(none.release())
    assert caught.value.denial.reason is Reason.BODY_MALFORMED


def test_a_body_that_may_name_none_is_bounded() -> None:
    none = NamesNone("file_id", BodyFormat.FORM)
    at_once(none.take(b"x" * 65_536))
    with pytest.raises(Refused):
        at_once(none.take(b"x"))


@pytest.mark.parametrize("body", [b"a&" * 200, b"a;" * 200, b"%41" * 5_000, b"&" * 60_000, b"%" * 60_000])
def test_a_form_that_takes_long_to_read_is_refused_unread(body: bytes) -> None:
    inspection = NamesNone("file_id", BodyFormat.FORM)
    at_once(inspection.take(body))
    with pytest.raises(Refused) as refused:
        at_once(inspection.release())
    assert refused.value.denial.reason is Reason.BODY_MALFORMED
