"""The audit trail in the ledger, on both engines: told once, bounded, and the first reader of a job is one."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select, text

from gateway.ledger import audit as steps
from gateway.ledger.audit import FirstRead, record, recorded, state_secrets, take_untold
from gateway.ledger.engine import Engine
from gateway.ledger.jobs import NewJob, begin
from gateway.ledger.reservations import accept, admit, reserve
from gateway.ledger.schema import jobs
from gateway.limits.submit_decisions import Ask
from gateway.model.audit import Action, Entry
from tests.ledger.test_plans import plans
from tests.support.ledgers import NOON, make_claim, make_profile

NOW = int(NOON)


def refused(count: int, at: int = NOW, actor: str = "key:ci") -> Entry:
    return Entry(at, actor, Action.REFUSED, "rate_limited", {"count": count})


def read(job: str, actor: str = "key:ci", owner: str = "key:ci", at: int = NOW) -> FirstRead:
    return FirstRead(Entry(at, actor, Action.READ, job, {"upstream": "container"}), "container", owner)


async def append(engine: Engine, *notes: Entry | FirstRead) -> list[Entry]:
    return await engine.write(lambda c: steps.append(c, notes))


def purge(connection: Any, before: float, most: int) -> int:
    return steps.purge(connection, before, steps.surplus(connection, most))


async def entries(engine: Engine, **asked: Any) -> list[Entry]:
    return [found.entry for found in await engine.read(lambda c: recorded(c, **asked))]


async def make_job(engine: Engine, job: str) -> None:
    claim = make_claim(job)

    def work(connection: Any) -> None:
        admit(connection, claim, make_profile(), NOON, NOON + 60)
        reserve(connection, claim, make_profile(), Ask(1, 0, "fast"), NOON, NOON + 60)
        accepted = accept(connection, claim, job, NOON + 3600)
        begin(connection, accepted, NewJob(job, "default", "/api/v1/marker", None), "me", NOON)

    await engine.write(work)


async def test_only_the_first_read_of_a_job_is_a_record(engine: Engine) -> None:
    await make_job(engine, "j1")
    assert await append(engine, read("j1"), read("j1", "key:other")) == [read("j1").entry]
    assert await append(engine, read("j1", at=NOW + 5)) == []
    assert await entries(engine) == [read("j1").entry]
    rows = await engine.read(lambda c: c.execute(select(jobs.c.read_at)).scalars().all())
    assert rows == [NOW]


async def test_a_job_that_was_deleted_right_after_it_was_read_is_recorded_all_the_same(engine: Engine) -> None:
    await make_job(engine, "j1")
    await engine.write(lambda c: c.execute(jobs.delete()))
    assert await append(engine, read("j1")) == [read("j1").entry]


async def test_an_id_that_is_anothers_by_now_keeps_its_own_first_read(engine: Engine) -> None:
    await make_job(engine, "j1")
    assert await append(engine, read("j1", owner="key:before")) == [read("j1", owner="key:before").entry]
    assert await append(engine, read("j1")) == [read("j1").entry]


async def test_replicas_that_note_a_read_at_once_make_one_record(engine: Engine) -> None:
    await make_job(engine, "j1")
    made = await asyncio.gather(*(append(engine, read("j1", f"key:k{number}")) for number in range(8)))
    assert sum(map(len, made)) == 1
    assert len(await entries(engine)) == 1


async def test_a_change_is_told_once_and_what_gateways_noted_never_again(engine: Engine) -> None:
    for number in range(600):
        await engine.write(lambda c, n=number: record(c, NOON, "cli:op", "key.create", f"k{n}", {}))  # type: ignore[misc] # its defaults are the values
    await append(engine, refused(1))
    assert await engine.read(steps.has_untold)
    first, second, third = [await engine.write(take_untold) for _ in range(3)]
    assert [entry.subject for entry in first + second] == [f"k{number}" for number in range(600)]
    assert third == []
    assert not await engine.read(steps.has_untold)


async def test_replicas_that_take_changes_at_once_take_each_once(engine: Engine) -> None:
    for number in range(50):
        await engine.write(lambda c, n=number: record(c, NOON, "cli:op", "key.create", f"k{n}", {}))  # type: ignore[misc] # its defaults are the values
    taken = await asyncio.gather(*(engine.write(take_untold) for _ in range(6)))
    assert sorted(entry.subject for part in taken for entry in part) == sorted(f"k{number}" for number in range(50))


async def test_what_concerns_a_key_is_found_by_its_id(engine: Engine) -> None:
    await engine.write(lambda c: record(c, NOON, "cli:op", "key.create", "ci", {}))
    await engine.write(lambda c: record(c, NOON, "cli:op", "webhook.retry", "ci", {}))
    await engine.write(
        lambda c: state_secrets(c, {"keys[ci].secret": "01234567", "admin.token": "x"}, (), "configuration", NOON)
    )
    await append(engine, refused(3), refused(1, actor="jwt:id#ci"), read("ci", "key:other"), read("j9", "key:ci"))
    about = [(entry.action, entry.subject) for entry in await entries(engine, of="ci")]
    assert about == [
        (Action.READ, "j9"), (Action.REFUSED, "rate_limited"),
        (Action.SECRET_SET, "keys[ci].secret"), ("key.create", "ci"),
    ]  # fmt: skip
    assert [entry.actor for entry in await entries(engine, of="jwt:id#ci")] == ["jwt:id#ci"]
    assert [entry.action for entry in await entries(engine, of="ci", action="key.")] == ["key.create"]
    assert await entries(engine, of="nobody") == []


async def test_a_list_goes_on_behind_the_last_and_begins_at_a_moment(engine: Engine) -> None:
    await append(engine, *(refused(number, NOW + number) for number in range(5)))
    first = await engine.read(lambda c: recorded(c, most=2))
    rest = await engine.read(lambda c: recorded(c, before=first[-1]))
    assert [found.entry.detail["count"] for found in [*first, *rest]] == [4, 3, 2, 1, 0]
    assert [entry.at for entry in await entries(engine, since=NOON + 3)] == [NOW + 4, NOW + 3]


async def test_the_newest_first_is_what_happened_last_not_what_was_written_last(engine: Engine) -> None:
    """A first read and refusals come from memory: a change that was made after them is written before."""
    await engine.write(lambda c: record(c, NOW + 7, "cli:op", "key.create", "late", {}))
    await append(engine, refused(1, NOW + 1), refused(2, NOW + 9), refused(3, NOW + 7))
    all_of_them = await engine.read(recorded)
    assert [found.entry.at for found in all_of_them] == sorted(
        (found.entry.at for found in all_of_them), reverse=True
    )
    paged, before = [], None
    while page := await engine.read(lambda c, before=before: recorded(c, most=1, before=before)):  # type: ignore[misc] # its defaults are the values
        paged += page
        before = page[-1]
    assert paged == all_of_them
    assert len(paged) == 4


async def test_a_secret_is_noted_when_it_is_another_and_when_it_is_gone(engine: Engine) -> None:
    async def state(at: int = 0, **declared: str) -> list[tuple[str, str]]:
        made = await engine.write(lambda c: state_secrets(c, declared, (), "configuration", NOON + at))
        return [(entry.action, entry.subject) for entry in made]

    assert await state(a="1", b="2") == [(Action.SECRET_SET, "a"), (Action.SECRET_SET, "b")]
    assert await state(1, a="1", b="2") == []
    assert await state(2, a="3", b="2") == [(Action.SECRET_SET, "a")]
    assert await state(3, b="2") == [(Action.SECRET_REMOVED, "a")]
    assert await state(4, b="2") == []
    assert await state(5, a="3", b="2") == [(Action.SECRET_SET, "a")]
    assert not await engine.read(steps.has_untold)  # whoever states it tells of it


async def test_a_secret_that_may_not_be_told_is_noted_by_whoever_saw_it_change(engine: Engine) -> None:
    async def state(declared: dict[str, str | None], *replaced: str) -> list[Entry]:
        return await engine.write(lambda c: state_secrets(c, declared, replaced, "configuration", NOON))

    (made,) = await state({"a": None})
    assert (made.action, made.subject, made.detail) == (Action.SECRET_SET, "a", {})
    assert await state({"a": None}) == []
    assert [entry.subject for entry in await state({"a": None}, "a")] == ["a"]
    assert [entry.action for entry in await state({})] == [Action.SECRET_REMOVED]


async def test_replicas_that_note_the_same_reads_in_any_order_do_not_stop_each_other(engine: Engine) -> None:
    names = [f"j{number}" for number in range(40)]
    for name in names:
        await make_job(engine, name)
    orders = (names, names[::-1], names[20:] + names[:20])
    made = await asyncio.gather(*(append(engine, *map(read, order)) for order in orders))
    assert sorted(entry.subject for part in made for entry in part) == sorted(names)


async def test_of_a_job_that_is_read_twice_in_one_batch_the_first_counts(engine: Engine) -> None:
    await make_job(engine, "j1")
    first = read("j1", "key:first")
    assert await append(engine, first, refused(1), read("j1", "key:second")) == [first.entry, refused(1)]


async def test_replicas_that_reload_together_note_a_secret_once(engine: Engine) -> None:
    def state(connection: Any) -> list[Entry]:
        return state_secrets(connection, {"a": "1"}, (), "configuration", NOON)

    made = await asyncio.gather(*(engine.write(state) for _ in range(6)))
    assert sum(map(len, made)) == 1


@pytest.mark.parametrize("most", [1, 10])
async def test_first_reads_and_refusals_are_bounded_by_number_and_changes_are_not(engine: Engine, most: int) -> None:
    for number in range(20):
        await engine.write(lambda c, n=number: record(c, NOON + n, "cli:op", "key.create", f"k{n}", {}))  # type: ignore[misc] # its defaults are the values
        await append(engine, refused(number, NOW + number), read(f"j{number}", at=NOW + number))
    assert await engine.write(lambda c: purge(c, NOON, most)) == 2 * (20 - most)
    assert await engine.write(lambda c: purge(c, NOON, most)) == 0
    left = await entries(engine)
    kept = list(range(19, 19 - most, -1))
    assert [entry.detail["count"] for entry in left if entry.action == Action.REFUSED] == kept
    assert [entry.subject for entry in left if entry.action == Action.READ] == [f"j{number}" for number in kept]
    assert len([entry for entry in left if entry.action == "key.create"]) == 20


async def test_all_goes_by_its_age(engine: Engine) -> None:
    await append(engine, refused(1, NOW - 10), refused(2, NOW))
    await engine.write(lambda c: record(c, NOON - 10, "cli:op", "key.create", "old", {}))
    assert await engine.write(lambda c: purge(c, NOON - 9, 100)) == 2
    assert await entries(engine) == [refused(2)]


async def test_long_names_of_owners_are_kept_whole(engine: Engine) -> None:
    entry = Entry(NOW, "jwt:" + "i" * 590, Action.READ, "j" * 256, {"owner": "o" * 600})
    await append(engine, entry)
    assert await entries(engine) == [entry]


async def test_no_look_reads_the_whole_trail(engine: Engine) -> None:
    await append(engine, *(refused(number) for number in range(3000)))

    def work(connection: Any) -> list[str]:
        if connection.dialect.name != "sqlite":  # PostgreSQL reads small tables whole, and rightly
            return []
        untold = connection.execute(text("EXPLAIN QUERY PLAN SELECT id FROM audit WHERE untold IS NOT NULL")).all()
        assert "ix_audit_untold" in untold[0].detail
        with plans(connection) as found:
            state_secrets(connection, {}, (), "configuration", NOON)
            steps.purge(connection, NOON - 9, {Action.READ: 5, Action.REFUSED: 5})
        return found

    assert "audit" not in await engine.write(work)
