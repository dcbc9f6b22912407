"""`gateway certs`: only declarations."""

from pathlib import Path

import click

from gateway.cli.options import AS_JSON
from gateway.cli.output import answer, fail, or_fail, print_lines


@click.group()
def certs() -> None:
    """Certificates for development, and tokens to try out."""


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
@AS_JSON
def dev(directory: Path, hosts: tuple[str, ...], clients: tuple[str, ...]) -> None:
    """Make a CA and a server certificate.

    Writes ca.pem, server.pem and server.key into DIRECTORY, for each client NAME.pem and NAME.key; what it did not
    make itself is not overwritten. The CA's key is thrown away, so clients get theirs now or never. Not for
    production.
    """
    from gateway.tls.dev_certificates import make_development_certificates  # noqa: PLC0415 -- not needed for `gateway --help`

    try:
        names = list(hosts) or ["localhost", "127.0.0.1", "::1"]
        or_fail(lambda: make_development_certificates(directory, names, clients))
    except (OSError, ValueError) as error:
        fail(str(error))
    made = {client: _pair(directory, client) for client in ("server", *clients)}
    document = {
        "ca": f"{directory}/ca.pem",
        **made.pop("server"),
        "clients": [{"name": name, **pair} for name, pair in made.items()],
    }
    answer(document, lambda: print_lines(*_lines(directory, clients)))


@certs.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--for", "names", multiple=True, metavar="NAME", help="Whom a token is for, its sub; may be repeated. [alice]"
)
@click.option("--audience", default="document-gateway", show_default=True, help="The aud of the tokens.")
@AS_JSON
def token(directory: Path, names: tuple[str, ...], audience: str) -> None:
    """Make an issuer and tokens of it, to try tokens out.

    Writes issuer.json, a JWK set, and NAME.jwt (0600), good for a day, into DIRECTORY; what is there is never
    overwritten. Tells what the configuration needs. The issuer's key is thrown away, so all tokens are made now or
    never. Not for production.

        gateway certs token certs --for alice
    """
    from gateway.cli.run_token import make  # noqa: PLC0415 -- as above

    make(directory, names or ("alice",), audience)


def _pair(directory: Path, name: str) -> dict[str, str]:
    return {"certificate": f"{directory}/{name}.pem", "private_key": f"{directory}/{name}.key"}


def _lines(directory: Path, clients: tuple[str, ...]) -> list[str]:
    server = f"{directory}/ca.pem  {directory}/server.pem  {directory}/server.key"
    return [server, *(f"{directory}/{client}.pem  {directory}/{client}.key" for client in clients)]
