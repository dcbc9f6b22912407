"""Every command there is, how each one is called, and a ledger in which each finds something."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from shutil import copyfile
from typing import Any, Final

import click
from sqlalchemy import Connection

from gateway.cli.main import cli
from gateway.ledger.deliveries import DeliveryOutcome, make_due, mark_dead
from gateway.ledger.delivery_claims import Bounds, claim_due
from gateway.ledger.ledger import open_ledger
from gateway.ledger.refusals import RefusalRow, note
from gateway.ledger.reservations import charge_one
from gateway.ledger.schema import reservations
from gateway.tls.dev_certificates import make_development_certificates
from tests.support.endings import end
from tests.support.joblists import make_job
from tests.support.ledgers import write_sqlite_ledger
from tests.support.pure import document, write

KEY: Final = "a-key-with-a-name-that-is-as-long-as-a-name-of-a-key-may-be-here"[:63].rstrip("-")
JOB: Final = "0f4d2a8b6c1e4f7a9b3d5e7f1a2c4b6d"
LOST: Final = "1e5c3b9a7d2f4e8b8a4c6d8e2b1d3a5c"
HOOK: Final = "1f0e6c9a4b7d4d1c8a3f5b2e9d7c6a10"
REFUSED: Final = "4f0c8a52b8f34b0f9b0c8a52b8f34b0f"
CALLER: Final = "jwt:https://id.example.org#ann"
SECRET: Final = "a-secret-that-is-long-enough-for-it"

# What stands behind a command's name so that it does something. {DIR} is the directory of the configuration.
CALLS: Final[Mapping[str, tuple[str, ...]]] = {
    "audit": ("--since", "2020-01-01"),
    "callers block": (CALLER,),
    "callers end-grants": (CALLER,),
    "callers grant": (CALLER, "--pages", "5", "--until", "7d"),
    "callers list": (),
    "callers reset": (CALLER,),
    "callers show": (CALLER,),
    "callers unblock": (CALLER,),
    "certs dev": ("{DIR}/certs", "--client", "ann"),
    "certs token": ("{DIR}/tokens", "--for", "ann"),
    "check": (),
    "config init": (
        "--certificate",
        "{DIR}/pair/server.pem",
        "--private-key",
        "{DIR}/pair/server.key",
        "--allow",
        "::1",
    ),
    "config show": (),
    "explain": ("POST", "/api/v1/marker", "--ip", "10.0.0.1", "--key", KEY),
    "jobs list": (),
    "jobs refund": (LOST,),
    "jobs show": (JOB,),
    "keys audit": (),
    "keys change": (KEY, "--owner", "somebody"),
    "keys create": ("new",),
    "keys disable": (KEY,),
    "keys enable": (KEY,),
    "keys grant": (KEY, "--pages", "5", "--until", "7d"),
    "keys list": (),
    "keys end-grants": (KEY,),
    "keys reset": (KEY,),
    "keys revoke": (KEY, "--force"),
    "keys rotate": (KEY, "--overlap", "2d"),
    "keys show": (KEY,),
    "ledger backup": ("{DIR}/backup.db",),
    "ledger copy": ("--to", "sqlite:///{DIR}/copy.db"),
    "ledger restore": ("{DIR}/saved.db", "--replace", "--while-serving"),
    "ledger upgrade": (),
    "refusals": (),
    "status": (),
    "top": ("--count", "1", "--every", "500ms"),
    "usage": (),
    "webhooks list": (),
    "webhooks retry": (HOOK,),
    "webhooks show": (HOOK,),
}


def leaves(command: click.Command = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """All commands by their names, such as `keys list`."""
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        yield from leaves(inner, (*path, name))


def takes(command: click.Command, option: str) -> bool:
    """Whether it has an option of this name."""
    return any(option in found.opts for found in command.params)


def call_of(name: str, directory: Path) -> list[str]:
    """The words of a call that does something."""
    return [*name.split(), *(word.replace("{DIR}", str(directory)) for word in CALLS[name])]


def write_filled(directory: Path, **sections: Any) -> Path:
    """A configuration and its ledger, with long ids: keys, jobs, one that is lost, a dead letter, a refusal.

    Beside it pair/ has a certificate that is one; the configuration's own is an empty file.
    """
    make_development_certificates(directory / "pair", ["localhost"])
    ledger = directory / "ledger.db"
    write_sqlite_ledger(ledger)
    path = write(directory, document(directory, ledger={"url": f"sqlite:///{ledger}", "timeout": "30s"}, **sections))
    path.chmod(0o644)
    put(ledger, _put)
    copyfile(ledger, directory / "saved.db")
    return path


def put(path: Path, make: Callable[[Connection], object]) -> None:
    """Writes into a ledger of SQLite."""

    async def run() -> None:
        ledger = open_ledger(f"sqlite:///{path}", 30.0)
        await ledger.write(make)
        await ledger.close()

    asyncio.run(run())


def _put(connection: Connection) -> None:
    now = time.time()
    owner = f"key:{KEY}"
    make_job(connection, JOB, owner=owner, now=now - 60, webhook=HOOK)
    end(connection, ("default", JOB), 2, now - 50, 3600, failed=False)
    make_due(connection, "default", JOB, "complete", now - 50)
    for due in claim_due(connection, "me", now - 50, now, Bounds(9, 9)):
        mark_dead(connection, due.lease, DeliveryOutcome(404, "status"), now - 40)
    make_job(connection, LOST, owner=owner, now=now - 30)
    for row in list(connection.execute(reservations.select().where(reservations.c.request_id == LOST))):
        charge_one(connection, row.account, row.id, now - 20)
    note(connection, [_refusal(int(now) - 5)])


def _refusal(at: int) -> RefusalRow:
    detail = "The token is for another audience than this gateway."
    return RefusalRow(
        REFUSED, at, 1, 401, "token_invalid", "audience", "submit", "POST", None, "2001:db8::1234:5678", detail
    )
