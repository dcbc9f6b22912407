"""What `gateway check --live` asks over the network: upstreams, and the keys of issuers."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

import aiohttp

from gateway.aio.iteration import Iteration
from gateway.auth.jwks.fetch import FetchFailed, fetch_keys
from gateway.auth.jwks.files import is_fetched, read_local_keys
from gateway.cli.checked import Checked, upstream_section
from gateway.cli.this_machine import is_this_machine, local_addresses
from gateway.config.settings import Settings
from gateway.errors import ConfigurationError
from gateway.upstream.health import probe
from gateway.upstream.target import UpstreamTarget

_TIMEOUT: Final = 3.0


async def check_upstreams(targets: Mapping[str, UpstreamTarget]) -> list[Checked]:
    """Asks each for its health, and looks whether others reach it."""
    findings = []
    for name, target in targets.items():
        findings += await _upstream(name, target)
    return findings


async def check_issuers(settings: Settings) -> list[Checked]:
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


def check_issuer_files(settings: Settings) -> Iterator[Checked]:
    """Says what keys there are that come of files; what is wrong with one is told by who reads them for the start."""
    with suppress(ConfigurationError):
        for issuer, found in read_local_keys(settings.authentication.jwt).items():
            count, skipped = len(found.keys), sum(found.skipped.values())
            yield Checked("ok", f"issuer {issuer} has {count} key{'' if count == 1 else 's'}")
            if skipped:
                why = ", ".join(f"{name.replace('_', ' ')} {times}" for name, times in sorted(found.skipped.items()))
                yield Checked("warning", f"authentication.jwt: of the keys of {issuer} {skipped} are not used: {why}")


async def _upstream(name: str, target: UpstreamTarget) -> list[Checked]:
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
        problem = await probe(session, target)
    if problem is not None:
        return [Checked("fault", f"{upstream_section(name)}.url: {target.authority}: {problem}")]
    return [Checked("ok", f"upstream {target.authority} answers"), *await _ways_around(target)]


async def _ways_around(target: UpstreamTarget) -> list[Checked]:
    if not is_this_machine(target.host):
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
