"""Asks a running gateway how it is, over its admin listener: /readyz and /metrics."""

import asyncio
import json
import os
import re
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from gateway.admin.token_answers import TokenVerdict
from gateway.aio.named_files import SECRET_FILE_BYTES, read_named
from gateway.cli.listener_owner import listening_users
from gateway.cli.samples import Labels, Samples
from gateway.config.ledger_url import url_of
from gateway.config.settings import Settings
from gateway.errors import FileUnusable, SetupError
from gateway.ledger.url import SQLITE
from gateway.model.statuses import OK

PATIENCE: Final = 5.0
PATIENCE_BESIDE: Final = 2.0
_LAST_TURNS: Final = 0.01  # in which closed TLS connections end
_MOST_OF_CERTIFICATES: Final = 1_048_576
_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- bound so, reached here


async def ask(settings: Settings, config: Path, near: Mapping[str, Any] | None = None) -> Samples:
    """Asks once; for accounts near a limit only without `near` of an earlier look, since that reads all accounts.

    Raises:
        SetupError: it does not answer, or not as a gateway does; the message says what is wrong.
    """
    base, context, headers = _reach(settings, config)
    with _told_in_words(base, config, PATIENCE):
        async with _asking(PATIENCE) as session:
            async with session.get(f"{base}/readyz", ssl=context, allow_redirects=False) as answer:
                readiness = json.loads(await answer.text())
            asked = session.get(f"{base}/metrics", ssl=context, headers=headers, allow_redirects=False)
            async with asked as answer:
                if answer.status != OK:
                    raise SetupError(f"{base} refuses /metrics ({answer.status}): is admin.token the one in force?")
                metrics = read_metrics(await answer.text())
            asks = partial(_beside, session, f"{base}/admin/v1", ssl=context, headers=headers)
            overview = await asks("overview")
            told = readiness, metrics, overview, await asks("near-limits") if near is None else near
    return Samples(*(entry if isinstance(entry, dict) else {} for entry in told))


async def upstream_now(settings: Settings, config: Path, name: str) -> Mapping[str, Any]:
    """How the gateway sees one upstream, as its overview has it.

    Raises:
        SetupError: it does not answer, or has not looked at such a one.
    """
    base, context, headers = _reach(settings, config)
    with _told_in_words(base, config, PATIENCE_BESIDE):
        async with _asking(PATIENCE_BESIDE) as session:
            url = f"{base}/admin/v1/overview"
            answer = await session.get(url, ssl=context, headers=headers, allow_redirects=False)
            if answer.status != OK:
                raise SetupError(f"{base} refuses the overview ({answer.status}): is admin.token the one in force?")
            told = json.loads(await answer.text())
    upstreams = told.get("upstreams") if isinstance(told, dict) else None
    for found in upstreams if isinstance(upstreams, list) else ():
        if isinstance(found, dict) and found.get("name") == name:
            return found
    raise SetupError(f"the gateway at {base} has not looked at it")


def _reach(settings: Settings, config: Path) -> tuple[str, aiohttp.Fingerprint | bool, dict[str, str]]:
    """Where it listens, what proves that it is the one, and the headers of a request to it."""
    base, context, token = base_of(settings), _proof(settings), _token(settings)
    if token and settings.admin.tls is None:
        _require_trusted_listener(settings, config)
    return base, context, {"Authorization": f"Bearer {token}"} if token else {}


@contextmanager
def _told_in_words(base: str, config: Path, patience: float) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise SetupError(f"no answer from {base}, the admin listener of {config}, within {patience:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        why = f"{_words(error)}. Asked was the admin listener of {config}, on this machine: does it run?"
        raise SetupError(f"no gateway answers at {base}: {why}") from None


async def _beside(session: aiohttp.ClientSession, base: str, name: str, **how: Any) -> Any:
    """What it tells beside its health; nothing where that takes long, as it may while the ledger hangs."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE_BESIDE)
    with suppress(TimeoutError, aiohttp.ClientError, OSError, ValueError):
        async with session.get(f"{base}/{name}", timeout=timeout, allow_redirects=False, **how) as answer:
            return json.loads(await answer.text()) if answer.status == OK else {}
    return {}


async def ask_verdict(settings: Settings, config: Path, token: str) -> TokenVerdict:
    """Asks how the gateway that runs here judges a token.

    Raises:
        SetupError: nobody can say; the message says why.
    """
    base, context, headers = _reach(settings, config)
    if settings.admin.tls is None:
        _require_trusted_listener(settings, config)  # what is shown is a secret, too
    with _told_in_words(base, config, PATIENCE_BESIDE):
        async with _asking(PATIENCE_BESIDE) as session:
            url = f"{base}/admin/v1/tokens/judge"
            asked = session.post(url, json={"token": token}, ssl=context, headers=headers, allow_redirects=False)
            async with asked as answer:
                if answer.status != OK:
                    raise SetupError(f"the gateway at {base} can't say ({answer.status})")
                return TokenVerdict.model_validate_json(await answer.read())


async def waiting(settings: Settings) -> list[str] | None:
    """What waits for a restart of the gateway that runs here; None when nobody answers there, or no gateway does."""
    with suppress(SetupError, TimeoutError, aiohttp.ClientError, OSError, ValueError):
        async with _asking(PATIENCE_BESIDE) as session:
            asked = session.get(f"{base_of(settings)}/readyz", ssl=_proof(settings), allow_redirects=False)
            async with asked as answer:
                readiness = json.loads(await answer.text())
        waits = readiness.get("waits_for_restart") if isinstance(readiness, dict) else None
        return [*map(str, waits)] if isinstance(waits, list) else None
    return None


def read_metrics(text: str) -> dict[str, dict[Labels, float]]:
    """Reads Prometheus's text format."""
    found: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


@asynccontextmanager
async def _asking(patience: float) -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=patience)
    try:
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
            yield session
    finally:
        await asyncio.sleep(_LAST_TURNS)


def base_of(settings: Settings) -> str:
    """Where it listens, as a URL."""
    address = _host(settings)
    host = f"[{address}]" if ":" in address else address
    return f"{'https' if settings.admin.tls else 'http'}://{host}:{settings.admin.port}"


def _host(settings: Settings) -> str:
    return _ANY.get(settings.admin.address, settings.admin.address)


def _proof(settings: Settings) -> aiohttp.Fingerprint | bool:
    """Trusts the first certificate of the configuration's file alone, and none that the same authority signed."""
    if settings.admin.tls is None:
        return True
    path = settings.admin.tls.certificate
    try:
        found = _CERTIFICATE.search(read_named(path, _MOST_OF_CERTIFICATES))
    except FileUnusable as error:
        raise SetupError(f"admin.tls.certificate: {path} {error}") from None
    with suppress(ValueError):
        if found is not None:
            return aiohttp.Fingerprint(sha256(ssl.PEM_cert_to_DER_cert(found[0].decode("ascii"))).digest())
    raise SetupError(f"admin.tls.certificate: {path} holds no certificate")


def _require_trusted_listener(settings: Settings, config: Path) -> None:
    """Without TLS whoever holds the port gets the token: it is somebody who could have it anyway.

    Raises:
        SetupError: it is somebody else.
    """
    host, port = _host(settings), settings.admin.port
    strangers = listening_users(host, port) - {0, os.geteuid()} - set(_owners(_files(settings, config)))
    if strangers:
        raise SetupError(
            f"{host}:{port} is held by the user {min(strangers)}, who owns neither the configuration nor the ledger "
            "nor the token: it is not sent there. Call this as the gateway's user, or set admin.tls"
        )


def _files(settings: Settings, config: Path) -> list[Path]:
    """Whose owners can have the token, or what it opens, already."""
    url, token = url_of(settings), settings.admin.token
    ledger = [Path(url.removeprefix(SQLITE))] if url.startswith(SQLITE) else []
    return [config, *ledger, *([token.file] if token is not None and token.file is not None else [])]


def _owners(paths: Iterable[Path]) -> Iterable[int]:
    for path in paths:
        with suppress(OSError):
            yield path.stat().st_uid


def _token(settings: Settings) -> str | None:
    reference = settings.admin.token
    if reference is None:
        return None
    if reference.env is not None:
        return os.environ.get(reference.env, "").strip()
    if reference.file is None:
        raise SetupError("admin.token is a sha256, so the token itself is not known here: name it by env or file")
    try:
        return read_named(reference.file, SECRET_FILE_BYTES).decode("utf-8", "surrogateescape").strip()
    except FileUnusable as error:
        raise SetupError(f"admin.token: {reference.file} {error}") from None


def _words(error: Exception) -> str:
    if isinstance(error, aiohttp.ServerFingerprintMismatch):
        return "the program that listens there has another certificate than admin.tls.certificate"
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, ssl.SSLError):  # its errno is none of the system's
            return _words_of_tls(error.os_error)
        number = error.os_error.errno
        return os.strerror(number) if number and number > 0 else str(error.strerror or error.os_error)
    return type(error).__name__


def _words_of_tls(error: ssl.SSLError) -> str:
    if error.reason in {"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"}:
        return "what listens there speaks no TLS, which admin.tls asks for; does admin.tls wait for a restart?"
    return f"TLS with it fails: {(error.reason or str(error)).replace('_', ' ').lower()}"
