"""The parts that know jobs, put together on a clock that tests move, before a container that says what it is told."""

import asyncio
import json
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any, Final

from gateway.admission.admission import Admission
from gateway.admission.throttle import Throttle
from gateway.aio.background import Background
from gateway.aio.drive import Drive
from gateway.config.compile import compile_settings
from gateway.config.state import State
from gateway.errors import ClientGone
from gateway.jobs.checkpoints import Checkpoints
from gateway.jobs.completion import Completion, Effects
from gateway.jobs.deletion_questions import DeletionQuestions
from gateway.jobs.failover import Failover
from gateway.jobs.findings import Findings
from gateway.jobs.housekeeping import Housekeeping
from gateway.jobs.job import Job
from gateway.jobs.kept_answers import KeptAnswers
from gateway.jobs.long_polls import LongPolls
from gateway.jobs.registry import Registry
from gateway.jobs.retention import Retention
from gateway.jobs.status_queue import StatusQueue
from gateway.jobs.watcher import Watcher
from gateway.ledger.engine import Engine
from gateway.ledger.jobs import NewJob, Recorded, begin, find, forget
from gateway.ledger.ledger import Ledger
from gateway.ledger.replica import Replica
from gateway.ledger.reservations import Claim, accept, admit, reserve
from gateway.ledger.schema import JobState
from gateway.ledger.usage import used_since
from gateway.limits.submit_decisions import Ask
from gateway.model.jobs import JobRef
from gateway.model.times import Times
from gateway.upstream.client import UpstreamClient
from gateway.upstream.pool import Upstreams
from tests.support.backend import Connection, answer
from tests.support.endings import job_of
from tests.support.iteration import iteration_now
from tests.support.ledgers import NOON, Faulty, assert_sound, make_profile
from tests.support.pure import make_settings
from tests.support.waiting import eventually

PATH: Final = "/api/v1/marker"
OWNER: Final = "key:ci"
PAGES: Final = 10
RUNS: Final = json.dumps({"status": "processing"}).encode()
_JSON: Final = b"Content-Type: application/json"


def ended(page_count: Any = 4, **members: Any) -> bytes:
    """The final answer of a job that went well, or as `members` have it."""
    return json.dumps({"status": "complete", "success": True, "page_count": page_count, **members}).encode()


class Container:
    """A script for the backend: `says` has the answers to GETs by the last part of the target, all else runs.

    `raw` has whole answers, head and all. While `gate` is there and closed, answers wait; `most` is how many did so
    at once.
    """

    def __init__(self) -> None:
        self.says: dict[str, bytes] = {}
        self.raw: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        self.calls: list[tuple[str, str, bytes]] = []
        self.gate: asyncio.Event | None = None
        self.waiting = 0
        self.most = 0
        self.unknown: set[str] = set()

    async def __call__(self, connection: Connection) -> None:
        while True:
            request = await connection.request()
            method, target = request.method.decode(), request.target.decode()
            named = target.rpartition("/")[2]
            self.calls.append((method, target, request.body))
            self.asked[named] += 1
            if self.gate is not None:
                await self._wait(self.gate)
            if named in self.raw:
                connection.send(self.raw[named])
            elif named in self.unknown:
                connection.send(answer(b'{"detail": "Request not found"}', _JSON, status=b"404 Not Found"))
            else:
                connection.send(answer(self.says.get(named, RUNS), _JSON))

    async def _wait(self, gate: asyncio.Event) -> None:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        try:
            await gate.wait()
        finally:
            self.waiting -= 1


class Hooks:
    """What the metrics were told."""

    def __init__(self) -> None:
        self.settled: list[tuple[str, int, int]] = []

    def pages(self, account: str, settled: int, refunded: int) -> None:
        self.settled.append((account, settled, refunded))

    def set_ratios(self, account: str, ratios: dict[str, float]) -> None:
        """Nobody asks."""

    def count_crossed(self, account: str, limits: frozenset[str]) -> None:
        """Nobody asks."""


class Held:
    """A poll that is held, as the connection of its client has it."""

    def __init__(self, long_polls: LongPolls, job: Job, seconds: float) -> None:
        self.is_over = False
        self.error: BaseException | None = None
        self.times = 0
        self._drive = Drive(self._wait(long_polls, job, seconds), self._ended)
        self._drive.step()

    def leave(self) -> None:
        """Its client closes the connection."""
        self._drive.interrupt(ClientGone("left"))

    async def _wait(self, long_polls: LongPolls, job: Job, seconds: float) -> None:
        await long_polls.until_ended(job, seconds, None)
        self.times += 1

    def _ended(self, error: BaseException | None) -> None:
        self.is_over, self.error = True, error


class Room:
    """One replica's parts. `seconds` is the loop's clock; the wall's began at NOON when it was 1000."""

    def __init__(
        self, engine: Engine, port: int, directory: Path, me: str = "me", most: int = 100, **jobs: Any
    ) -> None:
        self.seconds = 1000.0
        self.engine = engine
        self.faulty = Faulty(engine)
        self.ledger = Ledger(self.faulty)
        self.hooks = Hooks()
        self.ended = 0  # jobs, as the webhooks' dispatcher is told
        self._directory = directory
        self._port = port
        self._claims = count(1)
        self.state: State
        self.configure(**jobs)
        names = (f"{me}-{number}" for number in count(1))
        self.background = Background()
        replica = Replica(me, self.ledger, self.wall, self.background)
        self.admission = Admission(replica, Throttle(self.wall, 10.0), self.hooks, lambda: next(names))
        self.upstreams = Upstreams(asyncio.get_running_loop(), iteration_now())
        self.upstream_client = UpstreamClient(self.upstreams, self.clock, lambda: "0" * 32)
        self.registry = Registry(replica, self.clock, lambda: self.state, most)
        effects = Effects(self.admission.settled, self._ended)
        self.completion = Completion(replica, self.registry, lambda: self.state, effects)
        self.checkpoints = Checkpoints(replica, lambda: self.state.settings.jobs.result_ttl)
        times = Times(self.clock, self.wall)
        self.findings = Findings(self.completion, self.checkpoints, lambda: self.state, times, iteration_now())
        self.status_queue = StatusQueue(self.findings, self.upstream_client, lambda: self.state, iteration_now())
        self.kept = KeptAnswers(lambda: self.state.settings.jobs.status_age)
        self.watcher = Watcher(replica, self.status_queue, self.findings, lambda: self.state, times, self.kept)
        self.failover = Failover(replica, self.registry, self.completion, self.watcher, lambda: self.state)
        self.deletion_questions = DeletionQuestions(self.status_queue, lambda: self.state, self.clock)
        self.long_polls = LongPolls(self.watcher, iteration_now())
        self.retention = Retention(
            replica, self.registry, self.upstream_client, lambda: self.state, self.clock, iteration_now()
        )
        self.housekeeping = Housekeeping(self.ledger, self.failover, self.retention, self.completion.retry_pending)

    def _ended(self, _: Recorded) -> None:
        self.ended += 1

    def configure(self, upstreams: dict[str, Any] | None = None, **jobs: Any) -> None:
        """Puts another configuration in force."""
        url = f"http://127.0.0.1:{self._port}"
        settings = make_settings(self._directory, upstream={"url": url}, upstreams=upstreams or {}, jobs=jobs)
        self.state = compile_settings(settings)

    def clock(self) -> float:
        return self.seconds

    def wall(self) -> float:
        return NOON + self.seconds - 1000.0

    async def given_again(self, request_id: str, owner: str, shape: str = "default") -> JobRef:
        """Deletes the job that has an id, and gives the id to another one, six seconds later."""
        old = ("default", request_id)
        await self.engine.write(lambda c: forget(c, job_of(c, old), self.wall()))
        self.seconds += 6.0
        return await self.reserved(request_id, owner, shape=shape)

    async def reserved(
        self, request_id: str = "job", owner: str = OWNER, upstream: str = "default", shape: str = "default"
    ) -> JobRef:
        """What the ledger has of a job that this replica took, before anybody here follows it."""
        claim = Claim(f"{self.watcher.me}-r{next(self._claims)}", owner, owner, upstream)
        now = self.wall()

        def work(connection: Any) -> None:
            admit(connection, claim, make_profile(), now, now + 60)
            reserve(connection, claim, make_profile(), Ask(PAGES, 1, ""), now, now + 60)
            accepted = accept(connection, claim, request_id, now + 3600)
            begin(connection, accepted, NewJob(request_id, shape, PATH, None), self.watcher.me, now)

        await self.engine.write(work)
        return JobRef(upstream, request_id, claim.id)

    async def begin_job(self, request_id: str = "job", owner: str = OWNER, upstream: str = "default") -> Job:
        """A job of ten pages that this replica took, and follows."""
        ref = await self.reserved(request_id, owner, upstream)
        job = Job(ref, owner, self.state.shapes["default"], PATH, self.wall())
        self.registry.add(job)
        self.watcher.begin(job)
        return job

    def hold(self, job: Job, seconds: float = 60.0) -> Held:
        return Held(self.long_polls, job, seconds)

    async def quiet(self) -> None:
        """Waits until nothing is under way."""
        await eventually(
            lambda: (
                "asking=0 " in repr(self.watcher)
                and "running=0" in repr(self.background)
                and "running=0" in repr(self.upstream_client)
            )
        )

    async def turn(self, seconds: float = 0.0) -> None:
        """Lets so much time pass, and what is due then be done."""
        self.seconds += seconds
        self.completion.retry_pending()
        self.watcher.ask_due()
        await self.quiet()

    async def hear(self) -> None:
        """Hears what other replicas did, as each second."""
        self.watcher.apply_changes(await self.registry.read_changes())

    async def row(self, request_id: str = "job", upstream: str = "default") -> Any:
        return await self.engine.read(lambda c: find(c, upstream, request_id))

    async def state_of(self, request_id: str = "job", upstream: str = "default") -> JobState:
        return JobState((await self.row(request_id, upstream)).state)

    async def used(self) -> tuple[int, int, int]:
        """Pages charged and given back, and jobs that failed, of all."""
        await self.engine.write(assert_sound)
        rows = await self.engine.read(lambda c: used_since(c, 0))
        return sum(r.pages for r in rows), sum(r.refunded for r in rows), sum(r.failed for r in rows)

    async def close(self) -> None:
        """Ends it as a process that is killed: the ledger is not told."""
        self.watcher.close()
        self.upstream_client.close()
        self.upstreams.close()
        await self.background.close(5.0)


async def is_left_alone(room: Room, container: Container) -> bool:
    """Whether nobody asks the container in a hundred seconds."""
    before = container.asked.total()
    for _ in range(10):
        await room.turn(10.0)
    return container.asked.total() == before


async def is_asked_nothing_now(room: Room, container: Container) -> bool:
    before = container.asked.total()
    await room.turn()
    return container.asked.total() == before and not room.watcher.dates
