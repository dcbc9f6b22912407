"""What aiohttp's parser says, in our words: nothing of what the client sent."""

import pytest
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, LineTooLong
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway.listener.parser_faults import body_too_slow, ends_in_http_1_0, head_too_slow, is_whole_head, parser_fault
from gateway.model.reasons import Reason


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        (LineTooLong(b"x" * 20, 8190), Reason.HEADERS_TOO_LARGE, "too long, or there are too many"),
        (BadHttpMessage("Too many headers received"), Reason.HEADERS_TOO_LARGE, "too many"),
        (BadHttpMessage("Invalid HTTP version:\n\n  canary"), Reason.VERSION_NOT_SUPPORTED, "HTTP/1.1 and HTTP/1.0"),
        (BadHttpMessage("Invalid Content-Length:\n\n  canary"), Reason.BAD_REQUEST, "not one Content-Length"),
        (BadHttpMessage("Transfer-Encoding can't be present"), Reason.BAD_REQUEST, "not one Content-Length"),
        (BadHttpMessage("Duplicate 'Host' header found."), Reason.BAD_REQUEST, "exactly one valid Host"),
        (BadHttpMessage("Bad status line\n\n  Content-Length canary"), Reason.BAD_REQUEST, "not valid HTTP/1.1"),
        (HttpProcessingError(message="canary"), Reason.BAD_REQUEST, "not valid HTTP/1.1"),
        (ValueError("canary"), Reason.BAD_REQUEST, "not valid HTTP/1.1"),
    ],
)
def test_each_fault_has_its_reason_and_none_quotes(error: Exception, reason: Reason, words: str) -> None:
    found = parser_fault(error)
    assert found.denial.reason is reason
    assert words in str(found)
    assert "canary" not in str(found)


def test_what_came_too_slowly_has_a_reason_of_its_own() -> None:
    assert head_too_slow().denial.reason is Reason.HEAD_TOO_SLOW
    assert body_too_slow().denial.reason is Reason.BODY_TOO_SLOW


def test_a_head_is_whole_if_the_message_was_parsed_from_these_bytes_alone() -> None:
    pairs = ((b"Host", b"a"),)
    message = RawRequestMessage(
        "GET", "/x", HttpVersion11, CIMultiDictProxy(CIMultiDict({"Host": "a"})), pairs,
        should_close=False, compression=None, upgrade=False, chunked=False, url=URL("/x"),
    )  # fmt: skip
    assert is_whole_head(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", message)
    for other in (
        b"T /x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\nB: b\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\n\r\nGET ",
        b"GET /x HTTP/1.1\r\nHost: a\r\n",
    ):
        assert not is_whole_head(other, message)


@pytest.mark.parametrize(
    ("head", "is_it"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", True),
        (b"\r\nGET / HTTP/1.0\n", True),
        (b"GET / RTSP/1.0\r\n", False),
        (b"GET / HTTP/1.1\r\n", False),
        (b"", False),
    ],
)
def test_only_http_is_http_1_0(head: bytes, is_it: bool) -> None:
    assert ends_in_http_1_0(head) is is_it
