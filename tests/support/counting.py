"""The processes that count pages, which tests may stop: whoever's turn it is to be counted waits."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.forms import form, pdf
from tests.support.gateway import Running, submit
from tests.support.process import descendants


@asynccontextmanager
async def stopped_workers(gateway: Running) -> AsyncIterator[Callable[[], None]]:
    """The processes that count pages stand still; gives what lets them go on."""
    warm = await gateway.ask(submit(form(pdf(5001))), b"POST")  # starts one, and starts no job
    assert warm.status == 413
    workers = [pid for pid in descendants(os.getpid()) if "gateway/uploads/pages/worker" in _command_of(pid)]
    assert workers

    def tell(what: signal.Signals) -> None:
        for pid in workers:
            os.kill(pid, what)

    tell(signal.SIGSTOP)
    yield lambda: tell(signal.SIGCONT)


def _command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()
