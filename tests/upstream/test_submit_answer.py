"""What the answer to a submit says of its job; test_check_url has what becomes of the URL in it."""

import pytest

from gateway.config.compile import compile_shape
from gateway.config.settings import ShapeSettings
from gateway.errors import UpstreamBrokeOff
from gateway.upstream.job_api import JobShape
from gateway.upstream.response_head import read_answer_head
from gateway.upstream.submit_answer import SubmitAnswer, read_submit_answer

DATALAB = compile_shape("default", ShapeSettings())
WITHOUT_SUCCESS = compile_shape("oss", ShapeSettings(success=None))
ORIGIN, SUBMIT = "https://public.test:8443", "/api/v1/marker"


def read(content: bytes, *headers: tuple[bytes, bytes], shape: JobShape = DATALAB) -> SubmitAnswer:
    head = read_answer_head(200, b"OK", [*headers], http_1_1=True, bodiless=False)
    return read_submit_answer(head, content, ORIGIN, SUBMIT, shape)


def test_an_answer_names_the_job_and_where_it_is_read() -> None:
    content = b'{"success": true, "request_id": "a", "request_check_url": "http://h/b"}'
    expected = b'{"success": true, "request_id": "a", "request_check_url": "https://public.test:8443/b"}'
    assert read(content) == SubmitAnswer(expected, f"{ORIGIN}/b", "a", has_failed=False)


@pytest.mark.parametrize(
    ("answer", "request_id", "has_failed"),
    [
        (b'{"request_id": 7}', "7", False),
        (b'{"success": false, "request_id": "a"}', "a", True),
        (b'{"success": false}', None, True),
        (b'{"success": false, "request_id": "a/b"}', None, True),
        (b'{"success": null}', None, False),
        (b'{"request_id": null}', None, False),
        (b"{}", None, False),
        (b"[]", None, False),
        (b"no JSON", None, False),
        (b'{"request_id": "a", "more": NaN}', None, False),
    ],
)
def test_only_sound_json_says_anything_of_the_job(answer: bytes, request_id: str | None, has_failed: bool) -> None:
    found = read(answer)
    assert (found.content, found.request_id, found.has_failed) == (answer, request_id, has_failed)


def test_where_the_shape_knows_no_word_for_success_no_submit_fails_at_once() -> None:
    assert not read(b'{"success": false, "request_id": "a"}', shape=WITHOUT_SUCCESS).has_failed


@pytest.mark.parametrize("named", [b'"a/b"', b'""', b"true", b"1.5", b"[]", b"9" * 30])
def test_an_id_that_no_request_can_name_is_a_fault(named: bytes) -> None:
    with pytest.raises(UpstreamBrokeOff, match="id that can't be used") as caught:
        read(b'{"request_id": %b}' % named)
    assert caught.value.arrived


def test_an_answer_in_a_coding_is_not_read() -> None:
    with pytest.raises(UpstreamBrokeOff, match="content coding") as caught:
        read(b'{"request_id": "a"}', (b"content-type", b"application/json"), (b"content-encoding", b"gzip"))
    assert caught.value.arrived
