"""A container's own files are no documents: file_url is of http or https."""

import pytest

from gateway.errors import Refused
from gateway.model.reasons import Reason
from gateway.uploads.file_url import check_file_url


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "https://h/a.pdf",
        "HTTP://h",
        " https://h/",
        "\nht\ttps://h",
        "https://h/\u00e4",
        "https://h/?u=file:///x",
    ],
)
def test_addresses_of_the_web_pass(value: str | None) -> None:
    check_file_url(value)


@pytest.mark.parametrize(
    "value",
    ["file:///etc/passwd", "FILE:/etc/passwd", " file:///x", "\x00\x1ffile:x", "fi\tle:///x", "f\nile:x", "\nftp://h",
     "data:,x", "s3://bucket/x", "gopher://h:25/", "jar:https://h!/", "local+file:x", "h:80/a",
     "h", "/etc/passwd", "//h/a", "https:/h", "<file:///x>", "<URL:file:///x>", " <file:///x> ", "<https://h/>",
     *(space + "file:///x" for space in "\u00a0\u3000\u0085\u2028\ufeff"), "\u00a0https://h/", "\x1fhttps://h/"],
)  # fmt: skip
def test_others_are_refused(value: str) -> None:
    with pytest.raises(Refused) as caught:
        check_file_url(value)
    assert caught.value.denial.reason is Reason.FIELD_REFUSED
    assert caught.value.denial.detail == "The field file_url is an address of http or https."
