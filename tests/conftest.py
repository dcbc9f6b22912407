"""What all tests share: the event loops that asynchronous tests run on, and the parts of the flow tests."""

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import hypothesis
import pytest
import pytest_asyncio
import structlog
import uvloop

from gateway.tls.dev_certificates import make_development_certificates

_WHOLE = bool(os.environ.get("GATEWAY_TEST_WHOLE"))  # `make coverage`, and CI
hypothesis.settings.register_profile("here", max_examples=30)
# CI draws the same examples each time: a change is never red for what another one left. All else draws new ones.
_PROFILE = "here" if not _WHOLE else "ci" if os.environ.get("CI") else "default"
hypothesis.settings.load_profile(_PROFILE)  # before anything takes it over

pytest.register_assert_rewrite(
    "tests.support.client", "tests.support.backend", "tests.support.gateway", "tests.support.ledgers"
)

from gateway.ledger.engine import Engine  # noqa: E402 -- likewise
from gateway.ledger.ledger import Ledger  # noqa: E402 -- likewise
from tests.support import forkserver  # noqa: E402 -- likewise
from tests.support.backend import Backend  # noqa: E402 -- after their asserts were asked to explain themselves
from tests.support.faraway import FarAway  # noqa: E402 -- likewise
from tests.support.gateway import Running, Start, gateway_on  # noqa: E402 -- likewise
from tests.support.ledgers import Postgres, compiled_once, open_engine, write_sqlite_ledger  # noqa: E402 -- likewise
from tests.support.waiting import eventually  # noqa: E402 -- likewise

_FLOWS = Path(__file__).parent / "flows"
_LOOPS = os.environ.get("GATEWAY_TEST_LOOPS", "")
_ENGINES = os.environ.get("GATEWAY_TEST_ENGINES", "both" if _WHOLE else "")
# What these test talks to the engine itself, or is the whole gateway; what others test uses the ledger through that.
_NEAR_THE_ENGINE = frozenset({"ledger", "flows", "process"})
# What these test lies near the sockets, where the loops differ; all else is the same code on either.
_NEAR_THE_LOOP = frozenset(
    f"test_{name}.py"
    for name in (
        "bodies", "certificates", "client_certificates", "clients", "drain", "early_answers", "forwarding",
        "hostile_upstream", "proxies", "slow", "turns", "uvicorn", "whose_bytes",
    )
)  # fmt: skip


class _DebuggingLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, in debug mode whatever a runner says."""

    def __init__(self) -> None:
        super().__init__()
        self.slow_callback_duration = 60.0

    def set_debug(self, enabled: bool) -> None:
        super().set_debug(enabled or True)

    def get_debug(self) -> bool:
        """What futures and handles ask, to note where they were made: a third of all that these tests would cost.

        The loop itself checks all the same that no other thread calls it.
        """
        return False


_FACTORIES: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": _DebuggingLoop,
}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Flow tests run on uvloop, all others on asyncio's loop in debug mode.

    With GATEWAY_TEST_WHOLE flow tests near the sockets run on both; GATEWAY_TEST_LOOPS is `uvloop`, `asyncio`, or
    `both` for all flow tests.
    """
    del config
    if _FLOWS not in item.path.parents:
        return {"asyncio": _DebuggingLoop}
    if _LOOPS == "both" or (_WHOLE and not _LOOPS and item.path.name in _NEAR_THE_LOOP):
        return _FACTORIES
    loop = _LOOPS or "uvloop"
    return {loop: _FACTORIES[loop]}


class _FailuresAtOnce:
    """Shows a failure when it comes, and not only at the end of all."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called for each phase of each test, where the results come together."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(f"FAILED {report.nodeid} ({report.when})", red=True)
            reporter.write_line(report.longreprtext[-2000:])


def pytest_configure(config: pytest.Config) -> None:
    """Called once in each process; with xdist, results come together in the one that has no input of a worker."""
    gc.disable()  # until all tests are collected, which makes a million objects and no garbage
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_FailuresAtOnce(config))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves the second engine to CI where the first says all but surely the same; see docs/development.md."""
    if _ENGINES == "both":
        return
    left = [item for item in items if _is_on_the_second_engine(item)]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if not _is_on_the_second_engine(item)]


def _is_on_the_second_engine(item: pytest.Item) -> bool:
    room = item.path.relative_to(_FLOWS.parent).parts[0]
    params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    return room not in _NEAR_THE_ENGINE and params.get("ledger_url") == "postgresql"


def pytest_collection_finish(session: pytest.Session) -> None:
    """Takes all that stands by now out of the garbage collector's sight: flow tests collect at the end of each."""
    del session
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def _left_out_of_collections() -> Iterator[None]:
    """What a file leaves is looked at once: later on each collection of a test would take a second and a half."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _compiled_once() -> Iterator[None]:
    with compiled_once():
        yield


@pytest.fixture(scope="session", autouse=True)
def _forkserver_ends() -> Iterator[None]:
    yield
    forkserver.end()


@pytest.fixture
def restored_log() -> Iterator[None]:
    """Commands keep the log quiet; in this process that would be for all who come after."""
    config = structlog.get_config()
    yield
    structlog.configure(**config)


@pytest.fixture
def plain_log(restored_log: None) -> None:
    """A gateway that ran in this process before may have set a level that keeps events from being seen."""
    del restored_log
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ca.pem, server.pem and server.key for localhost, 127.0.0.1 and gateway.test."""
    directory = tmp_path_factory.mktemp("certificates")
    make_development_certificates(directory, ["localhost", "127.0.0.1", "gateway.test"])
    return directory


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Backend:
    """An upstream that records all it gets and answers 200 to whole requests, until told otherwise."""
    name = "_shared_backend" if _is_shared(request) else "_own_backend"
    return request.getfixturevalue(name)  # type: ignore[no-any-return]


@pytest.fixture
def gateway(request: pytest.FixtureRequest) -> Running:
    """A gateway with the shipped routes, three keys, and all of 127.0.0.0/8 allowed."""
    name = "_shared_gateway" if _is_shared(request) else "_own_gateway"
    return request.getfixturevalue(name)  # type: ignore[no-any-return]


def _is_shared(request: pytest.FixtureRequest) -> bool:
    marker = request.node.get_closest_marker("asyncio")
    return marker is not None and marker.kwargs.get("loop_scope") == "module"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _module_backend() -> AsyncIterator[Backend]:
    async with Backend() as recording:
        yield recording


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _module_gateway(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path, _module_backend: Backend
) -> AsyncIterator[Running]:
    with quick_ends():
        async with gateway_on(tmp_path_factory.mktemp("gateway"), certificates, _module_backend.port, {}) as running:
            yield running


@pytest_asyncio.fixture(loop_scope="module")
async def _shared_backend(_module_backend: Backend) -> AsyncIterator[Backend]:
    yield _module_backend
    await _module_backend.begin_anew()


@pytest_asyncio.fixture(loop_scope="module")
async def _shared_gateway(_module_gateway: Running, _shared_backend: Backend) -> AsyncIterator[Running]:
    running = _module_gateway
    running.begin_anew()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: running.errors.append(context))
    yield running
    await running.close_clients()
    await eventually(lambda: not running.gateway.listeners.public.connections)
    running.has_nothing_wrong()


@pytest.fixture
async def _own_backend() -> AsyncIterator[Backend]:
    async with Backend() as recording:
        yield recording


@contextmanager
def quick_ends() -> Iterator[None]:
    """Lets what waits for a time wait for less."""
    with patch("gateway.aio.sweep.TICK", 0.05), patch("gateway.proxy.request_body.DRAIN_SECONDS", 0.3):
        yield


@pytest.fixture
async def start(tmp_path: Path, certificates: Path, _own_backend: Backend) -> AsyncIterator[Start]:
    """Starts gateways in front of `backend`; whatever they leak fails the test."""
    count = 0
    with quick_ends():
        async with AsyncExitStack() as stack:

            async def begin(**sections: Any) -> Running:
                nonlocal count
                count += 1
                directory = tmp_path / f"gateway-{count}"
                directory.mkdir()
                own = await stack.enter_async_context(AsyncExitStack())
                made = gateway_on(directory, certificates, _own_backend.port, sections)
                running = await own.enter_async_context(made)
                running.end = own.aclose
                return running

            yield begin


@pytest.fixture
async def _own_gateway(start: Start) -> Running:
    return await start()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server, for all tests of this process that leave it running."""
    with Postgres() as server:
        yield server


@pytest.fixture
async def far(request: pytest.FixtureRequest, postgres: Postgres) -> AsyncIterator[FarAway]:
    """The same server, as far away as FAR of the test's file says."""
    async with FarAway(postgres.socket_directory, request.module.FAR) as relay:
        yield relay


@pytest.fixture(scope="session")
def migrated(postgres: Postgres) -> str:
    """A database with the tables of a ledger; whoever fills it empties it."""
    name = postgres.database()

    async def migrate() -> None:
        engine = open_engine(postgres.url_of(name))
        await engine.write(lambda _: None)
        await engine.close()

    with ThreadPoolExecutor(1) as thread:  # a loop of its own, for this thread may have one
        thread.submit(lambda: asyncio.run(migrate())).result()
    return name


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where an empty ledger is, with its tables: on each engine in turn."""
    if request.param == "sqlite":
        path = tmp_path / "ledger" / "ledger.db"
        path.parent.mkdir()
        write_sqlite_ledger(path)
        yield f"sqlite:///{path}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    name: str = request.getfixturevalue("migrated")
    yield server.url_of(name)
    server.empty(name)


@pytest.fixture
async def engine(ledger_url: str) -> AsyncIterator[Engine]:
    """The engine of an empty ledger, on SQLite and on PostgreSQL."""
    made = open_engine(ledger_url)
    await made.write(lambda _: None)
    yield made
    await made.close()


@pytest.fixture
def ledger(engine: Engine) -> Ledger:
    """The same as the gateway uses it."""
    return Ledger(engine)
