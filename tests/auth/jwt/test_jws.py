"""What is a token at all: the rules that need no key (RFC 7515, RFC 8725 3)."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.jwt.base64url import decode_base64url
from gateway.auth.jwt.jws import read_token
from gateway.http.strict_json import read_object
from tests.support.pure import PROPERTY
from tests.support.tokens import CLAIMS, b64, make_token, signed_texts

HEADER, PAYLOAD = b'{"alg":"ES256"}', json.dumps(dict(CLAIMS)).encode()
GOOD = signed_texts(HEADER, PAYLOAD, "ES256")
FIRST, MIDDLE, LAST = GOOD.split(b".")


def test_a_token_is_read_and_nothing_of_it_shows() -> None:
    token = read_token(make_token(header={"kid": "k"}))
    assert token is not None
    assert (token.algorithm, token.kid, token.claims) == ("ES256", "k", dict(CLAIMS))
    assert repr(token) == "Token(algorithm='ES256', kid='k')"


@pytest.mark.parametrize(
    "token",
    [
        b"", b".", b"..", b"a", b"abc.def", b"....", GOOD + b".", b"." + GOOD,
        b".".join([FIRST, MIDDLE]), b".".join([FIRST, MIDDLE, b""]), b".".join([b"", MIDDLE, LAST]),
        b".".join([FIRST, b"", LAST]), b".".join([FIRST, MIDDLE, LAST, LAST, LAST]),
        GOOD + b"=", GOOD + b"==", GOOD + b"\n", b" " + GOOD, GOOD.replace(b".", b". "), GOOD + b"\x00",
        GOOD + "\u00e9".encode(), b"\xff" + GOOD, GOOD.replace(b".", b"\xef\xbc\x8e"),
        b".".join([b64(HEADER) + b"=", MIDDLE, LAST]), b".".join([FIRST, MIDDLE, LAST + b"AAA"]),
        b".".join([FIRST, MIDDLE, LAST[:-1] + b"+"]), b".".join([FIRST, MIDDLE, LAST[:-1] + b"/"]),
        b'{"protected":"%s","payload":"%s","signature":"%s"}' % (FIRST, MIDDLE, LAST),
    ],
)  # fmt: skip
def test_three_canonical_segments_or_nothing(token: bytes) -> None:
    assert read_token(token) is None


def test_bits_that_no_encoder_leaves_are_refused() -> None:
    for spelling in (b"QQ", b"YWI", b"QUI"):
        assert decode_base64url(spelling) is not None
    for spelling in (b"QR", b"YWJ", b"QUJ", b"Q", b"QUJDR", b""):
        assert decode_base64url(spelling) is None


def test_the_bound_is_8_kib() -> None:
    room = 8192 - len(signed_texts(HEADER, b'{"a":""}', "ES256"))
    longest = signed_texts(HEADER, b'{"a":"%s"}' % (b"x" * (room * 3 // 4)), "ES256")
    assert len(longest) in {8191, 8192}
    assert read_token(longest) is not None
    assert read_token(signed_texts(HEADER, b'{"a":"%s"}' % (b"x" * (room * 3 // 4 + 2)), "ES256")) is None
    assert read_token(b"." * 1_000_000) is None


@pytest.mark.parametrize(
    "header",
    [
        {"alg": None}, {"alg": 1}, {"alg": ["ES256"]}, {"alg": {"ES256": 1}}, {"alg": True},
        {"crit": ["b64"], "b64": False}, {"crit": ["exp"]}, {"crit": []}, {"crit": None}, {"b64": True},
        {"b64": False},
        {"jku": "https://evil.example/jwks"}, {"jwk": {"kty": "oct", "k": "AA"}}, {"x5u": "https://evil.example/c"},
        {"zip": "DEF"}, {"enc": "A128GCM"},
        {"typ": "JWE"}, {"typ": "JWT "}, {"typ": ""}, {"typ": None}, {"typ": 1}, {"typ": ["JWT"]}, {"typ": "JOSE"},
        {"typ": "logout+jwt"}, {"typ": "dpop+jwt"}, {"typ": "application/application/jwt"}, {"typ": "text/jwt"},
        {"kid": None}, {"kid": 1}, {"kid": ["a"]}, {"kid": {"a": 1}}, {"kid": ""}, {"kid": "k" * 257}, {"kid": True},
    ],
)  # fmt: skip
def test_headers_that_are_refused(header: dict[str, Any]) -> None:
    assert read_token(make_token(header=header)) is None


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"}, {"typ": "jwt"}, {"typ": "at+jwt"}, {"typ": "AT+JWT"}, {"typ": "application/at+jwt"},
        {"typ": "Application/JWT"}, {"x5t": "abc"}, {"x5t#S256": "abc"}, {"x5c": ["MIIB"]}, {"cty": "JWT"},
        {"kid": "k" * 256}, {"kid": "../../dev/null"}, {"anything": {"else": 1}},
    ],
)  # fmt: skip
def test_headers_that_are_let_by(header: dict[str, Any]) -> None:
    assert read_token(make_token(header=header)) is not None


@pytest.mark.parametrize(
    "text",
    [
        b"", b"null", b"1", b'"a"', b"[]", b'[{"alg":"ES256"}]', b"{", b'{"a":1}x', b'{"a":1}{"a":1}', b"{'a':1}",
        b'{"a":1,}', b'{"a":NaN}', b'{"a":Infinity}', b'{"a":-Infinity}', b'\xef\xbb\xbf{"a":1}', b'{"a":"\xff"}',
        '{"a":1}'.encode("utf-16"), '{"a":1}'.encode("utf-32-le"), b'{"a":1,"a":1}', b'{"a":1,"\\u0061":1}',
        b'{"b":{"a":1,"a":2}}', b'{"b":[{"a":1,"a":2}]}', b'{"a":%s}' % (b"9" * 5000), b"[" * 6000,
        b'{"a":' * 1000, b'{"a":%s1%s}' % (b"[" * 5000, b"]" * 5000), b'{"a":"\n"}', b'{"a":01}', b'{"a":+1}',
        b"\x00",
    ],
)  # fmt: skip
def test_json_with_more_than_one_reading_is_none(text: bytes) -> None:
    assert read_object(text) is None
    assert text == b"" or read_token(b64(text) + b"." + MIDDLE + b"." + LAST) is None
    assert text == b"" or read_token(FIRST + b"." + b64(text) + b"." + LAST) is None


def test_json_as_it_should_be() -> None:
    assert read_object(b' {"a": {"b": [1, 1.5, true, null, "\\u00e9"]}} ') == {
        "a": {"b": [1, 1.5, True, None, "\u00e9"]}
    }


@PROPERTY
@given(st.binary(max_size=60))
def test_base64url_has_one_spelling(data: bytes) -> None:
    assert decode_base64url(b64(data)) == (data or None)


@PROPERTY
@given(st.binary(max_size=12))
def test_what_decodes_encodes_to_itself(text: bytes) -> None:
    data = decode_base64url(text)
    assert data is None or b64(data) == text
