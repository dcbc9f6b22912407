"""The work of `gateway webhooks`. Shows only host and port of a URL: the rest may be a secret."""

import time
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from gateway.cli.output import answer, fail, print_lines
from gateway.cli.session import Session, change, read_ledger
from gateway.cli.table import printable, show_facts, show_table
from gateway.cli.words import at
from gateway.jobs.view import webhook_facts
from gateway.ledger import listings
from gateway.ledger.deliveries import retry
from gateway.ledger.schema import DeliveryState

_MOST: Final = 1000
_LISTED: Final = ("id", "state", "owner", "request_id", "destination", "attempts", "trouble", "created_at", "next_at")

_NONE: Final = "No such webhooks: a submit whose form has a webhook_url has one, where webhooks.out allows it."


def list_webhooks(config: Path, state: str | None) -> None:
    """Prints the latest webhooks."""
    which = None if state is None else DeliveryState[state.upper()]
    rows = read_ledger(config, lambda session: session.ledger.read(lambda c: listings.list_webhooks(c, which, _MOST)))
    views = list(map(webhook_facts, rows))
    headings = [name.removesuffix("_at").replace("_", " ") for name in _LISTED]
    cells = [[_cell(view, name) for name in _LISTED] for view in views]
    answer(views, lambda: show_table(headings, cells, frozenset({"attempts"}), none=_NONE))


def show_webhook(config: Path, delivery: str) -> None:
    """Prints one webhook."""
    row = read_ledger(config, lambda session: session.ledger.read(lambda c: listings.shown(c, delivery)))
    if row is None:
        fail(f"there is no webhook {printable(delivery)} in the ledger")
    view = webhook_facts(row)
    moments = {name: at(view[name], time.time()) for name in view if name.endswith("_at")}
    answer(view, lambda: show_facts({**view, **moments}))


def retry_webhook(config: Path, delivery: str) -> None:
    """Makes a webhook due at once."""
    (was, row), is_followed = change(
        config, lambda session: session.ledger.write(lambda c: _retried(c, session, delivery))
    )
    if was is None or row is None:
        fail(f"there is no webhook {printable(delivery)} in the ledger")
    if was is DeliveryState.WAITING:
        fail(f"webhook {delivery} waits for the end of its job")
    if was is DeliveryState.DELIVERED:
        fail(f"webhook {delivery} was delivered")
    soon = " A running gateway sends it within 2 seconds." if is_followed else ""
    text = f"Webhook {delivery} is due now.{soon}"
    answer(webhook_facts(row), lambda: print_lines(text))


def _retried(
    connection: Connection, session: Session, delivery: str
) -> tuple[DeliveryState | None, dict[str, Any] | None]:
    return retry(connection, delivery, session.actor, session.wall()), listings.shown(connection, delivery)


def _cell(view: dict[str, Any], name: str) -> object:
    if name == "trouble" and view["trouble"] == "status":
        return f"status {view['last_status']}"
    return at(view[name]) if name.endswith("_at") else view[name]
