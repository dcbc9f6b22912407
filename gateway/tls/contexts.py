"""TLS of the public listener: Mozilla's profiles, certificates by SNI, and certificate reload without a restart.

Facts this file rests on:
- load_cert_chain with a bad pair breaks a context in use. So every load makes new contexts, and they replace the old
  ones only if all pairs are good.
- An sni_callback runs in every handshake, with SNI or without, and may switch the handshake to another context.
- The keys of session tickets are those of a handshake's first context: with one pair they end with it, by a reload.
- Kubernetes swaps a secret's files by a symlink, certbot writes them anew: changes are detected by content, not date.
- Without a password callback OpenSSL asks for an encrypted key's password on the terminal.
- In a handshake with a client certificate the CAs are those of the context that the sni_callback switched to; verify
  mode, flags and options stay those of the first context. OpenSSL itself checks purpose (clientAuth), validity,
  signatures and basic constraints.
- A resumed session keeps its client certificate unchecked. In TLS 1.3 issuing no session tickets prevents resumption.
  In TLS 1.2 a session is then found by its id in the cache of its handshake's first context, and Python can't disable
  that cache: so with client certificates each handshake begins with a context of its own.
- Without them that cache gets the sessions of clients that take no ticket: 20,480, for two hours. Those that have
  ended are let go in one piece, within a handshake; so are all, when their context goes. Each takes a microsecond,
  and a kilobyte.
"""

import re
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import NameOID

from gateway.aio.named_files import PEM_BYTES, read_named, require_named
from gateway.config.settings import CertificatePair, Settings
from gateway.config.settings.fields import HOST
from gateway.errors import ConfigurationError, Fault, FileUnusable, SetupError
from gateway.tls.client_ca import ClientCa, load_client_ca

# Mozilla's intermediate profile 5.7, TLS 1.2 part without DHE: forward secrecy and AEAD only.
_INTERMEDIATE_1_2: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)


MOST_SESSIONS: Final = 2000
"""Sessions in one context's cache; then handshakes begin with another one."""

MOST_CONTEXTS: Final = 10
"""Contexts that may be begun for that in the time of a session. Each stays, with all its sessions, for as long as a
connection lasts that began with it: one of each two thousand would keep what all have left."""

SESSION_SECONDS: Final = 7200.0

_KEY: Final = re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----")


@dataclass(frozen=True, slots=True)
class LoadedPair:
    """A checked certificate with its key: its context, its DNS names and addresses, and when it expires.

    `client_ca` has the digests of the CAs that the context trusts for client certificates; None: it requests none.
    `common_name` is the subject's, if that is a host's name or address; `rsa_bits` the size of an RSA key, else 0.
    """

    context: ssl.SSLContext
    names: tuple[str, ...]
    not_after: datetime
    client_ca: frozenset[bytes] | None = None
    addresses: tuple[str, ...] = ()
    common_name: str | None = None
    rsa_bits: int = 0


class Certificates:
    """The pairs in force. `listener_context` lives as long as the process; `swap` replaces the pairs."""

    def __init__(
        self, pairs: Sequence[LoadedPair], profile: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pairs = tuple(pairs)
        self._profile = profile
        self._clock = clock
        self._begun: deque[float] = deque(maxlen=MOST_CONTEXTS)  # when a context began because another one was full
        self._by_name = _by_name(self._pairs)
        self.listener_context = self._new_listener_context()
        self._begins = self._context_to_begin_with()

    @property
    def client_ca(self) -> frozenset[bytes] | None:
        """The digests of the CAs now trusted for client certificates; None: none are requested."""
        return self._pairs[0].client_ca

    def for_handshake(self) -> ssl.SSLContext:
        """The context with which one handshake begins.

        The caller must hold it until the handshake is over: after a HelloRetryRequest OpenSSL calls the context's
        callback again, while the handshake itself already refers to another context. Where one pair serves all names
        there is nothing to choose: the handshake begins with its context, without a callback.
        """
        if self.client_ca is not None:
            return self._new_listener_context()
        if self._begins.session_stats()["number"] >= MOST_SESSIONS:
            if self._has_begun_many:
                return self._new_listener_context()
            self._begun.append(self._clock())
            self._begins = self._new_listener_context()
        return self._begins

    @property
    def _has_begun_many(self) -> bool:
        """Whether so many were full lately that each handshake has its own: no session is resumed then."""
        begun = self._begun
        return len(begun) == MOST_CONTEXTS and self._clock() - begun[0] < SESSION_SECONDS

    def swap(self, pairs: Sequence[LoadedPair]) -> None:
        """Uses these pairs for new handshakes; open connections keep theirs."""
        self._pairs = tuple(pairs)
        self._by_name = _by_name(self._pairs)
        self._begins = self._context_to_begin_with()

    @property
    def pairs(self) -> Sequence[LoadedPair]:
        """The pairs in force, the default first."""
        return self._pairs

    def not_after_timestamp(self) -> float:
        """When the first of the certificates in force expires, in seconds since the epoch."""
        return min(pair.not_after for pair in self._pairs).timestamp()

    def _context_to_begin_with(self) -> ssl.SSLContext:
        return self._pairs[0].context if len(self._pairs) == 1 else self.listener_context

    def _new_listener_context(self) -> ssl.SSLContext:
        context = base_context(self._profile, asks=self.client_ca is not None)
        context.sni_callback = self._choose
        return context

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        pair = None
        if name:
            host = name.lower().removesuffix(".")  # RFC 6066 3 has no final dot, but some resolvers' names do
            pair = self._by_name.get(host) or self._by_name.get("*." + host.partition(".")[2])
        connection.context = (pair or self._pairs[0]).context


def load_pairs(settings: Settings) -> list[LoadedPair]:
    """Loads every pair of the public listener, the default first.

    Raises:
        ConfigurationError: for the first unusable pair, or the CAs, with the setting, its files and the reason.
    """
    with _at("tls.client_ca"):
        client_ca = load_client_ca(settings.tls)
    loaded = []
    for i, pair in enumerate((settings.tls, *settings.tls.certificates)):
        with _at(f"tls.certificates[{i - 1}]" if i else "tls"):
            loaded.append(load_pair(pair, settings.tls.profile, client_ca))
    return loaded


def load_admin_pairs(settings: Settings) -> list[LoadedPair]:
    """Loads that of the admin listener, if it has one.

    Raises:
        ConfigurationError: as above.
    """
    if settings.admin.tls is None:
        return []
    with _at("admin.tls"):
        return [load_pair(settings.admin.tls, settings.tls.profile)]


@contextmanager
def _at(setting: str) -> Iterator[None]:
    try:
        yield
    except SetupError as error:
        raise ConfigurationError([Fault(setting, str(error))]) from None


def load_pair(pair: CertificatePair, profile: str, client_ca: ClientCa | None = None) -> LoadedPair:
    """Loads one pair into a new context; with CAs, the context requests client certificates.

    Raises:
        SetupError: when it is unreadable, encrypted, mismatched, expired or not yet valid.
    """
    context = base_context(profile, asks=client_ca is not None)
    certificate = valid_certificate(pair.certificate)
    try:
        require_named(pair.private_key)  # OpenSSL would wait at a path that is not a regular file
        context.load_cert_chain(pair.certificate, pair.private_key, password=_no_password)
    except FileUnusable as error:
        raise SetupError(f"{pair.private_key} {error}") from None
    except (ssl.SSLError, OSError) as error:
        raise SetupError(_why(pair, error)) from None
    for der in () if client_ca is None else client_ca.ders:  # each on its own: 0.14 ms with the interpreter's lock
        context.load_verify_locations(cadata=der)
    trusted = None if client_ca is None else client_ca.digests
    names, addresses = _names(certificate)
    common, ends = _common_name(certificate), certificate.not_valid_after_utc
    return LoadedPair(context, names, ends, trusted, addresses, common, _rsa_bits(certificate))


def valid_certificate(path: Path) -> x509.Certificate:
    """Reads a certificate that is valid now.

    Raises:
        SetupError: when it is unreadable, expired or not yet valid.
    """
    certificate = _read_certificate(path)
    now = datetime.now(UTC)
    if certificate.not_valid_after_utc <= now:
        raise SetupError(f"{path} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    if certificate.not_valid_before_utc > now:
        raise SetupError(f"{path} is valid only from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
    return certificate


def names_of(pairs: Iterable[LoadedPair]) -> list[str]:
    """All DNS names and addresses of these certificates."""
    return [name for pair in pairs for name in (*pair.names, *pair.addresses)]


def hosts_of(pairs: Iterable[LoadedPair]) -> list[str]:
    """The hosts that these certificates name: one without a DNS name or an address, by its common name.

    Browsers do not trust a common name, but OpenSSL does. And who made such a certificate has said what this host is
    called.
    """
    found = [(names_of([pair]), pair.common_name) for pair in pairs]
    return [host for names, common in found for host in (names or ([common] if common else []))]


def names_in(path: Path) -> list[str]:
    """The DNS names and addresses of one certificate, without access to its key.

    Raises:
        SetupError: when it can't be read.
    """
    names, addresses = _names(_read_certificate(path))
    return [*names, *addresses]


def hosts_in(path: Path) -> list[str]:
    """The hosts that one certificate names, as hosts_of has them.

    Raises:
        SetupError: when it can't be read.
    """
    common = _common_name(_read_certificate(path))
    return names_in(path) or ([common] if common else [])


def fingerprint(paths: Iterable[Path]) -> str:
    """A digest of the content of these files; an unreadable file counts as empty."""
    digest = sha256()
    for path in paths:
        try:
            content = read_named(path, PEM_BYTES)
        except FileUnusable:
            content = b""
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def base_context(profile: str, *, asks: bool = False) -> ssl.SSLContext:
    """A server context of one of Mozilla's profiles, without a certificate; `asks`: requests client certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if profile == "modern" else ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_INTERMEDIATE_1_2)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.num_tickets = 1
    context.set_alpn_protocols(["http/1.1"])
    if asks:
        context.verify_mode = ssl.CERT_OPTIONAL  # a missing one gets a 401 that says so, not a failed handshake
        # Partial chain: an intermediate CA in the file is trusted without its root. Not strict: the CAs that plain
        # `openssl req -x509` makes have no key usage, and other servers trust them, too.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def _by_name(pairs: Sequence[LoadedPair]) -> dict[str, LoadedPair]:
    return {host: pair for pair in reversed(pairs) for host in hosts_of([pair])}


def _rsa_bits(certificate: x509.Certificate) -> int:
    try:
        key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):  # OpenSSL, which serves it, knows more kinds
        return 0
    return key.key_size if isinstance(key, RSAPublicKey) else 0


def _read_certificate(path: Path) -> x509.Certificate:
    content = b""
    try:
        content = read_named(path, PEM_BYTES)
        return x509.load_pem_x509_certificates(content)[0]
    except FileUnusable as error:
        raise SetupError(f"{path} {error}") from None
    except ValueError:
        instead = ", but a private key" if _KEY.search(content) else ""
        raise SetupError(f"{path} holds no PEM certificate{instead}") from None


def _names(certificate: x509.Certificate) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return (), ()
    except Exception:  # noqa: BLE001 -- cryptography raises its own error types for names that it does not know
        raise SetupError("the certificate's subjectAltName can't be read") from None
    found = extension.value
    names = tuple(name.lower() for name in found.get_values_for_type(x509.DNSName))
    return names, tuple(map(str, found.get_values_for_type(x509.IPAddress)))


def _common_name(certificate: x509.Certificate) -> str | None:
    """The subject's common name in lower case, if it is a host's name or address."""
    try:
        found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:  # a subject that can't be read
        return None
    name = str(found[0].value).lower() if len(found) == 1 else ""
    return name if HOST.fullmatch(name) else None


def _no_password() -> str:
    raise OSError("the key is encrypted; store it decrypted, readable by the gateway alone")


def _why(pair: CertificatePair, error: Exception) -> str:
    reason = getattr(error, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return f"{pair.private_key} is not the key of {pair.certificate}"
    if isinstance(error, ssl.SSLError) and not _holds_key(pair.private_key):
        return f"{pair.private_key} can't be used: it holds no PEM private key"
    if isinstance(error, ssl.SSLError):
        return f"{pair.certificate} and {pair.private_key} can't be used: {reason or 'no PEM certificate and key'}"
    return f"{pair.private_key} can't be used: {error}"


def _holds_key(path: Path) -> bool:
    try:
        return bool(_KEY.search(read_named(path, PEM_BYTES)))
    except FileUnusable:  # since it was looked at
        return False
