"""The keys of an issuer, from a JWKS, a PEM file or a shared secret: pure.

A set holds only usable keys. Each key says which algorithms it verifies, by its own type and size (RFC 7518 3.1, RFC
8037) and, where a JWK has an `alg`, by that. So a token's header can only choose among the algorithms of the key. A
JWK that is for another use, or malformed, is skipped and counted by reason; the others are not affected. Ed448 is
skipped: it is hardly used, and each further algorithm adds risk.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import get_default_algorithms
from jwt.exceptions import InvalidKeyError

from gateway.auth.jwt.jwk import BadKey, PublicKey, algorithms_of, read_jwk
from gateway.errors import GatewayError
from gateway.http.strict_json import read_texts

_ALGORITHMS: Final = get_default_algorithms()
_HMAC: Final = frozenset({"HS256", "HS384", "HS512"})
LEAST_SECRET: Final = 32  # bytes, of a shared secret
_MAX_KEYS: Final = 100
MAX_DOCUMENT: Final = 256 * 1024  # bytes of a JWKS or PEM, fetched or from a file


class NoKeys(GatewayError):
    """No key set can be made from a document. The message holds only our words: it may be logged and shown."""


@dataclass(frozen=True, slots=True)
class JwtKey:
    """One key: its kid (None: unnamed), the algorithms it verifies, and the key itself (bytes: a shared secret)."""

    kid: str | None
    algorithms: frozenset[str]
    material: PublicKey | bytes = field(repr=False)

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Whether the signature was made by this key, with one of its algorithms."""
        if algorithm not in self.algorithms:
            return False
        # RFC 8017 8.1.2: as long as the modulus. OpenSSL also accepts a PSS signature without its leading zeros.
        if isinstance(self.material, RSAPublicKey) and len(signature) != (self.material.key_size + 7) // 8:
            return False
        try:
            return bool(_ALGORITHMS[algorithm].verify(signed, self.material, signature))
        except Exception:  # noqa: BLE001 -- a hostile signature may make a library raise anything: it does not verify
            return False


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of one issuer, and how many were skipped, by reason.

    `is_single`: a PEM file or a secret holds just one key, without a name; then a token's kid is ignored.
    """

    keys: tuple[JwtKey, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)
    is_single: bool = False

    def knows(self, kid: str | None) -> bool:
        """Whether a token's kid names a key of this set; a token without kid needs no name."""
        return kid is None or self.is_single or any(key.kid == kid for key in self.keys)

    def find(self, algorithm: str, kid: str | None) -> JwtKey | None:
        """The key that verifies a token; None when no key fits, or when several do and the token has no kid."""
        named = kid is not None and not self.is_single
        fitting = [key for key in self.keys if algorithm in key.algorithms and (not named or key.kid == kid)]
        return fitting[0] if len(fitting) == 1 else None


def read_jwks(document: bytes, algorithms: Collection[str]) -> KeySet:
    """Parses a JWK set (RFC 7517 5). Of several keys with one kid, the first sound one is used.

    Raises:
        NoKeys: it is not a JWK set, holds more than 100 keys, or no key for any of the algorithms.
    """
    jwks = _listed(document)
    found: dict[object, JwtKey] = {}
    skipped: Counter[str] = Counter()
    for number, jwk in enumerate(jwks):
        try:
            kid, material, fitting = read_jwk(jwk)
        except BadKey as bad:
            skipped[bad.why] += 1
            continue
        name: object = number if kid is None else kid
        if name in found:
            skipped["duplicate_kid"] += 1
        else:
            found[name] = JwtKey(kid, fitting, material)
    return _fitting(KeySet(tuple(found.values()), dict(skipped)), algorithms)


def read_pem(document: bytes, algorithms: Collection[str]) -> KeySet:
    """Reads the one public key of a PEM file (BEGIN PUBLIC KEY, or BEGIN RSA PUBLIC KEY).

    Raises:
        NoKeys: it holds something else or more, or a key that verifies none of the algorithms.
    """
    if document.count(b"-----BEGIN ") != 1:
        raise NoKeys("is not a PEM file of exactly one public key")
    if b"PRIVATE KEY-----" in document:
        raise NoKeys("is a private key; only the public half belongs here")
    try:
        material = load_pem_public_key(document)
    except Exception:  # noqa: BLE001 -- ValueError, UnsupportedAlgorithm, and what OpenSSL may think of next
        raise NoKeys("holds no public key that can be read") from None
    if not isinstance(material, PublicKey):
        raise NoKeys("holds a public key that is not used here: other type")
    try:
        key = JwtKey(None, algorithms_of(material), material)
    except BadKey as bad:
        raise NoKeys(f"holds a public key that is not used here: {bad.why.replace('_', ' ')}") from None
    return _fitting(KeySet((key,), is_single=True), algorithms)


def read_secret(secret: bytes, algorithms: Collection[str]) -> KeySet:
    """Makes the set of a shared secret.

    Raises:
        NoKeys: it is shorter than 32 bytes, or is a public key and so not a secret.
    """
    if len(secret) < LEAST_SECRET:
        raise NoKeys(f"is shorter than {LEAST_SECRET} bytes")
    try:
        _ALGORITHMS["HS256"].prepare_key(secret)
    except InvalidKeyError:
        raise NoKeys("is a key of another kind, not a shared secret") from None
    return _fitting(KeySet((JwtKey(None, _HMAC, secret),), is_single=True), algorithms)


def _listed(document: bytes) -> list[Any]:
    jwks = (read_texts(document) or {}).get("keys")  # no number of it is needed, and many are dear
    if not isinstance(jwks, list):
        raise NoKeys("is not a JWK set")
    if len(jwks) > _MAX_KEYS:
        raise NoKeys(f"holds more than {_MAX_KEYS} keys")
    return jwks


def _fitting(keys: KeySet, algorithms: Collection[str]) -> KeySet:
    # An issuer that briefly serves an empty set is broken, not without keys: the last good set is better.
    if not any(key.algorithms.intersection(algorithms) for key in keys.keys):
        raise NoKeys("holds no key that can be used for the algorithms of this issuer")
    return keys
