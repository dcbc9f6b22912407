"""How many jobs share the requests, as the jobs of each owner see it."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.jobs.owner_counts import OwnerCounts
from tests.support.pure import PROPERTY


def counted(owners: dict[str, int]) -> OwnerCounts:
    counts = OwnerCounts()
    for owner, jobs in owners.items():
        for _ in range(jobs):
            counts.add(owner)
    return counts


def test_who_has_few_jobs_sees_few() -> None:
    counts = counted({"key:many": 500, "key:few": 2})
    assert (counts.shared_by("key:many"), counts.shared_by("key:few"), counts.shared_by("key:none")) == (502, 4, 0)
    counts.drop("key:few")
    counts.drop("key:few")
    assert (counts.shared_by("key:many"), len(counts)) == (500, 500)


def test_who_is_not_counted_sees_itself_beside_all_others() -> None:
    counts = counted({"key:many": 500, "key:few": 1})
    seen = [counts.shared_by(owner, others=True) for owner in ("key:many", "key:few", "key:none")]
    assert seen == [502, 4, 3]


@PROPERTY
@given(st.lists(st.integers(1, 200), min_size=1, max_size=20))
def test_together_they_ask_at_most_twice_as_often(jobs: list[int]) -> None:
    owners = Counter({f"key:{number}": count for number, count in enumerate(jobs)})
    counts = counted(owners)
    assert 1 <= sum(count / counts.shared_by(owner) for owner, count in owners.items()) < 2 + 1e-9
