"""Every flow at debug level, with secrets that nobody else has: none of them may turn up where it does not belong.

A real gateway process, the stand-in container, a ledger, the command line and the admin API. Looked through at the
end: the gateway's output, its metrics, the heads and bodies of all its own answers, the process table, the ledger's
files, and what the commands wrote besides the secrets that they were asked for.
"""

import hmac
import http.client
import json
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.demo.sample import sample_pdf
from tests.support.forkserver import gateway_command
from tests.support.process import Process, Served, configure, descendants, eventually, serving, trusting

SHARED_SECRET = "canary-hmac-secret-0123456789abcdef-of-32-bytes"
ADMIN_TOKEN = "canary-admin-token-77f3e1"
UNKNOWN_KEY = "canary-unknown-key-90aa12"
UNKNOWN_OWN = "dgw_ci_canaryunknownsecretcanaryunknownsecretcanar000000"
PROVIDER_KEY = "sk-canary-provider-key-4bd1"
FILE_NAME = "canary-file-name-of-a-patient.pdf"
FIELD_VALUE = "canary-field-value-2f9e"
HEADER_VALUE = "canary-header-value-8ee0"
QUERY_VALUE = "canary-query-value-c0de"
WEBHOOK_URL = "https://canary-webhook.example/hook?token=canary-webhook-token"
HOOK_SECRET = "canary-hook-secret-5c1d0e9f"
HOOK_FIELD = "canary-hook-field-secret-31aa"
HOOK_URL = "https://localhost:1/canary-hook-path?token=canary-hook-token"
HOOK_PAYLOAD = "canary-hook-payload-6b2f"
DOCUMENT_TEXT = "canary-document-text-a1b2"
BOUNDARY = "canary-boundary-3d4e"


class Answer(NamedTuple):
    """What came back, whole."""

    status: int
    head: str
    body: bytes


def pdf() -> bytes:
    """A document whose words are a secret: behind its end, where no reader minds them."""
    return sample_pdf(2) + b"\n% " + DOCUMENT_TEXT.encode()


def form(*fields: tuple[str, str], content: bytes | None = None) -> bytes:
    """A submit as the SDK sends it, with a secret in the file's name and in a field that only the container reads."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{FILE_NAME}"\r\n'
        "Content-Type: application/pdf\r\n\r\n".encode()
        + (pdf() if content is None else content)
    ]
    for name, value in (("openai_api_key", PROVIDER_KEY), ("page_schema", FIELD_VALUE), *fields):
        parts.append(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode())
    return b"\r\n".join(parts) + f"\r\n--{BOUNDARY}--\r\n".encode()


class Session:
    """A client of one gateway, who keeps every answer that the gateway itself wrote."""

    def __init__(self, gateway: Served, certificates: Path) -> None:
        self._gateway = gateway
        self._tls = trusting(certificates)
        self.own: list[Answer] = []

    def ask(
        self, credential: dict[str, str], path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPSConnection("localhost", self._gateway.port, timeout=30, context=self._tls)
        return self._take(connection, credential | headers, path, method, body)

    def submit(self, credential: dict[str, str], body: bytes, path: str = "/api/v1/marker") -> Answer:
        """One submit."""
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", "X-Canary": HEADER_VALUE}
        return self.ask(credential | kind, path, "POST", body)

    def admin(self, path: str, method: str = "GET", body: Any = None, token: str = ADMIN_TOKEN) -> Answer:
        """One request to the admin listener."""
        connection = http.client.HTTPConnection("127.0.0.1", self._gateway.admin_port, timeout=30)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        return self._take(connection, headers, path, method, content)

    def _take(
        self,
        connection: http.client.HTTPConnection,
        headers: dict[str, str],
        path: str,
        method: str,
        body: bytes | None,
    ) -> Answer:
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            answer = Answer(response.status, f"{response.reason}\n{response.headers}", response.read())
        finally:
            connection.close()
        if response.headers.get("X-Gateway-Reason") or response.status != 200:
            self.own.append(answer)
        return answer


class Site(NamedTuple):
    """All that the test looks at."""

    directory: Path
    config: Path
    gateway: Served
    session: Session
    token: str
    tables: list[str]

    def command(self, *arguments: str) -> tuple[str, str]:
        """A gateway command: its standard output and its standard error."""
        done = subprocess.run(  # noqa: S603 -- a command of ours
            [self.directory / "gateway", *arguments, "--config", str(self.config)],
            capture_output=True,
            text=True,
            cwd=self.directory,
            env={"PATH": "/usr/bin", "PYTHONPATH": str(Path(__file__).parents[2])} | ENVIRON,
            check=False,
        )
        return done.stdout, done.stderr


ENVIRON = {"ADMIN_TOKEN": ADMIN_TOKEN, "SHARED_SECRET": SHARED_SECRET, "HOOK_SECRET": HOOK_SECRET}


@pytest.fixture
def container() -> Iterator[str]:
    with Process((sys.executable, "-m", "gateway.demo.container", "--port", "0")) as process:
        yield process.line(lambda line: line.startswith("container ready on ")).rpartition(" ")[2]


@contextmanager
def site_before(upstream: str, directory: Path, certificates: Path) -> Iterator[Site]:
    private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (directory / "idp.pem").write_bytes(public)
    issuers = [
        {"issuer": "https://shared.example", "audience": "gateway", "algorithms": ["HS256"],
         "secret": {"env": "SHARED_SECRET"}},
        {"issuer": "https://idp.example", "audience": "gateway", "algorithms": ["ES256"],
         "public_key": str(directory / "idp.pem")},
    ]  # fmt: skip
    config = configure(
        directory, certificates, upstream,
        admin={"port": 0, "token": {"env": "ADMIN_TOKEN"}},
        authentication={"jwt": issuers},
        ledger={"url": f"sqlite:///{directory}/ledger.db", "timeout": "5s"},
        log={"level": "debug"},
        profiles={"tiny": {"requests_per_minute": 1, "pages_per_day": 1}},
        webhooks={
            "out": {"secret": {"env": "HOOK_SECRET"}, "allow": ["localhost"]},
            "in": [{"name": "datalab", "secret": {"env": "HOOK_SECRET"}, "forward_to": "http://127.0.0.1:1/in",
                    "accept_body_secret": True}],
        },
    )  # fmt: skip
    claims = {"iss": "https://idp.example", "aud": "gateway", "sub": "alice", "exp": int(time.time()) + 300}
    token = jwt.encode(claims, private, algorithm="ES256")
    # The gateway begins by itself: a forked one has another's command line, and it is looked at here.
    with serving(config, ENVIRON, is_forked=False) as gateway, gateway_command(directory / "gateway"):
        yield Site(directory, config, gateway, Session(gateway, certificates), token, [])


def shared_token(**claims: object) -> str:
    base = {"iss": "https://shared.example", "aud": "gateway", "sub": "bob", "exp": int(time.time()) + 300}
    return jwt.encode(base | claims, SHARED_SECRET, algorithm="HS256")


def process_table(site: Site) -> str:
    """What `ps` shows of the gateway and its children, to whoever looks."""
    pids = [site.gateway.process.pid, *descendants(site.gateway.process.pid)]
    lines = [Path(f"/proc/{pid}/cmdline") for pid in pids]
    return "\n".join(line.read_bytes().replace(b"\0", b" ").decode() for line in lines if line.exists())


def walk_submits(site: Site, credential: dict[str, str]) -> None:
    """Submits that pass, and submits that are refused for every reason that reads the body."""
    ask, submit = site.session.ask, site.session.submit
    accepted = submit(credential, form(("mode", "fast")))
    assert accepted.status == 200, accepted
    site.tables.append(process_table(site))
    path = "/" + json.loads(accepted.body)["request_check_url"].split("/", 3)[3]
    eventually(lambda: b'"complete"' in ask(credential, path).body)
    refusals = [
        submit(credential, form(("page_range", f"0-{FIELD_VALUE}"))),
        submit(credential, form(("file_url", WEBHOOK_URL))),
        submit(credential, form(("webhook_url", WEBHOOK_URL))),
        submit(credential, form(("mode", "fast"))[:-30]),
        submit(credential, form(("page_range", "0"), ("page_range", FIELD_VALUE))),
        ask(credential, "/api/v1/marker", "POST", f"a={FIELD_VALUE}".encode()),
        ask(credential, f"/api/v1/{FIELD_VALUE}"),
        ask(credential, f"/api/v1/../{FIELD_VALUE}?q={QUERY_VALUE}"),
        ask(credential, "/gateway/v1/me", "DELETE"),
    ]
    assert [found.status for found in refusals] == [400, 422, 422, 400, 415, 415, 404, 400, 405], refusals
    assert ask(credential, f"/gateway/v1/me?x={QUERY_VALUE}").status == 200


def walk_webhooks(site: Site, credential: dict[str, str]) -> list[str]:
    """A webhook that nobody takes, and webhooks that are taken in, or not; what the commands said of them."""
    fields = ("webhook_url", HOOK_URL), ("webhook_secret", HOOK_FIELD)
    accepted = site.session.submit(credential, form(*fields))
    assert accepted.status == 200, accepted
    named = json.loads(accepted.body)["request_id"]
    eventually(
        lambda: (
            'gateway_webhook_deliveries_total{result="retried"} 0' not in site.session.admin("/metrics").body.decode()
        )
    )
    path = "/gateway/v1/webhooks/datalab"
    body = json.dumps({"request_id": "r-1", "note": HOOK_PAYLOAD}).encode()
    old = json.dumps({"request_id": "r-2", "note": HOOK_PAYLOAD, "webhook_secret": HOOK_SECRET}).encode()
    signed = {"X-Webhook-Signature": hmac.digest(HOOK_SECRET.encode(), body, "sha256").hex()}
    statuses = [
        site.session.ask(headers, path, "POST", content).status
        for headers, content in (({}, body), (signed, body + b" "), (signed, body), ({}, old), (signed, b"{" + body))
    ]
    assert statuses == [401, 401, 502, 502, 401]
    said: list[str] = []
    for arguments in (
        ("jobs", "list"), ("jobs", "show", named), ("jobs", "list", "--json"),
        ("webhooks", "list"), ("webhooks", "list", "--json"),
    ):  # fmt: skip
        output, error = site.command(*arguments)
        assert output, error
        said += output, error
    listed = json.loads(site.command("webhooks", "list", "--json")[0])
    rows = listed["webhooks"] if isinstance(listed, dict) else listed
    said += site.command("webhooks", "show", rows[0]["id"])
    for admin in ("/admin/v1/jobs", f"/admin/v1/jobs/{named}", "/admin/v1/webhooks"):
        shown = site.session.admin(admin)
        assert shown.status == 200, shown
        site.session.own.append(shown)
    return said


def walk_credentials(site: Site) -> None:
    """Credentials that fail in every way, beside two that are good."""
    expired = shared_token(exp=int(time.time()) - 3600)
    other = jwt.encode({"iss": "https://idp.example", "sub": FIELD_VALUE}, SHARED_SECRET, algorithm="HS256")
    broken = site.token[:-8] + "canary00"
    for bad in (UNKNOWN_KEY, UNKNOWN_OWN, expired, other, broken, f"{site.token}.x", FIELD_VALUE * 300, ADMIN_TOKEN):
        for header in ({"X-API-Key": bad}, {"Authorization": f"Bearer {bad}"}):
            assert site.session.ask(header, "/api/v1/marker/x").status in {401, 429}
    both = {"X-API-Key": UNKNOWN_KEY, "Authorization": f"Bearer {site.token}"}
    assert site.session.ask(both, "/api/v1/marker/x").status == 400
    assert site.session.ask({"Authorization": f"Basic {FIELD_VALUE}"}, "/api/v1/marker/x").status == 401
    assert site.session.admin("/metrics", token=UNKNOWN_KEY).status == 401


def walk_keys(site: Site) -> list[str]:
    """Keys made, rotated and revoked both ways; all the secrets that were given out."""
    made, said = site.command("keys", "create", "by-hand", "--profile", "tiny")
    secrets = [made.strip()]
    assert re.fullmatch(r"dgw_by-hand_\S{49}", secrets[0]), (made, said)
    rotated, more = site.command("keys", "rotate", "by-hand", "--overlap", "1h", "--json")
    secrets.append(json.loads(rotated)["secret"])
    written = [said, more]
    for arguments in (
        ("keys", "list"), ("keys", "show", "by-hand"), ("keys", "create", "by-hand"), ("usage",), ("check",),
        ("explain", "--key", "by-hand", "--ip", "127.0.0.1", "POST", "/api/v1/marker"),
        ("keys", "grant", "by-hand", "--pages", "5", "--until", "1h"), ("keys", "disable", "by-hand"),
        ("keys", "enable", "by-hand"), ("keys", "revoke", "by-hand", "--generation", "1"),
    ):  # fmt: skip
        written += site.command(*arguments)
    created = site.session.admin("/admin/v1/keys", "POST", {"id": "by-api"})
    assert created.status == 201, created
    secrets.append(json.loads(created.body)["secret"])
    site.session.own.remove(created)
    again = site.session.admin("/admin/v1/keys", "POST", {"id": "by-api", "surprise": FIELD_VALUE})
    assert again.status in {409, 422}
    for path in ("/admin/v1/keys", "/admin/v1/keys/by-api", "/admin/v1/audit", "/admin/v1/usage"):
        site.session.own.append(site.session.admin(path))
    found = "\n".join(written)
    assert not [secret for secret in secrets if secret in found]
    return secrets


def walk_limits(site: Site, secret: str) -> None:
    """A key that may do nearly nothing."""
    credential = {"X-API-Key": secret}
    eventually(lambda: site.session.ask(credential, "/gateway/v1/me").status == 200)
    assert site.session.submit(credential, form(content=sample_pdf(7) + DOCUMENT_TEXT.encode())).status == 403
    assert site.session.submit(credential, form()).status == 429


def walk_without_ledger(site: Site, credential: dict[str, str]) -> None:
    """The ledger is locked by somebody else for a while."""
    thief = sqlite3.connect(site.directory / "ledger.db", isolation_level=None)
    try:
        thief.execute("BEGIN IMMEDIATE")
        assert site.session.submit(credential, form()).status == 503
    finally:
        thief.close()
    eventually(lambda: site.session.admin("/readyz").status == 200)


def walk_reloads(site: Site) -> None:
    """Configurations with a secret written where none belongs, and the good one again."""
    good = site.config.read_text()
    wrong = (f"prices: {FIELD_VALUE}", f"body: {{spool_limit: {FIELD_VALUE}}}", f"surprise: {FIELD_VALUE}")
    for count, section in enumerate(wrong, start=1):
        site.config.write_text(good + section + "\n")
        _told_of(site, count)
    site.config.write_text(good)


def _told_of(site: Site, refused: int) -> None:
    eventually(lambda: site.gateway.process.output.count("reload refused") >= refused)


def canaries(site: Site, secrets: list[str]) -> dict[str, str]:
    key = (site.directory / "key.txt").read_text().strip()
    signature = hmac.digest(SHARED_SECRET.encode(), b"x", "sha256").hex()
    return {
        "configured key": key, "jwt": site.token, "jwt signature": site.token.rpartition(".")[2],
        "shared secret": SHARED_SECRET, "admin token": ADMIN_TOKEN, "unknown key": UNKNOWN_KEY,
        "unknown secret": UNKNOWN_OWN, "provider key": PROVIDER_KEY, "file name": FILE_NAME,
        "header": HEADER_VALUE, "query": QUERY_VALUE, "webhook": "canary-webhook", "document": DOCUMENT_TEXT,
        "hook secret": HOOK_SECRET, "hook field": HOOK_FIELD, "hook payload": HOOK_PAYLOAD,
        "hook token": "canary-hook-token", "hook path": "canary-hook-path",
        "boundary": BOUNDARY, "signature": signature, **{f"ledger key {n}": s for n, s in enumerate(secrets)},
        **{f"tail of ledger key {n}": s[-30:] for n, s in enumerate(secrets)},
    }  # fmt: skip


def test_no_secret_turns_up_where_it_does_not_belong(container: str, tmp_path: Path, certificates: Path) -> None:
    with site_before(container, tmp_path, certificates) as site:
        key = {"X-API-Key": (tmp_path / "key.txt").read_text().strip()}
        for credential in (key, {"Authorization": f"Bearer {site.token}"}, {"X-API-Key": shared_token()}):
            walk_submits(site, credential)
        walk_credentials(site)
        secrets = walk_keys(site)
        walk_limits(site, secrets[1])
        commands = "\n".join(walk_webhooks(site, key))
        walk_without_ledger(site, key)
        walk_reloads(site)
        metrics = site.session.admin("/metrics").body.decode()
        site.tables.append(process_table(site))
        ledger = b"".join(path.read_bytes() for path in sorted(tmp_path.glob("ledger.db*")))
    assert site.gateway.process.exit_code() is not None
    places = {
        "log": site.gateway.process.output,
        "metrics": metrics,
        "own answers": "\n".join(f"{a.head}\n{a.body.decode('utf-8', 'replace')}" for a in site.session.own),
        "process table": "\n".join(site.tables),
        "ledger": ledger.decode("latin-1"),
        "commands": commands,
    }
    found = [
        (what, place)
        for what, canary in canaries(site, secrets).items()
        for place, text in places.items()
        if canary in text
    ]
    # Where a webhook is to go has to be remembered until it is there.
    assert found == [("hook token", "ledger"), ("hook path", "ledger")]
    # The value of a field may stand in a path or a claim that is refused, too: it is looked for everywhere but there.
    assert FIELD_VALUE not in places["log"] + places["metrics"] + places["own answers"] + places["ledger"]
    assert '"request"' in places["log"]
    assert "by-hand" in places["ledger"]
