"""The demo's key: created in the ledger at the first start, its secret written where the printed commands read it.

Each start handles what an earlier one left. A working key is kept. A key whose ledger is gone is created again. If
the secret in key.txt has ended, the key is rotated. A gateway.yaml with a key in a file of its own (as made before
the ledger existed) keeps using that.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gateway.auth.api_keys import digest_of
from gateway.config.document import read_file
from gateway.config.ledger_url import url_of
from gateway.config.load import load
from gateway.config.settings import Settings
from gateway.errors import LedgerUnavailable, SetupError
from gateway.keys.key_changes import KeyService, Made, user_name
from gateway.keys.validation import Wanted
from gateway.ledger.keys import KeyProblem
from gateway.ledger.ledger import open_ledger
from gateway.observe.log import quietly
from gateway.tls.dev_certificates import write_private
from gateway.units import DAY

ID: Final = "demo"
_OVERLAP: Final = float(DAY)


def provide_key(configuration: Path, environ: Mapping[str, str]) -> str | None:
    """Makes sure that key.txt holds a valid secret; returns a message for the user if something changed.

    Raises:
        SetupError: the ledger or a file can't be used.
    """
    file = configuration.with_name("key.txt")
    if _is_configured(read_file(configuration).document, file):
        if not file.is_file():
            write_private(file, secrets.token_urlsafe(32).encode("ascii") + b"\n")
        return None
    settings = load(configuration, environ)
    if ID in {key.id for key in settings.keys}:
        return None
    quietly()
    try:
        made, told = asyncio.run(_in_ledger(settings, _digest_in(file)))
    except (LedgerUnavailable, KeyProblem) as error:
        raise SetupError(f"the demo's key can't be made in the ledger: {error}") from None
    if made is not None:
        write_private(file, f"{made.secret}\n".encode("ascii"))
    return told


def has_ledger(configuration: Path) -> bool:
    """Whether a configuration sets the ledger's URL."""
    ledger = read_file(configuration).document.get("ledger")
    return isinstance(ledger, dict) and "url" in ledger


def _is_configured(document: dict[str, Any], file: Path) -> bool:
    keys = document.get("keys")
    references = [key.get("secret") for key in keys if isinstance(key, dict)] if isinstance(keys, list) else []
    return any(isinstance(found, dict) and found.get("file") == str(file) for found in references)


def _digest_in(file: Path) -> bytes | None:
    return digest_of(file.read_bytes().strip()) if file.is_file() else None


async def _in_ledger(settings: Settings, digest: bytes | None) -> tuple[Made | None, str | None]:
    ledger = open_ledger(url_of(settings), settings.ledger.timeout, behind_pooler=settings.ledger.pooler)
    admin = KeyService(ledger, lambda: settings, time.time, os.urandom)
    try:
        await ledger.write(lambda _: None)  # creates the ledger if it is missing
        return await _provided(admin, digest)
    finally:
        await ledger.close()


async def _provided(admin: KeyService, digest: bytes | None) -> tuple[Made | None, str | None]:
    """A secret to write down and a message; None for both when `digest` is that of a live secret."""
    actor, now = f"demo:{user_name()}", time.time()
    record = next((found for found in await admin.list() if found.id == ID), None)
    if record is None:
        made = await admin.create(actor, Wanted(ID, scopes=("admin",)))
        return made, "key.txt held a key that this ledger does not have; it holds a new one now" if digest else None
    if any(found.digest == digest and found.is_live(now) for found in record.generations):
        return None, None
    made = await admin.rotate(actor, ID, _OVERLAP, None)
    return made, f"key.txt held no live secret of the key {ID}; it holds a new one now"
