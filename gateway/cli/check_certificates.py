"""The certificates and CAs of a configuration, for `gateway check`."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from gateway.cli.checked import Checked
from gateway.config.compile import compile_settings
from gateway.config.settings import Settings
from gateway.config.state import with_names
from gateway.errors import SetupError
from gateway.tls.client_ca import load_client_ca
from gateway.tls.contexts import LoadedPair, hosts_of, load_admin_pairs, load_pairs, names_in, names_of
from gateway.tls.file_ends import ENDS_SOON, FileEnd, file_ends, is_ca

_LARGEST_RSA: Final = 4096  # bits: a signature takes 1.5 ms


def check_certificates(settings: Settings) -> Iterator[Checked]:
    """Loads them as a gateway does; tells whom they are for, and when each ends."""
    try:
        pairs = load_pairs(settings)
        client_ca = load_client_ca(settings.tls)
        load_admin_pairs(settings)
    except SetupError as error:
        yield Checked("fault", str(error))
        return
    for warning in client_ca.warnings if client_ca is not None else ():
        yield Checked("warning", f"tls.client_ca: {warning}")
    origins = with_names(compile_settings(settings), hosts_of(pairs)).origins
    for kind, text in (("fault", origins.fault), ("warning", origins.warning)):
        if text is not None:
            yield Checked(kind, f"public_url: {text}")
    yield from (Checked("warning", text) for text in _name_warnings(settings, pairs))
    now = datetime.now(UTC)
    yield from (_end(found, found.not_after(now), now) for found in file_ends(settings))


def _end(found: FileEnd, not_after: datetime, now: datetime) -> Checked:
    text = f"{_holder(found)} ends {not_after:%Y-%m-%d} ({found.setting}: {found.path})"
    return Checked("warning" if not_after - now < timedelta(seconds=ENDS_SOON) else "ok", text)


def _holder(found: FileEnd) -> str:
    if is_ca(found.setting):
        return "CA"
    return f"certificate for {', '.join(names_in(found.path)) or 'no name'}"


def _name_warnings(settings: Settings, pairs: Sequence[LoadedPair]) -> Iterator[str]:
    for file, pair in zip((settings.tls, *settings.tls.certificates), pairs, strict=True):
        if not names_of([pair]):
            yield f"{file.certificate}: names no host in its subjectAltName, so no client accepts it"
        if pair.rsa_bits > _LARGEST_RSA:
            held = f"each handshake with RSA of {pair.rsa_bits} bits holds all others (30 ms with 8192)"
            yield f"{file.certificate}: {held}; ECDSA P-256 is the quickest"
    public = urlsplit(settings.public_url or "")
    if public.scheme == "https" and public.hostname and not _is_named(public.hostname, names_of(pairs)):
        yield f"public_url: no certificate is for {public.hostname}, so clients who come here by it refuse to"


def _is_named(host: str, names: Iterable[str]) -> bool:
    host = host.removesuffix(".")
    return any(name == host or name == f"*.{host.partition('.')[2]}" for name in names)
