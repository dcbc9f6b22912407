"""Bodies of requests about a job: which job they name, and that they name none beside another."""

import re

import pytest

from gateway.http import names, strict_json
from gateway.http.media_type import BodyFormat
from gateway.model.reasons import Reason
from gateway.proxy.job_in_body import check_names_none, named_in
from tests.jobs.test_job import SHAPE
from tests.support.pure import denial_of

ANY = SHAPE.__class__(**{**{name: getattr(SHAPE, name) for name in SHAPE.__slots__}, "id_pattern": None})
UUIDS = SHAPE.__class__(
    **{**{name: getattr(SHAPE, name) for name in SHAPE.__slots__}, "id_pattern": re.compile("[0-9a-f]{8}")}
)


def test_a_body_names_its_job() -> None:
    assert named_in(b'{"other": 1, "file_id": "job"}', "file_id", ANY) == "job"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b'"job"', b"{", b'{"file_id": "job"} x', b'{"file_id": "other", "file_id": "job"}',
        b"file_id=job", b"\xff", b'{"file_id": "job", "a": NaN}',
    ],
)  # fmt: skip
def test_a_body_that_can_be_read_in_two_ways_is_refused(body: bytes) -> None:
    assert denial_of(named_in, body, "file_id", ANY).reason is Reason.BODY_MALFORMED


@pytest.mark.parametrize("other", ["File_Id", "file_id[]", " file_id", "file.id", "file_id\\u0000", "file[id"])
def test_a_body_names_its_job_in_one_spelling(other: str) -> None:
    """Go and ASP.NET take File_Id for file_id, and the last of both."""
    for body in (f'{{"file_id": "mine", "{other}": "theirs"}}', f'{{"{other}": "theirs"}}'):
        assert denial_of(named_in, body.encode(), "file_id", ANY).reason is Reason.BODY_MALFORMED


@pytest.mark.parametrize(
    "value", ["null", "5", "true", '["job"]', '{"a": "job"}', '""', '"' + "a" * 257 + '"', '"."']
)
def test_what_is_no_id_is_nobodys(value: str) -> None:
    body = b'{"file_id": ' + value.encode() + b"}"
    assert denial_of(named_in, body, "file_id", ANY).reason is Reason.JOB_NOT_FOUND


@pytest.mark.parametrize("number", ["3e-316", "9" * 30])
def test_no_number_of_a_body_is_read(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 dear ones held everybody, and no number names a job."""
    converted = list[str]()

    def counted(text: str) -> int:
        converted.append(text)
        return 0

    monkeypatch.setattr(strict_json, "float", counted, raising=False)
    monkeypatch.setattr(strict_json, "int", counted, raising=False)
    body = b'{"a": [%b], "file_id": "job"}' % b",".join([number.encode()] * 900)
    assert named_in(body + b" " * 10_000, "file_id", ANY) == "job"
    check_names_none(body + b" " * 10_000, "other", BodyFormat.JSON)
    assert converted == []


def test_a_body_with_thousands_of_members_is_refused_unfolded(monkeypatch: pytest.MonkeyPatch) -> None:
    """To fold 3,300 names held everybody for 13 ms."""
    folded = list[str]()

    def counted(name: str) -> tuple[str, ...]:
        folded.append(name)
        return (name,)

    monkeypatch.setattr(names, "readings", counted)
    for most, is_refused in ((127, False), (128, True), (3_300, True)):
        members = b",".join(b'"%d":1' % number for number in range(most))
        named, other = b'{"file_id":"job",%b}' % members, b'{"x":1,%b}' % members
        folded.clear()
        if is_refused:
            assert denial_of(named_in, named, "file_id", ANY).reason is Reason.BODY_MALFORMED
            assert denial_of(check_names_none, other, "file_id", BodyFormat.JSON).reason is Reason.BODY_MALFORMED
            assert folded == []
        else:
            assert named_in(named, "file_id", ANY) == "job"
            check_names_none(other, "file_id", BodyFormat.JSON)


def test_a_missing_member_names_nobodys_job() -> None:
    assert denial_of(named_in, b'{"fileid": "job"}', "file_id", ANY).reason is Reason.JOB_NOT_FOUND


def test_an_id_has_the_form_of_one() -> None:
    assert denial_of(named_in, b'{"file_id": "job"}', "file_id", UUIDS).reason is Reason.JOB_NOT_FOUND


JSON_BODIES = [b"{}", b'{"other": "file_id"}', b" \n{}", b'{"a": "&file_id=x&"}']
FORM_BODIES = [b"", b"a=file_id&b", b"file=1"]
NAMING_JSON = [
    b'{"file_id": "x"}', b'{"File_ID": null}', b'{"\\u0066ile_id": 1}', b'{"file_id[]": 1}', b'{" file_id": 1}',
    b'{"file.id": 1}',
]  # fmt: skip
NAMING_FORMS = [
    b"file_id=x", b"a=b&file%5fid=x", b"a;FILE_id", b"+file_id=x", b"file_id%5B%5D=x", b"file.id=x", b"file+id=x",
    b"file_id%00=x",
]  # fmt: skip
UNREADABLE = [
    b"[]", b'{"a": 1, "a": 2}', b"\x1f\x8b\x08", b'--b\r\nContent-Disposition: form-data; name="file_id"', b"{",
    b"\xef\xbb\xbf{}",
]  # fmt: skip


def each(json: list[bytes], forms: list[bytes]) -> pytest.MarkDecorator:
    rows = [(body, BodyFormat.JSON) for body in json] + [(body, BodyFormat.FORM) for body in forms]
    return pytest.mark.parametrize(("body", "written_in"), rows)


@each(JSON_BODIES, FORM_BODIES)
def test_a_body_that_names_no_job_is_let_through(body: bytes, written_in: BodyFormat) -> None:
    check_names_none(body, "file_id", written_in)


@each(
    [*NAMING_JSON, *UNREADABLE, *FORM_BODIES, *NAMING_FORMS], [*NAMING_FORMS, *UNREADABLE, *JSON_BODIES, *NAMING_JSON]
)
def test_a_body_that_names_a_job_too_or_might_is_refused(body: bytes, written_in: BodyFormat) -> None:
    """Also one that is an object by its looks and a form by its Content-Type: who reads it so finds a job in it."""
    assert denial_of(check_names_none, body, "file_id", written_in).reason is Reason.BODY_MALFORMED


@pytest.mark.parametrize("body", [b"a&" * 200, b"a;" * 200, b"%41" * 5_000, b"&" * 60_000, b"%" * 60_000])
def test_a_form_that_takes_long_to_read_is_refused_unread(body: bytes) -> None:
    assert denial_of(check_names_none, body, "file_id", BodyFormat.FORM).reason is Reason.BODY_MALFORMED
