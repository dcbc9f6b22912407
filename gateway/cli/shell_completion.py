"""`gateway completion`: prints what a shell needs to complete commands, options, ids and names."""

import click
from click.shell_completion import get_completion_class

from gateway.cli.output import hand_out

_VARIABLE = "_GATEWAY_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    Read by the start-up file, it completes commands, options, and, from the configuration and its ledger, ids of
    keys, jobs and webhooks, and names of profiles and upstreams:

        source <(gateway completion bash)
    """
    made = get_completion_class(shell)
    if made is not None:
        script = made(context.find_root().command, {}, "gateway", _VARIABLE)
        hand_out(script.source_template % script.source_vars())
