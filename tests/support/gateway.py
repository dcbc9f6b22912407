"""A real gateway in this process: real configuration file, real TLS, the real parts; only its log is listened to."""

import asyncio
import gc
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import aiohttp
import pytest
import yaml

from gateway.app import build
from gateway.app.gateway import Gateway
from gateway.app.prepare import prepare
from gateway.config.settings import Settings
from gateway.jobs.job import Job
from gateway.model.jobs import JobRef
from gateway.observe.log import Event, LogStream, json_line
from tests.support.backend import HEALTH_PATH
from tests.support.client import Client, Response
from tests.support.forms import FORM_TYPE, PLAINLY, form
from tests.support.ledgers import write_sqlite_ledger
from tests.support.waiting import DEADLINE, Facts

_YOUNG_COLLECTIONS: Final = 20
KEY: Final = "canary-key-of-ci-5f1c"
ADMIN_KEY: Final = "canary-key-of-admin-77aa"
AWAY_KEY: Final = "canary-key-of-away-0b3e"
ENVIRON: Final = {"KEY_CI": KEY, "KEY_ADMIN": ADMIN_KEY, "KEY_AWAY": AWAY_KEY}
SUBMIT: Final = "/api/v1/marker"
RESULT: Final = "/api/v1/marker/job-1"
PLAIN: Final = PLAINLY.target
ROUTES: Final = [
    *(
        route.model_dump(mode="json")
        for route in Settings.model_fields["routes"].get_default(call_default_factory=True)
    ),
    {"name": "plain", "methods": ["POST"], "path": "/api/v1/plain/{name*}"},
]

Start = Callable[..., Awaitable["Running"]]
shared: Final = pytest.mark.asyncio(loop_scope="module")
"""Marks a test that leaves the gateway and the backend as it found them: it gets those of its module.

To start a gateway takes a tenth of a second, and tables have hundreds of rows.
"""


BOTH_WAYS: Final = pytest.mark.parametrize("chunked", [False, True], ids=["at-once", "streamed"])
"""Runs a test with a submit that is judged before it has a place, and with one that streams: for `submit`."""


def request(
    method: str = "GET",
    target: str = RESULT,
    *headers: str,
    key: str | None = KEY,
    body: bytes = b"",
    close: bool = False,
) -> bytes:
    """A plain request; a body gets a Content-Length."""
    lines = [f"{method} {target} HTTP/1.1", "Host: gateway.test"]
    if key is not None:
        lines.append(f"X-API-Key: {key}")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body


def submit(
    body: bytes | None = None,
    *headers: str,
    target: str = SUBMIT,
    key: str | None = KEY,
    chunked: bool = False,
    close: bool = False,
) -> bytes:
    """A whole submit: a form of one page, or this one."""
    body = form() if body is None else body
    headers = (f"Content-Type: {FORM_TYPE}", *headers)
    if chunked:
        return request("POST", target, "Transfer-Encoding: chunked", *headers, key=key, close=close) + chunks(body)
    return request("POST", target, *headers, key=key, body=body, close=close)


def chunks(*pieces: bytes) -> bytes:
    """A whole chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Running:
    """A running gateway, as tests see it: two addresses, its metrics, and every event of its log."""

    def __init__(self, gateway: Gateway, path: Path, tls: ssl.SSLContext, events: list[Event], facts: Facts) -> None:
        self.gateway = gateway
        self.errors: list[dict[str, Any]] = []
        """What the loop's exception handler was told."""
        self.path = path
        self.port = gateway.listeners.addresses.public[1]
        self.admin_port = gateway.listeners.addresses.admin[1]
        self.tls = tls
        self.events = events
        self.facts = facts
        self.expects_internal_errors = False
        self.end: Callable[[], Awaitable[None]]
        """Ends it before the test's own end."""
        self.source = "127.0.0.1"
        """The address that clients connect from."""
        self.clients: list[Client] = []
        self._before: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}

    def begin_anew(self) -> None:
        """Forgets what was logged and counted so far: another test begins, and from an address of its own.

        Strangers' refusals beyond some of one address are summed up in the log, and too many bad logins locked out.
        """
        self.events.clear()
        self.source = str(ip_address(self.source) + 256)
        self._before = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.gateway.registry.collect()
            for sample in family.samples
            if family.type in {"counter", "histogram"}
        }

    async def connect(
        self,
        *,
        source: str | None = None,
        before: bytes = b"",
        tls: bool = True,
        receive_buffer: int | None = None,
        context: ssl.SSLContext | None = None,
    ) -> Client:
        """Connects a client, which is closed at the end of the test."""
        context = (context or self.tls) if tls else None
        source = source or self.source
        client = await Client.connect(self.port, context, source=source, before=before, receive_buffer=receive_buffer)
        self.clients.append(client)
        return client

    async def ask(self, request: bytes, method: bytes = b"GET", *, source: str | None = None) -> Response:
        """One request on a connection of its own."""
        async with await self.connect(source=source) as client:
            return await client.ask(request, method)

    async def admin(
        self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Asks the admin listener."""
        url = f"http://127.0.0.1:{self.admin_port}{path}"
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
            session.request(method, url, headers=headers) as answer,
        ):
            return answer.status, await answer.text()

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric now, of a counter since the test began; 0 when it is not there."""
        before = self._before.get((name, frozenset(labels.items())), 0.0)
        return (self.gateway.registry.get_sample_value(name, labels) or 0.0) - before

    def counted(self, **labels: str | int) -> float:
        """gateway_requests_total of all rows that have these labels."""
        wanted = {name: str(value) for name, value in labels.items()}
        return sum(
            sample.value - self._before.get((sample.name, frozenset(sample.labels.items())), 0.0)
            for family in self.gateway.registry.collect()
            for sample in family.samples
            if sample.name == "gateway_requests_total" and wanted.items() <= sample.labels.items()
        )

    def own(self, request_id: str, owner: str = "key:ci", upstream: str = "default") -> Job:
        """Lets a key own a job that it never submitted: for tests that are about something else."""
        shape = self.gateway.live.state.shapes["default"]
        job = Job(JobRef(upstream, request_id, "none"), owner, shape, SUBMIT, time.time())
        self.gateway.jobs.registry.add(job)
        return job

    @property
    def requests(self) -> list[Event]:
        """The events of finished requests."""
        return [event for event in self.events if event["event"] == "request"]

    async def finished(self, count: int) -> list[Event]:
        """Waits until exactly so many requests are finished, and returns their events."""
        await self.facts.until(lambda: len(self.requests) >= count)
        await asyncio.sleep(0)
        assert len(self.requests) == count, self.requests
        assert self.counted() == count
        return self.requests

    async def says(self, what: str, count: int = 1, within: float = DEADLINE) -> Event:
        """Waits until an event was logged so many times, and returns the last."""

        def found() -> list[Event]:
            return [event for event in self.events if event["event"] == what]

        await self.facts.until(lambda: len(found()) >= count, within)
        return found()[-1]

    def rewrite(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Changes the configuration file."""
        document = yaml.safe_load(self.path.read_text())
        change(document)
        self.path.write_text(yaml.dump(document, Dumper=yaml.CSafeDumper))

    async def close_clients(self) -> None:
        """Closes what tests left open."""
        for client in self.clients:
            client.abort()
        self.clients.clear()
        for _ in range(2):
            await asyncio.sleep(0)

    def has_nothing_wrong(self) -> None:
        """Asserts that nothing went wrong unseen so far, and that nothing of a client is left."""
        assert self.gateway.listeners.public.connections == 0
        assert not self.gateway.listeners.connections
        assert self.metric("gateway_requests_in_flight") == 0
        assert self.errors == [], self.errors
        if not self.expects_internal_errors:
            assert [event for event in self.events if event["event"] == "internal error"] == []


def document(certificates: Path, upstream_port: int, sections: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a test: sections are merged into these, key by key."""
    base: dict[str, Any] = {
        "listen": {"address": "127.0.0.1", "port": 0},
        "tls": {"certificate": f"{certificates}/server.pem", "private_key": f"{certificates}/server.key"},
        "network": {"allow": ["127.0.0.0/8"]},
        "upstream": {"url": f"http://127.0.0.1:{upstream_port}", "health_path": HEALTH_PATH},
        "keys": [
            {"id": "ci", "secret": {"env": "KEY_CI"}},
            {"id": "root", "secret": {"env": "KEY_ADMIN"}, "scopes": ["admin"]},
            {"id": "away", "secret": {"env": "KEY_AWAY"}, "networks": ["127.0.0.7/32"]},
        ],
        "routes": ROUTES,
        "admin": {"port": 0},
        "shutdown": {"drain_delay": "50ms", "drain_timeout": "5s"},
        "log": {"level": "debug"},
        "jobs": {"watch": False},  # the upstream is asked what the test asks; tests of jobs give their own section
    }
    for name, section in sections.items():
        merges = isinstance(section, dict) and name not in {"aliases", "profiles", "jobs"}
        base[name] = {**base.get(name, {}), **section} if merges else section
    # Each poll asks, so that tests may count; those of flows/test_shared_polls.py say otherwise.
    base["jobs"] = {"status_age": "0s", **base["jobs"]}
    return base


def client_context(certificates: Path) -> ssl.SSLContext:
    """What a client that trusts the test's CA would use."""
    return ssl.create_default_context(cafile=str(certificates / "ca.pem"))


@contextmanager
def collected() -> Iterator[None]:
    """Collects garbage at the end and never before: it is all in the youngest generation then, and that is quick."""
    gc.disable()
    try:
        yield
    finally:
        # What the end of a test still held is in the older generations: it would fill gigabytes.
        gc.collect(2 if gc.get_count()[1] > _YOUNG_COLLECTIONS else 0)
        gc.enable()


def is_there(url: Any) -> bool:
    """Whether a ledger's URL names a file that another gateway made: it may have a job of any id."""
    return isinstance(url, str) and url.startswith("sqlite:///") and Path(url.removeprefix("sqlite:///")).is_file()


@asynccontextmanager
async def gateway_on(
    directory: Path, certificates: Path, upstream_port: int, sections: Mapping[str, Any]
) -> AsyncIterator[Running]:
    """Runs a gateway; at the end nothing of it may be left, and nothing may have gone wrong unseen.

    `environ` and `log_to`, a file descriptor, are no sections of the configuration.
    """
    sections = dict(sections)
    environ = sections.pop("environ", ENVIRON)
    log_to: int | None = sections.pop("log_to", None)
    path = directory / "gateway.yaml"
    ledger = directory / "ledger.db"
    is_anothers = is_there(sections.get("ledger", {}).get("url"))
    sections["ledger"] = {"url": f"sqlite:///{ledger}", **sections.get("ledger", {})}
    if not ledger.exists():
        write_sqlite_ledger(ledger)
    path.write_text(yaml.dump(document(certificates, upstream_port, sections), Dumper=yaml.CSafeDumper))
    events: list[Event] = []
    facts = Facts()
    errors: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: errors.append(context))

    class Listening(LogStream):
        """The log, written to nowhere or where the test reads it, and noted on its way."""

        def __init__(self, _: int, render: Callable[[Event], bytes]) -> None:
            super().__init__(-1 if log_to is None else log_to, render)

        def put(self, event: Event) -> None:
            json_line(dict(event))
            events.append(dict(event))
            facts.changed()
            if log_to is not None:
                super().put(event)

    with collected(), patch.object(build, "LogStream", Listening):
        prepared = await asyncio.to_thread(prepare, path, environ)
        async with build.running(path, environ, prepared) as gateway:
            running = Running(gateway, path, client_context(certificates), events, facts)
            running.errors = errors
            if not is_anothers:
                running.own(RESULT.rpartition("/")[2])
            try:
                yield running
            finally:
                await running.close_clients()
    running.has_nothing_wrong()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert [task for task in others if "gateway/" in str(task.get_coro())] == []
