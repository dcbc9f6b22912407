"""`gateway check`: finds every fault and every dangerous combination before the first request does.

A fault makes the command exit 1. A warning is a setting that works but may not be intended.
"""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

from gateway.app.prepare import prepare
from gateway.cli.check_certificates import check_certificates
from gateway.cli.check_ledger import Looked, ledger_warnings, look_at_ledger, why_not_made
from gateway.cli.check_network import check_issuer_files, check_issuers, check_upstreams
from gateway.cli.check_warnings import warnings
from gateway.cli.checked import Checked
from gateway.config.compile import compile_settings
from gateway.config.document import LEDGER_VARIABLE
from gateway.config.load import load
from gateway.config.settings import Settings
from gateway.config.state import routed_upstreams
from gateway.errors import ConfigurationError, SetupError
from gateway.uploads.spool import require_usable


def check_settings(path: Path, environ: Mapping[str, str]) -> list[Checked]:
    """Checks the configuration and the files it names."""
    try:
        settings = load(path, environ)
    except ConfigurationError as error:
        return [Checked("fault", str(fault)) for fault in error.faults]
    looked = look_at_ledger(settings)
    findings = [*warnings(settings), *_ledger(settings, looked, environ), *check_certificates(settings)]
    findings += _spool(settings.body.spool_dir)
    findings += [found for found in _start(path, environ) if found not in findings]
    findings += check_issuer_files(settings)
    if not any(finding.is_fault for finding in findings):
        findings.append(Checked("ok", f"{path} is a valid configuration"))
    return findings


def check_live(path: Path, environ: Mapping[str, str]) -> list[Checked]:
    """Also checks the upstreams, whether they can be reached around the gateway, and the issuers' keys."""
    findings = check_settings(path, environ)
    if any(finding.is_fault for finding in findings):
        return findings
    settings = load(path, environ)
    state = compile_settings(settings)
    asked = [*asyncio.run(check_upstreams(routed_upstreams(state))), *asyncio.run(check_issuers(settings))]
    if any(finding.is_fault for finding in asked):
        findings.pop()  # "is a valid configuration", which would be said above what is wrong
    return [*findings, *asked]


def _start(path: Path, environ: Mapping[str, str]) -> Iterator[Checked]:
    """Builds all that `serve` builds at its start: whatever that reads is read here, too."""
    try:
        prepare(path, environ)
    except ConfigurationError as error:
        yield from (Checked("fault", str(fault)) for fault in error.faults)
    except SetupError as error:
        yield Checked("fault", str(error))


def _spool(directory: Path | None) -> Iterator[Checked]:
    """Whether uploads can be kept; a directory that is missing is not made here."""
    try:
        if directory is None or directory.exists():
            require_usable(directory)
        elif why := why_not_made(directory.absolute()):
            yield Checked("fault", f"body.spool_dir: {directory} {why}")
    except ConfigurationError as error:
        yield from (Checked("fault", str(fault)) for fault in error.faults)
    except OSError as error:
        yield Checked("fault", f"body.spool_dir: {directory} can't be looked at: {error.strerror}")


def _ledger(settings: Settings, looked: Looked, environ: Mapping[str, str]) -> Iterator[Checked]:
    for text in ledger_warnings(settings, is_in_environment=LEDGER_VARIABLE in environ):
        yield Checked("warning", text)
    if looked.fault:
        yield Checked("fault", f"ledger.url: {looked.name} {looked.fault}")
        return
    ids = [key.id for key in settings.keys]
    for key_id, profile in looked.profiles:
        if key_id in ids:
            yield Checked("fault", f"keys[{ids.index(key_id)}].id: {key_id} is in the ledger, too; take one away")
        if profile not in settings.profiles:
            text = f"profiles.{profile}: is not there, so key {key_id} of the ledger, which has it, is refused"
            yield Checked("warning", text)
    if not ids and not looked.profiles and not _has_other_ways_in(settings):
        text = "there is none in the file and none in the ledger, so only routes with access: anyone can be used"
        yield Checked("warning", f"keys: {text}; make one: gateway keys create ID --config FILE")
    yield Checked("ok", f"ledger {looked.name} {looked.well}")


def _has_other_ways_in(settings: Settings) -> bool:
    authentication, asks = settings.authentication, settings.tls.client_certificates != "none"
    return bool(authentication.jwt) or (asks and authentication.certificates.identity is not None)
