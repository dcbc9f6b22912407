"""A rolling update as a Deployment does it: two replicas on one PostgreSQL, each replaced in turn under load.

In front of them is what a Kubernetes Service is to TCP (tests/support/balancer.py). A new replica is started and
becomes ready before an old one is told to end. The clients are Datalab's SDK, and plain ones that try nothing twice.
"""

import http.client
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGTERM
from typing import Any, Final, NamedTuple, Self

import pytest

from tests.support.balancer import Service
from tests.support.forms import FORM_TYPE, form, pdf
from tests.support.ledgers import Postgres
from tests.support.process import Process, Served, configure, eventually, serving, trusting

PAGES: Final = 2
SIZE: Final = 1_500_000  # bytes of a large PDF
ENOUGH: Final = 40  # requests of the plain clients between two steps
WITHIN: Final = 100.0  # seconds for what takes a few on a quiet machine
MARKER: Final = "/api/v1/marker"
KEYS: Final = {name: f"canary-key-of-the-update-{name}-7d21e8" for name in ("sdk", "plain", "stranger")}
LIMITS: Final = {
    "requests_per_minute": 100_000,
    "polls_per_minute": 1_000_000,
    "pages_in_flight": 100_000,
}
# What the SDK had to try again is counted: each such try is a failure here.
SDK: Final = """
import json, sys
from pathlib import Path
from datalab_sdk import AsyncDatalabClient, DatalabClient

again = []
AsyncDatalabClient._submit_with_retry.retry.before_sleep = again.append
AsyncDatalabClient._poll_get_with_retry.retry.before_sleep = again.append
client = DatalabClient()
while not Path(sys.argv[2]).exists():
    result = client.convert(sys.argv[1])
    print(json.dumps([result.success, result.page_count, len(again)]), flush=True)
"""


class Site(NamedTuple):
    """All that the replicas share, and what stands in front of them."""

    directory: Path
    certificates: Path
    service: Service
    upstream: str
    postgres: Postgres
    database: str


def large(document: bytes) -> bytes:
    """The same PDF in a file of SIZE bytes: behind its end a comment, and once more where its table is."""
    return document + b"\n%" + b"x" * SIZE + b"\n" + document[document.rindex(b"startxref") :]


FORM: Final = form(pdf(PAGES)._replace(content=large(pdf(PAGES).content)))


class Client:
    """One of the plain clients: keeps its connection while its replica does, and tries nothing twice."""

    def __init__(self, site: Site, key: str = "plain") -> None:
        self._service = site.service
        self._headers = {"X-API-Key": KEYS[key]}
        self._connection = http.client.HTTPSConnection(
            "127.0.0.1", site.service.port, timeout=WITHIN, context=trusting(site.certificates)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self._connection.close()

    def submit(self) -> str:
        """Uploads a large PDF; the id of its job."""
        self.begin()
        return self.end()

    def connect_to(self, replica: Served) -> None:
        """Connects, until it is this replica that the service has chosen."""

        def is_there() -> bool:
            self._connection.close()
            self._connection.connect()
            port = self._connection.sock.getsockname()[1]
            return self._service.target_of(port) == replica.port

        eventually(is_there, WITHIN)

    def begin(self) -> None:
        """Sends a submit's head and half of its body."""
        self._connection.putrequest("POST", MARKER)
        for name, value in {**self._headers, "Content-Type": FORM_TYPE, "Content-Length": str(len(FORM))}.items():
            self._connection.putheader(name, value)
        self._connection.endheaders()
        self._connection.send(FORM[: len(FORM) // 2])

    def end(self) -> str:
        """Sends the rest; the id of the job."""
        self._connection.send(FORM[len(FORM) // 2 :])
        request_id = self._answer(200)["request_id"]
        assert isinstance(request_id, str)
        return request_id

    def poll(self, job: str, status: int = 200, **headers: str) -> dict[str, Any]:
        """Asks for a job once."""
        self._connection.request("GET", f"{MARKER}/{job}", headers={**self._headers, **headers})
        return self._answer(status)

    def result(self, job: str) -> dict[str, Any]:
        """Waits for a job's end, as `Prefer: wait` does."""
        while (answer := self.poll(job, Prefer="wait=5"))["status"] != "complete":
            assert answer["status"] == "processing", answer
        return answer

    def _answer(self, status: int) -> dict[str, Any]:
        response = self._connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
        assert response.status == status, answer
        return answer


class Load:
    """Threads with plain clients, some that convert and some that poll; `jobs` are the ids of what they converted."""

    def __init__(self, site: Site, known: str) -> None:
        self.failures: list[str] = []
        self.jobs: list[str] = []
        self.done = 0
        self._site = site
        self._known = known
        self._ends = threading.Event()
        work = (self._convert, self._convert, self._poll, self._poll, self._poll)
        self._threads = [threading.Thread(target=self._run, args=(one,), daemon=True) for one in work]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join(WITHIN)

    def _run(self, work: Callable[[Client], None]) -> None:
        try:
            with Client(self._site) as client:
                while not self._ends.wait(0.02):  # as many requests as show what is to be seen; the machine is shared
                    work(client)
                    self.done += 1
        except (OSError, http.client.HTTPException, AssertionError) as error:
            self.failures.append(repr(error))

    def _convert(self, client: Client) -> None:
        job = client.submit()
        self.jobs.append(job)
        assert client.result(job)["page_count"] == PAGES

    def _poll(self, client: Client) -> None:
        assert client.poll(self._known)["status"] == "complete"


@pytest.fixture
def site(tmp_path: Path, certificates: Path, postgres: Postgres) -> Iterator[Site]:
    name = postgres.database()
    container = Process((sys.executable, "-m", "gateway.demo.container", "--port", "0", "--processing-time", "0.3"))
    with container, Service() as service:
        upstream = container.line(lambda line: line.startswith("container ready on ")).rpartition(" ")[2]
        yield Site(tmp_path, certificates, service, upstream, postgres, name)
    postgres.drop(name)


@contextmanager
def replica(site: Site, name: str) -> Iterator[Served]:
    directory = site.directory / name
    directory.mkdir()
    for key, secret in KEYS.items():
        (directory / key).write_text(secret)
    path = configure(
        directory,
        site.certificates,
        site.upstream,
        keys=[{"id": key, "secret": {"file": str(directory / key)}} for key in KEYS],
        aliases={"/api/v1/convert": MARKER},
        ledger={"url": site.postgres.url_of(site.database), "timeout": "20s"},
        profiles={"default": LIMITS},
        shutdown={"drain_delay": "3s", "drain_timeout": "60s"},
    )
    with serving(path) as served:
        yield served


@contextmanager
def sdk(site: Site, sample: Path) -> Iterator[Process]:
    """A program of a customer's, until the file `end` is there."""
    environ = {
        "DATALAB_HOST": f"https://127.0.0.1:{site.service.port}",
        "DATALAB_API_KEY": KEYS["sdk"],
        "SSL_CERT_FILE": str(site.certificates / "ca.pem"),
    }
    command = (sys.executable, "-c", SDK, str(sample), str(site.directory / "end"))
    with Process(command, site.directory, environ) as process:
        yield process


class Update:
    """The replicas by name, and how one takes another's place."""

    def __init__(self, site: Site, stack: ExitStack) -> None:
        self.all: dict[str, Served] = {}
        self._site = site
        self._stack = stack

    def begin(self, name: str) -> Served:
        """Starts a replica, and waits until the service knows that it is ready."""
        made = self._stack.enter_context(replica(self._site, name))
        self.all[name] = made
        self._site.service.replicas.append(made)
        eventually(lambda: self._site.service.is_ready(made), WITHIN)
        return made

    def end(self, old: Served) -> str:
        """Ends a replica amid an upload, whose second half comes when it takes no new connections; the job's id."""
        with Client(self._site) as client:
            client.connect_to(old)
            client.begin()
            old.process.send(SIGTERM)
            eventually(lambda: not is_listening(old.port), WITHIN)
            job = client.end()
        assert old.process.exit_code(WITHIN) == 0
        self._site.service.replicas.remove(old)
        return job


def is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), WITHIN).close()
    except ConnectionRefusedError:
        return False
    return True


def events_of(process: Process) -> list[dict[str, Any]]:
    return [json.loads(line) for line in process.lines]


def assert_served_all(served: Served) -> None:
    """A replica's own account: it answered requests, refused none, and cut nobody off."""
    events = events_of(served.process)
    requests = [event for event in events if event["event"] == "request"]
    assert requests
    assert [event for event in requests if event["status"] != 200 and event["key"] != "stranger"] == []
    assert [event for event in events if event["level"] == "error"] == []
    assert [event["cut_off"] for event in events if event["event"] == "drained"] == [0]


@pytest.mark.timeout(600)
def test_no_request_fails_and_no_job_is_lost(site: Site) -> None:
    sample = site.directory / "sample.pdf"
    sample.write_bytes(pdf(PAGES).content)
    with ExitStack() as stack:
        update = Update(site, stack)
        first, second = update.begin("first"), update.begin("second")
        with Client(site) as client:
            known = client.submit()
            client.result(known)
        customers = [stack.enter_context(sdk(site, sample)) for _ in range(2)]
        straddling = []

        with Load(site, known) as load:

            def serves_all() -> None:
                """Waits until each client was served since."""
                done, converted = load.done, [len(customer.lines) for customer in customers]
                eventually(
                    lambda: (
                        load.failures
                        or (
                            load.done >= done + ENOUGH
                            and all(len(c.lines) > n for c, n in zip(customers, converted, strict=True))
                        )
                    ),
                    WITHIN,
                )
                assert load.failures == []

            serves_all()
            for old, new in ((first, "third"), (second, "fourth")):
                made = update.begin(new)
                straddling.append(update.end(old))
                serves_all()
                assert site.service.connections[made.port]
            (site.directory / "end").touch()
            assert [customer.exit_code(WITHIN) for customer in customers] == [0, 0]
        assert load.failures == []
        assert site.service.failures == []

        converted = [json.loads(line) for customer in customers for line in customer.lines]
        assert converted == [[True, PAGES, 0]] * len(converted)
        plain = [known, *load.jobs, *straddling]
        assert_all_are_read_by_their_owner_alone(site, plain)
        assert_settled_once(site, sdk=len(converted), plain=len(plain))
        for last in ("third", "fourth"):
            update.all[last].process.send(SIGTERM)
            assert update.all[last].process.exit_code(WITHIN) == 0
        for served in update.all.values():
            assert_served_all(served)


def assert_all_are_read_by_their_owner_alone(site: Site, jobs: list[str]) -> None:
    assert len(set(jobs)) == len(jobs)
    with Client(site) as owner:
        assert {owner.result(job)["page_count"] for job in jobs} == {PAGES}
    with Client(site, "stranger") as another:
        assert {another.poll(job, 404)["reason"] for job in jobs} == {"job_not_found"}


def assert_settled_once(site: Site, **jobs: int) -> None:
    """Each job of each key is in the ledger once, complete, and its pages are charged once."""

    def told(query: str) -> list[str]:
        return site.postgres.sql(query, site.database).split()

    expected = [f"key:{key}|1|3|{count}|{count * PAGES}" for key, count in sorted(jobs.items())]
    settled = (
        "SELECT j.owner, j.state, r.stage, count(*), sum(r.pages) FROM jobs j JOIN reservations r "
        "ON r.id = j.reservation GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    )
    eventually(lambda: told(settled) == expected, WITHIN)
    for query in (
        "SELECT account, 1, 3, sum(requests), sum(pages) FROM usage GROUP BY 1 ORDER BY 1",
        "SELECT account, 1, 3, count(*), sum(pages) FROM reservations GROUP BY 1 ORDER BY 1",
    ):
        assert told(query) == expected
    assert told("SELECT sum(failed), sum(refunded) FROM usage") == ["0|0"]
    assert told("SELECT DISTINCT pages_in_flight, concurrent FROM accounts") == ["0|0"]
