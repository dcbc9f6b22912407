import json
from pathlib import Path
from typing import Any

import pytest

from gateway.auth.jwks.files import is_fetched, read_local_keys
from gateway.config.settings import JwtIssuer
from gateway.errors import ConfigurationError
from tests.support.tokens import SECRET, jwk_of, jwks_of, p256_key, pem_of, rsa_key


def issuer_of(name: str, **members: Any) -> JwtIssuer:
    values = {"issuer": f"https://{name}.example", "audience": "gateway", **members}
    return JwtIssuer.model_validate(values, context={"environ": {"SECRET": SECRET.decode()}})


def shared(name: str = "s") -> JwtIssuer:
    return issuer_of(name, algorithms=["HS256"], secret={"env": "SECRET"})


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "jwks.json").write_bytes(jwks_of(jwk_of(p256_key(), kid="a"), jwk_of(rsa_key(), use="enc")))
    (tmp_path / "key.pem").write_bytes(pem_of(rsa_key()))
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "bad.pem").write_text("no key")
    (tmp_path / "large.json").write_text(json.dumps({"keys": [], "x": "x" * 300_000}))
    return tmp_path


def test_files_and_secrets_are_read(files: Path) -> None:
    issuers = [
        issuer_of("a", jwks=str(files / "jwks.json")),
        issuer_of("b", public_key=str(files / "key.pem")),
        shared(),
        issuer_of("c", jwks="https://c.example/keys"),
        issuer_of("d", discovery=True),
    ]
    keys = read_local_keys(issuers)
    assert {name: len(keys.keys) for name, keys in keys.items()} == {
        "https://a.example": 1, "https://b.example": 1, "https://s.example": 1,
    }  # fmt: skip
    assert [is_fetched(issuer) for issuer in issuers] == [False, False, False, True, True]
    assert read_local_keys([]) == {}


def test_all_that_is_wrong_is_told_at_once_by_its_setting(files: Path) -> None:
    gone = issuer_of("e", public_key=str(files / "key.pem"), algorithms=["RS256"])
    (files / "key.pem").rename(files / "away.pem")
    issuers = [
        shared(),
        issuer_of("a", jwks=str(files / "bad.json")),
        issuer_of("b", public_key=str(files / "bad.pem")),
        issuer_of("c", jwks=str(files / "large.json")),
        issuer_of("d", jwks=str(files / "jwks.json"), algorithms=["RS256"]),
        gone,
    ]
    with pytest.raises(ConfigurationError) as caught:
        read_local_keys(issuers)
    assert str(caught.value).splitlines() == [
        "authentication.jwt[1].jwks: is not a JWK set",
        "authentication.jwt[2].public_key: is not a PEM file of exactly one public key",
        "authentication.jwt[3].jwks: is larger than 256 KB",
        "authentication.jwt[4].jwks: holds no key that can be used for the algorithms of this issuer",
        "authentication.jwt[5].public_key: can't be read: No such file or directory",
    ]


def test_a_secret_that_is_a_public_key_is_told(files: Path) -> None:
    issuer = issuer_of("a", algorithms=["HS256"], secret={"file": str(files / "key.pem")})
    with pytest.raises(ConfigurationError, match=r"^authentication\.jwt\[0\]\.secret: is a key of another kind"):
        read_local_keys([issuer])
