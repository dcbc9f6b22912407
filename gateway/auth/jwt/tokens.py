"""Maps a signed token to an identity: pure.

The token's issuer selects the configuration, and with it the algorithms and keys; the header only says which of these
the bearer means. Before its signature is verified, nothing of a token is used except to find the key for that.
"""

from collections.abc import Mapping
from typing import Final

from gateway.auth.jwt.claims import Issuer, invalid, judge, with_bearer
from gateway.auth.jwt.jws import Token, read_token
from gateway.errors import GatewayError, Refused, refuse
from gateway.model.identity import Identity, Profile
from gateway.model.reasons import Reason, Why

_NOT_THERE: Final = "The keys of this token's issuer are not there yet; try again in a moment."


class KeyUnknown(GatewayError):
    """The keys we hold can't verify a token: they may be old. `issuer` says whose keys to fetch again.

    `refusal` is the answer if the fetch doesn't help.
    """

    def __init__(self, issuer: str, refusal: Refused) -> None:
        self.issuer = issuer
        self.refusal = refusal
        super().__init__("the keys of an issuer do not hold the one that a token names")


def identify(token: bytes, issuers: Mapping[str, Issuer], profiles: Mapping[str, Profile], now: float) -> Identity:
    """Judges one token; `now` is in seconds since the epoch. Raises nothing else.

    Raises:
        Refused: token_invalid, token_expired (of tokens that were good once), or forbidden.
        KeyUnknown: other keys of the issuer might verify it.
    """
    read = read_token(token)
    name = None if read is None else read.claims.get("iss")
    issuer = issuers.get(name) if isinstance(name, str) else None
    if read is None:
        raise invalid(Why.MALFORMED)
    if issuer is None:
        raise invalid(Why.ISSUER)
    _require_signed(read, issuer)
    # These claims are the very bytes that the signature covers, verified with a key of the issuer they name.
    try:
        return judge(read.claims, issuer, profiles, now)
    except Refused as refused:
        named = with_bearer(refused, read.claims, issuer)
    raise named


def _require_signed(token: Token, issuer: Issuer) -> None:
    if token.algorithm not in issuer.algorithms:
        raise invalid(Why.ALGORITHM)
    if issuer.keys is None:
        raise KeyUnknown(issuer.name, refuse(Reason.TOKEN_INVALID, _NOT_THERE, Why.KEYS_NOT_THERE))
    if not issuer.keys.knows(token.kid):
        raise KeyUnknown(issuer.name, invalid(Why.UNKNOWN_KEY))
    key = issuer.keys.find(token.algorithm, token.kid)
    if key is None:
        raise invalid(Why.UNKNOWN_KEY)
    if not key.verifies(token.algorithm, token.signed, token.signature):
        raise invalid(Why.SIGNATURE)
