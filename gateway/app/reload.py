"""A new configuration without a restart: whole or not at all, but for what only a restart can change (restart.py).

The content of the file and of all it names is compared every second (look.py); SIGHUP compares at once and reloads
even what is equal. Everything new is built before the first reference is swapped, so a fault anywhere leaves
everything as it was. A mount that hangs is a fault, too.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog

from gateway.aio.daemon_threads import DaemonThreads
from gateway.aio.nudge import Nudge
from gateway.aio.periodic import until_next
from gateway.app.look import Look, look_at
from gateway.app.systemd import Notifier
from gateway.auth.jwks.files import read_local_keys
from gateway.auth.jwt.key_set import KeySet
from gateway.config.compile import compile_settings
from gateway.config.held_back import EXPOSURE_SETTINGS
from gateway.config.load import check_merged, load
from gateway.config.restart import with_what_stays
from gateway.config.settings import SecretDigest, SecretValue, Section, Settings
from gateway.config.state import State, with_names
from gateway.errors import ConfigurationError, Fault, SetupError, whereabouts
from gateway.tls.contexts import LoadedPair, fingerprint, load_pair, load_pairs, names_of
from gateway.tls.file_ends import FileEnd, file_ends
from gateway.webhooks.outbound.sender import require_ca

INTERVAL: Final = 1.0
_AGAIN: Final = 10  # looks; what is wrong need not be in a file that is known: a secret that it names may come later
PATIENCE: Final = 30.0  # for the files: they are small, and a machine may be busy
log = structlog.get_logger()


class Prepared(NamedTuple):
    """All that a reload puts into force.

    `written` is what the file says, `waiting` the settings of it that wait for a restart, `ends` when files end.
    """

    state: State
    pairs: list[LoadedPair]
    admin_pairs: list[LoadedPair]
    fingerprint: str
    local_keys: Mapping[str, KeySet]
    written: Settings
    waiting: tuple[str, ...]
    ends: tuple[FileEnd, ...]


def prepare(
    path: Path, environ: Mapping[str, str], in_force: Settings | None = None, before: Settings | None = None
) -> Prepared:
    """Builds everything that a configuration file means; reads files, so it runs on a thread.

    Beside settings that are in force, what only a restart can change stays as it is there; `before` are those when an
    exposure setting began to wait for one.

    Raises:
        SetupError: with all that is wrong.
    """
    # The files are looked at between two readings: what changes after the look is in the fingerprint's next one,
    # what changed before it is in the second reading. A change can be read twice, never missed.
    found = fingerprint(watched(path, load(path, environ)))
    written = load(path, environ)
    settings, waiting = _beside(in_force, before, written)
    local_keys = read_local_keys(settings.authentication.jwt)
    if settings.webhooks.out.ca is not None:
        require_ca(settings.webhooks.out.ca)
    admin = settings.admin.tls
    admin_pairs = [] if admin is None else [load_pair(admin, settings.tls.profile)]
    pairs = load_pairs(settings)
    state = with_names(compile_settings(settings), names_of(pairs))
    if state.origins.fault is not None:
        raise ConfigurationError([Fault("public_url", state.origins.fault)])
    return Prepared(state, pairs, admin_pairs, found, local_keys, written, waiting, file_ends(settings))


def _beside(
    in_force: Settings | None, before: Settings | None, written: Settings
) -> tuple[Settings, tuple[str, ...]]:
    """What can be put in force of what is written, and what waits: nobody has written the two together."""
    if in_force is None:
        return written, ()
    settings, waiting = with_what_stays(in_force, written, before)
    try:
        check_merged(settings)
    except ConfigurationError as error:
        told = f"needs a restart, for {', '.join(waiting)} can't change before, and beside what is in force "
        raise ConfigurationError([Fault("", f"{told}{fault.for_log}") for fault in error.faults]) from None
    return settings, waiting


def watched(path: Path, settings: Settings) -> Iterator[Path]:
    """The file itself and every file it names."""
    yield path
    for pair in (settings.tls, *settings.tls.certificates, settings.admin.tls):
        if pair is not None:
            yield pair.certificate
            yield pair.private_key
    if settings.tls.client_ca is not None:
        yield settings.tls.client_ca
    if settings.webhooks.out.ca is not None:
        yield settings.webhooks.out.ca
    for issuer in settings.authentication.jwt:
        if issuer.jwks is not None and "://" not in issuer.jwks:
            yield Path(issuer.jwks)
        if issuer.public_key is not None:
            yield issuer.public_key
    yield from (secret.file for secret in _secrets(settings) if secret.file is not None)


def _secrets(value: Any) -> Iterator[SecretDigest | SecretValue]:
    """Every reference to a secret in settings, however deep."""
    if isinstance(value, SecretDigest | SecretValue):
        yield value
    elif isinstance(value, Section):
        for _, inner in value:
            yield from _secrets(inner)
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _secrets(inner)


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
        self._files = tuple(watched(path, prepared.written))
        self._seen: Look | None = None
        self._tried = prepared.fingerprint
        self._put_in_force = put_in_force
        self.notifier = notifier
        self._forced = Nudge()
        self._looking = DaemonThreads(keeps=True)
        self._making = DaemonThreads()  # a thread that hangs there delays no check of what the operator repairs
        self.waiting: tuple[str, ...] = ()
        self.ends = prepared.ends
        self._looks = 0
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
            self._forced.clear()  # a look that fails at once must not be repeated at once
            found = await self._look()
            if found is not None and (is_forced or found != self._tried):
                is_forced = False
                self._tried = found  # also of one that is refused: what comes after it is another one, or the old one
                await self.reload()
            elif found is not None and self._is_due_again():
                await self._try_refused()

    def _is_due_again(self) -> bool:
        self._looks += 1
        return bool(self._faults) and self._looks % _AGAIN == 0

    async def _look(self) -> str | None:
        """What the files hold; None while that can't be known."""
        looking = partial(look_at, self._files, self._seen, time.monotonic, fingerprint)
        try:
            self._seen = await self._looking.run(looking, PATIENCE, self._try_again)
        except TimeoutError:
            self._hang()
        except Exception as error:  # noqa: BLE001 -- whatever it is, the next look must come
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
        self._files = tuple(watched(self._path, prepared.written))
        self._tried = prepared.fingerprint
        self.was_successful = True
        self.succeeded_at = time.time()
        self.results["success"] += 1
        log.info("configuration reloaded")
        self._wait(prepared.waiting)

    def _wait(self, paths: tuple[str, ...]) -> None:
        if paths:
            log.warning("settings wait for a restart", settings=list(paths))
        elif self.waiting:
            log.info("no setting waits for a restart any more")
        self.waiting = paths

    def _refused(self, faults: list[str]) -> bool:
        self.was_successful, self._refused_for = False, tuple(faults)
        self.results["failure"] += 1
        log.error("reload refused, the old configuration stays in force", faults=faults)
        return False
