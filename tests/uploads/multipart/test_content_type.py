import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_multipart.multipart import parse_options_header

from gateway.errors import Refused
from gateway.model.reasons import Reason
from gateway.uploads.multipart.content_type import boundary_of
from tests.support.pure import PROPERTY

_ANY = st.binary(max_size=12) | st.sampled_from(
    [b'"', b";", b"=", b"a", b"\\", b" ", b"charset=utf-8", b"boundary=b"]
)


def boundary(*values: bytes) -> bytes:
    return boundary_of({b"content-type": list(values)})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b"multipart/form-data;boundary=abc", b"abc"),
        (b"multipart/form-data; Boundary=aBc", b"aBc"),
        (b"multipart/form-data; boundary=abc;", b"abc"),
        (b"multipart/form-data;\tboundary=abc", b"abc"),
        (b"multipart/form-data; boundary==a/b:c=", b"=a/b:c="),
        (b"multipart/form-data; charset=ISO-8859-1; boundary=abc", b"abc"),
        (b'multipart/form-data; boundary="a b:c/d=e?(f),"', b"a b:c/d=e?(f),"),
        (b"multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
        b"----WebKitFormBoundary7MA4YWxkTrZu0gW"),
        (b"multipart/form-data; boundary=------------------------d74496d66958873e",
        b"------------------------d74496d66958873e"),
        (b"multipart/form-data; charset=UTF-8; boundary=abc", b"abc"),
        (b'multipart/form-data; boundary=abc; charset="utf-8"', b"abc"),
        (b"multipart/form-data; boundary=" + b"x" * 70, b"x" * 70),
    ],
)  # fmt: skip
def test_one_plain_boundary_is_read(value: bytes, expected: bytes) -> None:
    assert boundary(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        b"", b"application/x-www-form-urlencoded; charset=utf-16", b"application/x-www-form-urlencoded;x=1",
        b"application/pdf", b"multipart/mixed; boundary=abc",
        b"multipart/form-data",
        b"multipart/form-data;", b"multipart/form-data; boundary=", b'multipart/form-data; boundary=""',
        b"multipart/form-data; charset=utf-8",
        b"multipart/form-data; boundary=a; boundary=a", b"multipart/form-data; boundary=a; BOUNDARY=b",
        b"multipart/form-data; boundary=abc;;", b"Multipart/Form-Data; boundary=abc",
        b"multipart/form-data ; boundary=abc",
        b"multipart/form-data\t; boundary=abc", b"multipart/form-data; boundary=abc; charset=utf-16",
        b"multipart/form-data; boundary=a b", b"multipart/form-data; boundary=a,b",
        b"multipart/form-data, multipart/form-data; boundary=a",
        b'multipart/form-data; boundary="a', b'multipart/form-data; boundary="a "',
        b'multipart/form-data; boundary="a\\"b"',
        b'multipart/form-data; boundary="a"b', b"multipart/form-data; boundary*=utf-8''a",
        b"multipart/form-data; boundary*0=a",
        b"multipart/form-data; boundary =a", b"multipart/form-data; boundary= a",
        b"multipart/form-data; x=1; boundary=a",
        b"multipart/form-data; boundary=a; charset=utf-7",
        b"multipart/form-data; boundary=a; charset=utf-8; charset=utf-8",
        b"multipart/form-data; boundary=\xc3\xa4", b"multipart/form-data; boundary=a\r\n",
        b"multipart/form-data; boundary=a\x00",
        b"multipart/form-data; boundary=" + b"x" * 71, b" multipart/form-data; boundary=a",
    ],
)  # fmt: skip
def test_anything_else_is_refused_and_not_echoed(value: bytes) -> None:
    with pytest.raises(Refused) as caught:
        boundary(value)
    assert caught.value.denial.reason is Reason.UNSUPPORTED_MEDIA_TYPE
    assert "abc" not in caught.value.denial.detail


@pytest.mark.parametrize("parameters", [b"", b"; charset=UTF-8", b';charset="utf-8"'])
def test_a_url_encoded_form_has_none(parameters: bytes) -> None:
    assert boundary(b"application/x-www-form-urlencoded" + parameters) == b""


def test_it_has_to_be_said_once() -> None:
    good = b"multipart/form-data; boundary=a"
    with pytest.raises(Refused):
        boundary()
    with pytest.raises(Refused):
        boundary_of({})
    with pytest.raises(Refused):
        boundary(good, good)


@pytest.mark.parametrize("coding", [b"gzip", b"identity", b""])
def test_a_coded_body_is_refused(coding: bytes) -> None:
    with pytest.raises(Refused, match="Content-Encoding"):
        boundary_of({b"content-type": [b"multipart/form-data; boundary=a"], b"content-encoding": [coding]})


@PROPERTY
@given(st.lists(_ANY, max_size=6).map(b"".join))
def test_what_is_accepted_starlette_reads_alike(parameters: bytes) -> None:
    value = b"multipart/form-data; boundary=" + parameters
    try:
        found = boundary(value)
    except Refused:
        return
    kind, options = parse_options_header(value)
    assert (kind, options[b"boundary"]) == (b"multipart/form-data", found)
    assert options.get(b"charset", b"utf-8").lower() == b"utf-8"
