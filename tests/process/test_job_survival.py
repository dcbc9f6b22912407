"""A job outlives whoever knew of it: real processes, killed with -9, on SQLite and on PostgreSQL."""

import asyncio
import http.client
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL
from typing import Any, Final, NamedTuple

import pytest
from sqlalchemy import select

from gateway.ledger.schema import JobState, jobs, usage
from tests.support.forms import FORM_TYPE, form, pdf
from tests.support.ledgers import open_engine
from tests.support.process import KEY, Process, configure, eventually, free_port, trusting

OTHER: Final = "canary-key-of-another-owner-77d2"
PAGES: Final = 5
HOUR: Final = 3600.0

# The gateway, so many seconds later than it is, taken for dead two seconds after its last sign of life.
LATER: Final = """
import sys, time
import gateway.jobs.failover
gateway.jobs.failover.LIVES_FOR = 2.0
now, later = time.time, float(sys.argv.pop(1))
time.time = lambda: now() + later
from gateway.__main__ import main
main()
"""


class Answer(NamedTuple):
    """An answer to a poll; `reason` is the gateway's own, None when the container has answered."""

    status: int
    reason: str | None
    content: dict[str, Any]


class Service:
    """A container and a gateway before it, each a process that is killed and started again at will."""

    def __init__(self, directory: Path, certificates: Path, ledger_url: str, processing_time: float) -> None:
        self._ledger_url = ledger_url
        self._certificates = certificates
        self._container_port = free_port()
        self._command = (
            sys.executable, "-m", "gateway.demo.container", "--port", str(self._container_port),
            "--processing-time", str(processing_time),
        )  # fmt: skip
        (directory / "other.txt").write_text(OTHER)
        (directory / "data").mkdir()
        for name in ("server.pem", "server.key"):
            (directory / name).symlink_to(certificates / name)
        (directory / "webhook-secret.txt").write_text("secret-of-the-webhooks-0123")
        self._directory = directory
        self.config = configure(
            directory,
            certificates,
            f"http://127.0.0.1:{self._container_port}",
            ledger={"url": ledger_url, "timeout": "20s"},
            keys=[
                {"id": "ci", "secret": {"file": str(directory / "key.txt")}},
                {"id": "other", "secret": {"file": str(directory / "other.txt")}},
            ],
            webhooks={
                "out": {
                    "secret": {"file": str(directory / "webhook-secret.txt")},
                    "allow": ["localhost"],
                    "ca": str(certificates / "ca.pem"),
                }
            },
        )
        self.port = 0
        self.hook = ""

    @contextmanager
    def container(self) -> Iterator[Process]:
        """The container, killed at the end."""
        with Process(self._command) as process:
            process.line(lambda line: line.startswith("container ready on "))
            yield process
            kill(process)

    @contextmanager
    def gateway(self, later: float = 0.0) -> Iterator[Process]:
        """The gateway, killed at the end."""
        command = (sys.executable, "-c", LATER, str(later), "serve", "--config", str(self.config))
        with Process(command, self.config.parent) as process:
            self.port = json.loads(process.line(lambda line: '"listening"' in line))["port"]
            yield process
            kill(process)

    @contextmanager
    def receiver(self) -> Iterator[Process]:
        """Where webhooks go: `hook` is its address."""
        command = (sys.executable, "-m", "gateway.demo.receiver", str(self._directory), "--port", "0")
        with Process(command) as process:
            self.hook = (
                process.line(lambda line: line.startswith("receiving at ")).removeprefix("receiving at ").strip()
            )
            yield process
            kill(process)

    def ask(self, path: str, key: str = KEY, body: bytes | None = None) -> Answer:
        """One request on a connection of its own, whose client then is gone."""
        tls = trusting(self._certificates)
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=60, context=tls)
        headers = {"X-API-Key": key} | ({"Content-Type": FORM_TYPE} if body else {})
        try:
            connection.request("POST" if body else "GET", path, body=body, headers=headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers["X-Gateway-Reason"], json.loads(response.read()))
        finally:
            connection.close()

    def submit(self) -> str:
        """Starts a job; its id."""
        fields = {"mode": "fast"} | ({"webhook_url": self.hook} if self.hook else {})
        answer = self.ask("/api/v1/marker", body=form(pdf(PAGES), **fields))
        assert answer.status == 200
        request_id: str = answer.content["request_id"]
        return request_id

    def poll(self, job: str, key: str = KEY) -> Answer:
        return self.ask(f"/api/v1/marker/{job}", key)

    def in_flight(self) -> int:
        """Pages that are not settled yet."""
        found: int = self.ask("/gateway/v1/me").content["limits"]["pages_in_flight"]["used"]
        return found

    def state(self) -> JobState:
        """What became of the one job."""
        return JobState(self._read(select(jobs.c.state))[0][0])

    def used(self) -> list[tuple[int, ...]]:
        """Jobs, those that failed, pages charged and pages given back."""
        return self._read(select(usage.c.requests, usage.c.failed, usage.c.pages, usage.c.refunded))

    def _read(self, query: Any) -> list[tuple[int, ...]]:
        async def read() -> list[tuple[int, ...]]:
            engine = open_engine(self._ledger_url)
            try:
                return await engine.read(lambda c: [tuple(row) for row in c.execute(query)])
            finally:
                await engine.close()

        return asyncio.run(read())


def kill(*processes: Process) -> None:
    """As kill -9 does; nobody of them says a word any more."""
    for process in processes:
        if process.is_running:
            process.send(SIGKILL)
    for process in processes:
        process.exit_code()


def told(receiver: Process, job: str) -> str:
    """The status that a verified webhook told of a job."""
    line = receiver.line(lambda line: line.startswith("verified: "))
    said = json.loads(line.removeprefix("verified: "))
    assert said["request_id"] == job
    status: str = said["status"]
    return status


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "service").mkdir()
    return tmp_path / "service"


def test_a_job_that_the_container_has_forgotten_fails_and_is_given_back(
    directory: Path, certificates: Path, ledger_url: str
) -> None:
    service = Service(directory, certificates, ledger_url, processing_time=3600)
    with service.receiver() as receiver:
        with service.container() as container, service.gateway() as gateway:
            job = service.submit()
            assert service.poll(job).content["status"] == "processing"
            assert service.in_flight() == PAGES
            kill(gateway, container)
        with service.container(), service.gateway():
            eventually(lambda: service.in_flight() == 0)
            assert (service.state(), service.used()) == (JobState.FAILED, [(1, 1, 0, PAGES)])
            assert told(receiver, job) == "failed"
    with service.container(), service.gateway():
        owners = service.poll(job)
        assert (owners.status, owners.reason) == (404, None)  # the container's own word
        assert service.poll(job, OTHER)[:2] == (404, "job_not_found")
    with service.container(), service.gateway(later=HOUR + 60):
        assert service.poll(job)[:2] == (404, "job_not_found")
        eventually(lambda: service.state() is JobState.GONE)
        assert service.used() == [(1, 1, 0, PAGES)]


def test_a_job_that_the_container_finishes_is_settled_once(
    directory: Path, certificates: Path, ledger_url: str
) -> None:
    service = Service(directory, certificates, ledger_url, processing_time=1.5)
    with service.receiver() as receiver, service.container():
        with service.gateway() as gateway:
            job = service.submit()
            kill(gateway)
        with service.gateway():
            eventually(lambda: service.in_flight() == 0)
            assert (service.state(), service.used()) == (JobState.COMPLETE, [(1, 0, PAGES, 0)])
            assert told(receiver, job) == "complete"
            result = service.poll(job)
            assert (result.status, result.content["status"], result.content["page_count"]) == (200, "complete", PAGES)
            assert service.poll(job, OTHER)[:2] == (404, "job_not_found")
        with service.gateway():
            assert service.poll(job) == result
            assert service.used() == [(1, 0, PAGES, 0)]
        with service.gateway(later=HOUR + 60):
            for key in (KEY, OTHER):
                assert service.poll(job, key)[:2] == (404, "job_not_found")
            eventually(lambda: service.state() is JobState.GONE)
        with service.gateway():  # not even when the clock is put back
            assert service.poll(job)[:2] == (404, "job_not_found")
            assert service.used() == [(1, 0, PAGES, 0)]


def test_what_ended_while_nobody_looked_is_read_for_an_hour_from_then_on(
    directory: Path, certificates: Path, ledger_url: str
) -> None:
    """The time of a result begins when its end was first seen, however long that took."""
    service = Service(directory, certificates, ledger_url, processing_time=0)
    with service.container():
        with service.gateway() as gateway:
            job = service.submit()
            kill(gateway)
        with service.gateway(later=2 * HOUR):
            eventually(lambda: service.state() is JobState.COMPLETE)
            assert service.poll(job).content["status"] == "complete"
        with service.gateway(later=3 * HOUR - 60):
            assert service.poll(job).content["status"] == "complete"
        with service.gateway(later=3 * HOUR + 60):
            assert service.poll(job)[:2] == (404, "job_not_found")
