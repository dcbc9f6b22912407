"""Keys and signed tokens for the tests of JWTs, good ones and forged ones."""

import base64
import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

from gateway.auth.jwt.claims import Issuer
from gateway.auth.jwt.key_set import KeySet, read_jwks
from gateway.model.identity import Profile

NOW = 1_800_000_000.0
ISSUER = "https://id.example"
SECRET = b"0123456789abcdef0123456789abcdef"
CLAIMS: Mapping[str, Any] = {"iss": ISSUER, "aud": "gateway", "sub": "alice", "exp": int(NOW) + 300}
PROFILES = {name: Profile(name, 1) for name in ("default", "gold")}
RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
ASYMMETRIC = (*RSA, "ES256", "ES384", "EdDSA")
SHARED = ("HS256", "HS384", "HS512")


@cache
def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    del number  # tells keys of one size apart
    return rsa.generate_private_key(65537, bits)


@cache
def p256_key(number: int = 0) -> ec.EllipticCurvePrivateKey:
    del number
    return ec.generate_private_key(ec.SECP256R1())


@cache
def p384_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


@cache
def ed25519_key(number: int = 0) -> ed25519.Ed25519PrivateKey:
    del number
    return ed25519.Ed25519PrivateKey.generate()


@cache
def ed448_key() -> ed448.Ed448PrivateKey:
    return ed448.Ed448PrivateKey.generate()


def key_for(algorithm: str) -> Any:
    if algorithm in SHARED:
        return SECRET
    return {"ES256": p256_key, "ES384": p384_key, "EdDSA": ed25519_key}.get(algorithm, rsa_key)()


def b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def number(value: int, length: int | None = None) -> str:
    return b64(value.to_bytes(length or (value.bit_length() + 7) // 8 or 1, "big")).decode()


def jwk_of(private: Any, **members: Any) -> dict[str, Any]:
    """The public half as a JWK, with members of one's own on top."""
    if isinstance(private, rsa.RSAPrivateKey):
        numbers = private.public_key().public_numbers()
        return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e), **members}
    if isinstance(private, ec.EllipticCurvePrivateKey):
        point, length = private.public_key().public_numbers(), (private.key_size + 7) // 8
        x, y = number(point.x, length), number(point.y, length)
        return {"kty": "EC", "crv": f"P-{private.key_size}", "x": x, "y": y, **members}
    raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    name = "Ed448" if isinstance(private, ed448.Ed448PrivateKey) else "Ed25519"
    return {"kty": "OKP", "crv": name, "x": b64(raw).decode(), **members}


def jwks_of(*jwks: Any) -> bytes:
    return json.dumps({"keys": jwks}).encode()


def pem_of(private: Any) -> bytes:
    data: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return data


def sign(signed: bytes, algorithm: str, key: Any) -> bytes:
    """Signs as PyJWT does; any bytes are a secret to HS256, public keys too."""
    return get_default_algorithms()[algorithm].sign(signed, key)


def signed_texts(header: bytes, payload: bytes, algorithm: str, key: Any = None) -> bytes:
    """A token of two texts as they are."""
    signed = b64(header) + b"." + b64(payload)
    return signed + b"." + b64(sign(signed, algorithm, key_for(algorithm) if key is None else key))


def make_token(
    algorithm: str = "ES256",
    key: Any = None,
    header: Mapping[str, Any] | None = None,
    *,
    without: Iterable[str] = (),
    **claims: Any,
) -> bytes:
    """A token of CLAIMS and others; `header` is added to alg and typ."""
    members = {**CLAIMS, **claims}
    for name in without:
        del members[name]
    head = {"alg": algorithm, "typ": "JWT", **(header or {})}
    return signed_texts(json.dumps(head).encode(), json.dumps(members).encode(), algorithm, key)


@cache
def all_keys() -> KeySet:
    """A set of one key of each kind, without names."""
    return read_jwks(jwks_of(*map(jwk_of, (rsa_key(), p256_key(), p384_key(), ed25519_key()))), ASYMMETRIC)


def make_issuer(keys: KeySet | None = None, **members: Any) -> Issuer:
    values = {"name": ISSUER, "audience": frozenset({"gateway"}), "algorithms": frozenset(ASYMMETRIC), **members}
    return Issuer(keys=all_keys() if keys is None else keys, **values)
