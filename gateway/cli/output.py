"""How commands print: an answer, for people or as JSON; a secret, which must not be lost; messages, which may be.

Nothing else of the commands writes to standard output, but for the picture of `gateway top`. A command that prints
takes --json (options.AS_JSON), or stands in tests/cli/test_output.py.
"""

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn, TypeVar

import click
from click.core import ParameterSource

from gateway.errors import SetupError

T = TypeVar("T")
_JSON: Final = "gateway.json"
_WIDE: Final = "gateway.wide"
_TAKEN: Final = "gateway.config taken"


def answer(document: object, people: Callable[[], None]) -> None:
    """Prints what a command found or did: with --json as one exact document, else as `people` prints it."""
    if wants_json():
        print_lines(json_text(document))
    else:
        people()


def json_text(document: object) -> str:
    """A document as it is printed."""
    return json.dumps(document, indent=2)


def print_lines(*lines: str) -> None:
    """Writes lines to standard output."""
    for line in lines:
        click.echo(line)


def print_piece(piece: str | bytes) -> None:
    """Writes to standard output as it stands, without a line's end: a piece of an answer that comes in several."""
    click.echo(piece, nl=False)


def is_terminal() -> bool:
    """Whether standard output is one, and a person reads it; it may be closed."""
    return sys.stdout is not None and sys.stdout.isatty()  # rich's own check differs in CI, because of FORCE_COLOR


def choose_json(is_wanted: bool) -> None:
    """Remembers whether the answer is to be JSON."""
    click.get_current_context().meta[_JSON] = is_wanted


def wants_json() -> bool:
    """Whether the answer is to be JSON; a command that does not take --json may not ask, and so not answer."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta[_JSON])


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


def named_config() -> str | None:
    """The configuration that was named by --config, as it was; None: the command has chosen it itself."""
    context = click.get_current_context(silent=True)
    if context is None or context.get_parameter_source("config") is not ParameterSource.COMMANDLINE:
        return None
    return str(context.params["config"])


def say_configuration() -> None:
    """Says which configuration a command has chosen that is about to change something; a failure need not, then."""
    context = click.get_current_context(silent=True)
    taken = context.meta.pop(_TAKEN, None) if context is not None else None
    if taken is not None:
        say(f"The configuration is {taken}.")


def or_fail(act: Callable[[], T], *, is_logged: bool = False) -> T:
    """Runs `act`; on SetupError prints the message and exits 1.

    `is_logged`: what it prints goes to a service's log unless standard error is a terminal, so values are left out.
    """
    try:
        return act()
    except SetupError as error:
        fail(error.for_log if is_logged and not _is_read_at_once() else str(error))


def _is_read_at_once() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
