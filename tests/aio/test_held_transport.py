"""held_transport.py: it is read while neither the turns nor the protocol above hold it back; its end has a bound."""

import asyncio
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.aio.held_transport import HeldTransport


class Raw:
    """A socket's transport, by what was asked of it."""

    def __init__(self) -> None:
        self.is_reading = True
        self.calls: list[Any] = []

    def pause_reading(self) -> None:
        assert self.is_reading
        self.is_reading = False

    def resume_reading(self) -> None:
        assert not self.is_reading
        self.is_reading = True

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def writelines(self, pieces: list[bytes]) -> None:
        self.calls.append(pieces)

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def is_closing(self) -> bool:
        return bool(self.calls)

    def get_write_buffer_size(self) -> int:
        return len(self.calls)

    def get_extra_info(self, name: str, default: Any) -> Any:
        return {"peername": "peer"}.get(name, default)


def held(raw: Raw, wanted: list[bool] | None = None) -> HeldTransport:
    told = [] if wanted is None else wanted
    return HeldTransport(cast("asyncio.Transport", raw), lambda: told.append(raw.is_reading), 0.05)


@given(st.lists(st.sampled_from(["hold", "let_go", "pause_reading", "resume_reading"]), max_size=12))
def test_it_is_read_while_nobody_holds_it_back(steps: list[str]) -> None:
    raw, is_held, is_paused, wanted = Raw(), False, False, list[bool]()
    transport, expected = held(raw, wanted), 0
    for step in steps:
        expected += step == "resume_reading" and is_paused
        is_held = step == "hold" or (is_held and step != "let_go")
        is_paused = step == "pause_reading" or (is_paused and step != "resume_reading")
        getattr(transport, step)()
        assert (raw.is_reading, transport.is_paused) == (not (is_held or is_paused), is_paused)
    assert wanted == [False] * expected  # it is told before more is read


def test_who_is_told_that_more_is_wanted_may_hold_it() -> None:
    raw = Raw()

    def hold() -> None:
        transport.hold()

    transport = HeldTransport(cast("asyncio.Transport", raw), hold, 1.0)
    transport.pause_reading()
    transport.resume_reading()
    assert not raw.is_reading
    transport.let_go()
    assert raw.is_reading


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_the_rest_is_the_transports(end: str) -> None:
    raw = Raw()
    transport = held(raw)
    assert transport.get_extra_info("peername") == "peer"
    assert transport.get_extra_info("sslcontext", 7) == 7
    assert not transport.is_closing()
    transport.write(b"a")
    transport.writelines([b"b", b"c"])
    getattr(transport, end)()
    assert raw.calls == [b"a", [b"b", b"c"], end]
    assert transport.is_closing()
    assert transport.get_write_buffer_size() == 3


async def test_what_nobody_takes_is_dropped_some_time_after_the_end() -> None:
    raw = Raw()
    transport = held(raw)
    transport.write(b"a")
    transport.close()
    transport.close()
    assert raw.calls == [b"a", "close", "close"]
    await asyncio.sleep(0.1)
    assert raw.calls == [b"a", "close", "close", "abort"]


async def test_one_that_is_lost_by_then_is_left_alone() -> None:
    raw = Raw()
    transport = held(raw)
    transport.close()
    transport.forget()
    await asyncio.sleep(0.1)
    assert raw.calls == ["close"]
