"""The output of `gateway top`: what a running gateway does, told again every few seconds.

On a terminal as a picture, with --json as a line of JSON for each look.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway.cli.health_facts import facts_of
from gateway.cli.output import print_lines, wants_json
from gateway.cli.rates import Pace, pace_of
from gateway.cli.run_status import AGE, ASKED, counts_of, limits_of, now_of
from gateway.cli.running_gateway import ask
from gateway.cli.samples import Samples
from gateway.cli.session import look_at
from gateway.cli.table import printable
from gateway.config.settings import Settings
from gateway.units import moment

_LEAST: Final = 0.1
_NEAR_EVERY: Final = 10  # looks: to find accounts near a limit the gateway reads all


class Look(NamedTuple):
    """One look at a gateway; `now` is in seconds since the epoch."""

    found: Samples
    pace: Pace
    now: float


def show_top(config: Path, every: float, count: int | None) -> None:
    """Tells until Ctrl-C, or `count` times."""
    show = _tell if wants_json() else _draw
    with suppress(KeyboardInterrupt):
        look_at(config, lambda found: asyncio.run(show(_looks(found.settings, config, every, count), count)), ASKED)


async def _looks(settings: Settings, config: Path, every: float, count: int | None) -> AsyncIterator[Look]:
    looks = 0
    before, before_at = await ask(settings, config), time.monotonic()
    while count is None or looks < count:
        await asyncio.sleep(every)
        near = None if looks % _NEAR_EVERY == _NEAR_EVERY - 1 else before.near
        after, after_at = await ask(settings, config, near), time.monotonic()
        yield Look(after, pace_of(before, after, max(_LEAST, after_at - before_at)), time.time())
        before, before_at, looks = after, after_at, looks + 1


async def _draw(looks: AsyncIterator[Look], count: int | None) -> None:
    console = Console()
    with Live(console=console, auto_refresh=False, screen=console.is_terminal and count is None) as live:
        async for look in looks:
            live.update(picture(look.found, look.pace, look.now), refresh=True)
    if not console.is_terminal:
        console.line()  # a pipe gets the last picture, without a line's end


async def _tell(looks: AsyncIterator[Look], _: int | None) -> None:
    async for look in looks:
        print_lines(json.dumps(document(look)))


def document(look: Look) -> dict[str, Any]:
    """One look for programs, with the members of `gateway status --json` for what both tell."""
    facts, pace = facts_of(look.found, look.now), look.pace
    return {
        "at": moment(look.now),
        "healthy": not facts.problems,
        "problems": facts.problems,
        "warnings": facts.warnings,
        "requests_per_second": pace.requests,
        "refused_per_second": pace.refused,
        "failed_per_second": pace.failed,
        "mean_latency": pace.latency,
        "pages_per_minute": pace.pages,
        "now": now_of(look.found),
        "limits": limits_of(facts),
    }


def picture(found: Samples, pace: Pace, now: float) -> Group:
    """One picture; `now` is in seconds since the epoch."""
    facts = facts_of(found, now)
    head = Text("not healthy", "bold red") if facts.problems else Text("healthy", "bold green")
    lines = [Text(printable(f"problem: {text}"), "red") for text in facts.problems]
    lines += [Text(printable(f"warning: {text}"), "yellow") for text in facts.warnings]
    latency = "-" if pace.latency is None else f"{pace.latency * 1000:.1f} ms"
    rows = {
        "requests a second": f"{pace.requests:.1f}",
        "refused (4xx) a second": f"{pace.refused:.1f}",
        "failed (5xx) a second": f"{pace.failed:.1f}",
        "mean latency": latency,
        "pages a minute": f"{pace.pages:.0f}",
        **{name: str(number) for name, number in counts_of(found).items()},
    }
    return Group(head, *lines, _table(("now", ""), list(rows.items())), Text(AGE, "dim"), *_limits(facts.limits))


def _limits(limits: list[tuple[str, str, float]]) -> list[Table]:
    if not limits:
        return []
    rows = [(printable(f"{key} {limit}"), f"{share:.0%}") for key, limit, share in limits]
    return [_table(("limits near their end", "used"), rows)]


def _table(headings: tuple[str, str], rows: list[tuple[str, str]]) -> Table:
    table = Table()
    table.add_column(headings[0])
    table.add_column(headings[1], justify="right")
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    return table
