import json
import os
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from threading import Event as Flag
from typing import Any

import pytest
import structlog

from gateway.model.reasons import Reason
from gateway.observe.log import Event, LogStream, configure, console_line, is_enabled, json_line

pytestmark = pytest.mark.usefixtures("restored_log")

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        try:
            os.close(end)
        except OSError:
            continue


def written(pipe: tuple[int, int], *events: Event, render: Any = json_line, most: int = 100) -> tuple[bytes, int]:
    """What a stream writes of these events until it is closed, and how many it lost."""
    stream = LogStream(pipe[1], render, most)
    for event in events:
        stream.put(event)
    stream.start()
    stream.close()
    os.close(pipe[1])
    with os.fdopen(pipe[0], "rb", closefd=False) as reader:
        return reader.read(), stream.dropped


# Rendering


def test_json_is_one_object_a_line() -> None:
    line = json_line(
        {"timestamp": AT, "level": "info", "event": "a\nb", "reason": Reason.FORBIDDEN, "n": None, "x": 0.5}
    )
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "timestamp": "2026-01-02T03:04:05.678901Z",
        "level": "info",
        "event": "a\nb",
        "reason": "forbidden",
        "n": None,
        "x": 0.5,
    }


def test_json_takes_any_value_by_its_text() -> None:
    assert json.loads(json_line({"timestamp": AT, "where": {1 }}))["where"] == "{1}"  # fmt: skip


def test_console_is_for_people() -> None:
    line = console_line({
        "timestamp": AT, "level": "warning", "event": "request", "key": None, "duration": 0.1234567891, "status": 200,
        "detail": "two words", "evil": "a\x1b[31m\nb", "empty": "",
    })  # fmt: skip
    clock = f"{AT.astimezone():%Y-%m-%d %H:%M:%S}"
    assert line.decode() == (
        f"{clock} warning request              duration=0.123457 status=200 detail='two words' "
        "evil='a\\x1b[31m\\nb' empty=\n"
    )
    assert console_line({"timestamp": AT}).decode() == f"{clock} info                         \n"


@pytest.mark.parametrize("render", [json_line, console_line])
@pytest.mark.parametrize("text", ["ä€😀", "a\r\nb", "\x1b]0;x\x07", "\u2028", '"\\'])
def test_a_value_never_makes_a_second_line(render: Any, text: str) -> None:
    line = render({"timestamp": AT, "value": text}).decode()
    assert line.index("\n") == len(line) - 1
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", line)


# The stream


@pytest.mark.parametrize(("render", "pattern"), [(json_line, rb'"event":"(\d+)"'), (console_line, rb"info    (\d+)")])
def test_writes_every_event_in_order(pipe: tuple[int, int], render: Any, pattern: bytes) -> None:
    events = [{"timestamp": AT, "event": str(number)} for number in range(200)]
    data, dropped = written(pipe, *events, render=render, most=1000)
    assert [int(number) for number in re.findall(pattern, data)] == list(range(200))
    assert (data.count(b"\n"), dropped) == (200, 0)


def test_a_full_queue_drops_the_latest_and_counts(pipe: tuple[int, int]) -> None:
    data, dropped = written(pipe, *({"timestamp": AT, "event": n} for n in range(5)), most=3)
    assert [json.loads(line)["event"] for line in data.splitlines()] == [0, 1, 2]
    assert dropped == 2


def test_a_reader_that_is_gone_costs_events_and_nothing_else(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    threads = set(threading.enumerate())
    stream = LogStream(writer, json_line)
    for number in range(100):
        stream.put({"timestamp": AT, "event": number})
    stream.start()
    assert set(threading.enumerate()) - threads
    stream.close()
    assert stream.dropped == 100
    assert set(threading.enumerate()) <= threads


def test_an_event_with_text_that_utf_8_lacks_is_written_without_it(pipe: tuple[int, int]) -> None:
    data, dropped = written(pipe, {"event": "a", "detail": {"actor": "key:\ud800", "ids": ["\0", 1]}})
    assert json.loads(data) == {"event": "a", "detail": {"actor": "key:\ufffd", "ids": ["\ufffd", 1]}}
    assert not dropped


@pytest.mark.parametrize("value", [2**70, {1: 2}])
def test_an_event_that_can_not_be_rendered_costs_itself_alone(pipe: tuple[int, int], value: object) -> None:
    data, dropped = written(pipe, {"event": "a"}, {"event": "b", "value": value}, {"event": "c"})
    assert [json.loads(line)["event"] for line in data.splitlines()] == ["a", "c"]
    assert dropped == 1


def test_events_are_written_while_it_runs(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    stream = LogStream(writer, json_line)
    stream.start()
    stream.put({"event": "now"})
    assert os.read(reader, 100) == b'{"event":"now"}\n'  # comes without a close
    stream.close()


def test_without_events_nothing_is_looked_at(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """To look ten times a second was a tenth of what an idle gateway cost."""
    stream, looks = LogStream(pipe[1], json_line), 0
    real = stream.write_all

    def counted() -> None:
        nonlocal looks
        looks += 1
        real()

    monkeypatch.setattr(stream, "write_all", counted)
    stream.start()
    for number in range(3):
        stream.put({"n": number})
        assert os.read(pipe[0], 100) == b'{"n":%d}\n' % number
        Flag().wait(0.5)
    assert looks <= 4
    stream.close()


def test_no_event_is_left_while_others_put_at_once(pipe: tuple[int, int]) -> None:
    stream = LogStream(pipe[1], lambda _: b".")
    stream.start()

    def put() -> None:
        for number in range(200):
            stream.put({})
            Flag().wait(0.001 if number % 5 else 0.0)

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    found = 0
    while found < 4 * 200:
        found += len(os.read(pipe[0], 1000))
    for thread in threads:
        thread.join()
    stream.close()
    assert (found, stream.dropped) == (800, 0)


def test_the_rendering_may_change_while_it_runs(pipe: tuple[int, int]) -> None:
    rendered = Flag()

    def first(event: Event) -> bytes:
        rendered.set()
        return b"first %d\n" % event["n"]

    stream = LogStream(pipe[1], first)
    stream.start()
    stream.put({"n": 1})
    assert rendered.wait(30)
    stream.render = lambda event: b"second %d\n" % event["n"]
    stream.put({"n": 2})
    stream.close()
    os.close(pipe[1])
    assert os.read(pipe[0], 100) == b"first 1\nsecond 2\n"


def test_a_stream_that_never_started_can_be_closed(pipe: tuple[int, int]) -> None:
    stream = LogStream(pipe[1], json_line)
    stream.put({"event": "lost"})
    stream.close()


def test_long_events_are_written_whole(pipe: tuple[int, int]) -> None:
    data, dropped = written(pipe, *({"event": "x" * 5000} for _ in range(10)))
    assert (len(data.splitlines()), dropped) == (10, 0)


# structlog in front


def test_loggers_write_to_the_stream_at_their_level(pipe: tuple[int, int]) -> None:
    stream = LogStream(pipe[1], json_line)
    configure(stream, "warning", lambda: AT)
    log = structlog.get_logger()
    log.debug("no")
    log.info("no", a=1)
    log.warning("careful", a=1)
    log.error("broken", b="x")
    stream.start()
    stream.close()
    assert [json.loads(line) for line in os.read(pipe[0], 10000).splitlines()] == [
        {"timestamp": "2026-01-02T03:04:05.678901Z", "level": "warning", "event": "careful", "a": 1},
        {"timestamp": "2026-01-02T03:04:05.678901Z", "level": "error", "event": "broken", "b": "x"},
    ]


def test_a_logger_made_before_follows_a_new_level(pipe: tuple[int, int]) -> None:
    log, stream = structlog.get_logger(), LogStream(pipe[1], json_line)
    configure(stream, "error", lambda: AT)
    log.info("no")
    configure(stream, "info", lambda: AT)
    log.info("yes")
    stream.start()
    stream.close()
    assert [json.loads(line)["event"] for line in os.read(pipe[0], 1000).splitlines()] == ["yes"]


@pytest.mark.parametrize(
    ("event", "level", "is_written"),
    [
        ("info", "info", True),
        ("debug", "info", False),
        ("error", "info", True),
        ("info", "error", False),
        ("debug", "debug", True),
    ],
)
def test_knows_what_a_level_lets_through(event: str, level: str, is_written: bool) -> None:
    assert is_enabled(event, level) is is_written
