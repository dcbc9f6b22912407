"""Output of commands: the result, which must not be lost, and messages, which may be."""

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn, TypeVar

import click

from gateway.errors import SetupError

T = TypeVar("T")
_WIDE: Final = "gateway.wide"
_TAKEN: Final = "gateway.config taken"


def hand_out(text: str) -> None:
    """Writes a line to standard output and flushes it.

    Raises:
        SetupError: it could not be written; the caller must then change nothing.
    """
    if sys.stdout is None:
        raise SetupError("standard output is closed, and what was to be shown would be lost: nothing was changed")
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError as error:
        raise SetupError(f"standard output can't be written ({error.strerror}): nothing was changed") from None


def say(*lines: str) -> None:
    """Writes to standard error. Ignores errors: the work is done already."""
    with suppress(OSError):
        for line in lines:
            click.echo(line, err=True)


def fail(text: str) -> NoReturn:
    """Prints the text to standard error and exits 1."""
    say(*(f"gateway: {line}" for line in text.split("\n")))  # when it can't be written, the exit code remains
    end_failed()


def end_failed() -> NoReturn:
    """Exits 1; names the configuration if the command has chosen it."""
    context = click.get_current_context(silent=True)
    taken = context.meta.get(_TAKEN) if context is not None else None
    if taken is not None:
        say(f"gateway: the configuration is {taken}")
    sys.exit(1)


def widen() -> None:
    """Remembers that tables are to have all their columns."""
    click.get_current_context().meta[_WIDE] = True


def is_wide() -> bool:
    """Whether tables are to have all their columns."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_WIDE))


def remember(taken: str) -> None:
    """Remembers which configuration a command has chosen; a failure names it."""
    click.get_current_context().meta[_TAKEN] = taken


def tell_taken() -> None:
    """Says which configuration a command has chosen that is about to change something; a failure need not, then."""
    context = click.get_current_context(silent=True)
    taken = context.meta.pop(_TAKEN, None) if context is not None else None
    if taken is not None:
        say(f"The configuration is {taken}.")


def or_fail(act: Callable[[], T]) -> T:
    """Runs `act`; on SetupError prints the message and exits 1."""
    try:
        return act()
    except SetupError as error:
        fail(str(error))
