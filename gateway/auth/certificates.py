"""Client certificates (mTLS): names from what TLS has verified, and an identity from a name. Pure.

Facts this file rests on:
- OpenSSL has checked signature, validity and purpose before this code sees a certificate. Only this code decides
  which of its names is the identity, and whether that name is allowed.
- A certificate may hold several names of one kind. If we picked one, another service might pick another: several
  names give no identity.
- DNS names have no case; URIs, mail addresses and common names are compared byte for byte.
- A name may hold any byte, also NUL and line feed. A name that is not printable ASCII is no identity: names go into
  logs, metrics and headers. Beside one that is, it counts as another name.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from gateway.errors import refuse
from gateway.model.account_names import CERTIFICATE
from gateway.model.identity import ClientCertificate, Identity, Profile
from gateway.model.reasons import Reason, Why

NameKind = Literal["uri", "dns", "email", "cn"]
_NAME: Final = re.compile(r"[\x21-\x7e]{1,255}")
_ODD: Final = "(not-printable)"
_ACCEPTED: Final = ("certificate", "accepted")
_CALLED: Final[Mapping[NameKind, str]] = {
    "uri": "URI in the subjectAltName",
    "dns": "DNS name in the subjectAltName",
    "email": "mail address in the subjectAltName",
    "cn": "common name (CN) in the subject",
}
_SEVERAL: Final = "The client certificate is ambiguous: exactly one {} may stand for its bearer, and it has several."
_UNLISTED: Final = "The client certificate is valid, but its {} is not allowed here."


@dataclass(frozen=True, slots=True)
class CertificateRules:
    """Which name of a certificate is the identity, and what its bearer may do.

    `names` holds the allowed names; when it is empty, every name that the CA has signed is allowed, with `profile`.
    """

    identity: NameKind
    profile: Profile
    names: Mapping[str, Identity]


def read_certificate(
    shown: Mapping[str, Any], not_after: float | None = None, chain: frozenset[bytes] = frozenset()
) -> ClientCertificate:
    """Reads the names from `ssl.SSLObject.getpeercert()` of a verified certificate.

    `not_after` is when it ends, in seconds since the epoch; `chain` is what it was verified by.
    """
    alternative = [entry for entry in shown.get("subjectAltName", ()) if len(entry) == len(("kind", "name"))]
    subject = [attribute for rdn in shown.get("subject", ()) for attribute in rdn]
    return ClientCertificate(
        uri=_usable("uri", (name for kind, name in alternative if kind == "URI")),
        dns=_usable("dns", (name for kind, name in alternative if kind == "DNS")),
        email=_usable("email", (name for kind, name in alternative if kind == "email")),
        cn=_usable("cn", (name for kind, name in subject if kind == "commonName")),
        not_after=not_after,
        chain=chain,
    )


def certificate_identity(certificate: ClientCertificate | None, rules: CertificateRules) -> Identity | None:
    """Finds the identity of a certificate; None without a certificate, or without a name of the configured kind.

    Raises:
        Refused: unauthenticated, when it has several such names, or one that is not allowed.
    """
    names: tuple[str, ...] = () if certificate is None else getattr(certificate, rules.identity)
    if not names:
        return None
    if len(names) > 1:
        raise refuse(Reason.UNAUTHENTICATED, _SEVERAL.format(_CALLED[rules.identity]), Why.AMBIGUOUS)
    identity = rules.names.get(names[0]) if rules.names else identity_named(names[0], rules.profile)
    if identity is None:
        raise refuse(Reason.UNAUTHENTICATED, _UNLISTED.format(_CALLED[rules.identity]), Why.NAME)
    return replace(identity, expires_at=None if certificate is None else certificate.not_after)


def identity_named(name: str, profile: Profile) -> Identity:
    """The identity of the caller whom a certificate names so."""
    owner = CERTIFICATE + name
    return Identity(key_id=owner, owner=owner, profile=profile, label=_ACCEPTED, account=owner)


def _usable(kind: NameKind, names: Iterable[str]) -> tuple[str, ...]:
    """The names without duplicates, in order; none if none is printable, else _ODD for each that is not."""
    distinct = tuple(dict.fromkeys(folded(kind, name) for name in names))
    printable = tuple(name if _is_printable(name) else _ODD for name in distinct)
    return printable if any(map(_is_printable, distinct)) else ()


def folded(kind: NameKind, name: str) -> str:
    """A name in the spelling in which names are compared."""
    return name.lower() if kind == "dns" and _is_printable(name) else name


def _is_printable(name: str) -> bool:
    return _NAME.fullmatch(name) is not None
