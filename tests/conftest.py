"""What all tests share: the event loops that asynchronous tests run on, and the parts of the flow tests."""

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.devcerts import make_development_certificates

pytest.register_assert_rewrite("tests.support.client", "tests.support.backend", "tests.support.gateway")

from tests.support.backend import Backend  # noqa: E402 -- after their asserts were asked to explain themselves
from tests.support.gateway import Running, Start, gateway_on  # noqa: E402 -- likewise

_FLOWS = Path(__file__).parent / "flows"
_LOOPS = os.environ.get("GATEWAY_TEST_LOOPS", "both")


class _DebuggingLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, in debug mode whatever a runner says."""

    def __init__(self) -> None:
        super().__init__()
        self.slow_callback_duration = 60.0

    def set_debug(self, enabled: bool) -> None:
        super().set_debug(enabled or True)


_FACTORIES: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": _DebuggingLoop,
}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Flow tests run on both loops, all others on asyncio's in debug mode; GATEWAY_TEST_LOOPS picks one."""
    del config
    if _FLOWS not in item.path.parents:
        return {"asyncio": _DebuggingLoop}
    if _LOOPS == "both":
        return _FACTORIES
    return {_LOOPS: _FACTORIES[_LOOPS]}


def pytest_collection_finish(session: pytest.Session) -> None:
    """Takes all that stands by now out of the garbage collector's sight: flow tests collect at the end of each."""
    del session
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ca.pem, server.pem and server.key for localhost and 127.0.0.1."""
    directory = tmp_path_factory.mktemp("certificates")
    make_development_certificates(directory, ["localhost", "127.0.0.1"])
    return directory


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    """An upstream that records all it gets and answers 200 to whole requests, until told otherwise."""
    async with Backend() as recording:
        yield recording


@pytest.fixture
async def start(
    tmp_path: Path, certificates: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Start]:
    """Starts gateways in front of `backend`; whatever they leak fails the test."""
    monkeypatch.setattr("gateway.listener.pace.TICK", 0.05)
    monkeypatch.setattr("gateway.forward.relay._DRAIN_SECONDS", 0.3)
    count = 0
    async with AsyncExitStack() as stack:

        async def begin(**sections: Any) -> Running:
            nonlocal count
            count += 1
            directory = tmp_path / f"gateway-{count}"
            directory.mkdir()
            return await stack.enter_async_context(gateway_on(directory, certificates, backend.port, sections))

        yield begin


@pytest.fixture
async def gateway(start: Start) -> Running:
    """A gateway with the shipped routes, three keys, and all of 127.0.0.0/8 allowed."""
    return await start()
