"""Which keys are usable, and for what. A bad one never breaks its set."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from gateway.auth.jwt.jwk import read_jwk
from gateway.auth.jwt.key_set import KeySet, NoKeys, read_jwks, read_pem, read_secret
from tests.support.tokens import (
    ASYMMETRIC,
    RSA,
    SECRET,
    SHARED,
    b64,
    ed448_key,
    ed25519_key,
    jwk_of,
    jwks_of,
    key_for,
    number,
    p256_key,
    p384_key,
    pem_of,
    rsa_key,
    sign,
)

GOOD = jwk_of(p256_key(), kid="good")


def read(*jwks: Any) -> KeySet:
    return read_jwks(jwks_of(*jwks), ASYMMETRIC)


@pytest.mark.parametrize(
    ("private", "algorithms"),
    [(rsa_key, set(RSA)), (p256_key, {"ES256"}), (p384_key, {"ES384"}), (ed25519_key, {"EdDSA"})],
)
def test_a_key_is_for_the_algorithms_of_its_type(private: Callable[[], Any], algorithms: set[str]) -> None:
    (key,) = read(jwk_of(private(), use="sig", key_ops=["verify"], x5c=["x"], x5t="x", unknown=1)).keys
    assert key.kid is None
    assert key.algorithms == algorithms
    assert repr(key) == f"JwtKey(kid=None, algorithms={key.algorithms!r})"
    for algorithm in algorithms:
        (pinned,) = read(jwk_of(private(), alg=algorithm)).keys
        assert pinned.algorithms == {algorithm}
    assert read_pem(pem_of(private()), ASYMMETRIC).keys[0].algorithms == algorithms


@pytest.mark.parametrize("algorithm", [*ASYMMETRIC, *SHARED])
def test_a_key_verifies_its_own_signatures_and_no_others(algorithm: str) -> None:
    keys = read_secret(SECRET, SHARED) if algorithm in SHARED else read(jwk_of(key_for(algorithm)))
    (key,) = keys.keys
    signature = sign(b"text", algorithm, key_for(algorithm))
    assert key.verifies(algorithm, b"text", signature)
    assert not key.verifies(algorithm, b"texs", signature)
    assert not key.verifies(algorithm, b"text", signature[:-1])
    assert not key.verifies(algorithm, b"text", signature + b"\0")
    assert not key.verifies(algorithm, b"text", b"")
    for other in {*ASYMMETRIC, *SHARED, "none", "None", "ES256K", "ES512"} - {algorithm}:
        assert not key.verifies(other, b"text", signature)


def rsa_of(n: int, e: int = 65537) -> dict[str, Any]:
    return {"kty": "RSA", "n": number(n), "e": number(e)}


def the_rsa() -> dict[str, Any]:
    return jwk_of(rsa_key())


def the_ec() -> dict[str, Any]:
    return jwk_of(p256_key())


def the_okp() -> dict[str, Any]:
    return jwk_of(ed25519_key())


MODULUS = 2**2047 + 1


@pytest.mark.parametrize(
    ("jwk", "why"),
    [
        ({**the_rsa(), "d": "AQAB"}, "private"),
        ({**the_ec(), "d": "AQAB"}, "private"),
        ({**the_okp(), "d": None}, "private"),
        ({**the_rsa(), "oth": []}, "private"),
        ({**the_rsa(), "p": "AQAB"}, "private"),
        ({"kty": "oct", "k": b64(SECRET).decode(), "alg": "HS256"}, "private"),
        ({"kty": "oct"}, "other_type"),
        ({**the_rsa(), "use": "enc"}, "other_use"),
        ({**the_rsa(), "use": None}, "other_use"),
        ({**the_rsa(), "use": ["sig"]}, "other_use"),
        ({**the_rsa(), "key_ops": ["encrypt"]}, "other_use"),
        ({**the_rsa(), "key_ops": "verify"}, "other_use"),
        ({**the_rsa(), "key_ops": []}, "other_use"),
        ({**the_rsa(), "key_ops": [["verify"]]}, "other_use"),
        ({**the_rsa(), "alg": "HS256"}, "other_algorithm"),
        ({**the_rsa(), "alg": "ES256"}, "other_algorithm"),
        ({**the_rsa(), "alg": "RSA-OAEP"}, "other_algorithm"),
        ({**the_rsa(), "alg": "none"}, "other_algorithm"),
        ({**the_rsa(), "alg": None}, "other_algorithm"),
        ({**the_rsa(), "alg": ["RS256"]}, "other_algorithm"),
        ({**the_ec(), "alg": "ES384"}, "other_algorithm"),
        ({**the_okp(), "alg": "ES256"}, "other_algorithm"),
        (jwk_of(ec.generate_private_key(ec.SECP521R1())), "other_type"),
        (jwk_of(ed448_key()), "other_type"),
        ({**the_ec(), "crv": "secp256k1"}, "other_type"),
        ({**the_ec(), "crv": ["P-256"]}, "other_type"),
        ({**the_ec(), "crv": "P-384"}, "malformed"),
        ({**the_okp(), "crv": "X25519"}, "other_type"),
        ({**the_rsa(), "kty": "EC"}, "other_type"),
        ({**the_rsa(), "kty": "rsa"}, "other_type"),
        ({**the_rsa(), "kty": ["RSA"]}, "other_type"),
        ({**the_ec(), "kty": "RSA"}, "malformed"),
        ({}, "other_type"),
        (None, "malformed"),
        ("x", "malformed"),
        ([GOOD], "malformed"),
        (rsa_of(2**1023 + 1), "rsa_size"),
        (rsa_of(2**2046 + 1), "rsa_size"),
        (rsa_of(2**8192 + 1), "rsa_size"),
        (rsa_of(2**60000 + 1), "rsa_size"),
        (rsa_of(0), "rsa_size"),
        (rsa_of(MODULUS + 1), "malformed"),
        (rsa_of(MODULUS, 1), "rsa_exponent"),
        (rsa_of(MODULUS, 0), "rsa_exponent"),
        (rsa_of(MODULUS, 3), "rsa_exponent"),
        (rsa_of(MODULUS, 65538), "rsa_exponent"),
        (rsa_of(MODULUS, 2**32 + 1), "rsa_exponent"),
        ({**the_rsa(), "n": 5}, "malformed"),
        ({**the_rsa(), "n": ""}, "malformed"),
        ({**the_rsa(), "e": "AQAB=="}, "malformed"),
        ({**the_rsa(), "e": "AQ B"}, "malformed"),
        ({**the_rsa(), "e": "\u00e9\ud800"}, "malformed"),
        ({"kty": "RSA", "e": "AQAB"}, "malformed"),
        ({**the_ec(), "x": the_ec()["x"][:-2]}, "malformed"),
        ({**the_ec(), "x": b64(bytes(32)).decode(), "y": b64(bytes(32)).decode()}, "malformed"),
        ({**the_ec(), "x": the_ec()["y"], "y": the_ec()["x"]}, "malformed"),
        ({**the_ec(), "x": b64(bytes(33)).decode(), "y": b64(bytes(33)).decode()}, "malformed"),
        ({**the_okp(), "x": b64(bytes(31)).decode()}, "malformed"),
        ({**the_rsa(), "kid": 1}, "malformed"),
        ({**the_rsa(), "kid": None}, "malformed"),
        ({**the_rsa(), "kid": ""}, "malformed"),
        ({**the_rsa(), "kid": "k" * 257}, "malformed"),
        ({**jwk_of(p384_key()), "kid": "good"}, "duplicate_kid"),
    ],
)
def test_a_key_that_is_not_for_us_is_left_out_alone(jwk: Any, why: str) -> None:
    keys = read(GOOD, jwk, jwk_of(ed25519_key(), kid="last"))
    assert [key.kid for key in keys.keys] == ["good", "last"]
    assert keys.skipped == {why: 1}


def test_the_largest_and_the_smallest_rsa_key() -> None:
    assert read_jwk(rsa_of(MODULUS))[0] is None
    assert read_jwk(rsa_of(2**8191 + 1, 2**32 - 1))[0] is None


@pytest.mark.parametrize(
    "document",
    [
        b"", b"null", b"[]", b"{}", b'{"keys":{}}', b'{"keys":null}', b'{"keys":"x"}', b"<html>", b"\xff",
        b'{"keys":[],"keys":[]}', b'{"keys":' + b"[" * 100_000,
        json.dumps([GOOD]).encode(), json.dumps(GOOD).encode(),
    ],
)  # fmt: skip
def test_a_malformed_jwks_is_refused(document: bytes) -> None:
    with pytest.raises(NoKeys, match=r"^is not a JWK set$"):
        read_jwks(document, ASYMMETRIC)


def test_a_set_is_of_at_most_100_keys_and_holds_one_for_us() -> None:
    assert len(read(*[GOOD, *[{}] * 99]).keys) == 1
    with pytest.raises(NoKeys, match="more than 100 keys"):
        read(*[GOOD, *[{}] * 100])
    with pytest.raises(NoKeys, match="no key that can be used"):
        read()
    with pytest.raises(NoKeys, match="no key that can be used"):
        read({})
    with pytest.raises(NoKeys, match="no key that can be used"):
        read_jwks(jwks_of(GOOD), ["RS256"])


def test_the_key_is_found_by_its_name_or_by_being_the_only_one() -> None:
    keys = read(
        GOOD, jwk_of(p256_key(1), kid="other"), jwk_of(rsa_key(), alg="RS256"), jwk_of(ed25519_key(), kid="e")
    )
    assert [keys.knows(kid) for kid in ("good", "other", "e", None, "unknown", "0", "2")] == [True] * 4 + [False] * 3
    found = {kid: keys.find("ES256", kid) for kid in ("good", "other", "e", "unknown", None)}
    assert {kid: key and key.kid for kid, key in found.items()} == {
        "good": "good", "other": "other", "e": None, "unknown": None, None: None,
    }  # fmt: skip
    assert (keys.find("EdDSA", None), keys.find("RS256", None)) == (keys.keys[3], keys.keys[2])
    assert keys.find("PS256", None) is None
    assert keys.find("HS256", None) is None


def test_equal_sets_are_equal() -> None:
    assert read(GOOD) == read(GOOD)
    assert read(GOOD) != read(jwk_of(p256_key(1), kid="good"))


def private_pem() -> bytes:
    return p256_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"", "exactly one public key"),
        (b"\x30\x59", "exactly one public key"),
        (pem_of(rsa_key()) + pem_of(p256_key()), "exactly one public key"),
        (private_pem(), "private key"),
        (pem_of(rsa_key()).replace(b"M", b"!", 1), "can be read"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "can be read"),
        (pem_of(rsa_key(bits=1024)), "rsa size"),
        (pem_of(rsa.generate_private_key(3, 2048)), "rsa exponent"),
        (pem_of(ec.generate_private_key(ec.SECP521R1())), "other type"),
        (pem_of(ec.generate_private_key(ec.SECP256K1())), "other type"),
        (pem_of(ed448_key()), "other type"),
        (pem_of(x25519.X25519PrivateKey.generate()), "other type"),
        (pem_of(dsa.generate_private_key(2048)), "other type"),
    ],
)
def test_a_pem_file_is_of_one_public_key(document: bytes, message: str) -> None:
    with pytest.raises(NoKeys, match=message):
        read_pem(document, ASYMMETRIC)


def test_a_pem_file_must_fit_the_algorithms() -> None:
    pkcs1 = rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1)
    keys = read_pem(pkcs1, ["RS256"])
    assert keys.knows("whatever")
    assert keys.find("RS256", "whatever") is keys.keys[0]
    with pytest.raises(NoKeys, match="no key that can be used"):
        read_pem(pem_of(p256_key()), ["RS256"])


def test_a_secret_is_long_and_no_public_key() -> None:
    keys = read_secret(SECRET, ["HS256"])
    assert keys.find("HS256", "whatever") is keys.keys[0]
    assert SECRET.decode() not in repr(keys)
    der = rsa_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for secret in (b"", SECRET[:31]):
        with pytest.raises(NoKeys, match="shorter than 32 bytes"):
            read_secret(secret, ["HS256"])
    for secret in (pem_of(rsa_key()), der, json.dumps(GOOD).encode()):
        with pytest.raises(NoKeys, match="another kind"):
            read_secret(secret, ["HS256"])
    with pytest.raises(NoKeys, match="no key that can be used"):
        read_secret(SECRET, ["RS256"])
