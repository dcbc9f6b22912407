"""Who was served longest ago."""

import pytest

from gateway.limits.served_owners import ServedOwners


def test_who_was_never_served_comes_before_all_others() -> None:
    served = ServedOwners()
    for owner in ("key:a", "key:b", "key:a"):
        served.note(owner)
    assert sorted(["key:a", "key:b", "key:c"], key=served.last) == ["key:c", "key:b", "key:a"]


def test_of_very_many_those_served_last_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.limits.served_owners.MAX", 2)
    served = ServedOwners()
    for owner in ("key:a", "key:b", "key:a", "key:c"):
        served.note(owner)
    assert len(served) == 2
    assert served.last("key:b") == 0 < served.last("key:a") < served.last("key:c")
