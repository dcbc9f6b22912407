"""A container's own files are no documents: file_url is of http or https."""

import pytest

from gateway.errors import Refused
from gateway.model.reasons import Reason
from gateway.uploads.file_url import check_file_url


@pytest.mark.parametrize(
    "value", [None, "", "https://h/a.pdf", "HTTP://h", " https://h/", "h", "h/a:b", "/a", "https://h/?u=file:///x"]
)
def test_addresses_of_the_web_pass(value: str | None) -> None:
    check_file_url(value)


@pytest.mark.parametrize(
    "value",
    ["file:///etc/passwd", "FILE:/etc/passwd", " file:///x", "\x00\x1ffile:x", "fi\tle:///x", "f\nile:x", "\nftp://h",
     "data:,x", "s3://bucket/x", "gopher://h:25/", "jar:https://h!/", "local+file:x", "h:80/a"],
)  # fmt: skip
def test_others_are_refused(value: str) -> None:
    with pytest.raises(Refused) as caught:
        check_file_url(value)
    assert caught.value.denial.reason is Reason.FIELD_REFUSED
    assert caught.value.denial.detail == "The field file_url is an address of http or https."
