"""The work of `gateway webhooks`. Shows only host and port of a URL: the rest may be a secret."""

import json
from pathlib import Path
from typing import Any, Final

import click

from gateway.cli.output import fail
from gateway.cli.session import change, look
from gateway.cli.table import printable, show_table
from gateway.cli.time_arguments import iso
from gateway.ledger.deliveries import retry
from gateway.ledger.listings import listed, shown
from gateway.ledger.schema import DeliveryState

_LISTED: Final = ("id", "state", "owner", "request_id", "destination", "attempts", "trouble", "created_at", "next_at")
_TOLD: Final = ("id", "state", "owner", "upstream", "request_id", "destination", "status", "attempts")
_MOMENTS: Final = ("created_at", "next_at", "ended_at")


def list_webhooks(config: Path, state: str | None, *, as_json: bool) -> None:
    """Prints the latest webhooks."""
    which = None if state is None else DeliveryState[state.upper()]
    rows = look(config, lambda session: session.ledger.read(lambda c: listed(c, which)))
    views = list(map(_view, rows))
    if as_json:
        click.echo(json.dumps(views, indent=2))
        return
    headings = [name.removesuffix("_at").replace("_", " ") for name in _LISTED]
    show_table(headings, [[_cell(view, name) for name in _LISTED] for view in views], frozenset({"attempts"}))


def show_webhook(config: Path, delivery: str, *, as_json: bool) -> None:
    """Prints one webhook."""
    row = look(config, lambda session: session.ledger.read(lambda c: shown(c, delivery)))
    if row is None:
        fail(f"there is no webhook {printable(delivery)} in the ledger")
    view = _view(row)
    if as_json:
        click.echo(json.dumps(view, indent=2))
        return
    for name, value in view.items():
        if value is not None:
            click.echo(f"{name:<12} {printable(str(value))}")


def retry_webhook(config: Path, delivery: str) -> None:
    """Makes a webhook due at once."""
    was = change(
        config, lambda session: session.ledger.write(lambda c: retry(c, delivery, session.actor, session.wall()))
    )
    match was:
        case None:
            fail(f"there is no webhook {printable(delivery)} in the ledger")
        case DeliveryState.WAITING:
            fail(f"webhook {delivery} waits for the end of its job")
        case DeliveryState.DELIVERED:
            fail(f"webhook {delivery} was delivered")
        case _:
            click.echo(f"Webhook {delivery} is due now. A running gateway sends it within 2 seconds.")


def _view(row: dict[str, Any]) -> dict[str, Any]:
    view = {name: row[name] for name in _TOLD}
    view["state"] = DeliveryState(row["state"]).name.lower()
    trouble = {"last_status": row["last_status"], "trouble": row["last_error"]}
    return {**view, **trouble, **{name: iso(row[name]) for name in _MOMENTS}}


def _cell(view: dict[str, Any], name: str) -> object:
    if name == "trouble" and view["trouble"] == "status":
        return f"status {view['last_status']}"
    return view[name]
