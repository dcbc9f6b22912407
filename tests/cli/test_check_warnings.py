"""Settings of a valid configuration that work, but may not be intended: what is warned of, and what is not."""

from pathlib import Path
from typing import Any

import pytest

from gateway.cli.check_warnings import warnings
from gateway.cli.dev_tokens import ISSUER
from tests.support.pure import document, make_settings

ENVIRON = {
    "K": "a-secret-of-enough-bytes-to-be-good",
    "SHORT": "x" * 23,
    "ENOUGH": "x" * 24,
    "LONG": "x" * 32,
    "OTHER": "y" * 32,
}
KEY = {"id": "a", "secret": {"env": "K"}}
SHARED = "is that of webhooks.in[0], too, so a message to one can be sent to the other again"
TOO_LARGE = "so a PDF or TIFF as large as that may be refused"


def told(directory: Path, **sections: Any) -> list[str]:
    found = [*warnings(make_settings(directory, ENVIRON, **{"keys": [KEY], **sections}))]
    assert {finding.kind for finding in found} <= {"warning"}
    return [finding.text for finding in found]


def test_a_good_configuration_is_warned_of_nothing(tmp_path: Path) -> None:
    assert told(tmp_path) == []


@pytest.mark.parametrize(
    ("sections", "warned"),
    [
        ({"network": {"allow": ["10.0.0.0/8", "0.0.0.0/0", "::/0", "0.0.0.0/1"]}},
         ["network.allow[1]: 0.0.0.0/0 lets everybody in who has a key",
          "network.allow[2]: ::/0 lets everybody in who has a key"]),
        ({"network": {"allow": ["::1"], "trusted_proxies": ["10.0.0.0/8", "0.0.0.0/7", "fd00::/31", "fd00::/32"]}},
         ["network.trusted_proxies[1]: anyone in 0.0.0.0/7 can claim to be any address",
          "network.trusted_proxies[2]: anyone in fd00::/31 can claim to be any address"]),
        ({"admin": {"address": "0.0.0.0"}},  # noqa: S104 -- what is warned of
         ["admin.token: is not set, so /metrics is refused to everybody but this machine"]),
        ({"admin": {"address": "::", "token": {"env": "K"}}},
         ["admin.tls: is not set, so the admin token crosses the network in the clear"]),
        ({"admin": {"address": "127.0.0.2", "token": {"env": "K"}}}, []),
        ({"upstream": {"url": "http://192.0.2.77:8000"}},
         ["upstream.url: documents cross the network to 192.0.2.77 in the clear"]),
        ({"upstream": {"url": "https://192.0.2.77:8000"}}, []),
        ({"upstream": {"url": "http://[::1]:8000"}}, []),
        ({"upstream": {"idle_timeout": "5s"}},
         ["upstream.idle_timeout: uvicorn closes idle connections after 5s; stay below, or requests get lost"]),
        ({"upstream": {"idle_timeout": "4999ms"}}, []),
        ({"body": {"spool_limit": "199MB"}},
         [f"body.spool_limit: is less than profiles.default.body_limit, {TOO_LARGE}"]),
        ({"body": {"spool_limit": "200MB"}}, []),
        ({"keys": [{**KEY, "limits": {"body_limit": "3GB"}}]},
         [f"body.spool_limit: is less than keys[0].limits.body_limit, {TOO_LARGE}"]),
        ({"authentication": {"api_keys": {"enabled": False}}},
         ["authentication.api_keys.enabled: is off, so no key of keys can be used"]),
        ({"keys": [], "authentication": {"api_keys": {"enabled": False}}}, []),
        ({"keys": [KEY, {"id": "b", "secret": {"env": "SHORT"}, "scopes": ["admin", "all"]}]},
         ["keys[1].secret: is shorter than 24 bytes; make one with: openssl rand -base64 32",
          "keys[1].scopes: all opens nothing; the only scope is admin"]),
        ({"keys": [{"id": "a", "secret": {"env": "ENOUGH"}}]}, []),
        ({"keys": [{"id": "a", "secret": {"sha256": "0" * 64}, "scopes": ["admin"]}]}, []),
        ({"keys": [{**KEY, "expires": "2020-01-31T02:00:00+02:00"}]},
         ["keys[0].expires: 2020-01-31 00:00 UTC is over, so key a is refused"]),
        ({"keys": [{**KEY, "expires": "2099-01-31T00:00:00Z"}]}, []),
        ({"routes": [
            {"name": "a", "methods": ["GET"], "path": "/a", "access": "anyone"},
            {"name": "b", "methods": ["POST"], "path": "/b", "access": "anyone", "kind": "submit"},
            {"name": "c", "methods": ["POST"], "path": "/c", "kind": "submit"},
            {"name": "d", "methods": ["GET"], "path": "/c/{request_id}", "kind": "result"}]},
         ["routes[1].access: anyone may use b without a key",
          "routes[1]: nobody can read the jobs of b: no route of kind result takes GET /b/x"]),
        ({"aliases": {"/v1": "/api/v1", "/v9": "/api/v9", "/x": "/api/v1/marker/x", "/y": "/api/v1/marker/x/y/z"}},
         ["aliases./v9: leads to /api/v9, where no route is",
          "aliases./y: leads to /api/v1/marker/x/y/z, where no route is"]),
        ({"webhooks": {"out": {"allow": ["hooks.test"]}}},
         ["webhooks.out.secret: is not set, nor secrets, so no webhook is sent"]),
        ({"webhooks": {"out": {"allow": ["hooks.test"], "secret": {"env": "K"}}}}, []),
        ({"webhooks": {"in": [{"name": "a", "secret": {"env": "LONG"}, "forward_to": "https://h/"},
                              {"name": "b", "secret": {"env": "K"}, "forward_to": "https://h/"},
                              {"name": "c", "secret": {"env": "OTHER"}, "previous_secret": {"env": "LONG"},
                               "forward_to": "https://h/"}]}},
         [f"webhooks.in[2].secret: {SHARED}"]),
        ({"upstreams": {"b": {"url": "http://192.0.2.77:8000", "idle_timeout": "5s"},
                        "c": {"url": "http://127.0.0.1:1"}},
          "routes": [{"name": "a", "methods": ["GET"], "path": "/a", "upstream": "b"}]},
         ["upstreams.b.url: documents cross the network to 192.0.2.77 in the clear",
          "upstreams.b.idle_timeout: uvicorn closes idle connections after 5s; stay below, or requests get lost",
          "upstreams.c: no route goes there"]),
    ],
)  # fmt: skip
def test_warns_of_what_works_and_may_not_be_meant(
    tmp_path: Path, sections: dict[str, Any], warned: list[str]
) -> None:
    assert told(tmp_path, **sections) == warned


def test_a_token_that_crosses_the_network_in_tls_is_not_warned_of(tmp_path: Path) -> None:
    admin = {"address": "::", "token": {"env": "K"}, "tls": document(tmp_path)["tls"]}
    assert told(tmp_path, admin=admin) == []


def test_client_certificates_that_are_of_no_effect_are_warned_of(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    tls = {**document(tmp_path)["tls"], "client_ca": str(tmp_path / "ca.pem")}
    mapping = {"certificates": {"identity": "dns", "names": {"a.test": {"scopes": ["admin", "all"]}}}}
    of_names = "authentication.certificates.names.a.test.scopes: all opens nothing; the only scope is admin"
    assert told(tmp_path, tls=tls, authentication=mapping) == [
        "tls.client_ca: is not used, since tls.client_certificates is none",
        "authentication.certificates.identity: is not used, since tls.client_certificates is none",
        of_names,
    ]
    assert told(tmp_path, tls={**tls, "client_certificates": "required"}, authentication=mapping) == [of_names]
    assert told(tmp_path, tls={**tls, "client_certificates": "optional"}) == []


def test_tokens_for_trying_out_are_warned_of(tmp_path: Path) -> None:
    issuers = [{"issuer": name, "audience": "g", "discovery": True} for name in ("https://idp.test", ISSUER)]
    assert told(tmp_path, authentication={"jwt": issuers}) == [
        "authentication.jwt[1].issuer: is that of gateway certs token, for trying out alone"
    ]
