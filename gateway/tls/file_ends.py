"""When each certificate file that the configuration names ends: the first to end of all that a file holds.

A CA that has ended and stands beside one that has not says nothing: bundles have such, and get them as time passes.
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509

from gateway.aio.named_files import PEM_BYTES, read_named
from gateway.config.settings import Settings
from gateway.errors import FileUnusable
from gateway.units import DAY

ENDS_SOON: Final = 14 * DAY  # seconds before an end that somebody should have renewed by now


class FileEnd(NamedTuple):
    """A file of certificates: the setting that names it, and when each certificate in it ends."""

    setting: str
    path: Path
    ends: tuple[datetime, ...]

    def not_after(self, now: datetime) -> datetime:
        """When the first certificate in it ends; of CAs the first that has not ended by now, if there is one."""
        left = [end for end in self.ends if end > now] if is_ca(self.setting) else self.ends
        return min(left, default=max(self.ends))


def file_ends(settings: Settings) -> tuple[FileEnd, ...]:
    """All that can be read; what is wrong with a file is said where it is used."""
    return tuple(_ends(settings))


def _ends(settings: Settings) -> Iterator[FileEnd]:
    for setting, path in _files(settings):
        with suppress(FileUnusable, ValueError):
            found = x509.load_pem_x509_certificates(read_named(path, PEM_BYTES))
            yield FileEnd(setting, path, tuple(certificate.not_valid_after_utc for certificate in found))


def is_ca(setting: str) -> bool:
    """Whether the file of this setting holds CAs, and no certificate of ours."""
    return setting.endswith("ca")


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
