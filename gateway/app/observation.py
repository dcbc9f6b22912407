"""Where requests are reported: the log, the metrics, the audit trail, and who called."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from gateway.audit.refusal_log import RefusalLog
from gateway.audit.refusals import Refusals
from gateway.config.settings import Log
from gateway.observe.callers_seen import CallersSeen
from gateway.observe.log import (
    Event,
    LogStream,
    coloured_line,
    configure,
    console_line,
    json_line,
    shows_colours,
)
from gateway.observe.metrics import RequestMetrics
from gateway.observe.observer import Observer


class Observation(NamedTuple):
    """What reports requests. `renderers` write an event as a line, by `log.format`."""

    refusals: Refusals
    stream: LogStream
    requests: RequestMetrics
    observer: Observer
    seen: CallersSeen
    refusal_log: RefusalLog
    renderers: Mapping[str, Callable[[Event], bytes]]

    def configure_log(self, settings: Log) -> None:
        """Applies a log configuration."""
        self.stream.render = self.renderers[settings.format]
        self.observer.level = settings.level
        configure(self.stream, settings.level, utc_now)


def renderers(environ: Mapping[str, str]) -> dict[str, Callable[[Event], bytes]]:
    """What writes an event as a line, by `log.format`; colours as the terminal on descriptor 1 and its user want."""
    return {"json": json_line, "console": coloured_line if shows_colours(environ) else console_line}


def utc_now() -> datetime:
    """The wall clock, for moments that are written down."""
    return datetime.now(UTC)
