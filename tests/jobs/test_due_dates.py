"""The dates of jobs: one for each, the soonest first."""

import math

from hypothesis import given
from hypothesis import strategies as st

from gateway.jobs.due_dates import DueDates
from gateway.jobs.job import Job
from gateway.model.jobs import JobRef
from gateway.upstream.job_api import JobShape
from tests.support.pure import PROPERTY


def jobs(count: int, owners: int = 1) -> list[Job]:
    no = frozenset[str]()
    shape = JobShape("default", "request_id", None, None, "{path}/{id}", "status", no, no, no, None, None, None)
    refs = (JobRef("default", f"j{number}", "r1") for number in range(count))
    return [Job(ref, f"key:{place % owners}", shape, "/api/v1/marker", 0.0) for place, ref in enumerate(refs)]


def taken(dates: DueDates) -> list[tuple[float, Job]]:
    """What counts of all that comes up, in its order."""
    found = []
    while dates.next_due < math.inf:
        due, ticket, job = dates.pop()
        if job.ticket == ticket:
            found.append((due, job))
    return found


@PROPERTY
@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 100)), max_size=30))
def test_each_job_has_the_date_that_was_set_last(puts: list[tuple[int, float]]) -> None:
    dates, known = DueDates(), jobs(5)
    last: dict[Job, float] = {}
    for place, (number, due) in enumerate(puts):
        job = known[number]
        last[job] = due
        is_first = dates.put(job, due)
        assert dates.next_due <= min(last.values())
        assert is_first == all(due < before for _, before in puts[:place])  # outdated ones are still there
        assert len(dates) == len(last)
    found = taken(dates)
    assert {job: due for due, job in found} == last
    assert [due for due, _ in found] == sorted(last.values())
    assert (len(dates), dates.next_due) == (0, math.inf)


def test_outdated_dates_are_no_jobs_and_do_not_pile_up() -> None:
    dates, (kept, busy) = DueDates(), jobs(2)
    dates.put(kept, 7.0)
    for number in range(10_000):
        dates.put(busy, 8.0 + number)
    assert len(dates) == 2
    came_up = 0
    while dates.next_due < math.inf:
        dates.pop()
        came_up += 1
    assert came_up < 300


def test_a_job_whose_date_was_taken_out_shares_what_all_share() -> None:
    """A watcher takes the date out, and then asks how many share: owners of one job had no share, and no bound."""
    dates, known = DueDates(), jobs(3, owners=3)
    assert dates.shared_by(known[0]) == 1
    for job in known:
        dates.put(job, 1.0)
    assert [dates.shared_by(job) for job in known] == [3, 3, 3]
    _, _, job = dates.pop()
    assert (len(dates), dates.shared_by(job)) == (2, 3)
