"""The work of `gateway config init`: asks, writes some lines, and checks them before the file is there."""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import click
import yaml

from gateway.cli.output import answer, fail, or_fail, print_piece, say
from gateway.config.load import load
from gateway.errors import ConfigurationError, Fault
from gateway.ledger.url import SQLITE

_DEFAULTS: Final = {"upstream": "http://127.0.0.1:8000", "ledger": "sqlite:///data/ledger.db", "port": 8443}
_ASKED: Final = {
    "certificate": "The server's certificate (PEM file)",
    "private_key": "Its private key (PEM file)",
    "allow": "Networks of your clients, such as 10.0.0.0/8",
    "upstream": "The container's URL",
    "ledger": "Where keys and usage are kept (sqlite:///PATH, or env:NAME with a PostgreSQL URL)",
    "port": "Port of the public listener",
}
_OPTIONS: Final = {
    "tls.certificate": "--certificate",
    "tls.private_key": "--private-key",
    "network.allow": "--allow",
    "upstream.url": "--upstream",
    "ledger.url": "--ledger",
    "listen.port": "--port",
}
_TEXT: Final = """\
# Made by `gateway config init`. Every other setting has its default: `gateway config show` lists them.
listen: {{address: 0.0.0.0, port: {port}}}
tls:
  certificate: {certificate}
  private_key: {private_key}
network:
  allow: {allow}  # the networks of your clients; nobody else is served
upstream:
  url: {upstream}  # the container; bind it where only the gateway reaches it
ledger:
  url: {ledger}  # keys, usage, jobs
admin: {{address: 127.0.0.1, port: 9090}}  # probes, metrics, admin API
aliases: {{/api/v1/convert: /api/v1/marker}}  # lets today's Datalab SDK speak to today's container
# profiles: {{default: {{pages_per_month: 100000}}}}  # the limits of keys; without them every key has the defaults
# public_url: https://documents.example.com  # as clients name it; else it is a host of the certificate
"""


def init_config(target: Path, given: Mapping[str, Any]) -> None:
    """Writes the file, or fails and writes nothing."""
    if target.exists():
        fail(f"{target} is there already; name another one with --config")
    wanted = {name: given[name] or _asked(name) for name in _ASKED}
    text = _TEXT.format(**{name: _scalar(_meant(name, value)) for name, value in wanted.items()})
    or_fail(lambda: _check(text, wanted["ledger"]))
    _write(target, text)
    say(f"{target} is written. Next: gateway check --config {target}; gateway keys create ID --config {target}")


def is_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def _asked(name: str) -> Any:
    if is_terminal():
        return click.prompt(_ASKED[name], default=_DEFAULTS.get(name), err=True)
    if name in _DEFAULTS:
        return _DEFAULTS[name]
    raise click.UsageError(f"Name --{name.replace('_', '-')}: {_ASKED[name]}. There is no terminal to ask at.")


def _meant(name: str, value: Any) -> Any:
    if name == "allow":
        return value.replace(",", " ").split() if isinstance(value, str) else list(value)
    if name == "ledger" and value.startswith("env:"):
        return {"env": value.removeprefix("env:")}
    if name == "ledger" and value.startswith(SQLITE):
        return f"{SQLITE}{os.path.abspath(value.removeprefix(SQLITE))}"  # noqa: PTH100 -- as below
    if name in {"certificate", "private_key"}:
        return os.path.abspath(value)  # noqa: PTH100 -- a link is kept as it is: what it leads to may change
    return value


def _scalar(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return text.removesuffix("...\n").strip()


def _check(text: str, ledger: str) -> None:
    """Raises SetupError with what is wrong; a variable of the ledger need not be set yet."""
    name = ledger.removeprefix("env:") if ledger.startswith("env:") else None
    environ = dict(os.environ) if name is None else {name: "postgresql://gateway@localhost/ledger", **os.environ}
    with TemporaryDirectory(prefix="gateway-") as directory:
        path = Path(directory) / "gateway.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            load(path, environ)
        except ConfigurationError as error:
            raise ConfigurationError([_by_option(fault) for fault in error.faults]) from None


def _by_option(fault: Fault) -> Fault:
    """There will be no file whose line could be named: the option is."""
    if not fault.where.startswith("line "):
        return fault
    option = next((name for path, name in _OPTIONS.items() if fault.path.startswith(path)), "")
    return replace(fault, where=option, value=fault.value if option else "")


def _write(target: Path, text: str) -> None:
    try:
        with open(target, "x", encoding="utf-8", opener=_nobody_elses) as file:
            file.write(text)
    except OSError as error:
        fail(f"{target} can't be written: {error.strerror}")
    answer({"config": str(target), "settings": yaml.safe_load(text)}, lambda: print_piece(text))


def _nobody_elses(path: str, flags: int) -> int:
    """Whatever the umask: what others can write is taken only when it is named."""
    return os.open(path, flags, 0o644)
