"""What a shell offers for a key's id and for a profile: read from the configuration and its ledger, in silence."""

import os
from collections.abc import Callable
from contextlib import redirect_stderr, suppress
from io import StringIO
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from gateway.cli.which_config import which_elsewhere


def key_ids(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """The ids of all keys, of the file and of the ledger."""
    return _offered(_key_ids, context, begun)


def profile_names(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """The names of the profiles."""
    return _offered(_profile_names, context, begun)


def _offered(find: Callable[[Path], list[str]], context: click.Context, begun: str) -> list[CompletionItem]:
    """Never raises and never prints: there may be no configuration, no ledger, no right to read either."""
    found: list[str] = []
    with redirect_stderr(StringIO()), suppress(Exception, SystemExit):
        taken = which_elsewhere(os.environ)
        path = context.params.get("config") or (taken.path if taken else None)
        if path is not None:
            found = find(Path(path))
    return [CompletionItem(name) for name in sorted(found) if name.startswith(begun)]


def _key_ids(config: Path) -> list[str]:
    from gateway.cli.session import Session, look  # noqa: PLC0415 -- a command that runs does not need it

    async def ids(session: Session) -> list[str]:
        records = await session.keys.list()
        return [*(key.id for key in session.settings.keys), *(record.id for record in records)]

    return look(config, ids)


def _profile_names(config: Path) -> list[str]:
    from gateway.config.load import load  # noqa: PLC0415 -- likewise

    return list(load(config, os.environ).profiles)
