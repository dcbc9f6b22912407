"""The log: structlog in front, a queue of limited length, and a thread that renders and writes.

A request costs the event loop one append. A thread renders and writes in batches; a slow or closed reader causes
dropped events, which are counted, but never delays a request. Events are written within a tenth of a second. While
there are none the thread sleeps: to look ten times a second was a tenth of what an idle gateway cost.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from datetime import datetime
from queue import SimpleQueue
from typing import Any, Final

import orjson
import structlog

from gateway.model.printable import printable
from gateway.model.statuses import FIRST_ERROR

Event = MutableMapping[str, Any]
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_GREEN: Final = "32"
_YELLOW: Final = "33"
_COLOURS: Final = {"debug": "2", "warning": _YELLOW, "error": "31", "critical": "31"}
_BATCH: Final = 64
_PAUSE: Final = 0.1
_LAST_WORDS: Final = 2.0


class LogStream:
    """A queue of events for a file descriptor. `dropped` counts events lost to a full queue or a closed reader."""

    def __init__(self, descriptor: int, render: Callable[[Event], bytes], most: int = 20_000) -> None:
        self._descriptor = descriptor
        self.render = render
        self._events: deque[Event] = deque()
        self._most = most
        self._stop = threading.Event()
        self._sleeps = False
        self._waking: SimpleQueue[None] = SimpleQueue()  # its put may interrupt itself: finalizers log, too
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self.dropped = 0

    def put(self, event: Event) -> None:
        """Queues an event; never waits, never raises."""
        if len(self._events) < self._most:
            self._events.append(event)
            if self._sleeps:
                self._sleeps = False
                self._waking.put(None)
        else:
            self.dropped += 1

    def start(self) -> None:
        """Starts the writer."""
        self._thread.start()

    def close(self) -> None:
        """Writes the queued events, for at most two seconds."""
        self._stop.set()
        self._waking.put(None)
        if self._thread.is_alive():
            self._thread.join(_LAST_WORDS)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._sleep()
            self._stop.wait(_PAUSE)
            self.write_all()
        self.write_all()

    def _sleep(self) -> None:
        """Waits for an event; `put` looks at the flag after it has queued one, this at the queue after the flag."""
        self._sleeps = True
        if not self._events and not self._stop.is_set():
            self._waking.get()
        self._sleeps = False

    def write_all(self) -> None:
        """Writes what waits; runs on the stream's thread."""
        while self._events:
            # Small batches: each write releases the interpreter lock, so that the loop never waits long.
            batch = [self._events.popleft() for _ in range(min(_BATCH, len(self._events)))]
            try:
                self._write(b"".join(map(self._rendered, batch)))
            except OSError:
                self.dropped += len(batch)

    def _rendered(self, event: Event) -> bytes:
        try:
            return self.render(event)
        except (TypeError, ValueError):  # a value that can't be JSON or UTF-8: one event is lost, not the log
            self.dropped += 1
            return b""

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]


def json_line(event: Event) -> bytes:
    """Renders an event as one line of JSON; its timestamp (UTC) as RFC 3339 with microseconds."""
    try:
        return _dumps(event)
    except TypeError:  # a lone surrogate, which UTF-8 lacks: the event is worth more than the character
        return _dumps(_printable(event))


def _dumps(event: Event) -> bytes:
    return orjson.dumps(event, default=str, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {_printable(key): _printable(member) for key, member in value.items()}
    return [_printable(member) for member in value] if isinstance(value, list | tuple) else value


def console_line(event: Event) -> bytes:
    """Renders an event for people: day and time, level, what happened, and the rest as key=value."""
    at, level, what = event.pop("timestamp"), event.pop("level", "info"), event.pop("event", "")
    pairs = " ".join(f"{key}={_plain(value)}" for key, value in event.items() if value is not None)
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S} {level:<7} {what:<20} {pairs}\n".encode()


def shows_colours(environ: Mapping[str, str], descriptor: int = 1) -> bool:
    """Whether the log goes to a terminal whose user did not switch colours off (no-color.org)."""
    try:
        return os.isatty(descriptor) and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    except OSError:
        return False


def coloured_line(event: Event) -> bytes:
    """The same for a terminal that shows colours: by level, and of requests by status."""
    colour = _COLOURS.get(str(event.get("level")), "")
    status = event.get("status")
    if not colour and isinstance(status, int):
        colour = _YELLOW if status >= FIRST_ERROR else _GREEN
    line = console_line(event)
    return f"\x1b[{colour}m".encode() + line[:-1] + b"\x1b[0m\n" if colour else line


def _plain(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if text.isprintable() and " " not in text else repr(text)


def configure(stream: LogStream, level: str, now: Callable[[], datetime]) -> None:
    """Makes structlog's loggers write to a stream; `now` returns the time in UTC.

    Libraries' messages to the standard library's loggers may contain anything, and have no reader: they are dropped.
    """
    if not logging.getLogger().handlers:
        logging.getLogger().addHandler(logging.NullHandler())

    def enqueue(_: Any, name: str, event: Event) -> Event:
        stream.put({"timestamp": now(), "level": name, **event})
        raise structlog.DropEvent

    structlog.configure(
        processors=[enqueue],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )


def is_enabled(event_level: str, level: str) -> bool:
    """Whether events of `event_level` are written when `level` is the lowest level written."""
    return _LEVELS[event_level] >= _LEVELS[level]


def quietly() -> None:
    """Keeps the ledger's log events off standard output: a command reports errors itself."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.ReturnLoggerFactory(),  # the default needs standard output, which may be closed
    )
