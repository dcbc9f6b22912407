import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.key_secrets import SECRET_BYTES, is_secret, make_secret
from tests.support.pure import PROPERTY

ids = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
randoms = st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)
KNOWN = "dgw_ci_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


@PROPERTY
@given(ids, randoms)
def test_what_is_made_is_known_by_its_form(key_id: str, random: bytes) -> None:
    secret = make_secret(key_id, random)
    assert is_secret(secret.encode())
    assert re.fullmatch(rf"dgw_{key_id}_[A-Za-z0-9_-]{{43}}[0-9A-Za-z]{{6}}", secret)


@PROPERTY
@given(ids, randoms, st.data())
def test_one_wrong_character_is_noticed(key_id: str, random: bytes, data: st.DataObject) -> None:
    secret = make_secret(key_id, random)
    place = data.draw(st.integers(0, len(secret) - 1))
    other = data.draw(st.characters(min_codepoint=0x21, max_codepoint=0x7E).filter(lambda c: c != secret[place]))
    assert not is_secret((secret[:place] + other + secret[place + 1 :]).encode())


def test_the_checksum_is_crc32_in_base_62() -> None:
    rest, digits = zlib.crc32(KNOWN.encode()), "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    text = ""
    while rest:
        rest, digit = divmod(rest, 62)
        text = digits[digit] + text
    assert make_secret("ci", bytes(SECRET_BYTES)) == KNOWN + text.rjust(6, "0")


@pytest.mark.parametrize(
    "text",
    [b"", b"dgw_", b"dgw_ci_", KNOWN.encode(), make_secret("ci", bytes(32)).encode() + b"\n", b"\xff" * 60,
     make_secret("ci", bytes(32)).encode().upper(), b" " + make_secret("ci", bytes(32)).encode()],
)  # fmt: skip
def test_other_texts_are_none(text: bytes) -> None:
    assert not is_secret(text)


@PROPERTY
@given(st.binary(max_size=200))
def test_any_bytes_are_judged(text: bytes) -> None:
    assert is_secret(text) in {True, False}
