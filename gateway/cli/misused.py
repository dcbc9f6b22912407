"""What wrong usage is answered with: one form for all of it, the nearest right word, and where an option belongs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import IO, Any

import click
from click.exceptions import NoArgsIsHelpError

from gateway.cli.output import say


class Misused(click.UsageError):
    """Wrong usage; its last line begins as every failure does."""

    def show(self, _: IO[Any] | None = None) -> None:
        """Prints how the command is used, and what was wrong."""
        if self.ctx is not None:
            say(self.ctx.get_usage(), f"Try '{self.ctx.command_path} --help' for help.", "")
        say(f"gateway: {self.message}")


def no_such_command(name: str, among: Sequence[str], context: click.Context) -> Misused:
    """The error for a command that there is not."""
    close = get_close_matches(name, among, 1)
    meant = f" Did you mean '{close[0]}'?" if close else ""
    return Misused(f"No such command '{name}'.{meant}", context)


@contextmanager
def in_one_form(words: Sequence[str]) -> Iterator[None]:
    """Tells wrong usage in the same form, whoever found it; `words` are those of the command line."""
    try:
        yield
    except (Misused, NoArgsIsHelpError):
        raise
    except click.NoSuchOption as error:
        if isinstance(error.cmd, click.Group) and (place := _place(error, words)):
            raise Misused(place, error.ctx) from None
        raise Misused(error.format_message(), error.ctx) from None
    except click.UsageError as error:
        raise Misused(error.format_message(), error.ctx) from None


def _place(error: click.NoSuchOption, words: Sequence[str]) -> str:
    """Where an option belongs that stands before the command's name, if that has it, or the nearest that it has.

    Nothing where no command is named.
    """
    group, context = error.cmd, error.ctx
    if not isinstance(group, click.Group) or context is None:
        return ""
    names = group.list_commands(context)
    name = next((word for word in words if word in names), None)
    command = None if name is None else group.get_command(context, name)
    if command is None:
        return ""
    path, known = f"{context.command_path} {name}", _options(command, context)
    if error.option_name in known:
        return f"{error.option_name} stands behind the command: {path} {error.option_name} ..."
    close = get_close_matches(error.option_name, known, 1)
    meant = f" Did you mean '{close[0]}'? It stands behind the command: {path} {close[0]} ..." if close else ""
    return f"No such option '{error.option_name}'.{meant}"


def _options(command: click.Command, context: click.Context) -> list[str]:
    """Those of a command; of a group, those of its commands."""
    if isinstance(command, click.Group):
        named = (command.get_command(context, name) for name in command.list_commands(context))
        return sorted({option for each in named if each is not None for option in _options(each, context)})
    return [option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)]
