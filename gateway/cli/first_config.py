"""The text of a first configuration, from the answers of an operator, and whether these answers can be served."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import yaml

from gateway.config.load import load
from gateway.config.settings import CertificatePair
from gateway.errors import ConfigurationError, Fault, SetupError
from gateway.ledger.url import SQLITE
from gateway.tls.contexts import load_pair, valid_certificate

DEFAULTS: Final = {"upstream": "http://127.0.0.1:8000", "ledger": "sqlite:///data/ledger.db", "port": 8443}
_STAND_IN: Final = {"certificate": "server.pem", "private_key": "server.key", "allow": "127.0.0.1/32", **DEFAULTS}
_SETTINGS: Final = {
    "certificate": "tls.certificate",
    "private_key": "tls.private_key",
    "allow": "network.allow",
    "upstream": "upstream.url",
    "ledger": "ledger.url",
    "port": "listen.port",
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


def option_of(answer: str) -> str:
    """The option that gives an answer."""
    return f"--{answer.replace('_', '-')}"


def text_of(answers: Mapping[str, Any]) -> str:
    """The configuration; what there is no answer to yet has something that would do."""
    return _TEXT.format(**{name: _scalar(_meant(name, value)) for name, value in {**_STAND_IN, **answers}.items()})


def require_sound(answers: Mapping[str, Any]) -> None:
    """Checks the answers that there are, as a gateway would at its start; a variable need not be set yet.

    Raises:
        ConfigurationError: what is wrong with them, with the option that each came from.
    """
    faults = [*_faults_of_port(answers), *_faults_of_settings(answers)] or [*_faults_of_files(answers)]
    if faults:
        raise ConfigurationError(faults)


def _faults_of_port(answers: Mapping[str, Any]) -> Iterator[Fault]:
    if answers.get("port") == 0:
        told = "0 is a port that the system chooses, another at each start: clients need one that stays"
        yield Fault(_SETTINGS["port"], told, where=option_of("port"))


def told_at(answer: str, fault: Fault) -> str:
    """A fault, where this answer was asked for: of another setting it is told with its name."""
    return fault.message if not fault.path or _answer_to(fault) == answer else f"{fault.path}: {fault.message}"


def _faults_of_settings(answers: Mapping[str, Any]) -> Iterator[Fault]:
    ledger = str(answers.get("ledger", ""))
    name = ledger.removeprefix("env:") if ledger.startswith("env:") else None
    environ = dict(os.environ) if name is None else {name: "postgresql://gateway@localhost/ledger", **os.environ}
    with TemporaryDirectory(prefix="gateway-") as directory:
        path = Path(directory) / "gateway.yaml"
        path.write_text(text_of(answers), encoding="utf-8")
        try:
            load(path, environ)
        except ConfigurationError as error:
            yield from (_by_option(fault) for fault in error.faults if _answer_to(fault) in {*answers, None})


def _faults_of_files(answers: Mapping[str, Any]) -> Iterator[Fault]:
    """A key alone is not judged: it is that of a certificate."""
    asked = "certificate"
    try:
        if asked in answers:
            valid_certificate(Path(answers[asked]))
        if {"certificate", "private_key"} <= answers.keys():
            asked = "private_key"
            load_pair(CertificatePair(**{name: answers[name] for name in ("certificate", asked)}), "intermediate")
    except SetupError as error:
        yield Fault(_SETTINGS[asked], str(error), where=option_of(asked))


def _answer_to(fault: Fault) -> str | None:
    return next((name for name, path in _SETTINGS.items() if fault.path.startswith(path)), None)


def _by_option(fault: Fault) -> Fault:
    """There will be no file whose line could be named: the option is."""
    if not fault.where.startswith("line "):
        return fault
    answer = _answer_to(fault)
    return replace(fault, where=option_of(answer) if answer else "", value=fault.value if answer else "")


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
