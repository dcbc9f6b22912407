"""Whether there is a key that was asked about. Lists of what is past go on without it: its records may outlive it."""

from gateway.cli.output import say
from gateway.cli.session import Session
from gateway.cli.table import printable
from gateway.config.consistency import nearest
from gateway.keys.view import ids_in_file
from gateway.ledger.key_records import key_ids


async def say_if_unknown(session: Session, name: str | None) -> None:
    """Says so where a name is of no key, with the nearest that there is; a caller's account is no key's id."""
    if name is None or ":" in name or "keys" in session.without:
        return
    known = ids_in_file(session.settings) | await session.ledger.read(key_ids)
    if name not in known:
        say(printable(f"Neither the configuration nor the ledger has a key {name}{nearest(name, known) or '.'}"))
