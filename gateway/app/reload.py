"""A new configuration without a restart: whole or not at all, but for what only a restart can change (restart.py).

The content of the file and of all it names is compared every second (file_watch.py); SIGHUP compares at once and
reloads even what is equal. Everything new is built before the first reference is swapped, so a fault anywhere leaves
everything as it was. A mount that hangs is a fault, too.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from gateway.aio.daemon_threads import DaemonThreads, Workers
from gateway.aio.nudge import Nudge
from gateway.aio.periodic import until_next
from gateway.app.file_watch import FilesSeen, read_if_changed
from gateway.app.prepare import Prepared, prepare
from gateway.app.systemd import Notifier
from gateway.config.held_back import EXPOSURE_SETTINGS
from gateway.config.settings import Settings
from gateway.errors import ConfigurationError, SetupError, whereabouts
from gateway.tls.contexts import fingerprint

INTERVAL: Final = 1.0
_AGAIN: Final = 10  # turns; what is wrong need not be in a file that is known: a secret that it names may come later
PATIENCE: Final = 30.0  # for the files: they are small, and a machine may be busy
log = structlog.get_logger()


class Reloader:
    """Watches a configuration. `put_in_force` swaps the references; it gets what is complete and checked.

    `notifier` is told when it begins and how it ended; `waiting` are the settings that wait for a restart;
    `ends` tells when each certificate file in force ends.
    """

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str],
        prepared: Prepared,
        put_in_force: Callable[[Prepared], None],
        notifier: Notifier,
    ) -> None:
        self._path = path
        self._environ = environ
        self._in_force = prepared.state.settings
        self._before: Settings | None = None  # what was in force when an exposure setting began to wait
        self._files = prepared.files
        self._seen: FilesSeen | None = None
        self._tried = prepared.fingerprint
        self._put_in_force = put_in_force
        self.notifier = notifier
        self._forced = Nudge()
        self._reading = DaemonThreads(workers=Workers(keeps=1))
        self._making = DaemonThreads()  # a thread that hangs there delays no check of what the operator repairs
        self.waiting: tuple[str, ...] = ()
        self.ends = prepared.ends
        self._turns = 0
        self._faults: list[str] = []  # of what was refused last, which is tried again
        self._refused_for: tuple[str, ...] = ()
        self.was_successful = True
        self.succeeded_at = time.time()
        self.results: Counter[str] = Counter({"success": 0, "failure": 0})

    @property
    def file(self) -> Path:
        """The configuration file."""
        return self._path

    @property
    def faults(self) -> Sequence[str]:
        """What is wrong with the latest configuration; it is not in force then."""
        return () if self.was_successful else self._refused_for

    def force(self) -> None:
        """Reloads now, as SIGHUP asks for."""
        self._forced.set()

    async def run(self) -> None:
        """Watches until it is cancelled."""
        is_forced = False
        while True:
            await self._forced.wait(until_next(asyncio.get_running_loop().time(), INTERVAL))
            is_forced |= self._forced.is_set
            self._forced.clear()  # files that fail at once must not be read again at once
            found = await self._read()
            if found is not None and (is_forced or found != self._tried):
                is_forced = False
                self._tried = found  # also of one that is refused: what comes after it is another one, or the old one
                await self.reload()
            elif found is not None and self._is_due_again():
                await self._try_refused()

    def _is_due_again(self) -> bool:
        self._turns += 1
        return bool(self._faults) and self._turns % _AGAIN == 0

    async def _read(self) -> str | None:
        """What the files hold; None while that can't be known."""
        reading = partial(read_if_changed, self._files, self._seen, time.monotonic, fingerprint)
        try:
            self._seen = await self._reading.run(reading, PATIENCE, self._try_again)
        except TimeoutError:
            self._hang()
        except Exception as error:  # noqa: BLE001 -- whatever it is, the next turn must come
            self._refused([f"an error of the gateway: {whereabouts(error)}"])
        else:
            return self._seen.fingerprint
        return None

    def _try_again(self) -> None:
        self._tried = ""  # whatever the files hold then is tried, be it what is in force

    def _hang(self) -> bool:
        return self._refused([f"the files were not read within {PATIENCE:.0f} s: does a mount hang?"])

    async def reload(self) -> bool:
        """Tries once; tells whether the new configuration is in force."""
        self.notifier.notify_reloading()
        self._faults = []
        is_in_force = await self._try()
        self.notifier.notify_reloaded(in_force=is_in_force)
        return is_in_force

    async def _try_refused(self) -> None:
        """Tries what was refused once more; nobody is told when nothing has changed about it."""
        if await self._try():
            self.notifier.notify_reloaded(in_force=True)

    async def _try(self) -> bool:
        told, self._faults = self._faults, []
        try:
            making = partial(prepare, self._path, self._environ, self._in_force, self._before)
            self._put_in_force(prepared := await self._making.run(making, PATIENCE, self._try_again))
        except TimeoutError:
            return self._hang()
        except SetupError as error:
            faults = error.faults if isinstance(error, ConfigurationError) else ()
            self._faults = [fault.for_log for fault in faults] or str(error).split("\n")
            return False if self._faults == told else self._refused(self._faults)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the next change must find a watcher
            return self._refused([f"an error of the gateway: {whereabouts(error)}"])
        self._succeeded(prepared)
        return True

    def _succeeded(self, prepared: Prepared) -> None:
        self._before = (self._before or self._in_force) if EXPOSURE_SETTINGS & set(prepared.waiting) else None
        self._in_force, self.ends = prepared.state.settings, prepared.ends
        self._files = prepared.files
        self._tried = prepared.fingerprint
        self.was_successful = True
        self.succeeded_at = time.time()
        self.results["success"] += 1
        log.info("configuration reloaded")
        self._wait(prepared.waiting)

    def _wait(self, paths: tuple[str, ...]) -> None:
        if paths:
            log.warning("settings wait for a restart", settings=list(paths), why="restart needed")
        elif self.waiting:
            log.info("no setting waits for a restart any more")
        self.waiting = paths

    def _refused(self, faults: list[str]) -> bool:
        self.was_successful, self._refused_for = False, tuple(faults)
        self.results["failure"] += 1
        log.error("reload refused, the old configuration stays in force", faults=faults)
        return False
