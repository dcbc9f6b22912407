from hashlib import sha256

from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.auth.api_keys import ApiKey, digest_of, find_key
from gateway.model.networks import Networks
from tests.support.pure import PROPERTY, make_identity


def key_of(secret: bytes, key_id: str = "ci") -> ApiKey:
    return ApiKey(digest_of(secret), make_identity(key_id=key_id), Networks())


def table_of(*keys: ApiKey) -> dict[bytes, ApiKey]:
    return {key.digest: key for key in keys}


def test_a_secret_is_known_by_its_sha256() -> None:
    assert digest_of(b"abc") == sha256(b"abc").digest()
    assert digest_of(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@PROPERTY
@given(st.lists(st.binary(min_size=1), min_size=1, max_size=5, unique=True), st.binary())
def test_finds_the_key_whose_secret_it_is_and_no_other(secrets: list[bytes], other: bytes) -> None:
    keys = [key_of(secret, f"k{i}") for i, secret in enumerate(secrets)]
    table = table_of(*keys)
    assert [find_key(secret, table) for secret in secrets] == keys
    assume(other not in secrets)
    assert find_key(other, table) is None


def test_neither_a_digest_nor_a_part_is_a_secret() -> None:
    table = table_of(key_of(b"long-secret"))
    for wrong in (
        b"",
        b"long-secre",
        b"long-secret ",
        b"LONG-SECRET",
        digest_of(b"long-secret"),
        digest_of(b"long-secret").hex().encode(),
    ):
        assert find_key(wrong, table) is None


def test_a_key_under_the_wrong_digest_is_not_believed() -> None:
    assert find_key(b"a", {digest_of(b"a"): key_of(b"b")}) is None
