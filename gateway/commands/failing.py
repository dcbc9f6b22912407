"""How a command says that it failed: one line for each fault on standard error, exit code 1, never a traceback."""

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn, TypeVar

import click

from gateway.errors import SetupError

T = TypeVar("T")


def fail(text: str) -> NoReturn:
    """Ends the command."""
    with suppress(OSError):  # where nobody can be told, the exit code is left
        for line in text.split("\n"):
            click.echo(f"gateway: {line}", err=True)
    sys.exit(1)


def or_fail(act: Callable[[], T]) -> T:
    """Does it, or ends the command with what is to be mended."""
    try:
        return act()
    except SetupError as error:
        fail(str(error))
