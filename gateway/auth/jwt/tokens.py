"""A signed token becomes an identity: pure.

The issuer that a token names picks the configuration, and that picks the algorithms and the keys; the header only
says which of them the bearer means. Nothing a token says is used before its signature has been verified, but to find
the key for that.
"""

from collections.abc import Mapping
from typing import Final

from gateway.auth.jwt.claims import Issuer, invalid, judge
from gateway.auth.jwt.jws import Token, read_token
from gateway.errors import GatewayError, Refused, refuse
from gateway.model.caller import Identity, Profile
from gateway.model.reasons import Reason

_NOT_THERE: Final = "The keys of this token's issuer are not there yet; try again in a moment."


class KeyUnknown(GatewayError):
    """A token can't be judged by the keys that are held: they may be old. `issuer` says whose to fetch again.

    `refusal` is the answer if that brings nothing new.
    """

    def __init__(self, issuer: str, refusal: Refused) -> None:
        self.issuer = issuer
        self.refusal = refusal
        super().__init__("the keys of an issuer do not hold the one that a token names")


def identify(token: bytes, issuers: Mapping[str, Issuer], profiles: Mapping[str, Profile], now: float) -> Identity:
    """Judges one token; `now` is in seconds since the epoch. It raises nothing but what is named here.

    Raises:
        Refused: token_invalid, token_expired (of tokens that were good once), or forbidden.
        KeyUnknown: when other keys of the issuer might verify it.
    """
    read = read_token(token)
    name = None if read is None else read.claims.get("iss")
    issuer = issuers.get(name) if isinstance(name, str) else None
    if read is None or issuer is None or not _is_signed(read, issuer):
        raise invalid()
    # These are the claims of the very bytes that the signature covers, and its key is that of the issuer they name.
    return judge(read.claims, issuer, profiles, now)


def _is_signed(token: Token, issuer: Issuer) -> bool:
    if token.algorithm not in issuer.algorithms:
        return False
    if issuer.keys is None:
        raise KeyUnknown(issuer.name, refuse(Reason.TOKEN_INVALID, _NOT_THERE))
    if not issuer.keys.knows(token.kid):
        raise KeyUnknown(issuer.name, invalid())
    key = issuer.keys.find(token.algorithm, token.kid)
    return key is not None and key.verifies(token.algorithm, token.signed, token.signature)
