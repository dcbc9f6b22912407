from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gateway.auth.keyring
from gateway.auth.keyring import Keyring, keys_of, profile_for
from gateway.model.identity import Profile
from gateway.model.keys import Generation, KeyRecord
from tests.support.pure import PROPERTY

PROFILES = {name: Profile(name, 1000) for name in ("a", "b")}


def make_record(key_id: str = "ci", *generations: Generation, **values: Any) -> KeyRecord:
    made = generations or (Generation(1, key_id.encode(), 5),)
    return KeyRecord(**{"id": key_id, "profile": "a", "owner": "o", "created_at": 5, "revision": 1, **values,
                        "generations": made})  # fmt: skip


generations = st.lists(
    st.builds(
        Generation,
        number=st.integers(1, 4),
        digest=st.just(b""),
        created_at=st.just(0),
        not_after=st.none() | st.integers(0, 100),
        revoked_at=st.none() | st.integers(0, 100),
    ),
    max_size=4,
    unique_by=lambda found: found.number,
)


@st.composite
def records(draw: st.DrawFn) -> KeyRecord:
    key_id = draw(st.sampled_from(["k1", "k2", "k3"]))
    made = [replace(found, digest=f"{key_id}-{found.number}".encode()) for found in draw(generations)]
    return KeyRecord(
        id=key_id,
        profile=draw(st.sampled_from(["a", "b", "gone"])),
        owner=draw(st.sampled_from(["x", "y"])),
        created_at=0,
        revision=1,
        limits=draw(st.sampled_from([{}, {"pages_per_day": 3}])),
        expires_at=draw(st.none() | st.integers(0, 100)),
        disabled_at=draw(st.none() | st.just(3)),
        generations=tuple(made),
    )


@PROPERTY
@given(st.lists(st.lists(records(), max_size=3), max_size=6))
def test_a_ring_that_was_changed_is_the_one_made_at_once(turns: list[list[KeyRecord]]) -> None:
    ring = Keyring(PROFILES)
    latest: dict[str, KeyRecord] = {}
    for turn in turns:
        ring = ring.changed(turn)
        latest |= {record.id: record for record in turn}
    at_once = Keyring(PROFILES).changed(latest.values())
    assert ring.records == at_once.records
    assert {d: (k.identity, k.digest) for d, k in ring.keys.items()} == {
        d: (k.identity, k.digest) for d, k in at_once.keys.items()
    }
    assert set(ring.keys) == {
        found.digest
        for record in latest.values()
        if record.profile != "gone" and record.disabled_at is None
        for found in record.generations
        if found.revoked_at is None
    }


def test_a_change_of_one_key_makes_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 10,000 keys costs a copied reference, no more."""
    ring = Keyring(PROFILES).changed(make_record(f"k{n}") for n in range(10_000))
    made: list[str] = []

    def counted(record: KeyRecord, profiles: Any) -> Any:
        made.append(record.id)
        return keys_of(record, profiles)

    monkeypatch.setattr(gateway.auth.keyring, "keys_of", counted)
    changed = ring.changed([make_record("k7", Generation(2, b"new", 9))])
    assert made == ["k7"]
    assert len(changed.keys) == len(changed.records) == 10_000
    assert b"k7" in ring.keys  # whoever still holds the old one sees the old one
    assert b"k7" not in changed.keys
    assert changed.keys[b"k8"] is ring.keys[b"k8"]


def test_the_same_profiles_keep_the_ring() -> None:
    ring = Keyring(PROFILES).changed([make_record()])
    assert ring.under(dict(PROFILES)) is ring
    other = ring.under({"a": Profile("a", 7)})
    assert other.keys[b"ci"].identity.profile.body_limit == 7
    assert ring.under({}).keys == {}
    assert ring.under({}).under(PROFILES).keys.keys() == ring.keys.keys()


def test_limits_of_a_key_stand_over_those_of_its_profile() -> None:
    record = make_record(limits={"pages_per_day": 3})
    assert profile_for(record, PROFILES) == replace(PROFILES["a"], pages_per_day=3)
    assert profile_for(make_record(), PROFILES) is PROFILES["a"]
    assert profile_for(make_record(profile="gone"), PROFILES) is None


@pytest.mark.parametrize(
    ("key_ends", "secret_ends", "ends"),
    [(None, None, None), (9, None, 9.0), (None, 8, 8.0), (9, 8, 8.0), (7, 8, 7.0)],
)
def test_a_secret_ends_with_its_key_or_before(key_ends: Any, secret_ends: Any, ends: Any) -> None:
    record = make_record("ci", Generation(1, b"x", 0, not_after=secret_ends), expires_at=key_ends)
    (key,) = keys_of(record, PROFILES)
    identity = key.identity
    assert identity is not None
    assert (identity.expires_at, identity.owner, identity.account) == (ends, "key:o", "key:ci")
    assert identity.generation == 1


@pytest.mark.parametrize(
    "record",
    [
        make_record(disabled_at=1),
        make_record(profile="gone"),
        make_record("ci", Generation(1, b"x", 0, revoked_at=1)),
    ],
)
def test_what_is_disabled_revoked_or_without_a_profile_opens_nothing(record: KeyRecord) -> None:
    assert keys_of(record, PROFILES) == []


def test_a_secret_lives_until_its_end() -> None:
    assert Generation(1, b"", 0, not_after=10).is_live(9.9)
    assert not Generation(1, b"", 0, not_after=10).is_live(10)
    assert not Generation(1, b"", 0, revoked_at=10).is_live(5)
