import pytest

from gateway.errors import Refused
from gateway.http.media_type import BodyFormat, body_format
from gateway.model.reasons import Reason

BOTH = (BodyFormat.JSON, BodyFormat.FORM)


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (b"application/json", BodyFormat.JSON),
        (b"Application/JSON; charset=utf-8", BodyFormat.JSON),
        (b'application/json;charset="UTF-8"', BodyFormat.JSON),
        (b"application/x-www-form-urlencoded", BodyFormat.FORM),
        (b"application/x-www-form-urlencoded; charset=UTF-8", BodyFormat.FORM),
    ],
)
def test_the_content_type_says_what_a_body_is(value: bytes, meant: BodyFormat) -> None:
    assert body_format({b"content-type": [value]}, *BOTH) is meant


@pytest.mark.parametrize(
    "known",
    [
        {b"content-type": [b""]},
        {b"content-type": [b"text/plain"]},
        {b"content-type": [b"text/json"]},
        {b"content-type": [b"application/jsonx"]},
        {b"content-type": [b"application/json; charset=utf-16"]},
        {b"content-type": [b"application/json, application/x-www-form-urlencoded"]},
        {b"content-type": [b"application/json", b"application/json"]},
        {b"content-type": [b"APPLICATION/x-www-form-urlencoded"]},
        {b"content-type": [b"multipart/form-data; boundary=x"]},
        {b"content-type": [b"application/json"], b"content-encoding": [b"gzip"]},
    ],
)
def test_any_other_is_refused(known: dict[bytes, list[bytes]]) -> None:
    with pytest.raises(Refused) as caught:
        body_format(known, *BOTH)
    assert caught.value.denial.reason is Reason.UNSUPPORTED_MEDIA_TYPE


def test_where_one_is_read_the_other_is_refused() -> None:
    with pytest.raises(Refused, match="application/json"):
        body_format({b"content-type": [b"application/x-www-form-urlencoded"]}, BodyFormat.JSON)


def test_without_one_it_is_json() -> None:
    assert body_format({}, BodyFormat.JSON) is BodyFormat.JSON
