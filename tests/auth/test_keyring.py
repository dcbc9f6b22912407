from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gateway.auth.keyring
from gateway.auth.api_keys import ApiKey
from gateway.auth.keyring import Closed, Keyring, RecordedSecret, key_of, profile_for
from gateway.model.identity import Identity, Profile
from gateway.model.keys import Generation, KeyRecord
from tests.support.pure import PROPERTY

PROFILES = {name: Profile(name, 1000) for name in ("a", "b")}


def make_record(key_id: str = "ci", *generations: Generation, **values: Any) -> KeyRecord:
    made = generations or (Generation(1, key_id.encode(), 5),)
    return KeyRecord(**{"id": key_id, "profile": "a", "owner": "o", "created_at": 5, "revision": 1, **values,
                        "generations": made})  # fmt: skip


def identity_of(key: ApiKey | None) -> Identity:
    assert key is not None
    assert key.identity is not None
    return key.identity


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
    assert {key.digest: key.identity for key in ring.live_keys()} == {
        key.digest: key.identity for key in at_once.live_keys()
    }
    assert {key.digest for key in ring.live_keys()} == {
        found.digest
        for record in latest.values()
        if record.profile != "gone" and record.disabled_at is None
        for found in record.generations
        if found.revoked_at is None
    }


def test_a_key_is_made_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand at each reload of a profile held the loop for a fifth of a second."""
    made: list[str] = []

    def counted(known: RecordedSecret, profiles: Mapping[str, Profile]) -> ApiKey | None:
        made.append(known.record.id)
        return key_of(known, profiles)

    monkeypatch.setattr(gateway.auth.keyring, "key_of", counted)
    ring = Keyring(PROFILES).changed(make_record(f"k{n}") for n in range(10_000))
    changed = ring.changed([make_record("k7", Generation(2, b"new", 9))]).under({"a": Profile("a", 7)})
    assert made == []
    assert len(changed.secrets) == len(changed.records) == 10_000
    assert ring.get(b"k7") is ring.get(b"k7")  # whoever still holds the old one sees the old one
    assert made == ["k7"]
    assert changed.get(b"k7") is None
    assert changed.closed(b"k7") is None
    assert identity_of(changed.get(b"new")).profile.body_limit == 7


@pytest.mark.parametrize("is_first", [True, False])
def test_a_secret_that_moves_to_another_key_is_that_ones_whichever_comes_first(is_first: bool) -> None:
    """As after a restored ledger. Behind the key that lost it, nobody had it."""
    ring = Keyring(PROFILES).changed([make_record("old", Generation(1, b"x", 0))])
    records = [make_record("old", Generation(1, b"y", 0)), make_record("new", Generation(1, b"x", 0))]
    moved = ring.changed(records if is_first else reversed(records))
    assert [identity_of(moved.get(secret)).key_id for secret in (b"x", b"y")] == ["new", "old"]
    assert moved.changed([make_record("new", Generation(1, b"z", 0))]).get(b"x") is None


def test_the_same_profiles_keep_the_ring() -> None:
    ring = Keyring(PROFILES).changed([make_record()])
    assert ring.under(dict(PROFILES)) is ring
    other = ring.under({"a": Profile("a", 7)})
    assert identity_of(other.get(b"ci")).profile.body_limit == 7
    assert ring.under({}).live_keys() == []
    again = ring.under({}).under(PROFILES)
    assert [key.identity for key in again.live_keys()] == [key.identity for key in ring.live_keys()]


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
    identity = identity_of(Keyring(PROFILES).changed([record]).get(b"x"))
    assert (identity.expires_at, identity.owner, identity.account) == (ends, "key:o", "key:ci")
    assert identity.generation == 1


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (make_record(disabled_at=1), "This key is disabled."),
        (make_record(profile="gone"), "This key's profile is not there any more."),
        (make_record("ci", Generation(1, b"ci", 0, revoked_at=1)), "This secret was revoked."),
        (make_record(unreadable=("limits",)), "This key can't be read by this release of the gateway."),
    ],
)
def test_what_is_not_accepted_opens_nothing_and_says_why(record: KeyRecord, why: str) -> None:
    ring = Keyring(PROFILES).changed([record])
    assert ring.get(b"ci") is None
    assert ring.closed(b"ci") == Closed("ci", why)
    assert (ring.get(b"other"), ring.closed(b"other")) == (None, None)


def test_a_secret_lives_until_its_end() -> None:
    assert Generation(1, b"", 0, not_after=10).is_live(9.9)
    assert not Generation(1, b"", 0, not_after=10).is_live(10)
    assert not Generation(1, b"", 0, revoked_at=10).is_live(5)
