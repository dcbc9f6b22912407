"""Whose answer reaches whom: many clients of several owners poll, share, leave and find out that jobs ended.

The container says in each answer what it was asked, and by whom as far as it sees; each client knows what it asked.
"""

import asyncio
import json
from collections import Counter
from random import Random
from typing import Any, Final, NamedTuple

import pytest

from tests.support.backend import Arrived, Backend, Connection, answer
from tests.support.client import Client
from tests.support.gateway import Running, Start, request, submit
from tests.support.waiting import eventually

OWNERS: Final = {"one": "team", "two": "team", "three": "three", "four": "four"}
"""By key."""
SECRETS: Final = {key: f"canary-key-of-{key}-4be8" for key in OWNERS}
KEYS: Final = [
    {"id": key, "secret": {"env": f"KEY_{key}"}, "owner": owner, "networks": ["127.0.0.0/8"]}
    for key, owner in OWNERS.items()
]
ENVIRON: Final = {f"KEY_{key}": secret for key, secret in SECRETS.items()}
ECHOED: Final = ("accept", "user-agent", "origin")
JSON: Final = b"Content-Type: application/json"
WAYS: Final = [
    *[("GET", "")] * 12,
    ("HEAD", ""),
    ("GET", "?a=b"),
    ("GET", "", "Range: bytes=0-"),
    ("GET", "", "If-Match: *"),
]
POLLERS: Final = 16
TURNS: Final = 12
POLLS: Final = 4


class Told(NamedTuple):
    """What an answer of the container says of the request that got it; `times` is how many came before."""

    job: str
    owner: str
    times: int
    reign: int
    status: str
    seen: dict[str, str]


class Telling:
    """The container; `ended` are the jobs that have ended, `reign` counts its configurations.

    Once jobs `may_end`, one may do so right behind an answer that is still on its way and says that it runs.
    """

    def __init__(self, dice: Random) -> None:
        self.jobs: dict[str, str] = {}
        self.ended: set[str] = set()
        self.may_end = False
        self.times: Counter[str] = Counter()
        self.reign = 0
        self._dice = dice

    async def __call__(self, connection: Connection) -> None:
        while True:
            arrived = await connection.request()
            if arrived.method == b"POST":
                job = f"job-{len(self.jobs)}"
                self.jobs[job] = OWNERS[(arrived.value(b"x-gateway-key-id") or b"").decode()]
                connection.send(answer(json.dumps({"success": True, "request_id": job}).encode(), JSON))
            else:
                whole = self._tell(arrived)
                for _ in range(self._dice.choice((0, 0, 3, 20))):  # turns of the loop
                    await asyncio.sleep(0)
                head, mark, body = whole.partition(b"\r\n\r\n")
                connection.send(head + mark)
                if self._dice.random() < 0.3:
                    await asyncio.sleep(0)
                connection.send(b"" if arrived.method == b"HEAD" else body)

    def _tell(self, arrived: Arrived) -> bytes:
        job = arrived.target.partition(b"?")[0].rpartition(b"/")[2].decode()
        self.times[job] += 1
        status = "complete" if job in self.ended else "processing"
        seen = {name: value.decode() for name in ECHOED if (value := arrived.value(name.encode())) is not None}
        if self.may_end and self._dice.random() < 0.1:
            self.ended.add(job)
        told = Told(job, self.jobs[job], self.times[job], self.reign, status, seen)
        return answer(json.dumps({**told._asdict(), "page_count": 1}).encode(), JSON, b"Vary: Accept, User-Agent")


class Poller:
    """One client: a key, headers of its own choice, and what it was told of each job."""

    def __init__(self, gateway: Running, container: Telling, ended: set[str], dice: Random) -> None:
        self._gateway = gateway
        self._container = container
        self._ended = ended
        """Jobs whose end some client was told of."""
        self._dice = dice
        self._key = dice.choice(list(OWNERS))
        self._client: Client | None = None

    async def poll_on(self) -> None:
        """Polls some times, one after the other."""
        for _ in range(POLLS):
            await self.poll()

    async def poll(self) -> None:
        """Polls once, of any job, in any way."""
        dice = self._dice
        own = [job for job, owner in self._container.jobs.items() if owner == OWNERS[self._key]]
        job = dice.choice(own * 3 + list(self._container.jobs))
        sent = {name: dice.choice(("a", "b")) for name in ECHOED if dice.random() < 0.1}
        if "origin" in sent:
            sent["origin"] = f"https://{sent['origin']}.test"
        method, query, *more = dice.choice(
            [
                *[("GET", "")] * 12,
                ("HEAD", ""),
                ("GET", "?a=b"),
                ("GET", "", "Range: bytes=0-"),
                ("GET", "", "If-Match: *"),
            ]
        )
        is_plain = method == "GET" and not query and not more
        had_ended = job in self._ended
        before, reign = self._container.times[job], self._container.reign
        client = self._client = self._client or await self._gateway.connect()
        headers = [f"{name}: {value}" for name, value in sent.items()]
        client.send(request(method, f"/api/v1/marker/{job}{query}", *headers, *more, key=SECRETS[self._key]))
        if dice.random() < 0.1:
            await asyncio.sleep(0)
            client.abort()
            self._client = None
            return
        response = await client.response(method.encode(), within=60)
        if self._container.jobs[job] != OWNERS[self._key]:
            response.is_refusal(404, "job_not_found") if method == "GET" else None
            assert response.status == 404
            return
        assert response.status == 200
        if method == "GET":
            told = read(response.body)
            assert (told.job, told.owner, told.reign) == (job, OWNERS[self._key], reign)
            assert {name: told.seen.get(name) for name in sent} == sent
            assert told.status == "complete" if had_ended else told.times > before or is_plain
            if is_plain and told.status == "complete":
                self._ended.add(job)


def read(body: bytes) -> Told:
    document: dict[str, Any] = json.loads(body)
    return Told(**{name: document[name] for name in Told._fields})


@pytest.mark.parametrize("watch", [False, True])
@pytest.mark.parametrize("age", ["10s", "100ms"])
async def test_each_answer_is_of_the_job_the_owner_and_the_headers_that_asked(
    age: str, watch: bool, start: Start, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none is of before an end that somebody was told of, or of before a reload."""
    monkeypatch.setattr("gateway.jobs.poll_interval.SHORTEST", 0.02)
    dice = Random(15)  # noqa: S311 -- it must be repeatable
    backend.script = container = Telling(dice)
    limits = {"default": {"polls_per_minute": 1_000_000}}
    gateway = await start(environ=ENVIRON, keys=KEYS, jobs={"status_age": age, "watch": watch}, profiles=limits)
    for key in [*OWNERS] * 2:
        assert (await gateway.ask(submit(key=SECRETS[key]), b"POST")).status == 200
    ended: set[str] = set()
    pollers = [Poller(gateway, container, ended, dice) for _ in range(POLLERS)]
    for turn in range(TURNS):
        await asyncio.gather(*(poller.poll_on() for poller in pollers))
        container.may_end = turn > TURNS // 2
        if turn == TURNS // 2:
            await reload(gateway)
            container.reign += 1
    await eventually(lambda: gateway.metric("gateway_requests_in_flight") == 0)
    ways = Counter(event["upstream_connection"] for event in gateway.requests)
    assert ways["shared"] > 0 < ways["reused"]
    assert ended


async def reload(gateway: Running) -> None:
    def change(sections: dict[str, Any]) -> None:
        sections["upstream"]["read_timeout"] = "50s"

    gateway.rewrite(change)
    gateway.gateway.reloader.force()
    await gateway.says("configuration reloaded")
