"""What is pending goes in one lane for each account: pure."""

from itertools import pairwise
from typing import Final

from gateway.jobs.job import Job
from gateway.jobs.pending_ends import MOST, Lane, PendingEnds
from gateway.limits.job_cost import Facts, Known
from gateway.model.jobs import JobRef
from tests.jobs.test_job import SHAPE

END: Final = Facts(Known.COMPLETE, 4)


def make_job(number: int, account: str = "key:a", reservation: str | None = None) -> Job:
    ref = JobRef("default", f"job-{number}", reservation or f"r{number}")
    return Job(ref, "owner", SHAPE, "/api/v1/marker", 100.0, account)


def filled(pending: PendingEnds, count: int, account: str = "key:a") -> Lane:
    lanes = [pending.add(make_job(number, account), END) for number in range(count)]
    assert lanes[0] is not None
    assert all(lane is lanes[0] for lane in lanes)
    return lanes[0]


def test_a_batch_is_what_waits_first_and_no_more_than_one_statement_takes() -> None:
    pending = PendingEnds()
    lane = filled(pending, 100)
    assert [one.job.request_id for one in lane.batch()] == [f"job-{number}" for number in range(MOST)]
    for one in lane.batch():
        pending.drop(one)
    assert (len(lane.batch()), len(pending)) == (36, 36)


def test_a_batch_has_one_fact_of_each_reservation() -> None:
    pending = PendingEnds()
    first, second = make_job(1, reservation="r"), make_job(2, reservation="r")
    lane = pending.add(first, END)
    pending.add(second, END)
    assert lane is not None
    assert [one.job for one in lane.batch()] == [first]
    pending.drop(lane.batch()[0])
    assert [one.job for one in lane.batch()] == [second]


def test_more_facts_of_a_job_are_told_though_the_first_ones_were() -> None:
    pending, job = PendingEnds(), make_job(1)
    lane = pending.add(job, Facts(Known.TAKEN))
    assert lane is not None
    (before,) = lane.batch()
    pending.add(job, END)
    pending.drop(before)
    assert [one.facts for one in lane.batch()] == [Facts(Known.TAKEN | Known.COMPLETE, 4)]
    assert len(pending) == 1
    job.add_known(Known.COMPLETE)
    pending.drop(lane.batch()[0])
    assert pending.add(job, END) is None
    assert (len(pending), pending.next_turn(is_well=True)) == (0, [])


def test_a_lane_that_fails_pauses_longer_each_time_and_tells_of_fewer() -> None:
    pending = PendingEnds()
    lane, other = filled(pending, 100), filled(pending, 1, "key:b")
    turns, sizes = list[int](), list[int]()
    for turn in range(40):
        due = dict(pending.next_turn(is_well=True))
        assert "key:b" in due
        assert ("key:a" in due) == (due.get("key:a") is lane)
        if "key:a" in due:
            turns.append(turn)
            sizes.append(len(lane.batch()))
            lane.is_running = True
            lane.requeue(lane.batch())
            pending.finish("key:a", lane)
        assert other.pause == 0
    assert [later - sooner for sooner, later in pairwise(turns)] == [1, 2, 4, 8, 8, 8, 8]
    assert sizes == [64, 16, 4, 1, 1, 1, 1, 1]


def test_what_failed_is_behind_the_others() -> None:
    pending = PendingEnds()
    lane = filled(pending, 3)
    lane.failures = 5
    lane.requeue(lane.batch())
    assert [one.job.request_id for one in lane.batch()] == ["job-1"]


def test_to_fail_while_the_ledger_is_there_for_nobody_is_no_reason_to_pause() -> None:
    pending = PendingEnds()
    lane = filled(pending, 3)
    for _ in range(9):
        pending.next_turn(is_well=False)
        lane.is_running = True
        assert not lane.requeue(lane.batch())
        pending.finish("key:a", lane)
    assert (lane.failures, lane.pause) == (0, 0)
    assert pending.next_turn(is_well=True) == [("key:a", lane)]


def test_a_lane_that_is_told_is_not_begun_twice() -> None:
    pending = PendingEnds()
    lane = filled(pending, 3)
    lane.is_running = True
    assert pending.next_turn(is_well=True) == []
    for one in lane.batch():
        pending.drop(one)
    assert pending.add(make_job(9), END) is lane
    pending.drop(lane.batch()[0])
    pending.finish("key:a", lane)
    assert pending.add(make_job(9), END) is not lane


def test_of_many_lanes_others_are_next_each_turn() -> None:
    pending = PendingEnds()
    for number in range(250):
        filled(pending, 1, f"key:{number}")
    seen = set[str]()
    for _ in range(2):
        due = pending.next_turn(is_well=True)
        assert len(due) <= 200
        for account, lane in due:
            seen.add(account)
            pending.finish(account, lane)
    assert len(seen) == 250
