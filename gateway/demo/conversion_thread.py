"""The one conversion thread, shared by both APIs: PDFium allows no second one."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from aiohttp import web

from gateway.demo.conversion import Options
from gateway.demo.jobs import DemoJob, JobTable, Outcome, work
from gateway.demo.submitted_form import File


class Converter:
    """Converts one file after another and puts each outcome into the table of jobs."""

    def __init__(self, jobs: JobTable) -> None:
        self._jobs = jobs
        self._thread = ThreadPoolExecutor(1, "conversion")
        self._stopped = threading.Event()

    def start(
        self, job: DemoJob, file: File, options: Options, *, result_bytes: int = 0, fails: bool = False
    ) -> None:
        """Converts a file for a job, in its turn, and closes it; `fails` makes the job fail."""
        stopped: Callable[[], bool] = (lambda: True) if fails else self._stopped.is_set
        call = partial(work, job.operation, file, options, result_bytes, stopped)
        outcome = asyncio.get_running_loop().run_in_executor(self._thread, call)
        outcome.add_done_callback(partial(self._finish, job, file))

    async def close(self, _app: web.Application) -> None:
        """Ends the running conversion after its current page, and drops those that wait."""
        self._stopped.set()
        self._thread.shutdown(cancel_futures=True)

    def _finish(self, job: DemoJob, file: File, outcome: asyncio.Future[Outcome]) -> None:
        file.close()
        if not outcome.cancelled():
            self._jobs.finish(job, outcome.result())
