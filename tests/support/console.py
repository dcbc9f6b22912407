"""The page of the admin listener in a real Chromium, the distribution's own."""

import os
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, Final

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import BrowserContext, ConsoleMessage, Page, async_playwright

from gateway.observe.history import EVERY, MOST, Gauges, Reading
from tests.support.gateway import Running

CHROMIUM: Final = "/usr/bin/chromium"
needs_chromium: Final = pytest.mark.skipif(not os.access(CHROMIUM, os.X_OK), reason="no chromium here")
_ARGUMENTS: Final = ("--headless", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")
_SERIOUS: Final = frozenset({"serious", "critical"})


@dataclass
class Console:
    """One tab, and all that went wrong in it."""

    page: Page
    address: str
    errors: list[str] = field(default_factory=list)

    async def open(self, view: str = "") -> None:
        """Opens the page, or one of its views."""
        await self.page.goto(f"{self.address}/{view and '#'}{view}")

    async def view(self, name: str) -> None:
        """Goes to a view by its link."""
        await self.page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()
        await self.page.get_by_role("heading", level=1, name=name).wait_for()

    async def does(self, button: str) -> None:
        """Presses the last button of the open dialog."""
        await self.page.get_by_role("dialog").get_by_role("button", name=button, exact=True).click()

    async def says(self, text: str) -> None:
        """Waits until it was said to everybody."""
        await self.page.locator("#said").filter(has_text=text).wait_for()

    async def faults(self) -> dict[str, str]:
        """What a screen reader hears to be wrong with each field of the open dialog, by the field's name."""
        found: dict[str, str] = await self.page.evaluate(
            """() => Object.fromEntries([...document.querySelectorAll("dialog [aria-invalid=true]")].map((input) => {
                const ids = (input.getAttribute("aria-describedby") ?? "").split(" ");
                const told = ids.filter((id) => id.endsWith("-fault")).map((id) => document.getElementById(id));
                return [input.name, told.map((node) => node.textContent).join(" ")];
            }))"""
        )
        return found

    async def serious_faults(self) -> list[tuple[Any, ...]]:
        """What axe finds that is serious."""
        found = await Axe().run(self.page)
        return [
            (fault["id"], fault["help"], [node["html"][:200] for node in fault["nodes"][:3]])
            for fault in found.response["violations"]
            if fault["impact"] in _SERIOUS
        ]

    def note(self, message: ConsoleMessage) -> None:
        """Called with what the page logs."""
        if message.type in {"error", "warning"}:
            self.errors.append(message.text)


ConsoleOf = Callable[..., AbstractAsyncContextManager[Console]]
"""console_of with its browser."""


@contextmanager
def running_chromium(directory: Path) -> Iterator[str]:
    """One Chromium for many tests, for to start it costs as much as a test; yields where to connect."""
    command = (CHROMIUM, *_ARGUMENTS, "--remote-debugging-port=0", f"--user-data-dir={directory}")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 -- ours
        assert process.stderr is not None
        try:
            found = (re.search(r"ws://\S+", line) for line in process.stderr)
            address = next(match[0] for match in found if match)
            Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would hold it up
            yield address
        finally:
            process.terminate()


@asynccontextmanager
async def console_of(chromium: str, gateway: Running, **given: Any) -> AsyncIterator[Console]:
    """A tab of its own context; at the end nothing may have gone wrong unseen. `given` goes to the context."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(chromium)
        context: BrowserContext = await browser.new_context(**given)
        try:
            context.set_default_timeout(20_000)
            console = Console(await context.new_page(), f"http://127.0.0.1:{gateway.admin_port}")
            console.page.on("console", console.note)
            console.page.on("pageerror", lambda error: console.errors.append(str(error)))
            yield console
        finally:
            await context.close()
            await browser.close()
    assert console.errors == []


def past_hour(gateway: Running, now: float, *, busy: bool = True) -> None:
    """Gives the gateway an hour to look back on, with a good deal happening in it, or nothing."""
    history = gateway.gateway.watch.history
    requests, pages, errors = 0, 0, {"rate_limited": 0, "forwarded_5xx": 0, "unauthenticated": 0}
    durations = [0] * 17
    for number in range(MOST + 1):
        wave = abs((number % 120) - 60)
        if not busy:
            history.note(Reading(now - (MOST - number) * EVERY, 0, {}, tuple(durations), 0, Gauges()))
            continue
        requests += 20 + 4 * wave
        pages += 30 + wave
        errors["rate_limited"] += wave // 10
        errors["forwarded_5xx"] += number % 90 == 0
        errors["unauthenticated"] += number % 7 == 0
        durations[7] += 10 + wave
        durations[9] += 1 + wave // 20
        at = now - (MOST - number) * EVERY
        gauges = Gauges(wave // 3, wave // 8, 40 + wave, 3 + wave // 5, 2 + wave // 10)
        history.note(Reading(at, requests, dict(errors), tuple(durations), pages, gauges))
