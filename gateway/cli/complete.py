"""What a shell offers for ids and names: read from the configuration and its ledger, in silence."""

import os
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, suppress
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

from gateway.cli.which_config import which_elsewhere

if TYPE_CHECKING:
    from sqlalchemy import Connection

_MOST: Final = 1000
_METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_SUM: Final = "sum-"
_Find = Callable[[Path, str], Iterable[str | None]]


def key_ids(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """The ids of all keys, of the file and of the ledger."""
    return _offered(_key_ids, context, begun)


def caller_names(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """The names of callers by token and certificate."""
    return _offered(_caller_names, context, begun)


def profile_names(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """The names of the profiles."""
    return _offered(_profile_names, context, begun)


def upstream_names(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """The names of the upstreams."""
    return _offered(_upstream_names, context, begun)


def job_ids(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """The ids of the latest jobs."""
    return _offered(_job_ids, context, begun)


def lost_ids(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """The ids of what may be refunded: jobs, and submits that have none."""
    return _offered(_lost_ids, context, begun)


def webhook_ids(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """The ids of the latest webhooks."""
    return _offered(_webhook_ids, context, begun)


def retried_ids(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """The ids of the webhooks that may be sent once more."""
    return _offered(_retried_ids, context, begun)


def refused_ids(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """The ids of the latest requests that were refused or failed."""
    return _offered(_refused_ids, context, begun)


def limit_names(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """The names of limits, each with the = behind it."""
    from gateway.config.settings import LimitOverrides  # noqa: PLC0415 -- a command that runs does not need it

    names = (f"{name}=" for name in LimitOverrides.model_fields)
    return [CompletionItem(name) for name in sorted(names) if name.startswith(begun)]


def http_methods(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """The methods of requests."""
    return [CompletionItem(name) for name in _METHODS if name.startswith(begun.upper())]


def _offered(find: _Find, context: click.Context, begun: str) -> list[CompletionItem]:
    """Never raises and never prints: there may be no configuration, no ledger, no right to read either."""
    found: list[str] = []
    with redirect_stderr(StringIO()), suppress(Exception, SystemExit):
        taken = which_elsewhere(os.environ)
        path = context.params.get("config") or (taken.path if taken else None)
        if path is not None:
            found = [name for name in find(Path(path), begun) if name and name.startswith(begun)]
    return [CompletionItem(name) for name in sorted(set(found))]


def _key_ids(config: Path, _: str) -> Iterable[str]:
    from gateway.cli.session import Session, read_ledger  # noqa: PLC0415 -- a command that runs does not need it

    async def ids(session: Session) -> list[str]:
        records = await session.keys.list()
        return [*(key.id for key in session.settings.keys), *(record.id for record in records)]

    return read_ledger(config, ids)


def _caller_names(config: Path, begun: str) -> Iterable[str]:
    from gateway.ledger.callers import callers  # noqa: PLC0415 -- likewise

    return [row.account for row in _report(config, lambda c: callers(c, _MOST, text=begun or None))]


def _profile_names(config: Path, _: str) -> Iterable[str]:
    from gateway.config.load import load  # noqa: PLC0415 -- likewise

    return load(config, os.environ).profiles


def _upstream_names(config: Path, _: str) -> Iterable[str]:
    from gateway.config.load import load  # noqa: PLC0415 -- likewise

    return ["default", *load(config, os.environ).upstreams]


def _job_ids(config: Path, begun: str) -> Iterable[str]:
    from gateway.ledger.listings import list_jobs  # noqa: PLC0415 -- likewise

    return [row.request_id for row in _report(config, lambda c: list_jobs(c, None, None, _MOST, None, begun or None))]


def _lost_ids(config: Path, _: str) -> Iterable[str]:
    from gateway.ledger.lost import lost  # noqa: PLC0415 -- likewise

    return [row.request_id or row.id for row in _report(config, lambda c: lost(c, None, _MOST))]


def _webhook_ids(config: Path, begun: str) -> Iterable[str]:
    from gateway.ledger.listings import list_webhooks  # noqa: PLC0415 -- likewise

    return [row["id"] for row in _report(config, lambda c: list_webhooks(c, None, _MOST, None, begun or None))]


def _retried_ids(config: Path, begun: str) -> Iterable[str]:
    from gateway.ledger.listings import list_webhooks  # noqa: PLC0415 -- likewise
    from gateway.ledger.schema import DeliveryState  # noqa: PLC0415 -- likewise

    def work(connection: "Connection") -> list[dict[str, Any]]:
        states = (DeliveryState.DEAD, DeliveryState.DUE)
        return [row for state in states for row in list_webhooks(connection, state, _MOST, None, begun or None)]

    return [row["id"] for row in _report(config, work)]


def _refused_ids(config: Path, _: str) -> Iterable[str]:
    from gateway.ledger.refusals import latest  # noqa: PLC0415 -- likewise

    rows = _report(config, lambda c: latest(c, _MOST))
    return [row.request_id for row in rows if not row.request_id.startswith(_SUM)]


def _report(config: Path, work: "Callable[[Connection], Iterable[Any]]") -> Iterable[Any]:
    from gateway.cli.session import read_ledger  # noqa: PLC0415 -- likewise

    return read_ledger(config, lambda session: session.ledger.report(work))
