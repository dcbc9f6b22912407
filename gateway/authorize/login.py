"""Authentication: tries the authenticators in order, and throttles the failed attempts of an address."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from gateway.auth.api_keys import ApiKey, digest_of, find_key
from gateway.auth.certificates import certificate_identity
from gateway.auth.credential import credential_of
from gateway.auth.jwt.tokens import KeyUnknown, identify
from gateway.auth.key_secrets import PREFIX, is_secret
from gateway.auth.keyring import Closed
from gateway.auth.validity import check_key_address, check_not_blocked, check_not_expired
from gateway.config.state import Live, State
from gateway.errors import Refused, refuse
from gateway.limits.bad_logins import BadLogins
from gateway.model.identity import ClientCertificate, Identity
from gateway.model.reasons import Denial, Reason, Why

_MISSING: Final = "Send an API key as X-API-Key or as Authorization: Bearer."
_UNKNOWN: Final = "This API key is unknown or was removed."
_NOT_WHOLE: Final = "This API key is not whole: its checksum does not fit (was it cut off when it was copied?)."
_TOO_MANY: Final = "Too many credentials from this address failed; good ones are not affected."


class Evidence(NamedTuple):
    """Evidence about a caller besides the headers: the address we trust, and the client certificate."""

    address: IPv4Address | IPv6Address
    certificate: ClientCertificate | None = None


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """The result of checking a request's credential: an identity, or why there is none.

    `label` is (method, result) for the metrics, from closed sets of words.
    """

    label: tuple[str, str]
    identity: Identity | None = None
    refusal: Refused | None = None
    closed_id: str | None = None

    @property
    def key_id(self) -> str | None:
        """The id of the recognized key, whether usable or not."""
        return self.identity.key_id if self.identity else self.closed_id

    def identity_or_refuse(self) -> Identity:
        """Returns the identity.

        Raises:
            Refused: why it is missing, or why it may not be used from this address.
        """
        if self.refusal is not None or self.identity is None:
            raise self.refusal or refuse(Reason.UNAUTHENTICATED, _MISSING)
        return self.identity


class Login:
    """Checks credentials. Its only state is the addresses with recent failures.

    `refetch` fetches an issuer's keys (JWKS) again, and returns whether they have changed. `wall` is in seconds since
    the epoch, for the expiry of keys and tokens.
    """

    def __init__(self, live: Live, refetch: Callable[[str], Awaitable[bool]], wall: Callable[[], float]) -> None:
        self._live = live
        self._refetch = refetch
        self._wall = wall
        self._bad_logins = BadLogins()

    async def attempt(
        self, state: State, known: Mapping[bytes, list[bytes]], peer: Evidence, now: float
    ) -> LoginAttempt:
        """Checks the credential of one request; `now` is in seconds of a monotonic clock.

        Raises:
            Refused: bad_request, for more than one credential.
        """
        try:
            credential = credential_of(known)
        except Refused as refused:
            if refused.denial.reason is not Reason.UNAUTHENTICATED:
                raise
            return LoginAttempt(("none", "malformed"), refusal=refused)
        if credential is None:
            return _unless_blocked(state, _by_certificate(state, peer.certificate, self._wall()))
        return await self._by_credential(state, credential, peer, now)

    async def _by_credential(self, state: State, credential: bytes, peer: Evidence, now: float) -> LoginAttempt:
        key = find_key(credential, state.keys, state.ring) if state.api_keys_enabled else None
        if key is not None:
            return self._by_key(state, key, peer, now)
        closed = state.ring.closed(digest_of(credential))
        if closed is not None or not state.issuers or credential.startswith(PREFIX):
            refusal = _of_closed(closed) if closed else _of_unknown(credential)
            attempt = self._failed(state, peer, now, ("api_key", "rejected"), refusal)
            return replace(attempt, closed_id=closed.key_id) if closed else attempt
        try:
            return _unless_blocked(state, await self._by_token(state, credential))
        except Refused as refused:
            if refused.denial.reason is Reason.FORBIDDEN:
                return LoginAttempt(("jwt", "forbidden"), refusal=refused)
            return self._failed(state, peer, now, ("jwt", "rejected"), refused)

    def _by_key(self, state: State, key: ApiKey, peer: Evidence, now: float) -> LoginAttempt:
        identity = key.identity
        try:
            check_not_expired(identity, self._wall())
        except Refused as expired:
            attempt = self._failed(state, peer, now, ("api_key", "expired"), expired)
            return replace(attempt, closed_id=identity.key_id)
        try:
            check_key_address(key, peer.address)
        except Refused as refused:
            return LoginAttempt(identity.label, identity, refused)
        return LoginAttempt(identity.label, identity)

    async def _by_token(self, state: State, token: bytes) -> LoginAttempt:
        now = self._wall()
        identity = state.tokens.get(token, now)
        if identity is None:
            try:
                identity = identify(token, state.issuers, state.profiles, now)
            except KeyUnknown as unknown:
                is_new = await self._refetch(unknown.issuer)
                if not is_new and self._live.state.issuers is state.issuers:
                    raise unknown.refusal from None
                identity = self._identify_again(token, state, now)
            state.tokens.put(token, identity)
        return LoginAttempt(identity.label, identity)

    def _identify_again(self, token: bytes, state: State, now: float) -> Identity:
        """Tries again with the keys just fetched, which are in a newer State."""
        try:
            return identify(token, self._live.state.issuers, state.profiles, now)
        except KeyUnknown as unknown:
            raise unknown.refusal from None

    def _failed(
        self, state: State, peer: Evidence, now: float, label: tuple[str, str], refusal: Refused
    ) -> LoginAttempt:
        wait = self._bad_logins.count_failure(peer.address, now, state.bad_logins)
        if wait is None:
            return LoginAttempt(label, refusal=refusal)
        why, bearer = refusal.denial.why, refusal.denial.bearer
        throttled = Denial(Reason.TOO_MANY_BAD_LOGINS, _TOO_MANY, retry_after=wait, why=why, bearer=bearer)
        return LoginAttempt(label, refusal=Refused(throttled))


def _unless_blocked(state: State, attempt: LoginAttempt) -> LoginAttempt:
    """The attempt, or its refusal; who he is stays known."""
    if attempt.identity is None:
        return attempt
    try:
        check_not_blocked(attempt.identity, state.blocked)
    except Refused as refused:
        method, result = attempt.label
        is_blocked = refused.denial.reason is Reason.FORBIDDEN
        return replace(attempt, label=(method, "forbidden" if is_blocked else result), refusal=refused)
    return attempt


def _of_closed(closed: Closed) -> Refused:
    return refuse(Reason.UNAUTHENTICATED, closed.why, Why.CLOSED)


def _of_unknown(credential: bytes) -> Refused:
    """What the client may learn: the checksum shows a cut-off key, but reveals nothing of the existing keys."""
    if credential.startswith(PREFIX) and not is_secret(credential):
        return refuse(Reason.UNAUTHENTICATED, _NOT_WHOLE, Why.NOT_WHOLE)
    return refuse(Reason.UNAUTHENTICATED, _UNKNOWN, Why.NOT_KNOWN)


def _by_certificate(state: State, certificate: ClientCertificate | None, now: float) -> LoginAttempt:
    """A certificate gives an identity only if the request has no credential, and a mapping names the identity."""
    identity = None
    if state.certificates is not None and certificate is not None:
        try:
            identity = certificate_identity(certificate, state.certificates)
            if identity is not None:
                check_not_expired(identity, now)
        except Refused as refused:
            return LoginAttempt(("certificate", "rejected"), refusal=refused)
    if identity is None:
        return LoginAttempt(("none", "missing"), refusal=refuse(Reason.UNAUTHENTICATED, _MISSING))
    return LoginAttempt(identity.label, identity)
