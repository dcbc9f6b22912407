from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.secret_index import SecretIndex
from tests.support.pure import PROPERTY

DIGESTS = st.sampled_from([b"%d" % number for number in range(400)])


@PROPERTY
@given(st.lists(st.dictionaries(DIGESTS, st.none() | st.sampled_from(["a", "b"])), max_size=8))
def test_an_index_is_a_dictionary_of_which_each_version_stays(turns: list[dict[bytes, str | None]]) -> None:
    versions = [(SecretIndex(), dict[bytes, str]())]
    for turn in turns:
        index, expected = versions[-1]
        left = {digest: owner for digest, owner in (expected | turn).items() if owner is not None}
        versions.append((index.changed(turn), left))
    for index, expected in versions:
        assert {digest: index.get(digest) for digest in index} == expected
        assert len(index) == len(expected)
        assert index.get(b"never") is None


def test_a_change_copies_only_what_it_touches() -> None:
    """A year of daily rotations of a thousand keys: all of it was copied at each change of one of them."""
    before = SecretIndex().changed({b"%d" % number: "a" for number in range(10_000)})
    after = before.changed({b"7": None, b"new": "b"})
    assert sum(old is not new for old, new in zip(before.parts, after.parts, strict=True)) <= 2
    assert (after.get(b"7"), after.get(b"new"), before.get(b"7"), before.get(b"new")) == (None, "b", "a", None)


def test_a_thousand_changes_copy_a_fraction_of_all() -> None:
    """A portion of keys of another ledger copied nearly all secrets of a thousand keys, for a tenth of a second."""
    before = SecretIndex().changed({b"%d" % number: "a" for number in range(100_000)})
    after = before.changed({b"%d" % number: "b" for number in range(1000)})
    copied = (new for old, new in zip(before.parts, after.parts, strict=True) if old is not new)
    assert sum(map(len, copied)) < 10_000
