"""Whether a client certificate would be accepted: by the CAs of tls.client_ca, and by its names. Pure.

OpenSSL judges in the handshake; here are the things that it refuses most: another CA, another time, another purpose.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.admin.judged import Judged
from gateway.auth.certificates import CertificateRules, certificate_identity, read_certificate
from gateway.auth.validity import check_not_blocked
from gateway.config.state import State
from gateway.errors import Refused
from gateway.model.identity import ClientCertificate
from gateway.model.reasons import Why

_DEEPEST: Final = 10


def judge_certificate(
    state: State, chain: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate], now: datetime
) -> Judged:
    """Judges the first certificate of a chain; `trusted` are the CAs, `now` is in UTC."""
    leaf = chain[0]
    if not trusted:
        return Judged(
            None, "clients are not asked for a certificate", "Set tls.client_ca and tls.client_certificates."
        )
    fault = _fault(leaf, chain[1:], trusted, now)
    if fault is not None:
        return Judged(None, f"{fault} (TLS refuses it: the client gets an alert, the log the event)", _HELP)
    if state.certificates is None:
        return Judged(None, "good for TLS, but names nobody", "Set authentication.certificates.identity.")
    return _named(state, state.certificates, read_certificate(names_of(leaf), leaf.not_valid_after_utc.timestamp()))


def _named(state: State, rules: CertificateRules, shown: ClientCertificate) -> Judged:
    """The judgement by its names, of one that is good for TLS."""
    try:
        identity = certificate_identity(shown, rules)
        if identity is None:
            told = f"good for TLS, but has no {rules.identity} name"
            return Judged(None, told, "See authentication.certificates.identity.")
        check_not_blocked(identity, state.blocked)
    except Refused as refused:
        help_ = _UNBLOCK if refused.denial.why is Why.BLOCKED else _OTHER_NAME
        return Judged(None, f"{refused.denial.why}: {refused.denial.detail}", help_, refused.denial)
    return Judged(identity, f"good: owner {identity.owner}, profile {identity.profile.name}")


_OTHER_NAME: Final = (
    "Write its name under authentication.certificates.names, or make one with a single name of this kind."
)
_UNBLOCK: Final = "An administrator has blocked its owner: `gateway callers unblock` lets him in again."
_HELP: Final = (
    "A certificate that is valid now, for clients, issued by a CA of tls.client_ca, sent with its intermediates."
)


def described_certificate(leaf: x509.Certificate) -> str:
    """What a certificate says of itself."""
    names = [f"{kind} {name}" for kind, name in names_of(leaf)["subjectAltName"]]
    subject, issuer = leaf.subject.rfc4514_string(), leaf.issuer.rfc4514_string()
    until = f"{leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
    return f"{subject or 'no subject'}; {', '.join(names) or 'no names'}; until {until}; issued by {issuer}"


def names_of(leaf: x509.Certificate) -> dict[str, Any]:
    """Its names in the form of ssl.SSLSocket.getpeercert()."""
    try:
        alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        alternative = x509.SubjectAlternativeName([])
    kinds = (("DNS", x509.DNSName), ("URI", x509.UniformResourceIdentifier), ("email", x509.RFC822Name))
    common = [("commonName", str(entry.value)) for entry in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return {
        "subjectAltName": tuple(
            (kind, name) for kind, form in kinds for name in alternative.get_values_for_type(form)
        ),
        "subject": tuple((entry,) for entry in common),
    }


def _fault(
    leaf: x509.Certificate, others: Iterable[x509.Certificate], trusted: Sequence[x509.Certificate], now: datetime
) -> str | None:
    if now < leaf.not_valid_before_utc:
        return f"not_yet_valid: it begins {leaf.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}"
    if now >= leaf.not_valid_after_utc:
        return f"expired: it ended {leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
    if not _is_for_clients(leaf):
        return "purpose: its extendedKeyUsage has no clientAuth"
    if not _leads_to(leaf, list(others), trusted):
        names = "; ".join(ca.subject.rfc4514_string() for ca in trusted)
        return f"issuer: no CA of tls.client_ca signed it ({names})"
    return None


def _leads_to(
    leaf: x509.Certificate, others: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate]
) -> bool:
    current = leaf
    for _ in range(_DEEPEST):
        if any(_issued(ca, current) for ca in trusted):
            return True
        following = next((other for other in others if other != current and _issued(other, current)), None)
        if following is None:
            return False
        current = following
    return False


def _issued(ca: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_for_clients(leaf: x509.Certificate) -> bool:
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.CLIENT_AUTH in usage or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage
