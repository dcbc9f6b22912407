"""Forged tokens, by the name of the attack. What is signed by us is let in, and nothing else ever."""

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.jwt.base64url import decode_base64url
from gateway.auth.jwt.claims import Issuer
from gateway.auth.jwt.key_set import KeySet, read_jwks, read_pem, read_secret
from gateway.auth.jwt.tokens import KeyUnknown, identify
from gateway.config.compile import compile_issuers
from gateway.config.settings import JwtIssuer
from gateway.errors import Refused
from gateway.model.identity import Identity
from gateway.model.reasons import Bearer, Denial, Reason
from tests.support.pure import PROPERTY
from tests.support.tokens import (
    ASYMMETRIC,
    CLAIMS,
    ISSUER,
    NOW,
    PROFILES,
    RSA,
    SECRET,
    SHARED,
    all_keys,
    b64,
    ed25519_key,
    jwk_of,
    jwks_of,
    key_for,
    make_issuer,
    make_token,
    p256_key,
    p384_key,
    pem_of,
    rsa_key,
    sign,
    signed_texts,
)

INVALID = Denial(Reason.TOKEN_INVALID, "This token is not valid here.")
EXPIRED = Denial(Reason.TOKEN_EXPIRED, "This token has expired; get a new one.")
PAYLOAD = json.dumps(dict(CLAIMS)).encode()
OTHER = "https://other.example"


def outcome(token: bytes, *issuers: Issuer, now: float = NOW) -> Identity | Denial | KeyUnknown:
    """What comes of a token; nothing but the three outcomes that are promised."""
    table = {issuer.name: issuer for issuer in issuers or (make_issuer(),)}
    error: Refused | KeyUnknown
    try:
        return identify(token, table, PROFILES, now)
    except (Refused, KeyUnknown) as raised:
        error = raised
    assert error.__context__ is None
    return error.denial if isinstance(error, Refused) else error


@pytest.mark.parametrize(("claims", "bearer"), [
    ({"exp": 1}, Bearer("jwt:https://id.example#alice")),
    ({"nbf": NOW + 999}, Bearer("jwt:https://id.example#alice")),
    ({"aud": "other"}, Bearer("jwt:https://id.example#alice", "other")),
    ({"aud": ["one", "two"], "exp": 1}, Bearer("jwt:https://id.example#alice", "one two")),
    ({"aud": "\x1b[31m\n\u202e\u00e4 x"}, Bearer("jwt:https://id.example#alice", "?[31m??? x")),
    ({"aud": "a" * 4000}, Bearer("jwt:https://id.example#alice", "a" * 100 + "...")),
    ({"aud": {"a": 1}}, Bearer("jwt:https://id.example#alice", "")),
    ({"aud": "other", "sub": "\n"}, None),
    ({"aud": "other", "sub": "a" * 256}, None),
])  # fmt: skip
def test_a_refused_token_of_its_issuer_says_whose_it_is(claims: dict[str, Any], bearer: Bearer | None) -> None:
    denial = outcome(make_token(**claims))
    assert isinstance(denial, Denial)
    assert denial.bearer == bearer
    forged = outcome(make_token("ES256", p256_key(1), **claims))
    assert forged == INVALID
    assert isinstance(forged, Denial)
    assert forged.bearer is None


def test_a_token_that_may_not_says_whose_it_is_too() -> None:
    denial = outcome(make_token(), make_issuer(required_scopes=frozenset({"convert"})))
    assert isinstance(denial, Denial)
    assert (denial.reason, denial.bearer) == (Reason.FORBIDDEN, Bearer("jwt:https://id.example#alice"))


def named_keys(*jwks: dict[str, Any], algorithms: Iterable[str] = ASYMMETRIC) -> KeySet:
    return read_jwks(jwks_of(*jwks), list(algorithms))


@pytest.mark.parametrize("algorithm", [*ASYMMETRIC, *SHARED])
def test_real_signatures_of_every_algorithm(algorithm: str) -> None:
    keys = read_secret(SECRET, SHARED) if algorithm in SHARED else None
    issuer = make_issuer(keys, algorithms=frozenset(SHARED if keys else ASYMMETRIC))
    identity = outcome(make_token(algorithm), issuer)
    assert isinstance(identity, Identity)
    assert identity.owner == "jwt:https://id.example#alice"
    only = make_issuer(keys, algorithms=frozenset({algorithm}))
    assert isinstance(outcome(make_token(algorithm), only), Identity)
    for other in {*ASYMMETRIC, *SHARED} - {algorithm}:
        assert outcome(make_token(other), only) == INVALID


@pytest.mark.parametrize("algorithm", [*ASYMMETRIC, *SHARED])
def test_the_header_names_another_algorithm_than_it_was_signed_with(algorithm: str) -> None:
    for claimed in {*ASYMMETRIC, *SHARED, "none"} - {algorithm}:
        header = json.dumps({"alg": claimed}).encode()
        assert outcome(signed_texts(header, PAYLOAD, algorithm)) == INVALID


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", "rs256", "RS256 ", "ES256K", "ES512", "Ed25519"])
@pytest.mark.parametrize("signature", [b"", b64(b"\0"), b64(b"x" * 64)])
def test_tokens_without_a_known_algorithm_are_refused(alg: str, signature: bytes) -> None:
    header = b64(json.dumps({"alg": alg}).encode())
    assert outcome(header + b"." + b64(PAYLOAD) + b"." + signature) == INVALID


def public_forms(private: Any) -> list[bytes]:
    public = private.public_key()
    pem, der = (public.public_bytes(form, PublicFormat.SubjectPublicKeyInfo) for form in (Encoding.PEM, Encoding.DER))
    ssh = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    jwk = jwk_of(private)
    return [pem, pem.strip(), pem.replace(b"\n", b"\r\n"), der, ssh, json.dumps(jwk).encode(), b"", b"\0" * 32]


@pytest.mark.parametrize("algorithm", SHARED)
@pytest.mark.parametrize("private", [rsa_key, p256_key, p384_key, ed25519_key])
def test_a_public_key_as_a_shared_secret(algorithm: str, private: Any) -> None:
    single = make_issuer(read_pem(pem_of(private()), ASYMMETRIC))
    for secret in public_forms(private()):
        forged = make_token(algorithm, secret)
        assert outcome(forged) == INVALID
        assert outcome(forged, single) == INVALID
        # Not even when the operator's list of algorithms allowed it: the key's own type does not.
        assert outcome(forged, make_issuer(algorithms=frozenset({*ASYMMETRIC, *SHARED}))) == INVALID


def test_a_shared_secret_is_not_taken_from_elsewhere() -> None:
    issuer = make_issuer(read_secret(SECRET, SHARED), algorithms=frozenset(SHARED))
    for secret in (b"", b"\0" * 32, SECRET[:-1], SECRET + b"x", SECRET[::-1], b"secret", b"your-256-bit-secret"):
        assert outcome(make_token("HS256", secret), issuer) == INVALID
    truncated = make_token("HS256", SECRET).rpartition(b".")[0]
    mac = hmac.digest(SECRET, truncated, hashlib.sha256)
    for length in range(1, 32):
        assert outcome(truncated + b"." + b64(mac[:length]), issuer) == INVALID
    for name in ("RS256", "ES256", "EdDSA"):
        assert outcome(make_token(name), issuer) == INVALID


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "EdDSA", "RS384", "PS256"])
def test_an_issuer_of_one_algorithm_takes_no_other(algorithm: str) -> None:
    assert outcome(make_token(algorithm), make_issuer(algorithms=frozenset({"RS256"}))) == INVALID


def test_pkcs1_and_pss_are_two() -> None:
    pinned = named_keys(jwk_of(rsa_key(), alg="RS256"))
    assert isinstance(outcome(make_token("RS256"), make_issuer(pinned)), Identity)
    for algorithm in set(RSA) - {"RS256"}:
        assert outcome(make_token(algorithm), make_issuer(pinned)) == INVALID


def test_pss_with_another_salt_is_refused() -> None:
    signed = b64(b'{"alg":"PS256"}') + b"." + b64(PAYLOAD)
    for length in (0, 20, 31, 33, 48, 222):
        pss = padding.PSS(padding.MGF1(SHA256()), length)
        assert outcome(signed + b"." + b64(rsa_key().sign(signed, pss, SHA256()))) == INVALID


def test_keys_of_others() -> None:
    for algorithm, key in (
        ("ES256", p256_key(1)),
        ("RS256", rsa_key(1)),
        ("PS512", rsa_key(1)),
        ("EdDSA", ed25519_key(1)),
    ):
        assert outcome(make_token(algorithm, key)) == INVALID
        for header in (
            {"jwk": jwk_of(key)}, {"x5c": ["MIIB"]}, {"jku": "https://evil.example"}, {"x5u": "https://evil.example"},
            {"jwk": jwk_of(key), "kid": "mine"}, {"x5t": "abc"},
        ):  # fmt: skip
            assert not isinstance(outcome(make_token(algorithm, key, header)), Identity)


def test_the_kid_of_another_issuers_key() -> None:
    ours = make_issuer(named_keys(jwk_of(p256_key(), kid="ours")))
    theirs = make_issuer(named_keys(jwk_of(p256_key(1), kid="theirs")), name=OTHER)
    own = make_token("ES256", p256_key(1), {"kid": "theirs"}, iss=OTHER)
    assert isinstance(outcome(own, ours, theirs), Identity)
    crossed = outcome(make_token("ES256", p256_key(1), {"kid": "theirs"}), ours, theirs)
    assert isinstance(crossed, KeyUnknown)
    assert (crossed.issuer, crossed.refusal.denial) == (ISSUER, INVALID)
    assert outcome(make_token("ES256", p256_key(1), {"kid": "ours"}), ours, theirs) == INVALID
    assert outcome(make_token("ES256", p256_key(1)), ours, theirs) == INVALID


@pytest.mark.parametrize("kid", [
    "../../../dev/null", "/dev/null", "file:///etc/passwd", "' OR 1=1 --", "x' UNION SELECT 'secret", '{"a":1}',
    "ours\x00", "ours\n", " ours", "OURS", "\u00f6urs", "\ud800", "0", "None", "null", "__class__", "*", "$(id)",
    "https://evil.example/keys", "k" * 256,
])  # fmt: skip
def test_a_kid_is_a_name_and_nothing_more(kid: str) -> None:
    issuer = make_issuer(named_keys(jwk_of(p256_key(), kid="ours")))
    for key in (p256_key(), p256_key(1)):
        unknown = outcome(make_token("ES256", key, {"kid": kid}), issuer)
        assert isinstance(unknown, KeyUnknown)
        assert (unknown.issuer, unknown.refusal.denial) == (ISSUER, INVALID)
        assert kid not in str(unknown) or kid == "*"


def test_without_a_kid_there_must_be_one_key_only() -> None:
    issuer = make_issuer(named_keys(jwk_of(p256_key(), kid="a"), jwk_of(p256_key(1), kid="b"), jwk_of(rsa_key())))
    assert outcome(make_token("ES256"), issuer) == INVALID
    assert isinstance(outcome(make_token("ES256", header={"kid": "a"}), issuer), Identity)
    assert outcome(make_token("ES256", header={"kid": "b"}), issuer) == INVALID
    assert isinstance(outcome(make_token("RS256"), issuer), Identity)
    assert outcome(make_token("RS256", header={"kid": "a"}), issuer) == INVALID


def test_a_single_key_has_no_name() -> None:
    for keys in (read_pem(pem_of(p256_key()), ["ES256"]), read_secret(SECRET, ["HS256"])):
        algorithm = "ES256" if keys.find("ES256", None) else "HS256"
        issuer = make_issuer(keys, algorithms=frozenset({algorithm}))
        assert isinstance(outcome(make_token(algorithm, header={"kid": "anything"}), issuer), Identity)


def test_without_keys_a_token_is_not_judged() -> None:
    issuers = {ISSUER: Issuer(ISSUER, frozenset({"gateway"}), frozenset({"ES256"}))}
    for token in (make_token("ES256"), make_token("ES256", p256_key(1), {"kid": "x"})):
        with pytest.raises(KeyUnknown) as caught:
            identify(token, issuers, PROFILES, NOW)
        assert caught.value.issuer == ISSUER
        assert caught.value.refusal.denial == Denial(
            Reason.TOKEN_INVALID, "The keys of this token's issuer are not there yet; try again in a moment."
        )
    with pytest.raises(Refused):
        identify(make_token("RS256"), issuers, PROFILES, NOW)


@pytest.mark.parametrize(
    "iss", [None, 1, True, [ISSUER], {}, "", OTHER, ISSUER + "/", "https://id.example.evil", " "]
)
def test_an_issuer_that_nobody_configured(iss: Any) -> None:
    assert outcome(make_token("ES256", iss=iss)) == INVALID
    assert outcome(make_token("ES256", without=["iss"])) == INVALID


def test_a_token_of_one_issuer_for_the_audience_of_another() -> None:
    other = make_issuer(named_keys(jwk_of(p256_key(1))), name=OTHER, audience=frozenset({"elsewhere"}))
    assert outcome(make_token("ES256", p256_key(1), iss=OTHER), make_issuer(), other) == INVALID


def test_expired_is_only_told_of_what_was_good() -> None:
    old = int(NOW) - 1000
    assert outcome(make_token("ES256", exp=old)) == EXPIRED
    assert outcome(make_token("ES256", p256_key(1), exp=old)) == INVALID
    assert outcome(make_token("ES256", exp=old)[:-4] + b"AAAA") == INVALID
    assert outcome(make_token("HS256", b"", exp=old)) == INVALID


ORDER = int("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)


def es256(signature: bytes) -> bytes:
    return make_token("ES256").rpartition(b".")[0] + b"." + b64(signature)


def raw(r: int, s: int, length: int = 32) -> bytes:
    return r.to_bytes(length, "big") + s.to_bytes(length, "big")


@pytest.mark.parametrize("r", [0, 1, ORDER - 1, ORDER, ORDER + 1, 2**256 - 1])
@pytest.mark.parametrize("s", [0, 1, ORDER - 1, ORDER, ORDER + 1, 2**256 - 1])
def test_ecdsa_at_its_edges(r: int, s: int) -> None:
    assert outcome(es256(raw(r, s))) == INVALID


def test_ecdsa_of_other_forms() -> None:
    signed = make_token("ES256").rpartition(b".")[0]
    der = p256_key().sign(signed, ec.ECDSA(SHA256()))
    r, s = decode_dss_signature(der)
    assert isinstance(outcome(signed + b"." + b64(raw(r, s))), Identity)
    wrong = [
        der, raw(r, s)[:-1], raw(r, s) + b"\0", b"\0" + raw(r, s), raw(r, s, 33), raw(r, s, 48), raw(s, r),
        raw(r, s)[:32], raw(r, s) * 2, encode_dss_signature(r, s)[2:], raw(r, s)[::-1], raw(0, s), raw(r, 0),
        b"\x04" + raw(r, s), b"",
    ]  # fmt: skip
    for signature in wrong:
        assert outcome(signed + b"." + b64(signature)) == INVALID
    if r + ORDER < 2**256:
        assert outcome(signed + b"." + b64(raw(r + ORDER, s))) == INVALID


def test_eddsa_with_a_scalar_beyond_the_order() -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    signed = make_token("EdDSA").rpartition(b".")[0]
    signature = sign(signed, "EdDSA", ed25519_key())
    assert isinstance(outcome(signed + b"." + b64(signature)), Identity)
    scalar = int.from_bytes(signature[32:], "little")
    for times in (1, 2, 8):
        if scalar + times * order < 2**256:
            more = signature[:32] + (scalar + times * order).to_bytes(32, "little")
            assert outcome(signed + b"." + b64(more)) == INVALID
    for wrong in (signature[:63], signature + b"\0", b"\0" * 64, b"\1" + b"\0" * 63, signature[32:] + signature[:32]):
        assert outcome(signed + b"." + b64(wrong)) == INVALID


@pytest.mark.parametrize("algorithm", RSA)
def test_rsa_signatures_of_other_sizes(algorithm: str) -> None:
    signed = make_token(algorithm).rpartition(b".")[0]
    signature = sign(signed, algorithm, rsa_key())
    modulus = rsa_key().public_key().public_numbers().n
    value = int.from_bytes(signature, "big")
    wrong = [b"\0", b"\1", bytes(256), b"\xff" * 256, signature + b"\0", b"\0" + signature, signature[1:]]
    wrong += [(value + modulus).to_bytes(257, "big"), (modulus - 1).to_bytes(256, "big"), (1).to_bytes(256, "big")]
    for forged in wrong:
        assert outcome(signed + b"." + b64(forged)) == INVALID


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
def test_an_rsa_signature_is_as_long_as_its_key(algorithm: str) -> None:
    """OpenSSL verifies a PSS signature whose leading zero was left out."""
    for number in count():  # one of 128 to 256 begins with a zero
        token = make_token(algorithm, sub=str(number))
        signed, _, last = token.rpartition(b".")
        signature = decode_base64url(last) or b""
        if signature[0] == 0:
            break
    assert isinstance(outcome(token), Identity)
    for other in (signature[1:], b"\0" + signature, signature.lstrip(b"\0")):
        assert outcome(signed + b"." + b64(other)) == INVALID


def test_json_and_detached_forms_are_none() -> None:
    header, payload, signature = (part.decode() for part in make_token("ES256").split(b"."))
    flat = {"protected": header, "payload": payload, "signature": signature}
    for text in (json.dumps(flat), json.dumps({"payload": payload, "signatures": [flat]}), f"{header}..{signature}"):
        assert outcome(text.encode()) == INVALID
    assert outcome(b".".join([header.encode(), b"", payload.encode(), b"", signature.encode()])) == INVALID


def test_the_same_member_twice() -> None:
    for header, payload in (
        (b'{"alg":"ES256","alg":"ES256"}', PAYLOAD),
        (b'{"alg":"none","alg":"ES256"}', PAYLOAD),
        (b'{"alg":"ES256"}', PAYLOAD[:-1] + b',"sub":"root"}'),
        (b'{"alg":"ES256"}', PAYLOAD[:-1] + b',"s\\u0075b":"root"}'),
        (b'{"alg":"ES256"}', PAYLOAD[:-1] + b',"iss":"https://id.example"}'),
    ):
        assert outcome(signed_texts(header, payload, "ES256")) == INVALID
    assert isinstance(outcome(signed_texts(b'{"alg":"ES256"}', PAYLOAD, "ES256")), Identity)


@pytest.mark.parametrize("payload", [
    b"[]", b"1", b'"x"', b"null", b"It\xe2\x80\x99s a dangerous business", b"", b"\0" * 16, b"[" * 5000,
    PAYLOAD[:-1] + b',"a":' + b"[" * 2000 + b"]" * 2000 + b"}", PAYLOAD[:-1] + b',"a":' + b"9" * 4400 + b"}",
    PAYLOAD[:-1] + b',"nbf":' + b"9" * 4200 + b"}", PAYLOAD[:-1] + b',"nbf":1e999}', PAYLOAD[:-1] + b',"nbf":NaN}',
    PAYLOAD[:-1] + b',"x":NaN}', PAYLOAD.decode().encode("utf-16"), b"\xef\xbb\xbf" + PAYLOAD, PAYLOAD + b"\0",
])  # fmt: skip
def test_payloads_that_are_signed_but_no_claims(payload: bytes) -> None:
    if payload:
        assert outcome(signed_texts(b'{"alg":"ES256"}', payload, "ES256")) == INVALID


def test_a_claim_of_4000_digits_harms_nobody() -> None:
    payload = PAYLOAD[:-1] + b',"a":' + b"9" * 4200 + b',"b":' + b"[" * 500 + b"]" * 500 + b"}"
    assert isinstance(outcome(signed_texts(b'{"alg":"ES256"}', payload, "ES256")), Identity)
    digits = json.dumps({**CLAIMS, "sub": 0}).replace('"sub": 0', '"sub": ' + "9" * 4200).encode()
    assert outcome(signed_texts(b'{"alg":"ES256"}', digits, "ES256")) == INVALID


def test_a_key_that_makes_the_library_raise_verifies_nothing() -> None:
    key = all_keys().keys[0]
    broken = KeySet((type(key)(None, frozenset({"ES256", "RS256", "EdDSA", "HS256"}), b""),))
    for algorithm in ("ES256", "RS256", "EdDSA"):
        assert outcome(make_token(algorithm), make_issuer(broken)) == INVALID


def test_nothing_of_a_token_is_in_an_error() -> None:
    token = make_token("ES256", p256_key(1), {"kid": "canary-kid"}, sub="canary-sub", canary="canary")
    for issuer in (make_issuer(), make_issuer(named_keys(jwk_of(p256_key(), kid="a")))):
        with pytest.raises((Refused, KeyUnknown)) as caught:
            identify(token, {ISSUER: issuer}, PROFILES, NOW)
        text = repr(caught.value) + str(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__context__)
        assert "canary" not in text
        assert token.decode()[-20:] not in text


def settings_of(**members: Any) -> JwtIssuer:
    return JwtIssuer.model_validate(
        {"issuer": ISSUER, "audience": "gateway", "jwks": "https://id.example/k", **members}
    )


def test_the_issuers_of_a_configuration() -> None:
    keys = all_keys()
    plain = settings_of()
    full = settings_of(
        issuer=OTHER, audience=["a", "b"], algorithms=["RS256"], leeway="5s", owner_claim="uid", profile_claim="tier",
        profile="gold", required_claims={"x": 1}, required_scopes=["s"],
    )  # fmt: skip
    issuers = compile_issuers([plain, full], {OTHER: keys, "https://unknown.example": keys})
    assert issuers == {
        ISSUER: Issuer(ISSUER, frozenset({"gateway"}), frozenset({"RS256", "ES256", "EdDSA"}), 30.0),
        OTHER: Issuer(
            OTHER, frozenset({"a", "b"}), frozenset({"RS256"}), 5.0, "uid", "tier", "gold", {"x": 1},
            frozenset({"s"}), keys,
        ),
    }  # fmt: skip


# The property below knows what is ours by the very texts that were signed.
OURS: Mapping[str, bytes] = {
    algorithm: make_token(algorithm, key_for(algorithm)) for algorithm in ("ES256", "EdDSA", "RS256")
}


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    token = bytearray(draw(st.sampled_from(sorted(OURS.values()))))
    for _ in range(draw(st.integers(1, 4))):
        at, kind = draw(st.integers(0, len(token))), draw(st.sampled_from(["set", "cut", "put", "swap", "repeat"]))
        if kind == "set" and at < len(token):
            token[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del token[at : at + draw(st.integers(1, 20))]
        elif kind == "put":
            token[at:at] = draw(
                st.binary(max_size=8) | st.sampled_from([b".", b"=", b"A", b"-", b"eyJhbGciOiJub25lIn0"])
            )
        elif kind == "swap":
            parts = token.split(b".")
            token = bytearray(b".".join(draw(st.permutations(parts))))
        else:
            token += token[at:]
    return bytes(token)


@PROPERTY
@given(mutated())
def test_a_changed_token_is_never_let_in(token: bytes) -> None:
    if token not in OURS.values():
        # An ECDSA signature has a twin, (r, n - s), which no mutation of a few bytes comes upon.
        assert not isinstance(outcome(token), Identity)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from([ISSUER, "gateway"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_NAMES = st.sampled_from(
    ["alg", "kid", "typ", "iss", "aud", "exp", "nbf", "iat", "sub", "scope", "scp", "crit", "jwk"]
)


@PROPERTY
@given(st.dictionaries(_NAMES, _JSON, max_size=4), st.dictionaries(_NAMES, _JSON, max_size=6), st.booleans())
def test_any_claims_and_headers_end_in_one_of_the_outcomes(
    header: dict[str, Any], claims: dict[str, Any], signed: bool
) -> None:
    texts = [json.dumps(members).encode() for members in ({"alg": "ES256", **header}, {**CLAIMS, **claims})]
    result = outcome(signed_texts(texts[0], texts[1], "ES256", p256_key() if signed else p256_key(1)))
    assert signed or not isinstance(result, Identity)
