"""When each certificate file that the configuration names ends: the first to end of all that a file holds.

A CA that has ended already and stands beside one that has not says nothing: bundles have such.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509

from gateway.aio.named_files import PEM_BYTES, read_named
from gateway.config.settings import Settings
from gateway.errors import FileUnusable


class FileEnd(NamedTuple):
    """A file of certificates: the setting that names it, and when the first certificate in it ends."""

    setting: str
    path: Path
    not_after: datetime


def file_ends(settings: Settings, now: datetime) -> tuple[FileEnd, ...]:
    """All that can be read; who uses a file tells what is wrong with it."""
    return tuple(_ends(settings, now))


def _ends(settings: Settings, now: datetime) -> Iterator[FileEnd]:
    for setting, path in _files(settings):
        with suppress(FileUnusable, ValueError):
            found = x509.load_pem_x509_certificates(read_named(path, PEM_BYTES))
            ends = [certificate.not_valid_after_utc for certificate in found]
            yield FileEnd(setting, path, _first(ends, now) if is_ca(setting) else min(ends))


def is_ca(setting: str) -> bool:
    """Whether the file of this setting holds CAs, and no certificate of ours."""
    return setting.endswith("ca")


def _first(ends: Sequence[datetime], now: datetime) -> datetime:
    return min((end for end in ends if end > now), default=max(ends))


def _files(settings: Settings) -> Iterator[tuple[str, Path]]:
    yield "tls.certificate", settings.tls.certificate
    for i, pair in enumerate(settings.tls.certificates):
        yield f"tls.certificates[{i}].certificate", pair.certificate
    if settings.tls.client_ca is not None and settings.tls.client_certificates != "none":
        yield "tls.client_ca", settings.tls.client_ca
    if settings.admin.tls is not None:
        yield "admin.tls.certificate", settings.admin.tls.certificate
    if settings.webhooks.out.ca is not None:
        yield "webhooks.out.ca", settings.webhooks.out.ca
