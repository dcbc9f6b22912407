"""The output of `gateway jobs list --lost`, and the work of `gateway jobs refund`."""

from pathlib import Path
from typing import Any, Final

from gateway.cli.output import answer, fail, print_lines
from gateway.cli.session import change, read_ledger
from gateway.cli.table import printable, show_table
from gateway.cli.words import at
from gateway.ledger.lost import Refund, lost, refund
from gateway.ledger.schema import Stage
from gateway.model.account_names import key_id_of, qualified
from gateway.units import maybe_moment, moment

_LISTED: Final = ("request_id", "submit", "upstream", "owner", "key", "created_at", "charged_at", "pages")

_NONE: Final = "Nothing to refund: no job or submit was charged without an answer."


def list_lost(config: Path, owner: str | None, limit: int) -> None:
    """Prints what was charged without an answer."""
    whose = None if owner is None else qualified(owner)
    rows = read_ledger(config, lambda session: session.ledger.report(lambda c: lost(c, whose, limit)))
    views = list(map(_facts, rows))
    headings = [name.removesuffix("_at").replace("_", " ") for name in _LISTED]
    cells = [[at(view[name]) if name.endswith("_at") else view[name] for name in _LISTED] for view in views]
    answer(views, lambda: show_table(headings, cells, frozenset({"pages"}), none=_NONE))


def refund_job(config: Path, name: str, upstream: str | None) -> None:
    """Refunds one, or says why it can't."""
    done, _ = change(
        config,
        lambda session: session.ledger.write(
            lambda c: refund(c, name, upstream, session.actor, session.wall()), durable=True
        ),
    )
    if not done.account:
        fail(f"{printable(name)} {_why_not(done)}")
    document = {"request_id": name, "account": done.account, "pages": done.pages}
    answer(document, lambda: print_lines(f"{done.pages} pages were given back to {printable(str(done.account))}."))


def _facts(row: Any) -> dict[str, Any]:
    return {
        "request_id": row.request_id,
        "submit": row.id,
        "upstream": row.upstream,
        "owner": row.owner,
        "account": row.account,
        "key": key_id_of(row.account),
        "created_at": moment(row.created_at),
        "charged_at": maybe_moment(row.settled_at),
        "pages": row.pages,
    }


def _why_not(done: Refund) -> str:
    if not done.stages:
        return "is not a job or submit of the ledger"
    if done.stages.count(Stage.CHARGED) > 1:
        return "is lost of several upstreams: say which with --upstream"
    if Stage.REFUNDED in done.stages:
        return "cost nothing: it was refunded"
    if Stage.SETTLED in done.stages:
        return "was settled by what its result says: grant pages instead (gateway keys grant)"
    return "is still under way"
