from hashlib import sha256
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config.compile import compile_settings
from gateway.config.ledger_url import url_of
from gateway.config.settings import KeySettings, SecretDigest, Settings
from tests.support.pure import document, look_up, make_settings

CANARY = "canary-k3y-that-nobody-may-see"


def faults_of(directory: Path, environ: dict[str, str] | None = None, **sections: Any) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(document(directory, **sections), context={"environ": environ or {}})
    return {
        ".".join(map(str, error["loc"])): error["msg"].removeprefix("Value error, ")
        for error in caught.value.errors()
    }


# Chapter 5 of the design, setting by setting. Durations in seconds, sizes in bytes.
DEFAULTS = {
    "listen.address": "0.0.0.0",  # noqa: S104 -- what is written there
    "listen.port": 8443,
    "listen.proxy_protocol": False,
    "listen.handshake_timeout": 10,
    "listen.head_timeout": 15,
    "listen.idle_timeout": 75,
    "listen.body_idle_timeout": 30,
    "listen.send_idle_timeout": 30,
    "listen.body_min_rate": 1024,
    "listen.max_connections": 10000,
    "listen.max_connections_per_address": 1000,
    "public_url": None,
    "tls.profile": "intermediate",
    "tls.certificates": [],
    "network.trusted_proxies": [],
    "network.login_failures_per_minute": 60,
    "upstream.url": "http://127.0.0.1:8000",
    "upstream.connect_timeout": 5,
    "upstream.read_timeout": 300,
    "upstream.idle_timeout": 3,
    "upstream.health_path": "/health_check",
    "authentication.api_keys.enabled": True,
    "keys": [],
    "aliases": {},
    "admin.address": "127.0.0.1",
    "admin.port": 9090,
    "admin.token": None,
    "admin.tls": None,
    "shutdown.drain_delay": 5,
    "shutdown.drain_timeout": 60,
    "log.format": "json",
    "log.level": "info",
}


@pytest.mark.parametrize(("path", "value"), DEFAULTS.items())
def test_defaults_are_those_of_the_design(tmp_path: Path, path: str, value: object) -> None:
    assert look_up(make_settings(tmp_path), path) == value


def test_the_default_certificate_is_the_development_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "certs").mkdir()
    for name in ("server.pem", "server.key"):
        (tmp_path / "certs" / name).touch()
    tls = Settings.model_validate({"network": {"allow": ["::1"]}}).tls
    assert (tls.certificate, tls.private_key) == (Path("certs/server.pem"), Path("certs/server.key"))


def test_the_default_profile_is_always_there(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, profiles={"big": {"body_limit": "1GB"}})
    assert {name: profile.body_limit for name, profile in settings.profiles.items()} == {
        "default": 200 * 1024**2,
        "big": 1024**3,
    }
    assert make_settings(tmp_path, profiles={"default": {"body_limit": "1B"}}).profiles["default"].body_limit == 1
    assert make_settings(tmp_path).profiles["default"].body_limit == 200 * 1024**2


def test_the_shipped_routes_are_those_of_the_container(tmp_path: Path) -> None:
    routes = make_settings(tmp_path).routes
    assert [(r.name, r.methods, r.path, r.kind, r.access, r.host, r.networks) for r in routes] == [
        ("submit", ["POST"], "/api/v1/{operation:marker|ocr}", "submit", "key", None, []),
        ("usage", ["GET"], "/api/v1/usage", "plain", "admin", None, []),
        ("result", ["GET"], "/api/v1/{operation:marker|ocr}/{request_id}", "result", "key", None, []),
        ("health", ["GET"], "/health_check", "plain", "anyone", None, []),
    ]


def test_a_key_has_modest_defaults(tmp_path: Path) -> None:
    (key,) = make_settings(tmp_path, {"K": CANARY}, keys=[{"id": "ci", "secret": {"env": "K"}}]).keys
    assert (key.profile, key.owner, key.scopes, key.networks) == ("default", None, [], [])


def test_there_is_no_default_open(tmp_path: Path) -> None:
    assert list(faults_of(tmp_path, network={"trusted_proxies": []})) == ["network.allow"]
    assert list(faults_of(tmp_path, network={"allow": []})) == ["network.allow"]


def test_settings_are_frozen_whole(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    for section, name in ((settings, "public_url"), (settings.listen, "port"), (settings.routes[0], "name")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, name, "x")


# Secrets


def references(directory: Path) -> list[dict[str, str]]:
    (directory / "secret").write_text(CANARY + "\n")
    digest = sha256(CANARY.encode()).hexdigest()
    return [{"env": "K"}, {"file": str(directory / "secret")}, {"sha256": digest}, {"sha256": digest.upper()}]


@pytest.mark.parametrize("form", range(4))
def test_a_secret_becomes_its_digest(tmp_path: Path, form: int) -> None:
    reference = references(tmp_path)[form]
    (key,) = make_settings(tmp_path, {"K": CANARY}, keys=[{"id": "a", "secret": reference}]).keys
    assert key.secret.digest == sha256(CANARY.encode()).digest()
    assert key.secret.length == (32 if "sha256" in reference else len(CANARY))
    assert key.secret.model_dump(exclude_none=True, mode="json") == reference


@pytest.mark.parametrize("form", range(3))
def test_the_clear_secret_and_its_digest_are_never_shown(tmp_path: Path, form: int) -> None:
    reference = references(tmp_path)[form]
    settings = make_settings(
        tmp_path, {"K": CANARY}, keys=[{"id": "a", "secret": reference}], admin={"token": reference}
    )
    digest = sha256(CANARY.encode())
    shown = [
        repr(settings),
        str(settings),
        repr(settings.model_dump()),
        settings.model_dump_json(),
        repr(vars(settings.keys[0])),
    ]
    for text in shown:
        assert CANARY not in text
        assert repr(digest.digest())[2:-1] not in text
    assert CANARY not in repr(compile_settings(settings))
    if "sha256" not in reference:
        assert digest.hexdigest() not in "".join(shown)


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"a\n", b"a"),
        (b"a\r\n", b"a"),
        (b"a\n\n\r\n\r\r\n", b"a"),
        (b"\xff", b"\xff"),
        (b"a \tb", b"a \tb"),
        (b"a", b"a"),
        (b"a" * 8192 + b"\n", b"a" * 8192),
    ],
)
def test_line_ends_at_its_end_are_not_part_of_a_secret(tmp_path: Path, content: bytes, secret: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    environ = {"K": content.decode("utf-8", "surrogateescape")}  # as Python takes over what is no UTF-8
    references = [{"file": str(tmp_path / "secret")}, {"env": "K"}]
    for reference in references:
        (key,) = make_settings(tmp_path, environ, keys=[{"id": "a", "secret": reference}]).keys
        assert key.secret.digest == sha256(secret).digest()


@pytest.mark.parametrize("secret", [" a", "a ", "\ta", "canary\x7f", "can\nary", "can\rary", "a" * 8193])
def test_a_secret_that_no_header_can_carry_is_a_fault(tmp_path: Path, secret: str) -> None:
    sections: list[dict[str, Any]] = [
        {"keys": [{"id": "a", "secret": {"env": "K"}}]},
        {"admin": {"token": {"env": "K"}}},
    ]
    for section in sections:
        (told,) = faults_of(tmp_path, {"K": secret}, **section).values()
        assert "what env K holds can be in no header" in told
        assert "canary" not in told


def test_a_secret_longer_than_can_be_read_is_a_fault_and_not_cut(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"a" * 65537)
    (told,) = faults_of(tmp_path, keys=[{"id": "a", "secret": {"file": str(tmp_path / "secret")}}]).values()
    assert told.endswith("is larger than 64 KB")


def test_a_file_of_a_ledger_has_no_parameters_and_a_password_there_is_not_shown(tmp_path: Path) -> None:
    url = "sqlite:////var/ledger.db?password=canary"
    for reference in (url, {"env": "URL"}):
        (told,) = faults_of(tmp_path, {"URL": url}, ledger={"url": reference}).values()
        assert "a file has no parameters" in told
        assert "canary" not in told


def test_a_url_of_a_ledger_loses_its_line_ends_too(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, {"URL": "postgresql://me:pw@db/x\r\n\n"}, ledger={"url": {"env": "URL"}})
    assert url_of(settings) == "postgresql://me:pw@db/x"


NEVER_WRITTEN = "a secret is never written here: use {env: NAME}, {file: /path} or {sha256: HEX}"
NO_DIGEST = "sha256 takes the 64 hexadecimal digits of the secret's SHA-256"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (CANARY, NEVER_WRITTEN),
        ({}, NEVER_WRITTEN),
        ([{"env": "K"}], NEVER_WRITTEN),
        ({"value": CANARY}, NEVER_WRITTEN),
        ({"digest": CANARY}, NEVER_WRITTEN),
        ({"env": "K", "file": "/etc/hostname"}, NEVER_WRITTEN),
        ({"env": ""}, "env needs a text"),
        ({"env": 1}, "env needs a text"),
        ({"file": None}, "file needs a text"),
        ({"sha256": ["a"]}, "sha256 needs a text"),
        ({"sha256": "ab"}, NO_DIGEST),
        ({"sha256": "g" * 64}, NO_DIGEST),
        ({"sha256": "a" * 66}, NO_DIGEST),
        ({"env": "NOT_THERE"}, "the variable NOT_THERE is empty or not there"),
        ({"env": "EMPTY"}, "the variable EMPTY is empty or not there"),
        ({"file": "/nowhere/secret"}, "the file /nowhere/secret can't be read: No such file or directory"),
        ({"file": "/"}, "the file / can't be read: Is a directory"),
        ({"file": "/dev/null"}, "the file /dev/null is not a regular file"),
    ],
)
def test_refuses_what_is_no_reference_to_a_secret(tmp_path: Path, reference: object, message: str) -> None:
    told = faults_of(
        tmp_path, {"EMPTY": "", "K": CANARY}, keys=[{"id": "a", "secret": reference}], admin={"token": reference}
    )
    assert told == {"keys.0.secret": message, "admin.token": message}
    assert CANARY not in message


def test_without_an_environment_no_variable_is_there() -> None:
    with pytest.raises(ValidationError, match="the variable PATH is empty or not there"):
        SecretDigest.model_validate({"env": "PATH"})


# Values


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("HTTPS://A.Test", "https://a.test"),
        ("http://[::1]:80", "http://[::1]:80"),
        ("http://[2001:DB8::1]", "http://[2001:db8::1]"),
        ("http://my-container.ns.svc:1", "http://my-container.ns.svc:1"),
    ],
)
def test_an_origin_is_kept_in_one_form(tmp_path: Path, written: str, kept: str) -> None:
    settings = make_settings(tmp_path, upstream={"url": written}, public_url=written)
    assert (settings.upstream.url, settings.public_url) == (kept, kept)


FORM = "needs the form http://host:port or https://host:port"
ORIGIN = "is an origin: scheme, host and port, with no path after it"
NAME = "has a host name with characters that none has"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://[::1", "is not a URL"),
        ("http://a:99999", "is not a URL"),
        ("http://a:b", "is not a URL"),
        ("a.test:80", FORM),
        ("ftp://a.test", FORM),
        ("http://", FORM),
        ("http://:80", FORM),
        ("http://u@a.test", FORM),
        ("http://u:p@a.test", FORM),
        ("http://a.test/api", ORIGIN),
        ("http://a.test?x=1", ORIGIN),
        ("http://a.test/#x", ORIGIN),
        ("http://a b", NAME),
        ("http://ä.test", NAME),
        ("http://a..test", NAME),
        ("http://" + "a" * 64 + ".test", NAME),
        ("http://" + "a." * 130, NAME),
        ("http://a%41", NAME),
        ("http://a\\b", NAME),
    ],
)
def test_refuses_what_is_no_origin(tmp_path: Path, url: str, message: str) -> None:
    assert faults_of(tmp_path, upstream={"url": url}, public_url=url) == {
        "upstream.url": message,
        "public_url": message,
    }


@pytest.mark.parametrize(("path", "starts"), [("/a/", "/a/ is not a plain path"),
                                              ("/{a}", "/{a} is not a plain path"), ("/a}", "/a} is"),
                                              ("a", "a path begins with /"), ("/a b", "'a b' is neither plain text"),
                                               ("/..", "'..' is")])  # fmt: skip
def test_refuses_what_is_no_plain_path(tmp_path: Path, path: str, starts: str) -> None:
    for sections in ({"aliases": {path: "/b"}}, {"aliases": {"/b": path}}, {"upstream": {"health_path": path}}):
        (message,) = faults_of(tmp_path, **sections).values()
        assert message.startswith(starts)


def test_keeps_aliases(tmp_path: Path) -> None:
    aliases = {"/api/v1/convert": "/api/v1/marker"}
    assert make_settings(tmp_path, aliases=aliases).aliases == aliases


NO_NETWORK = "is not a network, such as 10.0.0.0/8 or ::1/128"


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (1, NO_NETWORK),
        (None, NO_NETWORK),
        (["::1"], NO_NETWORK),
        ("a", f"{NO_NETWORK}: Expected 4 octets in 'a'"),
        ("10.0.0.1/8", f"{NO_NETWORK}: 10.0.0.1 is within one, so write 10.0.0.0/8, or 10.0.0.1 alone"),
        ("10.0.0.0/33", f"{NO_NETWORK}: after the slash is at most 32"),
        ("::1/64", f"{NO_NETWORK}: ::1 is within one, so write ::/64, or ::1 alone"),
        ("", f"{NO_NETWORK}: Address cannot be empty"),
    ],
)
def test_refuses_what_is_no_network(tmp_path: Path, network: object, message: str) -> None:
    told = faults_of(tmp_path, network={"allow": ["10.0.0.0/8", network], "trusted_proxies": [network]})
    assert told == {"network.allow.1": message, "network.trusted_proxies.0": message}


def test_a_network_may_be_given_as_one() -> None:
    key = KeySettings.model_validate(
        {"id": "a", "secret": {"sha256": "0" * 64}, "networks": [IPv4Network("10.0.0.0/8"), "::1"]}
    )
    assert list(map(str, key.networks)) == ["10.0.0.0/8", "::1/128"]


@pytest.mark.parametrize(
    ("sections", "path"),
    [
        ({"listen": {"address": "localhost"}}, "listen.address"),
        ({"listen": {"port": 65536}}, "listen.port"),
        ({"listen": {"port": -1}}, "listen.port"),
        ({"listen": {"port": True}}, "listen.port"),
        ({"listen": {"port": 80.0}}, "listen.port"),
        ({"listen": {"max_connections": 0}}, "listen.max_connections"),
        ({"listen": {"head_timeout": "0s"}}, "listen.head_timeout"),
        ({"listen": {"body_min_rate": 1024}}, "listen.body_min_rate"),
        ({"tls": {"profile": "old"}}, "tls.profile"),
        ({"log": {"level": "INFO"}}, "log.level"),
        ({"log": {"format": "text"}}, "log.format"),
        ({"routes": [{"name": "A b", "methods": ["GET"], "path": "/a"}]}, "routes.0.name"),
        ({"routes": [{"name": "a", "methods": ["get"], "path": "/a"}]}, "routes.0.methods.0"),
        ({"routes": [{"name": "a", "methods": ["TRACE"], "path": "/a"}]}, "routes.0.methods.0"),
        ({"routes": [{"name": "a", "methods": ["GET"], "path": "a"}]}, "routes.0.path"),
        ({"routes": [{"name": "a", "methods": ["GET"], "path": "/a", "access": "all"}]}, "routes.0.access"),
        ({"routes": [{"name": "a", "methods": ["GET"], "path": "/a", "kind": "x"}]}, "routes.0.kind"),
        ({"routes": [{"name": "a", "methods": ["GET"], "path": "/a", "host": "a.test:80"}]}, "routes.0.host"),
        ({"routes": [{"name": "a", "methods": ["GET"], "path": "/a", "host": ""}]}, "routes.0.host"),
        ({"keys": [{"id": "a_b", "secret": {"sha256": "0" * 64}}]}, "keys.0.id"),
        ({"keys": [{"id": "a\n", "secret": {"sha256": "0" * 64}}]}, "keys.0.id"),
        ({"keys": [{"id": "a" * 64, "secret": {"sha256": "0" * 64}}]}, "keys.0.id"),
        ({"keys": [{"id": "a", "secret": {"sha256": "0" * 64}, "owner": "a b"}]}, "keys.0.owner"),
        ({"keys": [{"id": "a", "secret": {"sha256": "0" * 64}, "scopes": ["a b"]}]}, "keys.0.scopes.0"),
        ({"admin": {"address": "a.test"}}, "admin.address"),
    ],
)  # fmt: skip
def test_refuses_values_out_of_range(tmp_path: Path, sections: dict[str, Any], path: str) -> None:
    if "tls" in sections:
        sections = {"tls": {**document(tmp_path)["tls"], **sections["tls"]}}
    assert list(faults_of(tmp_path, **sections)) == [path]


def test_a_missing_certificate_is_told_with_its_path(tmp_path: Path) -> None:
    told = faults_of(tmp_path, tls={"certificate": "/nowhere/a.pem", "private_key": str(tmp_path)})
    assert told == {
        "tls.certificate": "/nowhere/a.pem can't be read: No such file or directory",
        "tls.private_key": f"{tmp_path} can't be read: Is a directory",
    }


def test_hosts_and_addresses_are_kept_in_one_form(tmp_path: Path) -> None:
    routes = [{"name": "a", "methods": ["GET"], "path": "/a", "host": host} for host in ("A.Test", "[::1]", None)]
    for i, route in enumerate(routes):
        route["name"] = f"a{i}"
    settings = make_settings(tmp_path, routes=routes, listen={"address": "0:0::1", "body_min_rate": "0B"})
    assert [route.host for route in settings.routes] == ["a.test", "[::1]", None]
    assert settings.listen.address == "::1"
    assert settings.listen.body_min_rate == 0


@pytest.mark.parametrize("jwks", ["/not/there", "/" + "x" * 5000])
def test_keys_of_an_issuer_that_are_nowhere_are_told_with_their_setting(tmp_path: Path, jwks: str) -> None:
    """A name that is too long was the system's error alone."""
    issuer = {"issuer": "https://idp.test", "audience": "gateway", "algorithms": ["ES256"], "jwks": jwks}
    told = faults_of(tmp_path, authentication={"jwt": [issuer]})
    assert told == {"authentication.jwt.0.jwks": f"{jwks} is neither a URL nor a file that is there"}
