"""`gateway explain`: only the declaration."""

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final

import click

from gateway.cli.complete import http_methods, key_ids, refused_ids
from gateway.cli.options import AS_JSON, CONFIG, WIDE, named_file
from gateway.model.networks import parse_address

_FILE: Final = click.Path(path_type=Path, dir_okay=False, allow_dash=True)
MODES: Final = ("fast", "balanced", "accurate")


def _address(_: click.Context, __: click.Parameter, text: str | None) -> IPv4Address | IPv6Address | None:
    if text is None:
        return None
    try:
        return parse_address(text)
    except ValueError:
        raise click.BadParameter(f"{text} is not an IP address") from None


@click.command()
@CONFIG
@click.option(
    "--key", "key_id", shell_complete=key_ids, metavar="ID", help="The key's id, of the file or the ledger. [no key]"
)
@click.option(
    "--token",
    "token_file",
    type=_FILE,
    callback=named_file,
    metavar="FILE",
    help="Instead of a key: a JWT, in a file; - is stdin.",
)
@click.option(
    "--certificate",
    "certificate_file",
    type=_FILE,
    callback=named_file,
    metavar="FILE",
    help="Or a client's certificate, PEM.",
)
@click.option(
    "--ip", "address", callback=_address, metavar="ADDR", help="The client's address; needed with METHOD and PATH."
)
@click.option(
    "--request-id",
    "request_id",
    shell_complete=refused_ids,
    metavar="ID",
    help="Or a request of the last day that was refused or failed.",
)
@click.option("--pages", type=click.IntRange(1), metavar="N", help="The most pages that the job may cost.")
@click.option(
    "--mode",
    type=click.Choice(MODES),
    help="The mode of the form, which has the price. [that of prices.default_mode]",
)
@click.option("--host", metavar="HOST", help="The Host header. [that of public_url, or of the certificate]")
@WIDE
@AS_JSON
@click.argument("method", metavar="[METHOD", required=False, shell_complete=http_methods)
@click.argument("path", metavar="PATH]", required=False)
def explain(config: Path, method: str | None, path: str | None, **asked: Any) -> None:
    """Tell which rule decides a request, and what is left of limits.

    Asks the configuration and the ledger as they are now, by the gateway's own rules in the gateway's order. Sends
    nothing and counts nothing. Exit 0 when it could tell, whether the request is allowed or refused.

        gateway explain --key ci --ip 10.1.2.3 POST /api/v1/marker

    METHOD and PATH are taken as a client sends them: POST, not post, and a path with its first slash.

    A token or a client's certificate may be judged alone, or for a request:

        gateway explain --config gateway.yaml --token token.txt

    Or a request that a client asks about, by the X-Request-Id of its answer:

        gateway explain --request-id 4f0c8a52b8f34b0f9b0c8a52b8f34b0f
    """
    _check_usage(method, path, asked)
    if asked["request_id"] is not None:
        from gateway.cli.run_refusal import show_refusal  # noqa: PLC0415 -- not needed for `gateway --help`

        show_refusal(config, asked["request_id"])
        return
    from gateway.cli.run_explain import show_explanation  # noqa: PLC0415 -- not needed for `gateway --help`

    show_explanation(config, method or "", path or "", asked)


def _check_usage(method: str | None, path: str | None, asked: dict[str, Any]) -> None:
    credentials = [name for name in ("key_id", "token_file", "certificate_file") if asked[name] is not None]
    if asked["request_id"] is not None:
        if method is not None or credentials:
            raise click.UsageError("--request-id stands alone.")
        return
    if len(credentials) > 1:
        raise click.UsageError("Take one of --key, --token and --certificate.")
    if method is None and credentials in ([], ["key_id"]):
        raise click.UsageError("Name METHOD and PATH of a request; or a --token, --certificate or --request-id.")
    if method is not None and (path is None or asked["address"] is None):
        raise click.UsageError("A request needs METHOD, PATH and --ip.")
