"""Who is calling: the authenticators in order, and what a failed attempt costs its address."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from gateway.auth.apikey import find_key
from gateway.auth.credential import credential_of
from gateway.errors import Refused, refuse
from gateway.limits.logins import BadLogins
from gateway.model import Denial, Identity, Reason
from gateway.state import State

_REJECTED: Final = ("api_key", "rejected")
_MISSING: Final = "Send an API key as X-API-Key or as Authorization: Bearer."
_UNKNOWN: Final = "This API key is not known here, or no more."
_ELSEWHERE: Final = "This key may not be used from this address."
_TOO_MANY: Final = "Too many credentials from this address failed; good ones are not affected."


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of a look at a request's credential: an identity, or why there is none.

    `label` is (method, result) in words of closed sets, for the metrics.
    """

    label: tuple[str, str]
    identity: Identity | None = None
    refusal: Refused | None = None

    @property
    def key_id(self) -> str | None:
        """The id of the key that was recognized, usable or not."""
        return self.identity.key_id if self.identity else None

    def identity_or_refuse(self) -> Identity:
        """The identity.

        Raises:
            Refused: why there is none, or why it may not be used from here.
        """
        if self.refusal is not None or self.identity is None:
            raise self.refusal or refuse(Reason.UNAUTHENTICATED, _MISSING)
        return self.identity


class Login:
    """Looks at credentials. Holds what addresses have failed lately, and nothing else."""

    def __init__(self) -> None:
        self._bad_logins = BadLogins()

    def attempt(
        self, state: State, known: Mapping[bytes, list[bytes]], address: IPv4Address | IPv6Address, now: float
    ) -> Attempt:
        """Judges the credential of one request; `now` is in seconds of a monotonic clock.

        Raises:
            Refused: bad_request, for more than one credential.
        """
        try:
            credential = credential_of(known)
        except Refused as refused:
            if refused.denial.reason is not Reason.UNAUTHENTICATED:
                raise
            return Attempt(("none", "malformed"), refusal=refused)
        if credential is None:
            return Attempt(("none", "missing"), refusal=refuse(Reason.UNAUTHENTICATED, _MISSING))
        key = find_key(credential, state.keys) if state.api_keys_enabled else None
        if key is None:
            return Attempt(_REJECTED, refusal=self._failed(state, address, now))
        if key.networks and address not in key.networks:
            elsewhere = refuse(Reason.ADDRESS_DENIED, _ELSEWHERE)
            return Attempt(key.identity.label, key.identity, elsewhere)
        return Attempt(key.identity.label, key.identity)

    def _failed(self, state: State, address: IPv4Address | IPv6Address, now: float) -> Refused:
        wait = self._bad_logins.failed(address, now, state.bad_logins)
        if wait is None:
            return refuse(Reason.UNAUTHENTICATED, _UNKNOWN)
        return Refused(Denial(Reason.TOO_MANY_BAD_LOGINS, _TOO_MANY, retry_after=wait))
