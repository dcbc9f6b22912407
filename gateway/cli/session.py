"""A command's connection to the ledger: opened by the configuration, closed at the end; each failure is one line.

Commands that only read create no file and migrate no table. Where there is no ledger yet they read an empty one in a
temporary directory, so that `gateway keys list` as root leaves no root-owned file where the gateway will write.
Commands that change a ledger migrate an old one first, and say so.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

from gateway.cli.followers import Following, following
from gateway.cli.output import fail, say, say_configuration
from gateway.config.document import LEDGER_VARIABLE
from gateway.config.ledger_url import url_of
from gateway.config.load import load
from gateway.config.salvage import LEDGER, Salvaged, salvage, salvage_for_look
from gateway.config.settings import Settings
from gateway.errors import LedgerEmpty, LedgerUnavailable, SetupError, whereabouts
from gateway.keys.key_changes import KeyService, user_name
from gateway.ledger.keys import KeyProblem
from gateway.ledger.ledger import Ledger, open_ledger
from gateway.ledger.migrate import HEAD, MIGRATION_SECONDS, Upkeep
from gateway.ledger.url import SQLITE, shown_url
from gateway.observe.log import quietly

T = TypeVar("T")
_Salvage = Callable[[Path, Mapping[str, str], frozenset[str]], Salvaged]
_TOLD: Final = 5
_FOR_TABLES: Final = 60.0  # seconds: a file of its own, which nobody else waits for
_UNKNOWN: Final = "; it may have been done: see gateway keys show ID and gateway keys audit"


class Session(NamedTuple):
    """What a command works with. `where` names the ledger, without a password; `wall` is its clock.

    `without` are the sections of the configuration that are left out of the settings, as they are faulty.
    """

    settings: Settings
    ledger: Ledger
    keys: KeyService
    actor: str
    where: str
    wall: Callable[[], float]
    without: tuple[str, ...] = ()

    @property
    def knows_profiles(self) -> bool:
        """Whether the limits of profiles are those that a running gateway has."""
        return "profiles" not in self.without


class ChangeDone(NamedTuple, Generic[T]):
    """What a change has led to, and whether a running gateway follows it."""

    result: T
    is_followed: bool


def read_ledger(config: Path, work: Callable[[Session], Awaitable[T]], *, needs_all: bool = False) -> T:
    """Runs `work` that only reads the ledger; on failure prints the reason and exits 1."""

    async def looking(found: Salvaged) -> T:
        try:
            return await read_ledger_of(found, work)
        except LedgerUnavailable as error:
            raise SetupError(f"the ledger {shown_url(url_of(found.settings))} can't be used: {error}") from None

    return _attempt(config, lambda found: asyncio.run(looking(found)), needs_all=needs_all)


def change(config: Path, work: Callable[[Session], Awaitable[T]], *, needs: frozenset[str] = LEDGER) -> ChangeDone[T]:
    """Runs `work` that changes the ledger, creating a missing one; on failure prints the reason and exits 1.

    Warns when the gateway that runs here uses another ledger.
    """

    async def changing(session: Session) -> ChangeDone[T]:
        found = await _followed(session)
        result = await work(session)
        if found.warning:
            say(f"warning: {found.warning}")
        return ChangeDone(result, found.is_followed)

    say_configuration()
    return _attempt(config, lambda found: asyncio.run(_change_at(found, changing)), needs)


def attempt(config: Path, act: Callable[[Settings], T], needs: frozenset[str] = LEDGER) -> T:
    """Runs what needs the settings alone; on failure prints the reason and exits 1.

    It needs these sections to be right; of others it says what is wrong, and goes on.
    """
    return _attempt(config, lambda found: act(found.settings), needs)


def look_at(config: Path, act: Callable[[Salvaged], T], needs: frozenset[str]) -> T:
    """The same for what looks at a running gateway, also where the ledger is not known."""
    return _attempt(config, act, needs, find=salvage_for_look)


def _attempt(
    config: Path,
    act: Callable[[Salvaged], T],
    needs: frozenset[str] = LEDGER,
    *,
    needs_all: bool = False,
    find: _Salvage = salvage,
) -> T:
    """The same; all has to be right, secrets included, if `needs_all`."""
    quietly()
    try:
        return act(
            Salvaged(load(config, os.environ)) if needs_all else _well(config, find(config, os.environ, needs))
        )
    except (SetupError, KeyProblem) as error:
        fail(str(error))
    except BrokenPipeError:
        raise  # click exits quietly when the reader of a pipe has gone
    except OSError as error:
        fail(f"{error.filename or 'the ledger'}: {error.strerror}")
    except Exception as error:  # noqa: BLE001 -- the operator gets one line, without our values in a traceback
        fail(f"an error of the gateway: {whereabouts(error)}")


def _well(config: Path, found: Salvaged) -> Salvaged:
    if found.without:
        more = [f"warning: and {len(found.faults) - _TOLD} faults more"] if len(found.faults) > _TOLD else []
        say(*(f"warning: {fault}" for fault in found.faults[:_TOLD]), *more)
        what = f"without what it says of: {', '.join(found.without)}"
        if found.faults and not found.faults[0].path:
            what = f"with the ledger of {LEDGER_VARIABLE} alone"
        say(f"warning: {config} is refused; this goes on {what}")
    return found


def actor() -> str:
    """Who runs the command, for the audit."""
    return f"cli:{user_name()}"[:128]


async def _followed(session: Session) -> Following:
    try:
        return await following(session.settings, session.ledger, session.wall())
    except LedgerUnavailable:
        return Following(is_followed=False, warning="")  # the change itself will fail, or say so


async def _change_at(found: Salvaged, work: Callable[[Session], Awaitable[T]]) -> T:
    url = url_of(found.settings)
    changed, waits = partial(_say_change, shown_url(url)), partial(_say_wait, shown_url(url))
    return await _on(url, found, work, Upkeep(changed=changed, patience=MIGRATION_SECONDS, waits=waits))


async def read_ledger_of(found: Salvaged, work: Callable[[Session], Awaitable[T]]) -> T:
    """Runs `work` that only reads the ledger.

    Raises:
        LedgerUnavailable: it can't be used.
    """
    url = url_of(found.settings)
    if _is_there(url):
        with suppress(LedgerEmpty):
            return await _on(url, found, work, Upkeep(migrates=False))
    say(f"There is no ledger {shown_url(url)} yet; gateway serve and gateway keys create make it.")
    with tempfile.TemporaryDirectory(prefix="gateway-") as directory:
        ledger_settings = found.settings.ledger.model_copy(update={"timeout": _FOR_TABLES})
        patient = found._replace(settings=found.settings.model_copy(update={"ledger": ledger_settings}))
        return await _on(f"{SQLITE}{directory}/ledger.db", patient, work, Upkeep())


def _is_there(url: str) -> bool:
    return not url.startswith(SQLITE) or Path(url.removeprefix(SQLITE)).exists()


async def _on(url: str, found: Salvaged, work: Callable[[Session], Awaitable[T]], upkeep: Upkeep) -> T:
    settings = found.settings
    chosen = settings.ledger
    ledger = open_ledger(url, chosen.timeout, turn=chosen.turn_timeout, behind_pooler=chosen.pooler, upkeep=upkeep)
    has_begun = False
    try:
        await (ledger.write if upkeep.migrates else ledger.read)(lambda _: None)  # creates the tables, too
        admin = KeyService(ledger, lambda: settings, time.time, os.urandom)
        has_begun = upkeep.migrates
        where = shown_url(url_of(settings))
        return await work(Session(settings, ledger, admin, actor(), where, time.time, found.without))
    except LedgerUnavailable as error:
        if not upkeep.migrates:
            raise
        perhaps = _UNKNOWN if has_begun else ""
        raise SetupError(f"the ledger {shown_url(url)} can't be used: {error}{perhaps}") from None
    finally:
        await ledger.close()


def _say_change(ledger: str, before: str) -> None:
    if before:
        say(f"The tables of the ledger {ledger} were changed from version {before} to {HEAD}.")
    else:
        say(f"The ledger {ledger} was made.")


def _say_wait(ledger: str) -> None:
    say(f"The tables of the ledger {ledger} are being made or changed; this waits until they are.")
