import pytest

from gateway.errors import Refused
from gateway.model.reasons import Reason
from gateway.uploads.multipart.part_head import MAX_PART_HEAD, PartHead, read_part_head

DISPOSITION = b"Content-Disposition: form-data; "


@pytest.mark.parametrize(
    ("parameters", "name", "has_filename", "extension"),
    [
        (b'name="a"', "a", False, ""),
        (b"name=a", "a", False, ""),
        (b'NAME="a b;c=[]"', "a b;c=[]", False, ""),
        (b'name="file"; filename="x.PDF"', "file", True, "pdf"),
        (b'name="file";filename=x.pdf', "file", True, "pdf"),
        (b'filename="x.pdf"; name="file"', "file", True, "pdf"),
        (b'name="file"; filename=""', "file", True, ""),
        (b'name="file"; filename="a;b=\xc3\xa4\xff.tar.gz"', "file", True, "gz"),
        (b'name="file"; filename="a\\"b.pdf"', "file", True, "pdf"),
        (b'name="file"; filename="C:\\dir\\x.pdf"', "file", True, "pdf"),
        (b'name="file"; filename="a\\";b.pdf"', "file", True, "pdf"),  # curl
        (b'name="file"; filename="a\\\\\\"b;c.pdf"', "file", True, "pdf"),  # Go
        (b'name="file"; filename="a\\\\"', "file", True, ""),
        (b'filename="a\\"; name=\\"file_url"; name="file"', "file", True, ""),
        (b"name=file; filename=\"=?utf-8?B?w6Q=?=\"; filename*=utf-8''%C3%A4.pdf", "file", True, "pdf"),  # .NET
        (b"name=file; filename=x.png; filename*=utf-8''x.pdf", "file", True, "?"),
        (b'name="file"; filename="' + b"\xe4\xbd\xa0" * 1024 + b'"', "file", True, ""),
        (b"name=file; filename=x.pdf; filename*=utf-8''x%20y.pdf", "file", True, "pdf"),
        (b'name="file"; filename="' + b"x" * 1022 + b'"', "file", True, ""),
        (b'name="' + b"n" * 128 + b'"', "n" * 128, False, ""),
    ],
)
def test_a_plain_disposition_is_read(parameters: bytes, name: str, has_filename: bool, extension: str) -> None:
    assert read_part_head(DISPOSITION + parameters) == PartHead(name, has_filename, extension)


@pytest.mark.parametrize(
    "parameters",
    [
        b"", b'name=""', b"name=", b"name", b'filename="x"', b'name="a"; name="a"', b'name="a"; Name="b"',
        b'name="a"; filename="x"; filename="x"',
        b"name*=utf-8''a", b"name=\"a\"; name*=utf-8''b", b'name*0="a"', b"name=\"file\"; filename*=utf-8''x.pdf",
        b'name="a"; x=1',
        b'name="a";', b'name="a" ', b'name ="a"', b'name= "a"', b'name="a" ; filename="x"', b"name='a b'",
        b'name="a%22"', b"name=a%0d",
        b'name="a', b'name=a"', b'name="a"b',
        b'name="a\\"b"', b'name="a\\\\b"', b'name="\xc3\xa4"', b'name="a\tb"', b'name="a\x7fb"',
        b'name="file"; filename="a"b.pdf"', b'name="file"; filename="a\\"', b'filename="a\\\\"; name="file"',
        b'name="file"; filename="a\\"; name="file_url"',
        b'name="file"; filename=a b',
        b'name="' + b"n" * 129 + b'"', b'name="file"; filename="' + b"x" * 1025 + b'"',
        b'name="file"; filename=x; filename*=' + b"x" * 1025,
        b'name="file"; filename="' + b"\xf0\x9f\x98\x80" * 1050 + b'"',
    ],
)  # fmt: skip
def test_an_odd_disposition_is_refused(parameters: bytes) -> None:
    with pytest.raises(Refused) as caught:
        read_part_head(DISPOSITION + parameters)
    assert caught.value.denial.reason is Reason.UNSUPPORTED_MEDIA_TYPE


GOOD = DISPOSITION + b'name="a"'


@pytest.mark.parametrize(
    "block",
    [
        b"", b"Content-Type: text/plain", GOOD + b"\r\n" + GOOD, GOOD + b"\r\ncontent-disposition: form-data; name=b",
        b"Content-Disposition: attachment; name=a", b"Content-Disposition: form-datax; name=a",
        b"Content-Disposition:",
        b"Content-Disposition : form-data; name=a", b" Content-Disposition: form-data; name=a",
        b"Content-Disposition\t: form-data; name=a",
        b'Content-Disposition: form-data;\r\n name="a"', b'Content-Disposition: form-data;\n name="a"',
        b'Content-Disposition:\tform-data; name="a"',
        GOOD + b"\rX: 1", GOOD + b"\nX: 1", GOOD + b"\x00", GOOD + b"\r\nX", GOOD + b"\r\n: 1", GOOD + b"\r\nX Y: 1",
        GOOD + b"\r\nX\xc3\xa4: 1",
        GOOD + b"\r\nX: a\x0bb", GOOD + b"\r\nContent-Type: a/b\r\nContent-type: a/b",
        GOOD + b"".join(b"\r\nX-%d: 1" % n for n in range(8)),
        GOOD + b"\r\nContent-Transfer-Encoding: base64", GOOD + b"\r\nContent-Transfer-Encoding: quoted-printable",
        GOOD + b"\r\nContent-Transfer-Encoding:",
        GOOD + b"\r\nContent-Encoding: gzip", GOOD + b"\r\nTransfer-Encoding: chunked",
        GOOD + b"\r\nContent-Length: x", GOOD + b"\r\nContent-Length: -1",
    ],
)  # fmt: skip
def test_an_odd_head_is_refused(block: bytes) -> None:
    with pytest.raises(Refused) as caught:
        read_part_head(block)
    assert caught.value.denial.reason is Reason.UNSUPPORTED_MEDIA_TYPE


def test_other_headers_are_let_through() -> None:
    block = b"content-type:Text/Plain; charset=utf-8\r\n" + GOOD + b"".join(b"\r\nX-%c:" % n for n in b"abcdef")
    head = read_part_head(block)
    assert (head.content_type, head.media_type) == (b"Text/Plain; charset=utf-8", "text/plain")


@pytest.mark.parametrize("name", [b"X-1", b"Content_MD5", b"X.y"])
def test_a_header_has_a_name_that_every_release_takes(name: bytes) -> None:
    with pytest.raises(Refused):
        read_part_head(GOOD + b"\r\n" + name + b": x")


@pytest.mark.parametrize("encoding", [b"7bit", b"8BIT", b"binary"])
def test_an_encoding_that_is_none_is_let_through(encoding: bytes) -> None:
    assert read_part_head(GOOD + b"\r\nContent-Transfer-Encoding: " + encoding).name == "a"


def test_a_header_is_as_long_as_parsers_take_it() -> None:
    assert read_part_head(GOOD + b"\r\nX: " + b"x" * 4221).name == "a"
    with pytest.raises(Refused, match="too long"):
        read_part_head(GOOD + b"\r\nX: " + b"x" * 4222)


def test_a_declared_length_is_kept() -> None:
    assert read_part_head(GOOD + b"\r\nContent-Length: 17").length == 17
    assert read_part_head(GOOD).length is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"image/PNG", "image/png"), (b"image/png;x=1", "image/png"), (b"", "?"), (b"image", "?"),
     (b"image/png,a/b", "?"), (b"\xff/a", "?")],
)  # fmt: skip
def test_the_media_type_is_a_word_or_unknown(value: bytes, expected: str) -> None:
    assert read_part_head(GOOD + b"\r\nContent-Type: " + value).media_type == expected


def test_nothing_of_it_is_shown() -> None:
    shown = repr(read_part_head(DISPOSITION + b'name="s3cret"; filename="s3cret.pdf"\r\nContent-Type: s3cret'))
    assert "s3cret" not in shown
    assert MAX_PART_HEAD == 8192
