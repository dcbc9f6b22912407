"""`gateway explain --token` and `--certificate`: each refusal has its word, and what would help."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from click.testing import CliRunner, Result
from cryptography import x509

from gateway.auth.certificates import read_certificate
from gateway.cli.credential_files import judge_token_file
from gateway.cli.explain_certificate import judge_certificate, names_of
from gateway.cli.joined_judgement import RunningVerdict
from gateway.cli.main import cli
from gateway.config.compile import compile_settings
from gateway.config.load import load
from gateway.config.state import with_blocked
from tests.support.pure import document, make_settings, write
from tests.support.tokens import CLAIMS, ISSUER, jwk_of, jwks_of, make_token, p256_key, rsa_key

pytestmark = pytest.mark.usefixtures("restored_log")

Run = Callable[..., Result]


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def run(tmp_path: Path, authority: trustme.CA) -> Run:
    (tmp_path / "jwks.json").write_bytes(jwks_of(jwk_of(p256_key(), kid="one")))
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issuer = {"issuer": ISSUER, "audience": "gateway", "jwks": str(tmp_path / "jwks.json"), "algorithms": ["ES256"],
              "required_scopes": ["convert"], "required_claims": {"tenant": "acme"},
              "profile_claim": "tier"}  # fmt: skip
    names: dict[str, Any] = {"batch.test": {}}
    whole = document(
        tmp_path,
        ledger={"url": f"sqlite:///{tmp_path}/ledger.db"},
        profiles={"idle": {"requests_per_month": 0}},
        authentication={"jwt": [issuer], "certificates": {"identity": "dns", "names": names}},
    )
    whole["tls"] |= {"client_ca": str(tmp_path / "ca.pem"), "client_certificates": "optional"}
    path = write(tmp_path, whole)

    def invoke(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(cli, ["explain", "--config", str(path), *arguments])
        assert result.exit_code == code, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return invoke


def token(directory: Path, key: Any = None, kid: str = "one", alg: str = "ES256", **claims: Any) -> str:
    values = {
        **CLAIMS,
        "exp": int(time.time()) + 300,
        "scope": "convert",
        "tenant": "acme",
        "tier": "default",
        **claims,
    }
    made = make_token(alg, key=key or p256_key(), header={"kid": kid}, **values)
    (directory / "token").write_bytes(made + b"\n")
    return str(directory / "token")


@pytest.mark.parametrize(
    ("changes", "why", "told"),
    [
        ({"iss": "https://other.example"}, "issuer", f"the issuers are {ISSUER}"),
        ({"iss": 7}, "issuer", f"issuer: the issuers are {ISSUER}"),
        ({"iss": f"{ISSUER}/"}, "issuer",
         f"issuer: its iss differs from {ISSUER} only by a slash at the end; the issuers are {ISSUER}"),
        ({"iss": ISSUER.upper()}, "issuer", f"its iss differs from {ISSUER} only by case; the"),
        ({"iss": f"{ISSUER.upper()}/"}, "issuer", f"its iss differs from {ISSUER} only by case and a slash"),
        ({"aud": "elsewhere"}, "audience", 'aud is "elsewhere"; the audiences here are gateway'),
        ({"exp": 1}, "expired", "it ended 1970-01-01T00:00:01Z, and it is 20"),
        ({"exp": 1}, "expired", "leeway is 30 s"),
        ({"nbf": 4_000_000_000}, "not_yet_valid", "leeway is 30 s"),
        ({"key": "p256"}, "signature", "judgement       signature: The key did not make its signature."),
        ({"kid": "two"}, "unknown_key", "judgement       unknown_key: The issuer has no key of its kid for its alg"),
        ({"kid": "two"}, "unknown_key", "kid two"),
        ({"kid": "two"}, "unknown_key", "It has one (ES256)."),
        ({"alg": "RS256", "key": "rsa"}, "algorithm", "the issuer's algorithms are ES256"),
        ({"sub": 7}, "claim", 'sub is 7; wanted are sub, exp, tenant "acme"'),
        ({"sub": None}, "claim", "sub is null; wanted are"),
        ({"tenant": "other"}, "claim", 'tenant is "other"; wanted are'),
        ({"scope": 5, "nbf": "x"}, "claim", 'nbf is "x", scope is 5; wanted are'),
        ({"tier": "gold"}, "profile", 'tier is "gold"; the profiles are default'),
        ({"tier": None}, "profile", "tier is null; the profiles are default"),
        ({"scope": "other"}, "scope", 'scope is "other"; wanted are convert'),
    ],
)  # fmt: skip
def test_a_refused_token_has_its_word(run: Run, tmp_path: Path, changes: dict[str, Any], why: str, told: str) -> None:
    keys: dict[str, Callable[[], Any]] = {"p256": lambda: p256_key(1), "rsa": rsa_key}
    if "key" in changes:
        changes = {**changes, "key": keys[changes["key"]]()}
    file = token(tmp_path, **changes)
    found = json.loads(run("--token", file, "--json").stdout)
    assert (found["allowed"], found["why"]) == (False, why)
    assert found["help"]
    assert told in run("--token", file).stdout
    judgement = next(line for line in run("--token", file).stdout.splitlines() if line.startswith("judgement "))
    timeless = judgement.partition(", and it is ")[0]  # a second later it is later
    assert timeless in run("--token", file, "--ip", "10.1.2.3", "POST", "/api/v1/marker").stdout


def test_a_command_that_would_help_is_whole_whatever_a_caller_is_called(run: Run, tmp_path: Path) -> None:
    file = token(tmp_path, tier="idle", sub="al,ice;x")
    asked = ("--token", file, "--ip", "10.1.2.3", "POST", "/api/v1/marker", "--json")
    caller, config = f"'jwt:{ISSUER}#al,ice;x'", tmp_path / "gateway.yaml"
    command = f"gateway callers grant {caller} --pages N --until WHEN --config {config}"
    assert json.loads(run(*asked).stdout)["help"] == f"Wait; or for pages: {command}"


def test_a_good_token_is_judged_alone_and_for_a_request(run: Run, tmp_path: Path) -> None:
    file = token(tmp_path)
    assert f"good: owner jwt:{ISSUER}#alice, profile default, until " in run("--token", file).stdout
    found = json.loads(run("--token", file, "--json", "--ip", "10.1.2.3", "POST", "/api/v1/marker").stdout)
    assert found["allowed"]
    assert {"the token", "route", "token", "access", "limits"} <= {step["name"] for step in found["steps"]}
    refused = json.loads(run("--token", file, "--json", "--ip", "10.1.2.3", "GET", "/api/v1/usage").stdout)
    assert refused["reason"] == "forbidden"
    assert refused["help"].endswith(
        "this route needs the scope admin: ask the issuer for a token with admin in its scope"
    )


def test_what_would_help_a_token_or_a_certificate_is_nothing_of_a_key(
    run: Run, tmp_path: Path, authority: trustme.CA
) -> None:
    pem = certificate(tmp_path, authority.issue_cert("batch.test"))
    shown = (("--token", token(tmp_path)), ("--certificate", pem))
    for credential in shown:
        asked = (*credential, "--json", "--ip", "10.1.2.3", "--pages", "100000", "POST", "/api/v1/marker")
        told = json.loads(run(*asked).stdout)["help"]
        assert told == "Ask for fewer by page_range or max_pages; or raise pages_per_request of profiles.default."
    usage = run(*shown[1], "--json", "--ip", "10.1.2.3", "GET", "/api/v1/usage")
    assert "scopes of this name in authentication.certificates.names" in json.loads(usage.stdout)["help"]


def test_a_certificate_of_a_blocked_caller_is_refused(tmp_path: Path, authority: trustme.CA) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    asks = {"client_ca": str(tmp_path / "ca.pem"), "client_certificates": "optional"}
    whole = document(tmp_path, authentication={"certificates": {"identity": "dns"}})
    whole["tls"] |= asks
    state = compile_settings(load(write(tmp_path, whole), {}))
    chain = x509.load_pem_x509_certificates(Path(certificate(tmp_path, authority.issue_cert("a.test"))).read_bytes())
    trusted = x509.load_pem_x509_certificates((tmp_path / "ca.pem").read_bytes())
    now = datetime.now(UTC)
    assert judge_certificate(state, chain, trusted, now).identity is not None
    judged = judge_certificate(with_blocked(state, frozenset({"cert:a.test"})), chain, trusted, now)
    assert (judged.identity, judged.text) == (None, "blocked: This caller is blocked here.")
    assert "gateway callers unblock" in judged.help


def test_the_host_has_the_port_that_clients_name(run: Run, tmp_path: Path) -> None:
    found = json.loads(run("--token", token(tmp_path), "--json", "--ip", "10.1.2.3", "POST", "/api/v1/marker").stdout)
    (step,) = [step["text"] for step in found["steps"] if step["name"] == "host"]
    assert step.endswith(":8443") or "URLs are paths alone" in step
    (asked,) = [step["text"] for step in found["steps"] if step["name"] == "request"]
    assert asked.endswith(":8443")


def test_what_is_no_token_is_malformed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("Bearer dgw_x")
    assert json.loads(run("--token", str(tmp_path / "text"), "--json").stdout)["why"] == "malformed"
    assert "can't be read: No such file" in run("--token", str(tmp_path / "none"), code=1).stderr


def test_a_token_in_place_of_its_file_is_not_repeated(run: Run, tmp_path: Path) -> None:
    text = Path(token(tmp_path)).read_text().strip()
    for given in (text, f"Bearer {text}", f"{text}\n", "canary" * 50):
        told = run("--token", given, code=2)
        assert "--token takes a file, or - for standard input" in told.stderr
        assert given.strip()[:20] not in told.output
    opaque = run("--token", "canary-of-an-opaque-token", code=1)
    assert "--token takes a file, or - for standard input" in opaque.stderr
    assert "canary" not in opaque.output


def test_a_key_in_place_of_its_file_is_not_repeated(run: Run) -> None:
    pem = "-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----"
    told = run("--certificate", pem, code=2)
    assert "--certificate takes a file, or - for standard input" in told.stderr
    assert "canary" not in told.output
    for options in (("config", "init", "--private-key"), ("check", "--config"), ("config", "init", "--config")):
        result = CliRunner().invoke(cli, [*options, pem])
        assert result.exit_code == 2
        assert f"{options[-1]} takes a file." in result.stderr
        assert "canary" not in result.output


async def nobody(_: str) -> RunningVerdict:
    return RunningVerdict(None, "nobody is there")


async def test_keys_that_can_not_be_fetched_are_told(tmp_path: Path) -> None:
    issuer = {"issuer": ISSUER, "audience": "gateway", "jwks": "http://127.0.0.1:1/jwks", "algorithms": ["ES256"]}
    state = compile_settings(make_settings(tmp_path, authentication={"jwt": [issuer]}))
    shown = await judge_token_file(Path(token(tmp_path)), state, time.time(), nobody)
    assert "its issuer's keys can't be fetched from here: " in shown.text
    assert shown.judged.text.startswith("can't tell: ")
    assert not shown.judged.is_known


async def test_keys_are_fetched_as_the_gateway_does(tmp_path: Path, aiohttp_server: Any) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=jwks_of(jwk_of(p256_key(), kid="one")), content_type="application/json")

    application = web.Application()
    application.router.add_get("/jwks", answer)
    server = await aiohttp_server(application)
    url = f"http://127.0.0.1:{server.port}/jwks"
    issuer = {"issuer": ISSUER, "audience": "gateway", "jwks": url, "algorithms": ["ES256"]}
    state = compile_settings(make_settings(tmp_path, authentication={"jwt": [issuer]}))
    shown = await judge_token_file(Path(token(tmp_path)), state, time.time(), nobody)
    assert shown.judged.identity is not None


def certificate(directory: Path, leaf: trustme.LeafCert) -> str:
    path = directory / "client.pem"
    path.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    return str(path)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("good", "good: owner cert:batch.test, profile default"),
        ("unlisted", "name: The client certificate is valid, but"),
        ("two", "ambiguous: "),
        ("nameless", "good for TLS, but has no dns name"),
        ("expired", "expired: it ended "),
        ("early", "not_yet_valid: it begins "),
        ("other", "issuer: no CA of tls.client_ca signed it"),
        ("child", "good: owner cert:batch.test, profile default"),
        ("common name", "good: owner cert:batch.test, profile default"),
    ],
)
def test_a_certificate_has_its_word(run: Run, tmp_path: Path, authority: trustme.CA, kind: str, told: str) -> None:
    now = datetime.now(UTC)
    makers: dict[str, Callable[[], trustme.LeafCert]] = {
        "good": lambda: authority.issue_cert("batch.test"),
        "unlisted": lambda: authority.issue_cert("else.test"),
        "two": lambda: authority.issue_cert("batch.test", "else.test"),
        "nameless": lambda: authority.issue_cert("a@b.test"),
        "expired": lambda: authority.issue_cert(
            "batch.test", not_before=now - timedelta(9), not_after=now - timedelta(1)
        ),
        "early": lambda: authority.issue_cert(
            "batch.test", not_before=now + timedelta(1), not_after=now + timedelta(9)
        ),
        "other": lambda: trustme.CA().issue_cert("batch.test"),
        "child": lambda: authority.create_child_ca().issue_cert("batch.test"),
        "common name": lambda: authority.issue_cert("batch.test", common_name="batch.test"),
    }
    result = run("--certificate", certificate(tmp_path, makers[kind]()))
    assert told in result.stdout
    assert "issued by " in result.stdout
    assert ("refused: 401" in result.stdout) == (not told.startswith("good: "))


def test_a_common_name_is_read_as_tls_reads_it(tmp_path: Path, authority: trustme.CA) -> None:
    pem = certificate(tmp_path, authority.issue_cert("batch.test", common_name="Batch"))
    names = names_of(x509.load_pem_x509_certificate(Path(pem).read_bytes()))
    assert read_certificate(names).cn == ("Batch",)


def test_what_is_no_certificate_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    assert "holds no PEM certificate" in run("--certificate", str(tmp_path / "text"), code=1).stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--token", "a", "--key", "b"), "Take one of"),
        ((), "Name METHOD and PATH"),
        (("--key", "a"), "Name METHOD and PATH"),
        (("GET",), "METHOD, PATH and --ip"),
        (("GET", "/x"), "METHOD, PATH and --ip"),
    ],
)
def test_wrong_usage_is_told(run: Run, arguments: tuple[str, ...], told: str) -> None:
    assert told in run(*arguments, code=2).stderr
