import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.config.compile import compile_shape
from gateway.config.settings import ShapeSettings
from gateway.errors import UpstreamBrokeOff
from gateway.http.headers import read_target
from gateway.upstream import check_url as rewriting
from gateway.upstream.check_url import public_answer
from tests.support.pure import PROPERTY

DATALAB = compile_shape("default", ShapeSettings())
ORIGIN, SUBMIT = "https://public.test:8443", "/api/v1/marker"


def rewritten(answer: bytes) -> bytes:
    return public_answer(answer, ORIGIN, SUBMIT, DATALAB).answer


def check_url(url: object, **more: object) -> Any:
    return json.loads(rewritten(json.dumps({"request_check_url": url, **more}).encode()))["request_check_url"]


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://127.0.0.1:8000/api/v1/marker/abc", "/api/v1/marker/abc"),
        ("https://www.datalab.to/api/v1/ocr/a-b_c.d~e", "/api/v1/ocr/a-b_c.d~e"),
        ("/api/v1/marker/abc", "/api/v1/marker/abc"),
        ("api/v1/marker/abc", "/api/v1/marker/abc"),
        ("//evil.test/api/v1/marker/abc", "/api/v1/marker/abc"),
        ("http://u:p@evil.test/a?key=1#x", "/a"),
        ("http://h/a:b@c,d=e!$&'()*+", "/a:b@c,d=e!$&'()*+"),
    ],
)
def test_a_path_of_the_upstream_is_put_behind_our_origin(url: str, path: str) -> None:
    assert check_url(url) == ORIGIN + path
    assert check_url(url, request_id="other") == ORIGIN + path


@PROPERTY
@given(st.text("ab/.:;?#%@=\\ []\t\u00e4", max_size=12).filter(lambda text: not text.startswith("/")))
def test_a_mere_path_is_read_as_it_is_behind_a_host(rest: str) -> None:
    assert check_url(f"/{rest}") == check_url(f"http://h/{rest}")


@pytest.mark.parametrize(
    "url",
    ["", "http://h", "http://h/", "/", "http://h/a/", "http://h/a//b", "http://h/../b", "http://h/a/./b", "/..", "http://h/a%2fb",
     "http://h/a;b", "http://h/ä", "http://h/a b", 'http://h/a"b', "http://[::1/a", "http://h/a\\b", "?x=1", "#x",
     None, 7, 1.5, True,
     ["/a"], {"url": "/a"}],
)  # fmt: skip
def test_where_there_is_no_path_the_result_is_named_by_its_id(url: object) -> None:
    assert check_url(url, request_id="abc") == f"{ORIGIN}{SUBMIT}/abc"
    assert check_url(url) is None


@pytest.mark.parametrize(
    "request_id", ["", ".", "..", "a/b", "a b", "a%2f", "ä", "a?b", "a" * 257, None, True, ["a"]]
)
def test_an_id_that_is_no_segment_names_nothing(request_id: object) -> None:
    assert check_url(None, request_id=request_id) is None


def test_an_id_may_be_a_number_or_long() -> None:
    assert check_url(None, request_id=7) == f"{ORIGIN}{SUBMIT}/7"
    assert check_url(None, request_id="a" * 256) == f"{ORIGIN}{SUBMIT}/{'a' * 256}"


@pytest.mark.parametrize(
    "answer",
    [b"", b" ", b"null", b"17", b'"check_url"', b"[]", b'["url"]', b'[{"check":"http://h/a"}]', b"{}",
     b" { } ", b'{"a":1}', b'{"nested":{"request_check_url":"http://h/a"}}', b"not json", b"<html>", b"{", b'{"a"',
     b'{"a":', b'{"a":1',
     b'{"a":1,', b'{"a":1}x', b"{}x", b'{"a" 1}', b"{1:2}x", b"{[]:1}", b'{"a":x}'],
)  # fmt: skip
def test_what_has_no_check_url_is_left_as_it_is(answer: bytes) -> None:
    assert rewritten(answer) == answer


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"request_check_url":"http://h/a"}', b'{"request_check_url":"%b/a"}'),
        (b' {\n "x" : 1.0 ,\t"request_check_url" : null , "request_id" : "i"\r\n} ',
         b' {\n "x" : 1.0 ,\t"request_check_url" : "%b/api/v1/marker/i" , "request_id" : "i"\r\n} '),
        (b'{"request\\u005fcheck\\u005furl":"http:\\/\\/h\\/a"}', b'{"request\\u005fcheck\\u005furl":"%b/a"}'),
        (b'{"x":1e400,"y":' + b"9" * 5000 + b',"z":0.10,"request_check_url":"http://h/a"}',
         b'{"x":1e400,"y":' + b"9" * 5000 + b',"z":0.10,"request_check_url":"%b/a"}'),
        (b'{"x":"\xff\xc3\xa4\\ud800","request_check_url":{"a":[]}}',
         b'{"x":"\xff\xc3\xa4\\ud800","request_check_url":null}'),
        (b'{"request_id":"a","request_id":"b","request_check_url":[]}',
         b'{"request_id":"a","request_id":"b","request_check_url":"%b/api/v1/marker/b"}'),
    ],
)  # fmt: skip
def test_all_else_stays_byte_for_byte(before: bytes, after: bytes) -> None:
    assert rewritten(before) == after.replace(b"%b", ORIGIN.encode())


NAMED = b'"request_check_url":"http://h/a"'


@pytest.mark.parametrize(
    "answer",
    [
        b'"request_check_url"', b"[{%b}]" % NAMED, b"{%b}{}" % NAMED, b"{}\n{%b}" % NAMED, b"{%b}\0" % NAMED,
        b'{%b,"a":"\x01"}' % NAMED, b"{%b,}" % NAMED, b'{%b,"a":01}' % NAMED, b"/**/{%b}" % NAMED, b"{%b" % NAMED,
        b'{"REQUEST_Check_url":"http://h/a",}', b'{"reque\xc5\xbft_chec\xe2\x84\xaa_url":"http://h/a",}',
        b'{"request\\u005fcheck_url":"http://h/a",}', b"{'request\\x5fcheck_url':'http://h/a'}",
    ],
)  # fmt: skip
def test_what_a_client_may_read_though_it_is_no_json_goes_no_further(answer: bytes) -> None:
    with pytest.raises(UpstreamBrokeOff, match="can't be read") as caught:
        rewritten(answer)
    assert caught.value.arrived


@pytest.mark.parametrize(
    "name",
    [b"Request_Check_Url", b"REQUEST_CHECK_URL", b"reque\xc5\xbft_chec\xe2\x84\xaa_url",
     b"reque\\u017ft_check_url"],
)  # fmt: skip
def test_a_check_url_is_found_in_any_case(name: bytes) -> None:
    """Go and .NET read it so."""
    assert rewritten(b'{"%b":"http://h/a"}' % name) == b'{"%b":"%b/a"}' % (name, ORIGIN.encode())
    with pytest.raises(UpstreamBrokeOff, match="two check URLs"):
        rewritten(b'{"request_check_url":"http://h/a","%b":"http://h/b"}' % name)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32-be", "utf-8-sig"])
def test_what_only_some_readers_can_read_goes_no_further(encoding: str) -> None:
    with pytest.raises(UpstreamBrokeOff, match="not in UTF-8") as caught:
        rewritten('{"request_check_url":"http://h/a"}'.encode(encoding))
    assert caught.value.arrived


def test_what_is_nested_too_deeply_goes_no_further() -> None:
    with pytest.raises(UpstreamBrokeOff, match="can't be read") as caught:
        rewritten(b'{"request_check_url":"http://h/a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    assert caught.value.arrived


class Counted:
    """Counts what a decoder reads: each call is a key, or a value with all that is in it."""

    def __init__(self, decoder: json.JSONDecoder) -> None:
        self._decoder = decoder
        self.calls = 0

    def raw_decode(self, text: str, place: int) -> tuple[Any, int]:
        self.calls += 1
        return self._decoder.raw_decode(text, place)


@pytest.mark.parametrize("member", [b'"":1,', b'"a":' + b" " * 60 + b'"",'], ids=["many", "some"])
def test_an_answer_of_many_members_is_not_read_to_its_end(member: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """256 KB of them held everybody for a tenth of a second; a real answer has about five."""
    counted = Counted(rewriting.DECODER)
    monkeypatch.setattr(rewriting, "DECODER", counted)
    with pytest.raises(UpstreamBrokeOff, match="can't be read"):
        rewritten(b"{" + member * (262_000 // len(member)) + b'"request_check_url":null}')
    assert counted.calls <= 1000


@pytest.mark.parametrize("value", [b"[],", b"1,", b"{},", b'{"a":1},'])
def test_an_answer_of_many_values_is_not_read(value: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(rewriting.DECODER)
    monkeypatch.setattr(rewriting, "DECODER", counted)
    with pytest.raises(UpstreamBrokeOff, match="can't be read"):
        rewritten(b'{"a":[' + value * (262_000 // len(value)) + b"0]}")
    assert counted.calls == 0


def test_an_answer_of_a_long_text_and_some_hundred_members_is_read() -> None:
    text = b'{"text":"' + b'a \\"line\\", of text\\n' * 8000 + b'",' + b'"a":1,' * 400 + b'"request_check_url":null}'
    assert rewritten(text) == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
url_parts = st.lists(
    st.sampled_from([*"/.:@?#%\\;[]\t\n a", "http:", "//", "..", "evil.test", "%2e", "\u2025"]), max_size=10
)


@PROPERTY
@given(
    st.dictionaries(st.text(max_size=5), json_values, max_size=4), json_values | url_parts.map("".join), json_values
)
@example({}, "http:///\t//evil.test", "x")
def test_the_key_never_leaves_for_another_origin(document: dict[str, Any], url: object, request_id: object) -> None:
    whole = {**document, "request_check_url": url, "request_id": request_id}
    answer = json.loads(rewritten(json.dumps(whole).encode()))
    found = answer.pop("request_check_url")
    del whole["request_check_url"]
    assert answer == whole
    if found is not None:
        assert found.startswith(ORIGIN + "/")
        assert urlsplit(found).netloc == "public.test:8443"
        path = found.removeprefix(ORIGIN)
        assert read_target("GET", path) == (path, "")


@PROPERTY
@given(
    st.binary(max_size=60)
    | st.lists(st.sampled_from([*'{}[]:,"', "1", '"request_check_url"', " "]), max_size=12).map(
        lambda parts: "".join(parts).encode()
    )
)
def test_no_answer_makes_it_stumble(answer: bytes) -> None:
    try:
        after = rewritten(answer)
    except UpstreamBrokeOff:
        return
    if b"request_check_url" not in answer:
        assert after == answer


def test_an_answer_that_names_two_check_urls_is_refused() -> None:
    answer = b'{"request_check_url":"http://h/a","request_check_url":"http://h/b"}'
    with pytest.raises(UpstreamBrokeOff, match="two check URLs"):
        rewritten(answer)


OSS = compile_shape(
    "oss",
    ShapeSettings(id="file_id", id_pattern="[a-f]+", check_url=None, read="/results?file_id={id}"),
)
OTHER = compile_shape("other", ShapeSettings(id="job", check_url="poll", read="/jobs?id={id}"))


@pytest.mark.parametrize(
    ("answer", "check_url"),
    [
        (b'{"file_id": "abc"}', "https://public.test:8443/results?file_id=abc"),
        (b'{"file_id": "abc", "request_check_url": "http://h/a"}', "https://public.test:8443/results?file_id=abc"),
        (b'{"file_id": "xyz"}', None),
        (b'{"file_id": "../abc"}', None),
        (b'{"request_id": "abc"}', None),
        (b"no JSON", None),
        (b"[]", None),
    ],
)
def test_without_a_check_url_nothing_is_rewritten(answer: bytes, check_url: str | None) -> None:
    assert public_answer(answer, ORIGIN, SUBMIT, OSS) == (answer, check_url)


def test_members_are_those_of_the_shape() -> None:
    answer = b'{"job": 7, "poll": "http://h/jobs?id=7", "request_check_url": "http://h/a"}'
    url = f"{ORIGIN}/jobs?id=7"  # a path alone would not say which
    expected = f'{{"job": 7, "poll": "{url}", "request_check_url": "http://h/a"}}'
    assert public_answer(answer, ORIGIN, SUBMIT, OTHER) == (expected.encode(), url)


def test_the_url_that_the_client_is_told_is_told_to_others_too() -> None:
    answer = b'{"request_id": "a", "request_check_url": "http://h/b"}'
    assert public_answer(answer, ORIGIN, SUBMIT, DATALAB).check_url == f"{ORIGIN}/b"
    assert public_answer(b'{"request_id": "a"}', ORIGIN, SUBMIT, DATALAB).check_url == f"{ORIGIN}{SUBMIT}/a"
    assert public_answer(b'{"request_check_url": null}', ORIGIN, SUBMIT, DATALAB) == (
        b'{"request_check_url": null}',
        None,
    )


@pytest.mark.parametrize(
    "url", ["http://" + "\u0315\u0300" * 5_000 + "/a", "http://h/" + "a" * 3_000, "http://\u00e9/a"]
)
def test_a_url_that_is_long_or_not_ascii_is_not_parsed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its host would be normalized, which sorts combining marks in quadratic time: 36 s for 256 KB."""
    monkeypatch.setattr(rewriting, "urlsplit", pytest.fail)
    assert check_url(url, request_id="abc") == f"{ORIGIN}{SUBMIT}/abc"
