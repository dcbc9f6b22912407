"""Asks a running gateway how it is, over its admin listener: /readyz and /metrics."""

import json
import os
import ssl
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from gateway.aio.named_files import read_named
from gateway.config.settings import Settings
from gateway.errors import FileUnusable, SetupError

_PATIENCE: Final = 5.0
_MOST: Final = 65536
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- bound so, reached here
_OK: Final = 200
Labels = frozenset[tuple[str, str]]


class Samples(NamedTuple):
    """What a gateway says of itself; metrics by name, then by labels."""

    readiness: Mapping[str, Any]
    metrics: Mapping[str, Mapping[Labels, float]]

    def total(self, name: str, **labels: str) -> float:
        """The sum over all that have these labels; 0 when there is none."""
        wanted = labels.items()
        return sum(value for given, value in self.metrics.get(name, {}).items() if wanted <= set(given))


async def ask(settings: Settings) -> Samples:
    """Asks once.

    Raises:
        SetupError: it does not answer, or not as a gateway does; the message says what is wrong.
    """
    base, context = _base(settings), _context(settings)
    token = _token(settings)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = aiohttp.ClientTimeout(total=_PATIENCE)
    try:
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
            async with session.get(f"{base}/readyz", ssl=context) as answer:
                readiness = json.loads(await answer.text())
            async with session.get(f"{base}/metrics", ssl=context, headers=headers) as answer:
                if answer.status != _OK:
                    raise SetupError(f"{base} refuses /metrics ({answer.status}): is admin.token the one in force?")
                metrics = read_metrics(await answer.text())
    except TimeoutError:
        raise SetupError(f"no answer from {base} within {_PATIENCE:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise SetupError(f"no gateway answers at {base}: {_words(error)}") from None
    return Samples(readiness if isinstance(readiness, dict) else {}, metrics)


def read_metrics(text: str) -> dict[str, dict[Labels, float]]:
    """Reads Prometheus's text format."""
    found: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def _base(settings: Settings) -> str:
    address = _ANY.get(settings.admin.address, settings.admin.address)
    host = f"[{address}]" if ":" in address else address
    return f"{'https' if settings.admin.tls else 'http'}://{host}:{settings.admin.port}"


def _context(settings: Settings) -> ssl.SSLContext | bool:
    """Trusts the very certificate of the configuration: whoever else listens there does not get the token."""
    if settings.admin.tls is None:
        return True
    context = ssl.create_default_context(cafile=str(settings.admin.tls.certificate))
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _token(settings: Settings) -> str | None:
    reference = settings.admin.token
    if reference is None:
        return None
    if reference.env is not None:
        return os.environ.get(reference.env, "").strip()
    if reference.file is None:
        raise SetupError("admin.token is a sha256, so the token itself is not known here: name it by env or file")
    try:
        return read_named(reference.file, _MOST).decode("utf-8", "surrogateescape").strip()
    except FileUnusable as error:
        raise SetupError(f"admin.token: {reference.file} {error}") from None


def _words(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return str(error.strerror or error.os_error)
    return type(error).__name__
