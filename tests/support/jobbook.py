"""Jobs in a ledger, step by step, at a moment that tests set."""

from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection

from gateway.ledger import expiry, watchers
from gateway.ledger import jobs as steps
from gateway.ledger.engine import Engine
from gateway.ledger.jobs import NewJob
from gateway.ledger.reservations import Claim, accept, admit, reserve
from gateway.ledger.schema import jobs
from gateway.ledger.usage import used_since
from gateway.limits.submit_decisions import Ask
from tests.support.endings import end, job_of
from tests.support.ledgers import NOON, assert_sound, make_claim, make_profile, rows_of

TTL: Final = 3600.0
JOB: Final = ("container", "job")


def new(request_id: str = "job") -> NewJob:
    return NewJob(request_id, "default", "/api/v1/marker", f"https://gateway.test/api/v1/marker/{request_id}")


class JobBook:
    """The steps on one ledger, at a moment that tests set."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.now = NOON
        self.claims: dict[str, Claim] = {}

    async def do(self, step: Any, *arguments: Any, **named: Any) -> Any:
        found = await self.engine.write(lambda c: step(c, *arguments, **named))
        await self.engine.write(assert_sound)
        return found

    async def reserved(self, name: str = "r1", account: str = "key:ci", upstream: str = "container") -> None:
        claim = self.claims[name] = replace(make_claim(name, account), upstream=upstream)
        await self.do(admit, claim, make_profile(), self.now, self.now + 60)
        await self.do(reserve, claim, make_profile(), Ask(10, 1, "fast"), self.now, self.now + 60)

    async def begin(self, request_id: str = "job", name: str = "r1", watcher: str = "me") -> None:
        def work(connection: Connection) -> None:
            accepted = accept(connection, self.claims[name], request_id, self.now + TTL)
            steps.begin(connection, accepted, new(request_id), watcher, self.now)

        await self.do(work)

    async def running(
        self, request_id: str = "job", name: str = "r1", watcher: str = "me", account: str = "key:ci"
    ) -> None:
        await self.reserved(name, account)
        await self.begin(request_id, name, watcher)

    async def end(self, pages: int | None = 4, *, failed: bool = False, job: tuple[str, str] = JOB) -> Any:
        return await self.do(end, job, pages, self.now, TTL, failed=failed)

    async def forget(self, job: tuple[str, str] = JOB) -> bool:
        return bool(await self.do(_forget, job, self.now))

    async def claim(self, most: int = 9) -> list[str]:
        due = await self.engine.read(lambda c: expiry.due_gone(c, {"container": most}, self.now))
        return [row.request_id for row in await self.do(expiry.claim_gone, due, self.now)] if due else []

    async def mark_deleted(self, *names: str) -> None:
        await self.do(expiry.mark_deleted, [await self.row(("container", name)) for name in names], self.now)

    async def row(self, job: tuple[str, str] = JOB) -> Any:
        return await self.engine.read(lambda c: steps.find(c, *job))

    async def expired(self) -> list[str]:
        over = await self.engine.read(lambda c: expiry.expired(c, self.now))
        return [row.request_id for row in over]

    async def due(self, **free: int) -> list[tuple[str, int]]:
        """What is due at upstreams, and whether they were asked about it before."""
        rows = await self.engine.read(lambda c: expiry.due_gone(c, free, self.now))
        return [(row.request_id, row.is_repeated) for row in rows]

    async def strays(self, *known: str) -> list[str]:
        return [row.request_id for row in await self.engine.read(lambda c: expiry.stray_gone(c, known, self.now))]

    async def used(self) -> list[tuple[int, int, int]]:
        return [(row.pages, row.refunded, row.failed) for row in await self.engine.read(lambda c: used_since(c, 0))]

    async def heard(self, since: float) -> list[str]:
        rows = await self.engine.read(lambda c: steps.changed_since(c, int(since * 1000)))
        return [row.request_id for row in rows]

    async def beat(self, me: str, until: float) -> None:
        await self.do(watchers.beat, me, self.now, until)

    async def take_over(self, me: str) -> set[str]:
        return {row.request_id for row in await self.do(watchers.take_over, me, self.now)}

    async def watchers(self) -> dict[str, str]:
        rows = await self.engine.read(lambda c: rows_of(c, jobs))
        return {row["request_id"]: row["watcher"] for row in rows}


def _forget(connection: Connection, job: tuple[str, str], now: float) -> bool:
    return steps.forget(connection, job_of(connection, job), now)


def adopt(connection: Connection, job: tuple[str, str], watcher: str, now: float) -> None:
    watchers.adopt(connection, job_of(connection, job), watcher, now)
