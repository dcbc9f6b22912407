"""Is a caller's credential valid now, from this address, and not blocked (denylist)? Pure.

And has the client certificate expired that a connection must have (mTLS)? Checked when a request arrives (login.py),
each time it has waited (recheck.py), and by `gateway explain`: the same code for all. Times are in seconds since the
epoch.
"""

from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from gateway.auth.api_keys import ApiKey
from gateway.auth.jwt.claims import expired
from gateway.errors import ledger_unavailable, refuse
from gateway.model.identity import ClientCertificate, Identity
from gateway.model.reasons import Reason, Why

_KEY_EXPIRED: Final = "This API key has expired."
_REPLACED: Final = "This secret was replaced and has ended; use the key's newer one."
_CERTIFICATE_EXPIRED: Final = "The client certificate of this connection has expired."
_ELSEWHERE: Final = "This key may not be used from this address."
_BLOCKED: Final = "This caller is blocked here."
_NOT_KNOWN_YET: Final = "The ledger has not been read since the start, so it is not known who is blocked."
_NO_CERTIFICATE: Final = "This service asks for a client certificate, and the connection has none."


def check_not_expired(identity: Identity, now: float) -> None:
    """Checks that a key, token or certificate has not expired.

    Raises:
        Refused: unauthenticated, or token_expired.
    """
    if identity.expires_at is None or now < identity.expires_at:
        return
    if identity.label[0] == "jwt":
        raise expired()
    if identity.replaced_until is not None and now < identity.replaced_until:
        raise refuse(Reason.UNAUTHENTICATED, _REPLACED, Why.REPLACED)
    detail = _KEY_EXPIRED if identity.label[0] == "api_key" else _CERTIFICATE_EXPIRED
    raise refuse(Reason.UNAUTHENTICATED, detail, Why.EXPIRED)


def check_not_blocked(identity: Identity, blocked: Collection[str] | None) -> None:
    """Checks that no administrator has blocked the caller of a token or certificate.

    Raises:
        Refused: forbidden; ledger_unavailable, while nobody knows who is blocked.
    """
    if blocked is None and identity.label[0] != "api_key":
        raise ledger_unavailable(_NOT_KNOWN_YET)
    if blocked and identity.account in blocked:
        raise refuse(Reason.FORBIDDEN, _BLOCKED, Why.BLOCKED)


def check_key_address(key: ApiKey, address: IPv4Address | IPv6Address) -> None:
    """Checks that a key may be used from an address.

    Raises:
        Refused: address_denied.
    """
    if key.networks and address not in key.networks:
        raise refuse(Reason.ADDRESS_DENIED, _ELSEWHERE)


def check_required_certificate(certificate: ClientCertificate | None, now: float) -> None:
    """Where client certificates are required: checks that the connection has one, and that it has not expired.

    Raises:
        Refused: unauthenticated.
    """
    if certificate is None:
        raise refuse(Reason.UNAUTHENTICATED, _NO_CERTIFICATE, Why.MISSING)
    if certificate.not_after is not None and now >= certificate.not_after:
        raise refuse(Reason.UNAUTHENTICATED, _CERTIFICATE_EXPIRED, Why.EXPIRED)
