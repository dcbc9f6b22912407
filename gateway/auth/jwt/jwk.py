"""Parses one JSON Web Key (RFC 7517, 7518 6, 8037) into a public key for verification: pure.

Parsed by hand with cryptography's number types: PyJWT's parser accepts any base64, private keys, and RSA keys of any
size. The words of a BadKey are a closed set, because logs show them.
"""

from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    EllipticCurve,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from gateway.auth.jwt.base64url import decode_base64url
from gateway.auth.jwt.jws import MAX_KID
from gateway.errors import GatewayError

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_BY_CURVE: Final = {"secp256r1": frozenset({"ES256"}), "secp384r1": frozenset({"ES384"})}
_EDWARDS: Final = frozenset({"EdDSA"})
# Below 2048 bits RSA can be broken (NIST SP 800-131A); above 8192 each signature costs milliseconds.
_RSA_BITS: Final = range(2048, 8193)
# FIPS 186-5 5.1 requires more than 2^16. In practice all keys use 65537, and a huge exponent only costs time.
_EXPONENTS: Final = range(65537, 2**32, 2)
_CURVES: Final[dict[str, EllipticCurve]] = {"P-256": SECP256R1(), "P-384": SECP384R1()}
# `oth` and the primes are private parts, too (RFC 7518 6.3.2); `k` is a whole shared secret.
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class BadKey(GatewayError):
    """A key that is refused. `why` is a word for the log."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


def read_jwk(jwk: object) -> tuple[str | None, PublicKey, frozenset[str]]:
    """Parses one JWK: its kid, the key, and the algorithms that it verifies.

    Raises:
        BadKey: it is not for signatures, not public, of an unsupported type, weak, or malformed.
    """
    if not isinstance(jwk, dict):
        raise BadKey("malformed")
    kid = jwk.get("kid")
    if "kid" in jwk and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID):
        raise BadKey("malformed")
    _check_purpose(jwk)
    key = _public_key(jwk)
    algorithms = algorithms_of(key)
    if "alg" not in jwk:
        return kid, key, algorithms
    if not isinstance(jwk["alg"], str) or jwk["alg"] not in algorithms:
        raise BadKey("other_algorithm")
    return kid, key, frozenset({jwk["alg"]})


def algorithms_of(key: PublicKey) -> frozenset[str]:
    """The algorithms that a public key verifies, by its type, curve and size.

    Raises:
        BadKey: it verifies none.
    """
    if isinstance(key, RSAPublicKey):
        _check_rsa(key.public_numbers())
        return _RSA
    if isinstance(key, Ed25519PublicKey):
        return _EDWARDS
    algorithms = _BY_CURVE.get(key.curve.name)
    if algorithms is None:
        raise BadKey("other_type")
    return algorithms


def _check_purpose(jwk: dict[str, Any]) -> None:
    if not _PRIVATE.isdisjoint(jwk):
        raise BadKey("private")
    if jwk.get("use", "sig") != "sig":
        raise BadKey("other_use")
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise BadKey("other_use")


def _public_key(jwk: dict[str, Any]) -> PublicKey:
    kind, curve = jwk.get("kty"), jwk.get("crv")
    try:
        if kind == "RSA":
            return _rsa(_octets(jwk, "n"), _octets(jwk, "e"))
        if kind == "EC" and isinstance(curve, str) and curve in _CURVES:
            return _elliptic(_CURVES[curve], _octets(jwk, "x"), _octets(jwk, "y"))
        if kind == "OKP" and curve == "Ed25519":
            return Ed25519PublicKey.from_public_bytes(_octets(jwk, "x"))
    except BadKey:
        raise
    except Exception:  # noqa: BLE001 -- a point off its curve, a wrong length, and whatever else OpenSSL refuses
        raise BadKey("malformed") from None
    raise BadKey("other_type")


def _rsa(modulus: bytes, exponent: bytes) -> RSAPublicKey:
    numbers = RSAPublicNumbers(int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big"))
    _check_rsa(numbers)  # before OpenSSL sees them: it refuses by rules of its own
    return numbers.public_key()


def _check_rsa(numbers: RSAPublicNumbers) -> None:
    if numbers.n.bit_length() not in _RSA_BITS:
        raise BadKey("rsa_size")
    if numbers.e not in _EXPONENTS:
        raise BadKey("rsa_exponent")
    if numbers.n % 2 == 0:
        raise BadKey("malformed")


def _elliptic(curve: EllipticCurve, x: bytes, y: bytes) -> EllipticCurvePublicKey:
    if len(x) != len(y) or len(x) * 8 != curve.key_size:  # RFC 7518 6.2.1.2: leading zeros are written
        raise BadKey("malformed")
    return EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve).public_key()


def _octets(jwk: dict[str, Any], name: str) -> bytes:
    value = jwk.get(name)
    data = decode_base64url(value.encode("ascii", "replace")) if isinstance(value, str) else None
    if data is None:
        raise BadKey("malformed")
    return data
