"""The work of `gateway ledger`: what is copied lies in a file first, so that every way is a backup and a restore."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from gateway.aio.named_files import SECRET_FILE_BYTES, read_named
from gateway.cli.output import answer, print_lines, say, say_configuration
from gateway.cli.session import actor, attempt
from gateway.cli.table import printable, show_table, shown
from gateway.cli.words import at as moment_of
from gateway.config.ledger_url import url_of
from gateway.config.settings import Settings
from gateway.config.settings.service import check_ledger_url
from gateway.errors import FileUnusable, LedgerUnavailable, SetupError
from gateway.ledger.connecting import Connector
from gateway.ledger.ledger import open_ledger
from gateway.ledger.migrate import HEAD, Upkeep, version_of
from gateway.ledger.postgres import PostgresEngine
from gateway.ledger.tables_place import Place, place_of_tables
from gateway.ledger.transfer import (
    Filled,
    FillRecord,
    Permission,
    RowCounts,
    bring_up,
    described,
    fill,
    is_in_use,
    require_elsewhere,
    save,
    save_sqlite,
)
from gateway.ledger.url import SQLITE, place_of, shown_url

T = TypeVar("T")
_PATIENCE: Final = 3600.0
_TURN: Final = 30.0
_LISTED: Final = 100
_AGAIN: Final = {
    "secrets": ("secret", "secrets"),
    "keys": ("key that was disabled", "keys that were disabled"),
    "callers": ("caller that was blocked", "callers that were blocked"),
}
_REHEARSAL: Final = (
    "warning: a gateway serves from {}, and what it writes from now on is not in the copy. Stop it and copy once "
    "more with --replace before ledger.url is changed"
)
_FORMS: Final = (
    "sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE, where / @ : ? # and % of a password are "
    "percent-encoded (/ is %2F)"
)


def back_up(config: Path, file: Path) -> None:
    """Writes a backup, and says what is in it."""

    def act(settings: Settings) -> Mapping[str, Any]:
        url = url_of(settings)
        return {"ledger": shown_url(url), "file": str(file), "tables": _save_as(url, settings, file)}

    _answer(attempt(config, act))


def fill_from(config: Path, file: Path, may: Permission) -> None:
    """Fills the configuration's ledger from a backup."""

    def act(settings: Settings) -> Mapping[str, Any]:
        url = url_of(settings)
        if not file.is_file():
            raise SetupError(f"{file} is not there, or no file")
        if _is_same_file(url, f"{SQLITE}{file}"):  # what is counted while it is read would be lost
            raise SetupError(f"{file} is the ledger itself, no backup of it")
        with TemporaryDirectory(prefix="gateway-") as directory:
            copy = Path(directory) / "copy.db"
            before = _named_as(str(file), lambda: (save_sqlite(file, copy), bring_up(copy))[1])
            origin = FillRecord(actor(), "ledger.restore", str(file.absolute()))
            filled = _fill(url, settings, copy, origin, may)
        return {"file": str(file), "ledger": shown_url(url), "version": before or HEAD, **_filled_fields(filled)}

    say_configuration()
    _answer(attempt(config, act))


def copy_to(config: Path, target: str, may: Permission) -> None:
    """Copies the configuration's ledger into another one."""

    def act(settings: Settings) -> Mapping[str, Any]:
        source, url, begun = url_of(settings), _target(target), time.time()
        if place_of(source) == place_of(url) or _is_same_file(source, url):
            raise SetupError(f"--to: {shown_url(url)} is the ledger itself")
        with TemporaryDirectory(prefix="gateway-") as directory:
            copy = Path(directory) / "copy.db"
            _save_as(source, settings, copy)
            _named_as(shown_url(source), lambda: bring_up(copy))
            serves = is_in_use(copy, begun)
            origin = FillRecord(actor(), "ledger.copy", shown_url(source))
            filled = _fill(url, settings, copy, origin, may, but_at=_place(source, settings))
        return {"ledger": shown_url(source), "to": shown_url(url), **_filled_fields(filled), "is_rehearsal": serves}

    say_configuration()
    _answer(attempt(config, act))


def bring_up_ledger(config: Path) -> None:
    """Migrates the tables, and says from which version."""

    def act(settings: Settings) -> Mapping[str, Any]:
        url, changes = url_of(settings), list[str]()
        version = _named_as(
            shown_url(url), lambda: _transact(url, settings, Upkeep(changed=changes.append), version_of)
        )
        return {"ledger": shown_url(url), "before": changes[0] if changes else version, "version": version}

    say_configuration()
    document = attempt(config, act)
    answer(document, lambda: print_lines(_brought_up(**document)))


def _brought_up(ledger: str, before: str, version: str) -> str:
    if before == version:
        return f"The ledger {ledger} has the tables of version {version} already."
    was = f"had the tables of version {before}, and has those" if before else "was made, and has the tables"
    return f"The ledger {ledger} {was} of version {version} now."


def _answer(document: Mapping[str, Any]) -> None:
    answer(document, lambda: _print(document))


def _print(document: Mapping[str, Any]) -> None:
    show_table(("table", "rows"), list(document["tables"].items()), frozenset({"rows"}))
    place = document.get("to", document["ledger"] if "version" in document else document.get("file"))
    say(f"{place} has all of that; every table was counted.")
    if document.get("is_rehearsal"):
        say(_REHEARSAL.format(document["ledger"]))
    lives = document.get("live_again", {})
    again = ", ".join(_counted(lives[name], *words) for name, words in _AGAIN.items() if lives.get(name))
    if again:
        say(f"warning: live again, since they were ended after that was written: {again}")
        say(*(f"  {_revived(**one)}" for one in lives["which"][:_LISTED]))
        if len(lives["which"]) > _LISTED:
            say(f"  and {len(lives['which']) - _LISTED} more: --json tells all")


def _counted(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"


def _revived(kind: str, name: str, generation: int | None, how: str, at: str) -> str:
    called = f"secret {generation} of {name}" if kind == "secret" else f"{kind} {name}"
    return printable(f"{called} ({how} {shown(moment_of(at))})")


def _save_as(url: str, settings: Settings, file: Path) -> RowCounts:
    """Makes a backup that is there whole, or not at all."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        if file.exists():
            raise SetupError(f"{file} is there already: name another file")
        _private(partial)
        counts = _named_as(shown_url(url), lambda: _save(url, settings, partial))
        os.link(partial, file)  # which fails when it is there by now
    except OSError as error:
        raise SetupError(f"{file} can't be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    return counts


def _save(url: str, settings: Settings, file: Path) -> RowCounts:
    if not url.startswith(SQLITE):
        return _read_snapshot(url, settings, lambda c: save(c, file))
    ledger = Path(url.removeprefix(SQLITE))
    if not ledger.exists():
        raise LedgerUnavailable("it is not there")
    return save_sqlite(ledger, file)


def _filled_fields(filled: Filled) -> Mapping[str, Any]:
    return {"tables": filled.counts, "live_again": described(filled.live_again)}


def _fill(
    url: str, settings: Settings, file: Path, origin: FillRecord, may: Permission, but_at: Place | None = None
) -> Filled:
    """Fills it, unless it is the ledger at `but_at`."""

    def work(connection: Connection) -> Filled:
        require_elsewhere(connection, but_at)
        return fill(connection, file, origin, time.time(), may)

    return _named_as(shown_url(url), lambda: _transact(url, settings, Upkeep(), work))


def _place(url: str, settings: Settings) -> Place | None:
    if url.startswith(SQLITE):
        return None
    return _named_as(shown_url(url), lambda: _read_snapshot(url, settings, place_of_tables))


def _is_same_file(one: str, other: str) -> bool:
    """Whether two SQLite ledgers are one file. Looked at before it is opened: by a hard link that would harm it."""
    if not (one.startswith(SQLITE) and other.startswith(SQLITE)):
        return False
    with suppress(OSError):
        return Path(one.removeprefix(SQLITE)).samefile(other.removeprefix(SQLITE))
    return False


def _read_snapshot(url: str, settings: Settings, work: Callable[[Connection], T]) -> T:
    """Reads a PostgreSQL ledger in one snapshot."""

    async def run() -> T:
        connector = Connector(lambda: url, _PATIENCE, _TURN, behind_pooler=settings.ledger.pooler)
        engine = PostgresEngine(connector, _PATIENCE, Upkeep(migrates=False), _TURN, isolation="REPEATABLE READ")
        try:
            return await engine.write(work)
        finally:
            await engine.close()

    return asyncio.run(run())


def _transact(url: str, settings: Settings, upkeep: Upkeep, work: Callable[[Connection], T]) -> T:
    async def run() -> T:
        ledger = open_ledger(url, _PATIENCE, turn=_TURN, behind_pooler=settings.ledger.pooler, upkeep=upkeep)
        try:
            return await ledger.write(work, durable=True)
        finally:
            await ledger.close()

    return asyncio.run(run())


def _named_as(name: str, act: Callable[[], T]) -> T:
    try:
        return act()
    except LedgerUnavailable as error:
        raise SetupError(f"the ledger {name}: {error}") from None


def _private(file: Path) -> Path:
    os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    return file


def _target(text: str) -> str:
    """The URL that --to means; it may stand in a variable or a file."""
    form, _, name = text.partition(":")
    url = text
    if form == "env":
        url = os.environ.get(name, "")
        if not url and name.isidentifier():
            raise SetupError(f"--to: the variable {name} is empty or not there")
    elif form == "file":
        url = _content(Path(name))
    with suppress(ValueError):
        return check_ledger_url(url.strip())
    if form == text and os.environ.get(text):
        raise SetupError(f"--to: {text} is no URL of a ledger; did you mean env:{text}?")
    raise SetupError(f"--to: {form}:... holds no URL of a ledger: {_FORMS}")


def _content(path: Path) -> str:
    try:
        return read_named(path, SECRET_FILE_BYTES).decode("utf-8", "surrogateescape")
    except FileUnusable as error:
        raise SetupError(f"--to: {path} {error}") from None
