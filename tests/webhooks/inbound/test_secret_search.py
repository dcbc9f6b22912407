"""Whether a secret is found in JSON that comes in pieces, however it is spelled and cut."""

import json
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webhooks.inbound.secret_search import SecretSearch
from tests.support.pure import PROPERTY

SECRETS = (b"secret-of-the-sender", b'a/b"c\\d-is-another')


def slashed(text: str) -> str:
    """As PHP writes it."""
    return json.dumps(text).replace("/", "\\/")


def is_found(pieces: list[bytes]) -> bool:
    search = SecretSearch(SECRETS)
    for piece in pieces:
        search.take(piece)
    return search.is_found


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("write", [json.dumps, partial(json.dumps, ensure_ascii=False), slashed])
def test_it_is_found_wherever_two_pieces_meet(secret: bytes, write: Callable[[str], str]) -> None:
    told = write(secret.decode()).encode()
    text = b"%b%b%b" % (b"x" * 50, told, b"y" * 50)
    assert all(is_found([text[:cut], text[cut:]]) for cut in range(len(text)))
    assert is_found([text[at : at + 1] for at in range(len(text))])
    assert not is_found([text.replace(told, told[:-2])])


@given(st.lists(st.binary(max_size=40)), st.integers(0, 1), st.integers(1, 30))
@PROPERTY
def test_the_cuts_make_no_difference(around: list[bytes], which: int, size: int) -> None:
    told = json.dumps(SECRETS[which].decode())[1:-1].encode()
    for text in (b"".join(around), told.join(around)):
        cut = [text[at : at + size] for at in range(0, len(text), size)]
        assert is_found(cut) == is_found([text]) == (told in text)


def test_without_a_secret_nothing_is_found() -> None:
    search = SecretSearch(())
    search.take(b"anything")
    assert not search.is_found
