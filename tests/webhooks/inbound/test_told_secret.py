"""Whether the member that tells a secret is found in JSON that comes in pieces, however it is spelled and cut."""

import json
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webhooks.inbound.told_secret import ToldSecret
from tests.support.pure import PROPERTY

SECRETS = (b"secret-of-the-sender", b'a/b"c\\d-is-another', "\u00e9\U0001f600-is-one".encode())
Write = Callable[[str], str]


def slashed(text: str) -> str:
    """As PHP writes it."""
    return json.dumps(text).replace("/", "\\/")


def is_told(pieces: list[bytes]) -> bool:
    told = ToldSecret()
    for piece in pieces:
        told.take(piece)
    return told.is_one_of(SECRETS, b"".join(pieces))


def cut(text: bytes, size: int) -> list[bytes]:
    return [text[at : at + size] for at in range(0, len(text), size)]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("write", [json.dumps, partial(json.dumps, ensure_ascii=False), slashed])
@pytest.mark.parametrize("colon", [b":", b": ", b" \r\n:\t "])
def test_it_is_found_wherever_two_pieces_meet(secret: bytes, write: Write, colon: bytes) -> None:
    value = write(secret.decode()).encode()
    text = b'{"x": "%b", "webhook_secret"%b%b, "y": 1}' % (b"x" * 30, colon, value)
    assert all(is_told([text[:at], text[at:]]) for at in range(len(text)))
    assert is_told(cut(text, 1))
    for other in (value[:-2] + b'"', value[:-1] + b'x"', b"null", b"[%b]" % value, b'"' + value):
        assert not is_told([text.replace(value, other)])


@pytest.mark.parametrize("secret", SECRETS)
def test_the_secret_under_another_name_or_without_one_is_none(secret: bytes) -> None:
    value = json.dumps(secret.decode()).encode()
    for text in (b'{"secret": %b}', b'{"webhook_secrets": %b}', b'{"x": ["webhook_secret", %b]}', b"%b"):
        assert not is_told([text % value])


@given(st.lists(st.binary(max_size=40)), st.integers(0, 2), st.integers(1, 30))
@PROPERTY
def test_the_cuts_make_no_difference(around: list[bytes], which: int, size: int) -> None:
    told = b'"webhook_secret":' + json.dumps(SECRETS[which].decode()).encode()
    for text in (b"".join(around), told.join(around)):
        assert is_told(cut(text, size)) == is_told([text]) == (told in text)


def test_of_many_places_only_some_are_looked_at() -> None:
    value = json.dumps(SECRETS[0].decode()).encode()
    right, wrong = b'"webhook_secret":' + value, b'"webhook_secret":"x",'
    assert is_told([wrong * 3 + right])
    assert not is_told([wrong * 4 + right])
    assert not is_told(cut(wrong * 10_000, 100))


def test_a_value_is_read_no_further_than_a_secret_goes() -> None:
    assert not is_told([b'"webhook_secret":"' + b"\\" * 100_000])
    assert not is_told([b'"webhook_secret"' + b" " * 100_000 + b':"' + SECRETS[0] + b'"'])
    assert not is_told([b'"webhook_secret":"\\ud800"'])


def test_no_byte_of_a_secret_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long the search for a needle takes tells which bytes it has, and where: strangers could read the secret."""
    compared = list[bytes]()

    def compare(one: bytes, _: bytes) -> bool:
        compared.append(one)
        return False

    monkeypatch.setattr("hmac.compare_digest", compare)
    text = b"4" * 200_000 + b'{"webhook_secret": "guess"}'
    assert not is_told(cut(text, 16_384))
    assert compared == [b"guess"] * len(SECRETS)  # each whole, in a time that depends on no byte


def test_without_a_secret_nothing_is_told() -> None:
    told = ToldSecret()
    told.take(b'"webhook_secret":"x"')
    assert not told.is_one_of((), b'"webhook_secret":"x"')
