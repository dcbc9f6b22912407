"""Every secret that a configuration can name has a fingerprint, and none tells more of it than eight digits."""

from hashlib import sha256
from pathlib import Path
from typing import Any

from gateway.config.secrets import declared_secrets
from gateway.config.settings import SecretDigest, SecretValue
from tests.support.pure import make_settings

ENVIRON = {name: f"canary-{name}-0123456789abcdef0123456789abcdef" for name in "ABCDEFGHI"}
HS = {"issuer": "https://id.example", "audience": "gateway", "algorithms": ["HS256"], "secret": {"env": "D"}}
SECTIONS: dict[str, Any] = {
    "admin": {"token": {"env": "A"}},
    "keys": [{"id": "ci", "secret": {"env": "B"}}, {"id": "hex", "secret": {"sha256": "ab" * 32}}],
    "authentication": {"jwt": [HS]},
    "webhooks": {
        "out": {
            "secret": {"env": "E"}, "previous_secret": {"env": "F"}, "previous_until": "2027-01-01T00:00:00Z",
            "secrets": [{"owner": "key:acme", "secret": {"env": "G"}}],
        },
        "in": [{
            "name": "datalab", "secret": {"env": "H"}, "previous_secret": {"env": "I"},
            "forward_to": "http://127.0.0.1:9000/hook",
        }],
    },
}  # fmt: skip


def fingerprint(name: str) -> str:
    return sha256(ENVIRON[name].encode()).hexdigest()[:8]


def test_each_secret_is_there_by_its_setting(tmp_path: Path) -> None:
    declared = declared_secrets(make_settings(tmp_path, ENVIRON, **SECTIONS))
    assert {path: secret.fingerprint for path, secret in declared.items()} == {
        "admin.token": fingerprint("A"),
        "keys[ci].secret": fingerprint("B"),
        "keys[hex].secret": "abababab",
        "authentication.jwt[https://id.example].secret": fingerprint("D"),
        "webhooks.out.secret": fingerprint("E"),
        "webhooks.out.previous_secret": fingerprint("F"),
        "webhooks.out.secrets[key:acme].secret": fingerprint("G"),
        "webhooks.in[datalab].secret": fingerprint("H"),
        "webhooks.in[datalab].previous_secret": fingerprint("I"),
    }


def test_a_short_secret_has_no_fingerprint(tmp_path: Path) -> None:
    """It would tell whoever tries all words of a list which one it is."""
    for length, has_one in ((31, False), (32, True)):
        settings = make_settings(tmp_path, {"A": "s" * length}, admin={"token": {"env": "A"}})
        declared = declared_secrets(settings)["admin.token"]
        assert (declared.fingerprint is not None) == has_one
        assert declared.digest == sha256(b"s" * length).digest()


def test_there_is_none_where_none_is_declared(tmp_path: Path) -> None:
    assert [path for path in declared_secrets(make_settings(tmp_path, ENVIRON)) if not path.startswith("keys[")] == []


def test_no_secret_of_the_settings_is_forgotten(tmp_path: Path) -> None:
    """A secret of another chapter, made later, is found here; the URL of the ledger is none that rotates alone."""
    settings = make_settings(tmp_path, ENVIRON, **SECTIONS)
    found: list[object] = []

    def walk(value: Any) -> None:
        if isinstance(value, SecretDigest | SecretValue):
            found.append(value)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)
        elif hasattr(type(value), "model_fields"):
            for name in type(value).model_fields:
                walk(getattr(value, name))

    walk(settings)
    assert len(found) == len(declared_secrets(settings))
