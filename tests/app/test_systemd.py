"""What systemd is told, by a real socket: when it is ready, how a reload went, that it lives, that it ends."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from gateway.app.systemd import Notifier
from tests.support.servicemanager import ServiceManager
from tests.support.waiting import eventually

PORT = 8443


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[ServiceManager]:
    with ServiceManager(tmp_path / "notify") as manager:
        yield manager


def notifier(systemd: ServiceManager, missing: Callable[[], list[str]] = list, **environ: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": systemd.address, **environ}, missing)


@asynccontextmanager
async def running(made: Notifier) -> AsyncIterator[None]:
    task = asyncio.get_running_loop().create_task(made.run(PORT))
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def came(systemd: ServiceManager, name: str) -> dict[str, str]:
    """Waits for a message that has such an assignment, while the loop turns."""
    await eventually(lambda: any(name in message for message in systemd.rest()), within=60)
    return next(message for message in reversed(systemd.messages) if name in message)


async def test_it_is_ready_when_nothing_is_missing(systemd: ServiceManager) -> None:
    async with running(notifier(systemd)):
        assert await came(systemd, "READY") == {"READY": "1", "STATUS": "Serving port 8443"}


async def test_an_abstract_address_is_told_too() -> None:
    with ServiceManager(f"@gateway-notify-{os.getpid()}-{time.monotonic_ns()}") as systemd:
        async with running(notifier(systemd)):
            assert (await came(systemd, "READY"))["READY"] == "1"


async def test_what_is_missing_is_waited_for_as_long_as_it_takes(
    systemd: ServiceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.app.systemd.TICK", 0.01)
    missing = ["ledger", "jwks"]
    async with running(notifier(systemd, lambda: missing)):
        first = await came(systemd, "STATUS")
        assert first == {
            "EXTEND_TIMEOUT_USEC": "30000000",
            "STATUS": "Serving port 8443, waiting for: ledger, jwks",
        }
        await eventually(lambda: systemd.rest() != [])
        assert systemd.messages[-1] == {"EXTEND_TIMEOUT_USEC": "30000000"}
        missing.clear()
        assert await came(systemd, "READY") == {"READY": "1", "STATUS": "Serving port 8443"}
        missing.append("ledger")
        assert await came(systemd, "STATUS") == {"STATUS": "Serving port 8443, waiting for: ledger"}
    assert sum("READY" in message for message in systemd.messages) == 1


async def test_a_reload_is_told_of_with_its_time_and_its_end(systemd: ServiceManager) -> None:
    made = notifier(systemd)
    async with running(made):
        await came(systemd, "READY")
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        made.notify_reloading()
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        began = systemd.next()
        assert began["RELOADING"] == "1"
        assert before <= int(began["MONOTONIC_USEC"]) <= after
        made.notify_reloaded(in_force=True)
        assert systemd.next() == {"READY": "1", "STATUS": "Reloaded"}
        made.notify_reloading()
        made.notify_reloaded(in_force=False)
        assert systemd.next()["RELOADING"] == "1"
        refused = systemd.next()
        assert refused["READY"] == "1"
        assert refused["STATUS"].startswith("Reload refused")


async def test_what_came_of_a_reload_stays_to_be_read(systemd: ServiceManager) -> None:
    made = notifier(systemd, WATCHDOG_USEC="100000")
    async with running(made):
        await came(systemd, "READY")
        made.notify_reloading()
        made.notify_reloaded(in_force=False)
        systemd.next()
        systemd.next()
        seen = len(systemd.messages)
        await eventually(lambda: bool(systemd.rest()) and len(systemd.messages) >= seen + 3, within=60)
    assert systemd.messages[seen:] == [{"WATCHDOG": "1"}] * (len(systemd.messages) - seen)


async def test_no_reload_makes_it_ready_before_it_is_or_after_it_ends(systemd: ServiceManager) -> None:
    made = notifier(systemd, lambda: ["ledger"])
    async with running(made):
        await came(systemd, "STATUS")
        made.notify_reloading()
        made.notify_reloaded(in_force=True)
        made.notify_stopping()
        made.notify_reloading()
        made.notify_reloaded(in_force=True)
    told = [message for message in systemd.rest() if "EXTEND_TIMEOUT_USEC" not in message]
    assert told == [{"STOPPING": "1", "STATUS": "Draining"}]


async def test_the_watchdog_is_fed_within_half_its_time(systemd: ServiceManager) -> None:
    async with running(notifier(systemd, WATCHDOG_USEC="200000", WATCHDOG_PID=str(os.getpid()))):
        await eventually(lambda: bool(systemd.rest()) and len(systemd.messages) >= 3, within=60)
    assert all(message["WATCHDOG"] == "1" for message in systemd.messages)


@pytest.mark.parametrize(
    "environ",
    [{}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "200000", "WATCHDOG_PID": "1"}],
)
async def test_a_watchdog_that_is_not_ours_is_not_fed(
    systemd: ServiceManager, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.app.systemd.TICK", 0.01)
    missing: list[str] = []
    async with running(notifier(systemd, lambda: missing, **environ)):
        await came(systemd, "READY")
        missing.append("ledger")
        await came(systemd, "STATUS")
    assert not any("WATCHDOG" in message for message in systemd.messages)


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}])
async def test_without_a_socket_nobody_is_told(environ: dict[str, str]) -> None:
    made = Notifier(environ, list)
    with structlog.testing.capture_logs() as events:
        await made.run(PORT)
        made.notify_reloading()
        made.notify_reloaded(in_force=True)
        made.notify_stopping()
    assert events == []


@pytest.mark.parametrize("address", ["/nowhere/at/all", "x" * 200, "vsock:2:1234"])
async def test_a_failure_is_logged_once_and_ends_nothing(address: str) -> None:
    made = Notifier({"NOTIFY_SOCKET": address}, list)
    with structlog.testing.capture_logs() as events:
        async with running(made):
            await eventually(lambda: bool(events))
            made.notify_reloading()
            made.notify_stopping()
    assert [(event["event"], event["log_level"]) for event in events] == [("systemd could not be told", "warning")]
    assert events[0]["error"]


async def test_a_full_socket_is_not_waited_for(systemd: ServiceManager) -> None:
    made = notifier(systemd)
    events: list[Any]
    with structlog.testing.capture_logs() as events:
        for _ in range(10_000):
            made.notify_stopping()
            if events:
                break
    assert [event["event"] for event in events] == ["systemd could not be told"]
    assert systemd.rest()
    made.notify_stopping()
    assert systemd.rest() == [{"STOPPING": "1", "STATUS": "Draining"}]
