"""Who owns a job: looked up in the ledger, cached for jobs asked about recently.

An owner's poll of a cached job needs no ledger. Every other request (an unknown id, another owner's job, an expired
one) queries the ledger each time, so that these answers take equally long, too.

Another replica may have deleted a cached job, and some seconds later its id may be another owner's. So a replica that
is not alone has to hear of changes each second. While it does not, it looks a job up again if others may have deleted
it since, and serves the rest.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple
from weakref import WeakValueDictionary

from sqlalchemy import Connection, Row

from gateway.config.state import State
from gateway.errors import LedgerUnavailable, Refused, ledger_unavailable
from gateway.jobs.job import Job, job_not_found
from gateway.ledger.engine import OwnTurn
from gateway.ledger.jobs import HEARD_WITHIN, MAX_HEARD_ROWS, changed_since, find, job_ref, known_of
from gateway.ledger.news import Question
from gateway.ledger.replica import Replica
from gateway.ledger.schema import JobState
from gateway.ledger.watchers import has_others
from gateway.model.routes import Kind
from gateway.units import milliseconds

_MAX: Final = 100_000
PORTION: Final = 100  # of what was heard, a millisecond or two; then others have their turn
_OVERLAP: Final = 10_000  # milliseconds: how much later a transaction may commit than it began


class _RowChange(NamedTuple):
    """What the ledger says of a job anew."""

    job: Job
    watcher: str
    news: tuple[Any, ...]


class Registry:
    """The jobs that this process knows. `clock` is the loop's; `state` returns the State in force.

    The cache keeps the `most` recently requested jobs. A job in use beyond that (followed, or with a long poll) is
    still found while it is used, so that one id never has two objects.
    """

    def __init__(
        self,
        replica: Replica,
        clock: Callable[[], float],
        state: Callable[[], State],
        most: int = _MAX,
    ) -> None:
        self._me = replica.name
        self._ledger = replica.ledger
        self._wall = replica.wall
        self._clock = clock
        self._state = state
        self._most = most
        self._lately: OrderedDict[tuple[str, str], Job] = OrderedDict()
        self._jobs: WeakValueDictionary[tuple[str, str], Job] = WeakValueDictionary()
        self._heard: int | None = None
        self._heard_at = -HEARD_WITHIN
        self.is_alone = False
        self._changes = Question(replica.ledger.version)

    async def owned(self, upstream: str, request_id: str, owner: str) -> Job:
        """Returns the job, if it is this owner's.

        Raises:
            Refused: job_not_found, whatever the reason; or ledger_unavailable.
        """
        key = upstream, request_id
        job = self._jobs.get(key)
        if job is None or not job.is_for(owner, self._wall()) or not self.is_sure(job):
            return await self._look_up(key, owner)
        self._remember(job)
        return job

    def is_sure(self, job: Job) -> bool:
        """Whether no other replica can have deleted a cached job without our hearing of it."""
        heard_at = self._heard_at if job.cached_at <= self._heard_at else 0.0
        unheard = self._clock() - max(heard_at, job.sure_at)
        if unheard < HEARD_WITHIN or self.is_alone:
            return True
        settings = self._state().settings
        may_be_deleted = job.shape.delete is not None or settings.jobs.delete_after_read
        if may_be_deleted or any(route.kind is Kind.DELETE for route in settings.routes):
            return False
        return unheard < settings.jobs.result_ttl  # so long a result stays, at the least

    async def confirm(self, job: Job) -> None:
        """Looks a job up again, unless it is sure.

        Raises:
            Refused: job_not_found, if it was deleted; or ledger_unavailable.
        """
        if not self.is_sure(job) and await self._look_up(job.key, job.owner) is not job:
            raise job_not_found()

    def get(self, key: tuple[str, str]) -> Job | None:
        """A job from the cache."""
        return self._jobs.get(key)

    def add(self, job: Job) -> None:
        """Caches a job that began just now; ends an older job with the same id, even for those that still hold it."""
        self._cache(job)
        job.sure_at = job.cached_at

    def end_another_owners(self, upstream: str, request_id: str, owner: str) -> None:
        """Ends a cached job whose id the upstream has given to a job of `owner`, if it is another owner's."""
        job = self._jobs.get((upstream, request_id))
        if job is not None and job.owner != owner:
            job.end(0)

    def drop(self, job: Job) -> None:
        """Removes a job from the cache: the next request for it queries the ledger."""
        if self._jobs.get(job.key) is job:
            del self._jobs[job.key]
            self._lately.pop(job.key, None)

    def apply_row(self, row: Row[Any]) -> Job | None:
        """Applies a job's ledger row; returns None if no one may read it any more, or its shape is not configured.

        A row that was read before its id went to the job cached here says nothing of that one. A job cached here
        keeps its shape: a configuration without that shape, perhaps by mistake, does not take it away.
        """
        ref = job_ref(row)
        job = self._jobs.get(ref.key)
        if job is not None and job.ref != ref:
            if row.created_at < job.created_at:
                return None
            job.end(0)  # its id is another job's now
        elif job is not None and row.state == JobState.GONE:
            job.end(0)  # and stays cached: an older read of the ledger would revive it
        if row.state == JobState.GONE:
            return None
        if job is None or job.ref != ref:
            shape = self._state().shapes.get(row.shape)
            if shape is None:
                return None
            job = Job(ref, row.owner, shape, row.path, row.created_at, row.account)
            self._cache(job)
        job.add_known(known_of(row))
        if row.state != JobState.RUNNING and job.is_running:
            job.end(row.expires_at)
        return job

    async def read_changes(self) -> list[tuple[Job, str]]:
        """Reads from the ledger what other replicas changed: the jobs cached here, each with its present watcher.

        Raises:
            LedgerUnavailable: changes may be missing; call again.
        """
        began, now = self._clock(), milliseconds(self._wall())
        if not await self._changes.is_open():
            self._heard_at = began - self._changes.age
            return []
        since = min(now, now if self._heard is None else self._heard)
        heard, behind = since, since - _OVERLAP
        changed: list[_RowChange] = []
        others, rows = await self._ledger.read(lambda c: self._news(c, behind), in_turn_of=OwnTurn.JOBS)
        while True:
            changed += await self._apply_all(rows)
            heard = max([heard, *(row.changed_at for row in rows)])
            if len(rows) < MAX_HEARD_ROWS:
                break
            behind = max(behind + 1, rows[-1].changed_at - 1)
            rows = await self._ledger.read(lambda c, behind=behind: changed_since(c, behind), in_turn_of=OwnTurn.JOBS)  # type: ignore[misc]
        # Another replica's clock may be ahead, by hours. In quiet, what was heard last is not read again for ever.
        self._heard = min(max(heard, now - _OVERLAP), now)
        self._heard_at, self.is_alone = began, not others
        self._changes.mark_answered()
        for change in changed:  # only now: what was applied before a failure is told by the next call
            change.job.heard = change.news
        return [(change.job, change.watcher) for change in changed]

    def _news(self, connection: Connection, behind: int) -> tuple[bool, list[Row[Any]]]:
        return has_others(connection, self._me, self._wall()), changed_since(connection, behind)

    def _cache(self, job: Job) -> None:
        old = self._jobs.get(job.key)
        if old is not None and old is not job:
            old.end(0)
        job.cached_at = self._clock()  # what was heard up to now did not apply to it
        self._jobs[job.key] = job
        self._remember(job)

    def _remember(self, job: Job) -> None:
        self._lately[job.key] = job
        self._lately.move_to_end(job.key)
        while len(self._lately) > self._most:
            self._lately.popitem(last=False)

    async def _apply_all(self, rows: Sequence[Row[Any]]) -> list[_RowChange]:
        changed: list[_RowChange] = []
        for start in range(0, len(rows), PORTION):
            changed += self._apply_news(rows[start : start + PORTION])
            await asyncio.sleep(0)
        return changed

    def _apply_news(self, rows: Iterable[Row[Any]]) -> list[_RowChange]:
        """Applies rows of jobs known here, unless they were heard before: each read overlaps the one before it."""
        changed: list[_RowChange] = []
        for row in rows:
            known, news = self._jobs.get((row.upstream, row.request_id)), _news_of(row)
            if known is not None and known.heard != news and (job := self.apply_row(row)) is not None:
                changed.append(_RowChange(job, row.watcher, news))
        return changed

    async def _look_up(self, key: tuple[str, str], owner: str) -> Job:
        began = self._clock()
        try:
            row = await self._ledger.read(lambda c: find(c, *key), in_turn_of=owner)
        except LedgerUnavailable:
            raise _ledger_away() from None
        if row is None or row.owner != owner:
            raise job_not_found()
        job = self.apply_row(row)
        if job is None or not job.is_for(owner, self._wall()):
            raise job_not_found()
        job.sure_at = max(job.sure_at, began)
        self._remember(job)
        return job


def _news_of(row: Row[Any]) -> tuple[Any, ...]:
    """All of a row that changes, and which job it is of."""
    return row.changed_at, row.state, row.known, row.expires_at, row.watcher, row.reservation


def _ledger_away() -> Refused:
    detail = "Whose this job is can't be looked up at the moment; try again."
    return ledger_unavailable(detail)
