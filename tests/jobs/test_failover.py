"""Which replica follows which jobs: dead ones, those that come back, and jobs that nobody can follow."""

from dataclasses import replace

import pytest
from sqlalchemy import update

from gateway.ledger import deliveries, schema
from gateway.ledger.schema import DeliveryState, JobState, jobs
from gateway.limits.job_cost import Facts, Known
from tests.jobs.conftest import MakeRoom
from tests.support.ledgers import rows_of
from tests.support.room import OWNER, PAGES, Container, Room, ended, is_asked_nothing_now, is_left_alone


async def test_what_nobody_can_follow_is_given_up_by_its_age(
    make_room: MakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its shape went out of the configuration while it ran: it ran for ever, and its webhook waited."""
    monkeypatch.setattr("gateway.jobs.failover.AT_ONCE", 2)
    room = make_room(give_up_after="1h")
    names = [f"job-{number}" for number in range(5)]
    for name in names:
        hook = deliveries.Planned(name, "default", name, OWNER, "https://h.test/", "h.test:443", None)
        await room.reserved(name, shape="gone")
        await room.engine.write(lambda c, hook=hook: deliveries.plan(c, hook, room.wall()))  # type: ignore[misc]
    await room.failover.beat()
    await room.failover.take_over()
    room.seconds += 3890.0
    await room.failover.recall()
    assert {await room.state_of(name) for name in names} == {JobState.RUNNING}
    room.seconds += 20.0
    for _ in range(2):
        await room.failover.recall()
        assert {await room.state_of(name) for name in names} == {JobState.FAILED}
    assert (await room.used(), room.ended, len(room.hooks.settled)) == ((5 * PAGES, 0, 0), 5, 5)
    hooks = await room.engine.read(lambda c: rows_of(c, schema.deliveries))
    assert {(row["state"], row["status"]) for row in hooks} == {(DeliveryState.DUE, "failed")}
    room.seconds += 3700.0
    await room.retention.sweep()
    assert {await room.state_of(name) for name in names} == {JobState.GONE}


async def test_what_nobody_polls_is_given_up_though_nothing_is_watched(make_room: MakeRoom) -> None:
    room = make_room(give_up_after="1h", watch=False)
    job, ending = await room.begin_job(), await room.begin_job("ending")
    await room.turn(1.0)
    room.faulty.is_away = True
    room.completion.add_facts(ending, Facts(Known.COMPLETE, 4))
    await room.turn(3910.0)
    room.faulty.is_away = False
    await room.failover.recall()
    assert (await room.state_of(), job.is_running) == (JobState.FAILED, False)
    assert await room.state_of("ending") == JobState.RUNNING  # how it ended is known
    await room.turn(10.0)
    assert await room.state_of("ending") == JobState.COMPLETE
    assert await room.used() == (PAGES + 4, PAGES - 4, 0)


@pytest.mark.parametrize("is_complete", [True, False])
async def test_what_ended_while_no_gateway_ran_is_asked_about_before_it_is_given_up(
    make_room: MakeRoom, container: Container, is_complete: bool
) -> None:
    before, after = make_room(me="before"), make_room(me="after")
    await before.begin_job()
    if is_complete:
        container.says["job"] = ended()
    before.seconds = after.seconds = 3 * 86_400.0
    await after.failover.beat()
    await after.failover.recall()
    await after.failover.take_over()
    await after.failover.recall()
    assert await after.state_of() == JobState.RUNNING
    await after.turn(60.0)
    assert await after.state_of() == (JobState.COMPLETE if is_complete else JobState.FAILED)
    assert await after.used() == ((4, 6, 0) if is_complete else (PAGES, 0, 0))


async def test_nobody_is_asked_when_nobody_wants_that(make_room: MakeRoom, container: Container) -> None:
    room = make_room(watch=False)
    job = await room.begin_job()
    assert await is_left_alone(room, container)
    assert not job.is_followed
    held = room.hold(job)
    await room.turn()
    await room.turn(0.1)
    assert container.asked["job"] == 2
    held.leave()
    assert await is_left_alone(room, container)
    await room.failover.recall()
    assert await is_left_alone(room, container)


async def test_watching_that_is_switched_on_takes_up_what_was_let_go(
    make_room: MakeRoom, container: Container
) -> None:
    room = make_room(watch=False)
    job = await room.begin_job()
    assert await is_left_alone(room, container)
    room.configure(watch=True)
    assert await is_left_alone(room, container)
    await room.failover.recall()
    container.says["job"] = ended()
    await room.turn(1.0)
    assert not job.is_running
    assert await room.used() == (4, 6, 0)


async def test_what_a_dead_replica_followed_is_taken_over_when_its_time_is_over(
    make_room: MakeRoom, container: Container
) -> None:
    dead, heir = make_room(me="dead"), make_room(me="heir")
    await dead.failover.beat()
    await dead.failover.take_over()
    jobs = [await dead.begin_job(f"job-{number}") for number in range(3)]
    dead.watcher.close()
    await heir.turn(14.0)
    await heir.failover.beat()
    await heir.failover.take_over()
    assert await is_asked_nothing_now(heir, container)
    heir.seconds += 2.0
    await heir.failover.beat()
    await heir.failover.take_over()
    for job in jobs:
        container.says[job.request_id] = ended()
    await heir.turn(1.0)
    assert [await heir.state_of(job.request_id) for job in jobs] == [JobState.COMPLETE] * 3
    assert await heir.used() == (12, 18, 0)
    assert (await heir.registry.owned("default", "job-0", OWNER)).owner == OWNER


async def test_what_was_left_is_taken_over_at_once(
    make_room: MakeRoom, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.ledger.watchers.MAX_TAKEN", 2)
    one, heir = make_room(me="one"), make_room(me="heir")
    await one.failover.beat()
    await one.failover.take_over()
    for number in range(5):
        await one.begin_job(f"job-{number}")
    one.watcher.close()
    one.faulty.faults = ["before"]
    await one.failover.leave()  # the ledger is away, which is no error
    await one.failover.leave()
    await heir.failover.beat()
    await heir.failover.take_over()
    await heir.turn(1.0)
    assert container.asked.total() == heir.status_queue.asked == 5


async def test_a_watcher_that_was_only_away_lets_go_of_what_was_taken_over(
    make_room: MakeRoom, container: Container
) -> None:
    away, heir = make_room(me="away"), make_room(me="heir")
    await away.failover.beat()
    await away.failover.take_over()
    await away.hear()
    job = await away.begin_job()
    heir.seconds += 31.0
    away.seconds += 31.0
    await heir.failover.beat()
    await heir.failover.take_over()
    await away.failover.beat()
    await away.failover.take_over()
    await away.hear()
    assert not job.is_followed
    assert await is_left_alone(away, container)
    await heir.turn(1.0)
    assert container.asked["job"] == 1


async def test_a_job_whose_begin_was_not_answered_is_recalled(room: Room, container: Container) -> None:
    """The ledger has it, though the submit was told that it has not: its pages are settled all the same."""
    await room.reserved()
    await room.failover.beat()
    await room.failover.take_over()
    assert room.watcher.dates == 0
    await room.failover.recall()
    container.says["job"] = ended()
    await room.turn(1.0)
    assert await room.used() == (4, 6, 0)
    await room.failover.recall()
    assert await is_left_alone(room, container)


async def test_a_deletion_that_was_not_answered_is_done_again(room: Room) -> None:
    job = await room.begin_job()
    room.faulty.faults = ["before"]
    room.completion.forget(job)
    await room.quiet()
    assert await room.state_of() == JobState.RUNNING
    await room.failover.recall()
    await room.quiet()
    assert await room.state_of() == JobState.GONE


async def test_a_job_is_not_deleted_because_another_one_with_its_id_was(room: Room) -> None:
    """The next owner's job was forgotten, charged, and deleted at the container."""
    old = await room.begin_job()
    await room.given_again("job", "key:other")
    old.end(0)
    await room.failover.recall()
    await room.quiet()
    assert await room.state_of() == JobState.RUNNING
    job = await room.registry.owned("default", "job", "key:other")
    assert (job.is_running, job.is_followed) == (True, True)


async def test_one_that_ends_while_it_is_recalled_is_not_deleted(room: Room) -> None:
    """What the ledger said was true when it was read."""
    job = await room.begin_job()
    job.end(room.wall() + 10)
    for is_followed in (True, False):
        job.is_followed = is_followed
        await room.failover.recall()
        await room.quiet()
    assert await room.state_of() == JobState.RUNNING
    assert await room.registry.owned("default", "job", OWNER) is job


async def test_what_is_followed_is_not_recalled(room: Room, container: Container) -> None:
    job = await room.begin_job()
    await room.failover.recall()
    assert room.watcher.dates == 1
    assert room.registry.get(job.key) is job
    await room.turn(1.0)
    assert container.asked["job"] == 1


async def test_a_job_whose_shape_is_gone_is_not_followed(make_room: MakeRoom, container: Container) -> None:
    here, heir = make_room(me="here"), make_room(me="heir")
    await here.begin_job()
    await here.engine.write(lambda c: c.exec_driver_sql("UPDATE jobs SET shape = 'gone'"))
    here.watcher.close()
    await heir.failover.beat()
    await heir.failover.take_over()
    assert await is_left_alone(heir, container)
    assert (await heir.row()).watcher == "heir"


async def test_a_job_whose_shape_is_missing_for_a_moment_is_followed_on_and_charged_as_it_tells(
    room: Room, container: Container
) -> None:
    job = await room.begin_job()
    right, room.state = room.state, replace(room.state, shapes={})
    now = int(room.wall() * 1000)
    await room.engine.write(lambda c: c.execute(update(jobs).values(changed_at=now)))
    room.watcher.apply_changes(await room.registry.read_changes())
    await room.failover.recall()
    await room.quiet()
    assert (job.is_gone, job.is_followed, await room.state_of()) == (False, True, JobState.RUNNING)
    room.state = right
    container.says["job"] = ended(3)
    await room.turn(1.0)
    await room.quiet()
    assert (await room.state_of(), await room.used()) == (JobState.COMPLETE, (3, 7, 0))
