"""The output of `gateway top`: what a running gateway does, drawn again every few seconds."""

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway.cli.health_facts import facts_of
from gateway.cli.rates import Pace, pace_of
from gateway.cli.run_status import AGE, ASKED, counts_of
from gateway.cli.running_gateway import ask
from gateway.cli.samples import Samples
from gateway.cli.session import attempt
from gateway.cli.table import printable
from gateway.config.settings import Settings

_LEAST: Final = 0.1
_NEAR_EVERY: Final = 10  # looks: to find accounts near a limit the gateway reads all


def show_top(config: Path, every: float, count: int | None) -> None:
    """Draws until Ctrl-C, or `count` times."""
    with suppress(KeyboardInterrupt):
        attempt(config, lambda settings: asyncio.run(_run(settings, config, every, count)), ASKED)


async def _run(settings: Settings, config: Path, every: float, count: int | None) -> None:
    console, looks = Console(), 0
    before, before_at = await ask(settings, config), time.monotonic()
    with Live(console=console, auto_refresh=False, screen=console.is_terminal and count is None) as live:
        while count is None or looks < count:
            await asyncio.sleep(every)
            near = None if looks % _NEAR_EVERY == _NEAR_EVERY - 1 else before.near
            after, after_at = await ask(settings, config, near), time.monotonic()
            live.update(
                picture(after, pace_of(before, after, max(_LEAST, after_at - before_at)), time.time()), refresh=True
            )
            before, before_at, looks = after, after_at, looks + 1
    if not console.is_terminal:
        console.line()  # a pipe gets the last picture, without a line's end


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
