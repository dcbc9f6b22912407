"""The commands, kept thin: parse, call, print. Exit code 0: done; 1: failed, with the reason; 2: wrong usage."""

import os
import sys
from pathlib import Path

import click
import uvloop
from click.core import ParameterSource

from gateway import __version__
from gateway.cli.audit import audit
from gateway.cli.explain import explain
from gateway.cli.jobs import jobs
from gateway.cli.keys import change, disable, enable, grant, keys, reset
from gateway.cli.options import CONFIG
from gateway.cli.session import fail, or_fail
from gateway.cli.usage import usage
from gateway.cli.webhooks import webhooks


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gateway")
def cli() -> None:
    """The TLS gateway in front of Datalab's on-prem document-conversion container."""


@cli.command()
@CONFIG
def serve(config: Path) -> None:
    """Run the gateway.

    SIGTERM or Ctrl-C ends it without losing a request; SIGHUP reloads the configuration.
    """
    from gateway.app.serve import serve as run  # noqa: PLC0415 -- not needed for `gateway --help`

    or_fail(lambda: run(config, os.environ, loop_factory=uvloop.new_event_loop))


@cli.command()
@CONFIG
@click.option(
    "--live", is_flag=True, help="Also ask the upstream, and look whether it can be reached around the gateway."
)
def check(config: Path, live: bool) -> None:
    """Check a configuration.

    Tells every fault with its path, and looks at the certificates; exit 1 if there is a fault.
    """
    from gateway.cli.check import check_live, check_settings  # noqa: PLC0415 -- as above

    findings = or_fail(lambda: check_live(config, os.environ) if live else check_settings(config, os.environ))
    for finding in findings:
        click.echo(str(finding))
    if any(finding.is_fault for finding in findings):
        sys.exit(1)


@cli.group()
def certs() -> None:
    """Certificates for development."""


@certs.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--host", "hosts", multiple=True, metavar="NAME", help="DNS name or address; may be repeated. [localhost]"
)
@click.option(
    "--client",
    "clients",
    multiple=True,
    metavar="NAME",
    help="Also a client certificate with this DNS name, or mail address; may be repeated.",
)
def dev(directory: Path, hosts: tuple[str, ...], clients: tuple[str, ...]) -> None:
    """Make a CA and a server certificate.

    Writes ca.pem, server.pem and server.key into DIRECTORY, for each client NAME.pem and NAME.key; what it did not
    make itself is not overwritten. The CA's key is thrown away, so clients get theirs now or never. Not for
    production.
    """
    from gateway.tls.dev_certificates import make_development_certificates  # noqa: PLC0415 -- as above

    try:
        names = list(hosts) or ["localhost", "127.0.0.1", "::1"]
        or_fail(lambda: make_development_certificates(directory, names, clients))
    except (OSError, ValueError) as error:
        fail(str(error))
    click.echo(f"{directory}/ca.pem  {directory}/server.pem  {directory}/server.key")
    for client in clients:
        click.echo(f"{directory}/{client}.pem  {directory}/{client}.key")


@cli.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".demo"),
    show_default=True,
    help="Where all is made; what is there already is used again.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8443,
    show_default=True,
    help="Of the gateway; 0 takes a free one.",
)
@click.option(
    "--admin-port",
    type=click.IntRange(0, 65535),
    default=9090,
    show_default=True,
    help="Of its probes and metrics; 0 takes a free one.",
)
@click.option(
    "--upstream-port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Of the stand-in container.",
)
@click.option("--upstream", metavar="URL", help="A real container, in the place of the stand-in.")
@click.pass_context
def demo(
    context: click.Context, directory: Path, port: int, admin_port: int, upstream_port: int, upstream: str | None
) -> None:
    """Try it out.

    Makes all that a first run needs, starts a stand-in container and the gateway, and says how to call it. A
    gateway.yaml that is there already is used, and its ports hold unless others are given here.
    """
    try:
        from gateway.demo.run import Demo, run  # noqa: PLC0415 -- as above
    except ModuleNotFoundError as missing:
        fail(f"demo needs {missing.name}; install requirements/demo.txt")

    given = {
        name for name in ("port", "admin_port") if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    or_fail(lambda: run(Demo(directory, port, admin_port, upstream_port, upstream, frozenset(given))))


for _command in (change, disable, enable, grant, reset):
    keys.add_command(_command)
for _command in (keys, usage, jobs, webhooks, audit, explain):
    cli.add_command(_command)
