"""The commands, kept thin: parse, call, print. Exit code 0: done; 1: failed, with the reason; 2: wrong usage."""

from importlib import import_module
from typing import Any, Final, NamedTuple

import click

from gateway import __version__
from gateway.cli.misused import in_one_form, no_such_command

_WORDS: Final = "gateway.words"


class Listed(NamedTuple):
    """A command as `gateway --help` shows it, and the module that declares it, under its own name."""

    about: str
    module: str


COMMANDS: Final = {
    "audit": Listed("Tell who changed, read or was refused what, the newest first.", "gateway.cli.audit"),
    "callers": Listed("Callers by token and certificate: watch, block, grant pages.", "gateway.cli.callers"),
    "certs": Listed("Certificates for development, and tokens to try out.", "gateway.cli.certs"),
    "check": Listed("Check a configuration, and the files that it names.", "gateway.cli.check"),
    "completion": Listed("Print the completion script of a shell.", "gateway.cli.shell_completion"),
    "config": Listed("The configuration: what is in force and why, and a first one.", "gateway.cli.config"),
    "demo": Listed("Try it out: a whole gateway before a stand-in container.", "gateway.cli.demo"),
    "explain": Listed("Tell which rule decides a request, and what is left of limits.", "gateway.cli.explain"),
    "jobs": Listed("Jobs of the ledger: whose they are, how far, what they cost.", "gateway.cli.jobs"),
    "keys": Listed("API keys of the ledger: make, watch, rotate, revoke.", "gateway.cli.keys"),
    "ledger": Listed("The ledger as a whole: back up, restore, move, upgrade it.", "gateway.cli.ledger"),
    "refusals": Listed("List what was refused or failed in the last day, and why.", "gateway.cli.refusals"),
    "serve": Listed("Run the gateway until it is told to end.", "gateway.cli.serve"),
    "status": Listed("Tell whether the gateway here is healthy, or what is wrong.", "gateway.cli.status"),
    "top": Listed("Show live what the gateway does.", "gateway.cli.status"),
    "usage": Listed("Tell what keys have used, by day (UTC).", "gateway.cli.usage"),
    "webhooks": Listed("Webhooks that report ended jobs: watch, send once more.", "gateway.cli.webhooks"),
}


class Commands(click.Group):
    """Imports a command when it is called: `gateway --help` is answered from the table alone."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads what stands before the command's name."""
        ctx.meta[_WORDS] = tuple(args)
        with in_one_form(ctx.meta[_WORDS]):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Calls the command."""
        with in_one_form(ctx.meta[_WORDS]):
            return super().invoke(ctx)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command, or names the one that was perhaps meant."""
        if args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise no_such_command(args[0], [*COMMANDS], ctx)
        return super().resolve_command(ctx, args)

    def list_commands(self, _: click.Context) -> list[str]:
        """The names."""
        return [*COMMANDS]

    def get_command(self, _: click.Context, cmd_name: str) -> click.Command | None:
        """The command itself."""
        listed = COMMANDS.get(cmd_name)
        if listed is None:
            return None
        command: click.Command = getattr(import_module(listed.module), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists them as click does, without importing them."""
        shown = {name: click.Command(name, help=listed.about) for name, listed in COMMANDS.items()}
        click.Group(commands=shown).format_commands(ctx, formatter)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gateway")
def cli() -> None:
    """The TLS gateway in front of Datalab's on-prem document-conversion container."""
