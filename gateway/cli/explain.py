"""`gateway explain`: only the declaration."""

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final

import click

from gateway.cli.options import AS_JSON, CONFIG
from gateway.model.networks import parse_address

MODES: Final = ("fast", "balanced", "accurate")


def _address(_: click.Context, __: click.Parameter, text: str) -> IPv4Address | IPv6Address:
    try:
        return parse_address(text)
    except ValueError:
        raise click.BadParameter(f"{text} is no IP address") from None


@click.command()
@CONFIG
@click.option("--key", "key_id", metavar="ID", help="The key's id, of the file or the ledger. [no key]")
@click.option("--ip", "address", required=True, callback=_address, metavar="ADDR", help="The client's address.")
@click.option("--pages", type=click.IntRange(1), metavar="N", help="The most pages that the job may cost.")
@click.option(
    "--mode",
    type=click.Choice(MODES),
    help="The mode of the form, which has the price. [that of prices.default_mode]",
)
@click.option("--host", metavar="HOST", help="The Host header. [that of public_url, or of the certificate]")
@AS_JSON
@click.argument("method", metavar="METHOD")
@click.argument("path", metavar="PATH")
def explain(config: Path, method: str, path: str, as_json: bool, **asked: Any) -> None:
    """Tell which rule decides a request, and what is left of every limit.

    Asks the configuration and the ledger as they are now, by the gateway's own rules in the gateway's order. Sends
    nothing and counts nothing. Exit 0 when it could tell, whether the request is allowed or refused.

        gateway explain --config gateway.yaml --key ci --ip 10.1.2.3 POST /api/v1/marker --pages 20
    """
    from gateway.cli.run_explain import tell_why  # noqa: PLC0415 -- not needed for `gateway --help`

    tell_why(config, method.upper(), path, asked, as_json=as_json)
