"""`gateway check`: finds every fault and every dangerous combination before the first request does.

A fault makes the command exit 1. A warning is a setting that works but may not be intended.
"""

import asyncio
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from gateway.aio.iteration import Iteration
from gateway.app.prepare import prepare
from gateway.auth.jwks.fetch import FetchFailed, fetch_keys
from gateway.auth.jwks.files import is_fetched
from gateway.cli.check_ledger import Looked, ledger_warnings, look_at_ledger, why_not_made
from gateway.config.compile import compile_settings
from gateway.config.load import load
from gateway.config.route_consistency import unread
from gateway.config.settings import Settings
from gateway.config.state import routed_upstreams, with_names
from gateway.errors import ConfigurationError, SetupError
from gateway.keys.view import idle_scopes
from gateway.model.networks import parse_address
from gateway.model.routes import Access, Kind
from gateway.policy.routes import may_begin
from gateway.tls.client_ca import load_client_ca
from gateway.tls.contexts import LoadedPair, load_pair, load_pairs, names_in, names_of
from gateway.tls.file_ends import FileEnd, file_ends, is_ca
from gateway.uploads.spool import require_usable
from gateway.upstream.health import probe
from gateway.upstream.target import UpstreamTarget

_SHORT_SECRET: Final = 24
_WIDE_PROXIES: Final = {4: 8, 6: 32}
_SOON: Final = timedelta(days=14)
_UVICORN_IDLE: Final = 5.0
_TIMEOUT: Final = 3.0
_TABLES: Final = Path("/proc/net")
_LEDGER_URL: Final = "GATEWAY__LEDGER__URL"


@dataclass(frozen=True, slots=True)
class Checked:
    """A result of a check."""

    kind: str
    text: str

    @property
    def is_fault(self) -> bool:
        """Whether it keeps the gateway from starting, or makes it unsafe."""
        return self.kind == "fault"

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def check_settings(path: Path, environ: Mapping[str, str]) -> list[Checked]:
    """Checks the configuration and the files it names."""
    try:
        settings = load(path, environ)
    except ConfigurationError as error:
        return [Checked("fault", str(fault)) for fault in error.faults]
    looked = look_at_ledger(settings)
    findings = [*_warnings(settings), *_ledger(settings, looked, environ), *_certificates(settings)]
    findings += _spool(settings.body.spool_dir)
    findings += [found for found in _start(path, environ) if found not in findings]
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
    return [*findings, *asyncio.run(_upstreams(routed_upstreams(state))), *asyncio.run(_issuers(settings))]


def _start(path: Path, environ: Mapping[str, str]) -> Iterator[Checked]:
    """Builds all that `serve` builds at its start: whatever that reads is read here, too."""
    try:
        prepare(path, environ)
    except ConfigurationError as error:
        yield from (Checked("fault", str(fault)) for fault in error.faults)
    except SetupError as error:
        yield Checked("fault", f"tls: {error}")


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


def _warnings(settings: Settings) -> Iterator[Checked]:
    for warnings in (
        _network_warnings,
        _upstream_warnings,
        _certificate_warnings,
        _spool_warnings,
        _key_warnings,
        _route_warnings,
        _webhook_warnings,
    ):
        yield from (Checked("warning", text) for text in warnings(settings))


def _network_warnings(settings: Settings) -> Iterator[str]:
    for i, network in enumerate(settings.network.allow):
        if network.prefixlen == 0:
            yield f"network.allow[{i}]: {network} lets everybody in who has a key"
    for i, network in enumerate(settings.network.trusted_proxies):
        if network.prefixlen < _WIDE_PROXIES[network.version]:
            yield f"network.trusted_proxies[{i}]: anyone in {network} can claim to be any address"
    admin = settings.admin
    if not ip_address(admin.address).is_loopback:
        if admin.token is None:
            yield "admin.token: is not set, so /metrics is refused to everybody but this machine"
        elif admin.tls is None:
            yield "admin.tls: is not set, so the admin token crosses the network in the clear"


def _upstream_warnings(settings: Settings) -> Iterator[str]:
    state = compile_settings(settings)
    routed = routed_upstreams(state)
    for name, target in routed.items():
        place = _section(name)
        if target.scheme == "http" and not _is_this_machine(target.host):
            yield f"{place}.url: documents cross the network to {target.host} in the clear"
        if target.idle_timeout >= _UVICORN_IDLE:
            yield f"{place}.idle_timeout: uvicorn closes idle connections after 5s; stay below, or requests get lost"
    for name in settings.upstreams.keys() - routed.keys():
        yield f"upstreams.{name}: no route goes there"


def _section(upstream: str) -> str:
    return "upstream" if upstream == "default" else f"upstreams.{upstream}"


def _certificate_warnings(settings: Settings) -> Iterator[str]:
    if settings.tls.client_certificates != "none":
        return
    if settings.tls.client_ca is not None:
        yield "tls.client_ca: is not used, since tls.client_certificates is none"
    if settings.authentication.certificates.identity is not None:
        yield "authentication.certificates.identity: is not used, since tls.client_certificates is none"


def _spool_warnings(settings: Settings) -> Iterator[str]:
    limits = {f"profiles.{name}.body_limit": profile.body_limit for name, profile in settings.profiles.items()}
    limits |= {f"keys[{i}].limits.body_limit": key.limits.body_limit or 0 for i, key in enumerate(settings.keys)}
    largest = max(limits, key=limits.__getitem__)
    if settings.body.spool_limit < limits[largest]:
        yield f"body.spool_limit: is less than {largest}, so a PDF or TIFF as large as that may be refused"


def _key_warnings(settings: Settings) -> Iterator[str]:
    if settings.keys and not settings.authentication.api_keys.enabled:
        yield "authentication.api_keys.enabled: is off, so no key of keys can be used"
    for i, key in enumerate(settings.keys):
        if key.secret.length < _SHORT_SECRET:
            yield f"keys[{i}].secret: is shorter than {_SHORT_SECRET} bytes; make one with: openssl rand -base64 32"
        if key.expires is not None and key.expires <= datetime.now(UTC):
            ended = f"{key.expires.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
            yield f"keys[{i}].expires: {ended} is over, so key {key.id} is refused"
        for scope in idle_scopes(key.scopes):
            yield f"keys[{i}].scopes: {scope} opens nothing; the only scope is admin"
    for name, entry in settings.authentication.certificates.names.items():
        for scope in idle_scopes(entry.scopes):
            yield f"authentication.certificates.names.{name}.scopes: {scope} opens nothing; the only scope is admin"


def _ledger(settings: Settings, looked: Looked, environ: Mapping[str, str]) -> Iterator[Checked]:
    for text in ledger_warnings(settings, is_in_environment=_LEDGER_URL in environ):
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


def _route_warnings(settings: Settings) -> Iterator[str]:
    for i, route in enumerate(settings.routes):
        if route.access is Access.ANYONE and route.kind is not Kind.PLAIN:
            yield f"routes[{i}].access: anyone may use {route.name} without a key"
    for place, name, path in unread(settings.model_dump(mode="json", include={"routes", "jobs"})):
        yield f"{place}: nobody can read the jobs of {name}: no route of kind result takes GET {path}"
    for alias, target in settings.aliases.items():
        if not any(may_begin(route.path, target) for route in settings.routes):
            yield f"aliases.{alias}: leads to {target}, where no route is"


def _webhook_warnings(settings: Settings) -> Iterator[str]:
    out = settings.webhooks.out
    if not out.is_on and (out.allow or out.default_url is not None):
        yield "webhooks.out.secret: is not set, nor secrets, so no webhook is sent"
    seen = dict[bytes, int]()
    for i, received in enumerate(settings.webhooks.in_):
        values = {secret.value for secret in (received.secret, received.previous_secret) if secret is not None}
        shared = min((seen[value] for value in values if value in seen), default=None)
        if shared is not None:
            told = f"is that of webhooks.in[{shared}], too, so a message to one can be sent to the other again"
            yield f"webhooks.in[{i}].secret: {told}"
        seen |= dict.fromkeys(values - seen.keys(), i)


def _certificates(settings: Settings) -> Iterator[Checked]:
    try:
        pairs = load_pairs(settings)
        client_ca = load_client_ca(settings.tls)
        if settings.admin.tls is not None:
            load_pair(settings.admin.tls, settings.tls.profile)
    except SetupError as error:
        yield Checked("fault", f"tls: {error}")
        return
    for warning in client_ca.warnings if client_ca is not None else ():
        yield Checked("warning", f"tls.client_ca: {warning}")
    origins = with_names(compile_settings(settings), names_of(pairs)).origins
    for kind, text in (("fault", origins.fault), ("warning", origins.warning)):
        if text is not None:
            yield Checked(kind, f"public_url: {text}")
    yield from (Checked("warning", text) for text in _name_warnings(settings, pairs))
    now = datetime.now(UTC)
    yield from (_end(found, found.not_after(now), now) for found in file_ends(settings))


def _end(found: FileEnd, not_after: datetime, now: datetime) -> Checked:
    text = f"{_holder(found)} ends {not_after:%Y-%m-%d} ({found.setting}: {found.path})"
    return Checked("warning" if not_after - now < _SOON else "ok", text)


def _holder(found: FileEnd) -> str:
    if is_ca(found.setting):
        return "CA"
    return f"certificate for {', '.join(names_in(found.path)) or 'no name'}"


def _name_warnings(settings: Settings, pairs: Sequence[LoadedPair]) -> Iterator[str]:
    for file, pair in zip((settings.tls, *settings.tls.certificates), pairs, strict=True):
        if not names_of([pair]):
            yield f"{file.certificate}: names no host in its subjectAltName, so no client accepts it"
    public = urlsplit(settings.public_url or "")
    if public.scheme == "https" and public.hostname and not _is_named(public.hostname, names_of(pairs)):
        yield f"public_url: no certificate is for {public.hostname}, so clients who come here by it refuse to"


def _is_named(host: str, names: Iterable[str]) -> bool:
    host = host.removesuffix(".")
    return any(name == host or name == f"*.{host.partition('.')[2]}" for name in names)


async def _upstreams(targets: Mapping[str, UpstreamTarget]) -> list[Checked]:
    findings = []
    for name, target in targets.items():
        findings += await _upstream(name, target)
    return findings


async def _issuers(settings: Settings) -> list[Checked]:
    """Fetches the keys that come over the network, as the gateway does."""
    iteration = Iteration(time.perf_counter, asyncio.get_running_loop().call_soon)
    findings = []
    for i, issuer in enumerate(settings.authentication.jwt):
        if is_fetched(issuer):
            place = f"authentication.jwt[{i}].{'discovery' if issuer.discovery else 'jwks'}"
            try:
                found = await fetch_keys(iteration, issuer, _TIMEOUT)
            except FetchFailed as error:
                findings.append(Checked("fault", f"{place}: {error.why}"))
            else:
                count = len(found.keys)
                findings.append(Checked("ok", f"issuer {issuer.issuer} has {count} key{'' if count == 1 else 's'}"))
    return findings


async def _upstream(name: str, target: UpstreamTarget) -> list[Checked]:
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
        problem = await probe(session, target)
    if problem is not None:
        return [Checked("fault", f"{_section(name)}.url: {target.authority}: {problem}")]
    return [Checked("ok", f"upstream {target.authority} answers"), *await _ways_around(target)]


async def _ways_around(target: UpstreamTarget) -> list[Checked]:
    if not _is_this_machine(target.host):
        text = f"can't see from here whether others reach {target.authority} around the gateway; only it may"
        return [Checked("warning", text)]
    open_at = []
    for address in local_addresses():
        if await _connects(address, target.port):
            open_at.append(address)  # noqa: PERF401 -- coverage.py can't trace the code after an async comprehension
    if open_at:
        where = f"{', '.join(open_at)} port {target.port}"
        text = f"the upstream can be reached around the gateway at {where}; bind it to 127.0.0.1"
        return [Checked("fault", text)]
    return [Checked("ok", f"port {target.port} is reached on the loopback address alone")]


async def _connects(address: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_TIMEOUT):
            _, writer = await asyncio.open_connection(address, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def local_addresses(tables: Path = _TABLES) -> list[str]:
    """This machine's addresses that other machines could reach, from the kernel's tables (Linux)."""
    found = {parse_address(text) for text in (*_local_ipv4(tables), *_local_ipv6(tables))}
    return sorted(str(address) for address in found if not address.is_loopback and not address.is_link_local)


def _local_ipv4(tables: Path) -> Iterator[str]:
    lines = _lines(tables / "fib_trie")
    for before, line in pairwise(lines):
        if "/32 host LOCAL" in line and "|-- " in before:
            yield before.rpartition("|-- ")[2].strip()


def _local_ipv6(tables: Path) -> Iterator[str]:
    for line in _lines(tables / "if_inet6"):
        yield str(ip_address(bytes.fromhex(line.split()[0])))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _is_this_machine(host: str) -> bool:
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(parse_address(str(address).partition("%")[0]).is_loopback for address in addresses)
