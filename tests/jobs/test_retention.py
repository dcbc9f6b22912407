"""Jobs whose time is over: nobody's at once, whoever sweeps; the upstream is told until it has heard."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection
from structlog.testing import capture_logs

from gateway.aio.in_turn import run_in_later_turn
from gateway.aio.iteration import Iteration
from gateway.errors import LedgerUnavailable
from gateway.ledger.jobs import forget
from gateway.ledger.lost import refund
from gateway.ledger.reservations import Claim, RequestIdTaken, accept, admit, cancel, reclaim, reserve
from gateway.ledger.schema import JobState, Stage, jobs, reservations
from gateway.limits.submit_decisions import Ask
from tests.jobs.conftest import MakeRoom
from tests.support.backend import Backend, answer
from tests.support.endings import job_of
from tests.support.ledgers import make_profile, rows_of
from tests.support.room import OWNER, PAGES, Container, Room, ended
from tests.support.waiting import eventually

SHAPES = {"default": {"delete": {"method": "POST", "path": "/clear", "body": {"id": "{id}", "of": "{path}"}}}}
TOLD = ("POST", "/clear", b'{"id": "job", "of": "/api/v1/marker"}')


async def over(room: Room, container: Container, *names: str) -> None:
    """Jobs that have ended, and whose time is over."""
    for name in names:
        await room.begin_job(name)
        container.says[name] = ended()
    await room.turn(1.0)
    room.seconds += 3601.0


async def gone(room: Room, *names: str, upstream: str = "default") -> None:
    """Jobs that their owner has deleted."""
    for name in names:
        job = await room.reserved(name, upstream=upstream)
        await room.engine.write(lambda c, job=job: forget(c, job, room.wall()))  # type: ignore[misc]


@pytest.fixture
async def other(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Backend]:
    """A second upstream's backend, which deletes what it is asked to; either is asked for three at once."""
    monkeypatch.setattr("gateway.jobs.retention.MAX_ASKED", 3)
    async with Backend() as made:
        made.script = Container()
        yield made


def with_other(make_room: MakeRoom, other: Backend) -> Room:
    room = make_room()
    room.configure(upstreams={"other": {"url": f"http://127.0.0.1:{other.port}"}}, shapes=SHAPES)
    return room


async def swept(room: Room) -> None:
    await room.retention.sweep()
    await room.quiet()


def told(container: Container) -> list[tuple[str, str, bytes]]:
    return [call for call in container.calls if call[0] != "GET"]


async def test_a_sweep_ends_after_some_seconds_and_the_next_one_goes_on(
    make_room: MakeRoom, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("gateway.ledger.expiry", "gateway.jobs.retention"):
        monkeypatch.setattr(f"{module}.AT_ONCE", 1)
    room = make_room(shapes=SHAPES)
    await over(room, container, *(f"job-{number}" for number in range(5)))
    write = room.faulty.write

    async def writing(work: Any, *, durable: bool = False, in_turn_of: str = "") -> Any:
        room.seconds += 0.9
        return await write(work, durable=durable, in_turn_of=in_turn_of)

    room.faulty.write = writing  # type: ignore[method-assign]
    await room.retention.sweep()
    left = [name for name in range(5) if await room.state_of(f"job-{name}") is not JobState.GONE]
    assert left
    for _ in range(5):
        await room.retention.sweep()
    await room.quiet()
    assert [await room.state_of(f"job-{name}") for name in range(5)] == [JobState.GONE] * 5


async def test_what_expires_says_nothing_of_a_job_that_has_the_id_now(
    make_room: MakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = make_room(me="here", shapes=SHAPES), make_room(me="there")
    await there.begin_job()
    await there.engine.write(lambda c: forget(c, job_of(c, ("default", "job")), there.wall()))
    stale = [await here.row()]
    await there.given_again("job", "key:other")
    here.seconds = there.seconds
    job = await here.registry.owned("default", "job", "key:other")
    monkeypatch.setattr("gateway.jobs.retention.first_expiry", lambda _: 0)
    monkeypatch.setattr("gateway.jobs.retention.expired", lambda *_: stale)
    await swept(here)
    assert (job.is_gone, here.registry.get(job.key)) == (False, job)


async def test_a_deletion_that_the_ledger_held_up_is_not_sent(make_room: MakeRoom, container: Container) -> None:
    """By then the id may be another owner's."""
    room = make_room(shapes=SHAPES)
    await over(room, container, "job")
    write = room.faulty.write

    async def writing(work: Any, *, durable: bool = False, in_turn_of: str = "") -> Any:
        done = await write(work, durable=durable, in_turn_of=in_turn_of)
        room.seconds += 2.0
        return done

    room.faulty.write = writing  # type: ignore[method-assign]
    with capture_logs() as events:
        await swept(room)
    assert (await room.state_of(), told(container)) == (JobState.GONE, [])
    assert not [event for event in events if "did not delete" in event["event"]]  # it was not asked
    room.faulty.write = write  # type: ignore[method-assign]
    room.seconds += 60.0
    await swept(room)
    assert told(container) == [TOLD]


async def test_deletions_that_wait_too_long_for_their_turn_are_asked_later_and_are_no_failure(
    make_room: MakeRoom, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that were claimed together the last counted against an upstream that was never asked."""
    room = make_room(shapes=SHAPES)
    names = [f"job-{number}" for number in range(12)]
    await gone(room, *names)

    async def slowly(iteration: Iteration, work: Callable[[], Any], *, is_small: bool = False) -> None:
        portions.append(work)
        if len(portions) == 3:
            await eventually(lambda: len(told(container)) == 8)
            room.seconds += 2.0
        await run_in_later_turn(iteration, work, is_small=is_small)

    portions = list[Callable[[], Any]]()
    monkeypatch.setattr("gateway.jobs.retention.run_in_later_turn", slowly)
    with capture_logs() as events:
        await swept(room)
    assert len(told(container)) == 8
    assert not [event for event in events if "did not delete" in event["event"]]
    room.seconds += 61.0
    await swept(room)
    assert len(told(container)) == 12
    assert {(await room.row(name)).expires_at for name in names} == {None}


@pytest.mark.parametrize("status", [b"200 OK", b"503 Service Unavailable"])
async def test_an_id_is_no_other_jobs_while_the_upstream_deletes_it(
    make_room: MakeRoom, container: Container, status: bytes
) -> None:
    """A container that was restarted gave it to another owner's submit, deleted that, and only then answered it."""
    room = make_room(shapes=SHAPES)
    container.raw["clear"] = answer(b"", status=b"503 Service Unavailable")
    await over(room, container, "job")
    await swept(room)
    room.seconds += 61.0
    container.raw["clear"] = answer(b"", status=status)
    await swept(room)
    room.seconds += 4.0
    with pytest.raises(RequestIdTaken):
        await room.reserved("job", "key:other")
    room.seconds += 2.0
    await room.reserved("job", "key:other")
    await swept(room)
    assert told(container) == [TOLD] * 2


async def test_a_job_is_its_owners_until_its_time_is_over(make_room: MakeRoom, container: Container) -> None:
    room = make_room(shapes=SHAPES)
    job = await room.begin_job()
    container.says["job"] = ended()
    await room.turn(1.0)
    room.seconds += 3598.0
    await swept(room)
    assert (await room.state_of(), told(container)) == (JobState.COMPLETE, [])
    room.seconds += 2.0
    await swept(room)
    assert await room.state_of() == JobState.GONE
    assert job.is_gone
    assert room.registry.get(job.key) is None
    assert told(container) == [TOLD]
    assert (await room.row()).expires_at is None
    for _ in range(3):
        room.seconds += 3600.0
        await swept(room)
    assert told(container) == [TOLD]
    assert await room.used() == (4, 6, 0)


async def test_an_upstream_that_can_not_delete_is_not_asked(room: Room, container: Container) -> None:
    await over(room, container, "job")
    await swept(room)
    assert (await room.state_of(), told(container)) == (JobState.GONE, [])
    assert (await room.row()).expires_at is None


@pytest.mark.parametrize("status", [b"200 OK", b"204 No Content", b"404 Not Found", b"410 Gone"])
async def test_one_that_has_heard_is_not_told_again(make_room: MakeRoom, container: Container, status: bytes) -> None:
    room = make_room(shapes=SHAPES)
    container.raw["clear"] = answer(b"", status=status)
    await over(room, container, "job")
    await swept(room)
    assert (await room.row()).expires_at is None


@pytest.mark.parametrize("status", [b"500 Internal Server Error", b"302 Found", b"401 Unauthorized"])
async def test_one_that_has_not_is_told_again_a_minute_later(
    make_room: MakeRoom, container: Container, status: bytes
) -> None:
    room = make_room(shapes=SHAPES)
    container.raw["clear"] = answer(b"", status=status)
    await over(room, container, "job")
    for count in (1, 2, 3):
        await swept(room)
        assert told(container) == [TOLD] * count
        room.seconds += 50.0
        await swept(room)
        assert told(container) == [TOLD] * count
        room.seconds += 13.0
    del container.raw["clear"]
    await swept(room)
    assert (await room.row()).expires_at is None
    assert len(told(container)) == 4


async def test_one_that_is_away_is_told_when_it_is_back(
    make_room: MakeRoom, container: Container, backend: Backend
) -> None:
    room = make_room(shapes=SHAPES)
    await over(room, container, "job", "other")
    await backend.hang_up()
    await swept(room)
    assert await room.state_of() == JobState.GONE
    assert (await room.row()).expires_at is not None
    await backend.listen()
    room.seconds += 61.0
    container.raw["clear"] = answer(b"", status=b"500 Internal Server Error")
    await swept(room)
    assert len(told(container)) == 2
    room.seconds += 86_400.0  # the gateway was off for a day: no attempt of that day was made
    del container.raw["clear"]
    await swept(room)
    assert len(told(container)) == 4
    assert [(await room.row(name)).expires_at for name in ("job", "other")] == [None, None]


async def test_one_that_never_hears_is_told_no_more_in_the_end(
    make_room: MakeRoom, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("gateway.ledger.expiry", "gateway.jobs.retention"):
        monkeypatch.setattr(f"{module}.LAST_WAIT", 62)
    room = make_room(shapes=SHAPES)
    container.raw["clear"] = answer(b"", status=b"500 Internal Server Error")
    await over(room, container, "job")
    for seconds in (60.0, 61.0, 62.0, 0.0):
        await swept(room)
        assert (await room.row()).expires_at == (int(room.wall() + seconds) if seconds else None)
        room.seconds += seconds
    assert len(told(container)) == 3


@pytest.mark.parametrize("status", [b"200 OK", b"500 Internal Server Error"])
async def test_what_ended_days_ago_is_told_as_well(make_room: MakeRoom, container: Container, status: bytes) -> None:
    """Its result was kept for long, or its owner deleted it late, and the upstream did not take that."""
    room = make_room(shapes=SHAPES, result_ttl="7d")
    await room.begin_job("job")
    container.says["job"] = ended()
    await room.turn(1.0)
    room.seconds += 7 * 86_400.0
    container.raw["clear"] = answer(b"", status=status)
    await swept(room)
    room.seconds += 61.0
    del container.raw["clear"]
    await swept(room)
    assert told(container) == ([TOLD] if status == b"200 OK" else [TOLD, TOLD])
    assert (await room.row()).expires_at is None


async def test_an_upstream_that_is_not_configured_any_more_is_not_told(
    make_room: MakeRoom, container: Container
) -> None:
    room = make_room(shapes=SHAPES)
    await over(room, container, "job")
    await room.engine.write(lambda c: c.execute(jobs.update().values(upstream="gone")))
    await swept(room)
    assert ((await room.row(upstream="gone")).state, told(container)) == (JobState.GONE, [])


@pytest.mark.parametrize("missing", ["shapes", "upstreams"])
async def test_what_the_configuration_lacks_for_a_moment_is_told_when_it_is_back(
    missing: str, make_room: MakeRoom, container: Container
) -> None:
    room = make_room(shapes=SHAPES)
    await over(room, container, "job")
    right = room.state
    room.state = replace(right, shapes={}) if missing == "shapes" else replace(right, upstreams={})
    await swept(room)
    assert (await room.state_of(), told(container)) == (JobState.GONE, [])
    room.state = right
    room.seconds += 61.0
    await swept(room)
    assert len(told(container)) == 1
    assert (await room.row()).expires_at is None


async def test_after_a_restart_it_goes_on(make_room: MakeRoom, container: Container) -> None:
    before, after = make_room(shapes=SHAPES), make_room(me="after", shapes=SHAPES)
    await over(before, container, "job", "other")
    before.faulty.faults = ["", "before"]  # killed between two steps
    with pytest.raises(LedgerUnavailable):
        await before.retention.sweep()
    after.seconds = before.seconds
    await swept(after)
    assert [await after.state_of(name) for name in ("job", "other")] == [JobState.GONE] * 2
    assert len(told(container)) == 2


async def test_several_that_sweep_do_not_stand_in_each_others_way(make_room: MakeRoom, container: Container) -> None:
    rooms = [make_room(me=f"room-{number}", shapes=SHAPES) for number in range(3)]
    names = [f"job-{number}" for number in range(10)]
    await over(rooms[0], container, *names)
    for room in rooms:
        room.seconds = rooms[0].seconds
    await asyncio.gather(*(swept(room) for room in rooms))
    assert [await rooms[0].state_of(name) for name in names] == [JobState.GONE] * 10
    expected = sorted(TOLD[2].replace(b"job", name.encode()) for name in names)
    assert sorted(call[2] for call in told(container)) == expected  # none was told twice
    assert await rooms[0].used() == (40, 60, 0)


async def test_what_is_told_at_once_is_bounded(
    make_room: MakeRoom, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.jobs.retention.MAX_ASKED", 3)
    room = make_room(shapes=SHAPES)
    names = [f"job-{number}" for number in range(10)]
    await over(room, container, *names)
    container.gate = asyncio.Event()
    await room.retention.sweep()
    await eventually(lambda: container.waiting == 3)
    assert [await room.state_of(name) for name in names] == [JobState.GONE] * 10
    assert container.most == 3
    container.gate.set()
    await room.quiet()
    for _ in range(3):
        room.seconds += 61.0
        await swept(room)
    assert len(told(container)) == 10
    assert container.most == 3


async def test_an_upstream_that_never_answers_keeps_no_other_from_deleting(
    make_room: MakeRoom, container: Container, other: Backend
) -> None:
    room = with_other(make_room, other)
    await gone(room, *(f"job-{number}" for number in range(10)))
    container.gate = asyncio.Event()
    await room.retention.sweep()
    await eventually(lambda: container.waiting == 3)
    room.seconds += 1.0
    await gone(room, *(f"other-{number}" for number in range(3)), upstream="other")
    await room.retention.sweep()
    script: Any = other.script
    await eventually(lambda: len(told(script)) == 3)
    assert len(container.calls) == 3
    container.gate.set()
    await room.quiet()


@pytest.mark.parametrize("status", [b"405 Method Not Allowed", b"500 Internal Server Error"])
async def test_an_upstream_that_refuses_is_asked_for_a_few_a_turn_and_keeps_no_other_from_deleting(
    make_room: MakeRoom, container: Container, other: Backend, status: bytes
) -> None:
    room = with_other(make_room, other)
    container.raw["clear"] = answer(b"", status=status)
    await gone(room, *(f"job-{number}" for number in range(10)))
    for count in (3, 6):
        await swept(room)
        assert len(told(container)) == count
        room.seconds += 1.0
    await gone(room, *(f"other-{number}" for number in range(3)), upstream="other")
    await swept(room)
    script: Any = other.script
    assert (len(told(container)), len(told(script))) == (9, 3)
    del container.raw["clear"]
    for _ in range(4):
        room.seconds += 61.0
        await swept(room)
    assert {(await room.row(f"job-{number}")).expires_at for number in range(10)} == {None}


async def test_what_was_never_asked_about_goes_before_what_failed(
    make_room: MakeRoom, container: Container, other: Backend
) -> None:
    room = with_other(make_room, other)
    container.raw["clear"] = answer(b"", status=b"500 Internal Server Error")
    await gone(room, *(f"job-{number}" for number in range(6)))
    for _ in range(2):
        await swept(room)
    room.seconds += 62.0
    await gone(room, "new")
    await swept(room)
    assert len(told(container)) == 9
    assert told(container)[6:].count((*TOLD[:2], TOLD[2].replace(b'"job"', b'"new"'))) == 1


async def test_the_log_has_one_line_a_minute_of_an_upstream_that_does_not_delete(
    make_room: MakeRoom, container: Container
) -> None:
    room = make_room(shapes=SHAPES)
    container.raw["clear"] = answer(b"", status=b"405 Method Not Allowed")
    await gone(room, *(f"job-{number}" for number in range(10)))
    event = {
        "event": "the upstream did not delete a job; it is asked again", "log_level": "warning",
        "upstream": "default", "status": 405,
    }  # fmt: skip
    for seconds, expected in ((0.0, [1]), (59.0, []), (1.0, [9])):
        room.seconds += seconds
        with capture_logs() as events:
            await swept(room)
        told_of = [found for found in events if "ledger" not in found["event"]]
        assert told_of == [{**event, "count": count} for count in expected]


async def test_the_log_has_one_line_a_minute_of_deletions_that_are_given_up(
    make_room: MakeRoom, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("gateway.ledger.expiry", "gateway.jobs.retention"):
        monkeypatch.setattr(f"{module}.LAST_WAIT", 60)
    room = make_room(shapes=SHAPES)
    container.raw["clear"] = answer(b"", status=b"500 Internal Server Error")
    await gone(room, *(f"job-{number}" for number in range(5)))
    await swept(room)
    with capture_logs() as events:
        for _ in range(2):
            room.seconds += 60.0
            await swept(room)
    given_up = [event for event in events if event["event"].startswith("the upstream never deleted a job")]
    assert [(event["upstream"], event["count"]) for event in given_up] == [("default", 1), ("default", 4)]
    assert len(told(container)) == 5


async def test_deletions_at_an_upstream_that_is_not_configured_are_looked_at_once_a_minute(
    make_room: MakeRoom, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.ledger.expiry.AT_ONCE", 2)
    room = make_room(shapes=SHAPES)
    await gone(room, *(f"job-{number}" for number in range(5)))
    await room.engine.write(lambda c: c.execute(jobs.update().values(upstream="gone")))
    counts: list[int] = []
    for seconds in (0.0, 1.0, 1.0, 60.0):
        room.seconds += seconds
        before = room.faulty.writes
        await swept(room)
        counts.append(room.faulty.writes - before)
    assert counts == [1, 0, 0, 1]
    await gone(room, "job")
    await swept(room)
    assert told(container) == [TOLD]


async def test_deletions_whose_shape_is_not_configured_are_looked_at_a_few_each_turn(
    make_room: MakeRoom, container: Container, other: Backend
) -> None:
    room = with_other(make_room, other)
    await gone(room, *(f"job-{number}" for number in range(9)))
    room.state = replace(room.state, shapes={})
    before = room.faulty.writes
    await swept(room)
    assert room.faulty.writes - before == 1
    assert told(container) == []


async def test_many_results_cost_as_many_transactions_as_one(make_room: MakeRoom, container: Container) -> None:
    room = make_room(shapes=SHAPES)
    costs: list[int] = []
    for names in (["job"], [f"job-{number}" for number in range(25)]):
        await over(room, container, *names)
        before = room.faulty.writes
        await swept(room)
        costs.append(room.faulty.writes - before)
        assert {(await room.row(name)).expires_at for name in names} == {None}
    assert costs[0] == 3  # to forget, to claim, and to note that it was deleted
    assert costs[1] <= 12  # of 75; how many share one depends on when each is answered
    assert len(told(container)) == 26


async def test_a_ledger_that_is_away_when_it_was_told_lets_it_be_told_again(
    make_room: MakeRoom, container: Container
) -> None:
    room = make_room(shapes=SHAPES)
    await over(room, container, "job")
    room.faulty.faults = ["", "", "before"]
    await swept(room)
    assert (await room.row()).expires_at is not None
    room.seconds += 61.0
    await swept(room)
    assert (await room.row()).expires_at is None
    assert len(told(container)) == 2


async def test_records_are_removed_when_they_are_old(
    make_room: MakeRoom, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("gateway.ledger.expiry", "gateway.jobs.retention"):
        monkeypatch.setattr(f"{module}.AT_ONCE", 2)
    room = make_room(records_kept="1d")
    await over(room, container, *(f"job-{number}" for number in range(5)))
    for _ in range(5):
        await swept(room)

    async def left() -> list[dict[str, Any]]:
        return await room.engine.read(lambda c: rows_of(c, jobs))

    await room.retention.purge()
    assert len(await left()) == 5
    room.seconds += 86_400.0
    await room.begin_job("young")
    await room.retention.purge()
    assert [row["request_id"] for row in await left()] == ["young"]


def without_a_job(connection: Connection, now: float) -> None:
    """Submits of which no job came, or of which nobody knows one."""
    for name in ("slot", "refused", "late", "lost", "crashed", "given back"):
        claim = Claim(name, OWNER, OWNER, "default")
        admit(connection, claim, make_profile(), now, now + 60)
        if name != "slot":
            reserve(connection, claim, make_profile(), Ask(PAGES, 1, ""), now, now + 60)
        if name in {"lost", "given back"}:
            accept(connection, claim, None, now + 60)
        if name in {"slot", "refused"}:
            cancel(connection, claim, now)
    reclaim(connection, OWNER, now + 60)
    cancel(connection, Claim("late", OWNER, OWNER, "default"), now + 60)
    assert refund(connection, "given back", None, "op", now + 60).pages == PAGES


async def test_of_past_days_no_reservation_is_left(
    make_room: MakeRoom, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They went with their jobs alone: without one they stayed for ever, and cost their account nothing."""
    for module in ("gateway.ledger.expiry", "gateway.jobs.retention"):
        monkeypatch.setattr(f"{module}.AT_ONCE", 2)
    room = make_room(records_kept="10d")
    await over(room, container, "job", "again")
    await swept(room)
    room.seconds += 6.0
    await room.begin_job("again")  # the container gives its id to another job
    await room.begin_job("running")
    await room.engine.write(lambda c: without_a_job(c, room.wall()))

    async def stages(days: float) -> dict[str, Stage]:
        room.seconds += days * 86_400.0
        await room.retention.purge()
        found = await room.engine.read(lambda c: rows_of(c, reservations))
        return {row["id"]: Stage(row["stage"]) for row in found}

    used = await room.used()
    first = await stages(0.0)
    assert sorted(Counter(first.values()).items()) == [
        (Stage.ACCEPTED, 2), (Stage.SETTLED, 2), (Stage.CHARGED, 2), (Stage.REFUNDED, 3)
    ]  # fmt: skip
    assert await stages(1.1) == {name: stage for name, stage in first.items() if stage is not Stage.REFUNDED}
    assert await room.used() == used
    last = await stages(10.0)
    assert last == {name: stage for name, stage in first.items() if stage is Stage.ACCEPTED}
    assert len(await room.engine.read(lambda c: rows_of(c, jobs))) == len(last)
    container.says.update(again=ended(), running=ended())
    await room.turn(61.0)
    for days in (1.0, 11.1):
        room.seconds += days * 86_400.0
        await swept(room)
        left = await stages(0.0)
    assert (left, await room.engine.read(lambda c: rows_of(c, jobs))) == ({}, [])


async def test_deletions_at_many_upstreams_begin_a_few_at_a_time(
    make_room: MakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those due at forty upstreams at once held the loop for half a second."""
    room = make_room()
    names = list(nowhere(40))
    room.configure(upstreams=nowhere(40), shapes=SHAPES)
    for name in names:
        await gone(room, *(f"{name}-{number}" for number in range(3)), upstream=name)
    begun: Counter[int] = Counter()
    turns, run = 0, room.upstream_client.run

    def running(*args: Any) -> None:
        begun[turns] += 1
        run(*args)

    monkeypatch.setattr(room.upstream_client, "run", running)
    sweeping = asyncio.get_running_loop().create_task(room.retention.sweep())
    while not sweeping.done():
        turns += 1
        await asyncio.sleep(0)
    await room.quiet()
    assert begun.total() == 120
    assert max(begun.values()) <= 4


async def test_what_is_due_at_one_of_hundreds_of_upstreams_is_deleted_in_the_same_sweep(
    make_room: MakeRoom, other: Backend
) -> None:
    """SQLite takes no question about more than 250 of them, and the ledger counted as away."""
    room = make_room()
    room.configure(upstreams=nowhere(260) | {"z": {"url": f"http://127.0.0.1:{other.port}"}}, shapes=SHAPES)
    await gone(room, "job", upstream="z")
    await swept(room)
    script: Any = other.script
    assert told(script) == [TOLD]
    assert (await room.row("job", "z")).expires_at is None


def nowhere(many: int) -> dict[str, dict[str, str]]:
    """Upstreams that are not there."""
    return {f"u{number}": {"url": f"http://127.0.0.1:{number + 1}"} for number in range(many)}
