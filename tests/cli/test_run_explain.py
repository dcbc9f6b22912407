"""What `gateway explain` prints: the steps, the verdict, and what is left, as configuration and ledger are now."""

import asyncio
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection

from gateway.cli.main import cli
from gateway.ledger.callers import block
from gateway.ledger.keys import NewKeyRow, create
from gateway.ledger.reservations import admit
from gateway.tls.dev_certificates import make_development_certificates
from tests.support.ledgers import make_claim, make_profile, open_engine, write_sqlite_ledger
from tests.support.pure import document, write
from tests.support.tokens import CLAIMS, ISSUER, jwk_of, jwks_of, make_token, p256_key

pytestmark = pytest.mark.usefixtures("restored_log")

CI = ("--key", "ci", "--ip", "10.1.2.3")
POLL = ("GET", "/api/v1/marker/x")
SUBMIT = ("POST", "/api/v1/marker")
ANN = f"jwt:{ISSUER}#alice"


class Explaining:
    """The command on a configuration of its own, with a ledger; no gateway runs there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        write_sqlite_ledger(directory / "ledger.db")
        self.configure()

    def configure(self, names: tuple[str, ...] = ("gateway.test",), **sections: Any) -> None:
        if names:
            make_development_certificates(self.directory / "-".join(names).replace(":", "_"), list(names))
        made = self.directory / "-".join(names).replace(":", "_")
        (self.directory / "jwks.json").write_bytes(jwks_of(jwk_of(p256_key(), kid="one")))
        issuer = {"issuer": ISSUER, "audience": "gateway", "jwks": str(self.directory / "jwks.json")}
        whole = document(
            self.directory,
            ledger={"url": f"sqlite:///{self.directory}/ledger.db"},
            admin={"port": 1},  # where nobody listens
            keys=[{"id": "ci", "secret": {"sha256": "0" * 64}}],
            authentication={"jwt": [{**issuer, "algorithms": ["ES256"]}]},
            **sections,
        )
        if names:
            whole["tls"] = {"certificate": str(made / "server.pem"), "private_key": str(made / "server.key")}
        self.path = write(self.directory, whole)

    def text(self, *arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(cli, ["explain", "--config", str(self.path), *arguments])
        assert result.exit_code == code, result.output
        return result.stdout

    def found(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.text(*arguments, "--json", code=code))

    def token(self) -> tuple[str, str]:
        claims = {**CLAIMS, "exp": int(time.time()) + 300}
        path = self.directory / "token"
        path.write_bytes(make_token("ES256", key=p256_key(), header={"kid": "one"}, **claims))
        return "--token", str(path)

    def on_ledger(self, work: Callable[[Connection], Any]) -> None:
        async def act() -> None:
            engine = open_engine(f"sqlite:///{self.directory}/ledger.db")
            await engine.write(work)
            await engine.close()

        asyncio.run(act())


@pytest.fixture
def explaining(tmp_path: Path) -> Explaining:
    return Explaining(tmp_path)


def step(found: Any, name: str) -> str:
    (text,) = (step["text"] for step in found["steps"] if step["name"] == name)
    return str(text)


def test_each_step_is_a_line_then_comes_the_verdict_and_what_is_left(explaining: Explaining) -> None:
    lines = explaining.text(*CI, *POLL).splitlines()
    end = lines.index("")
    assert lines[0] == "request         GET /api/v1/marker/x from 10.1.2.3, Host gateway.test:8443"
    assert [line[:16].rstrip() for line in lines[:end]] == [
        "request", "route", "address", "key", "key's networks", "access", "host", "limits",
    ]  # fmt: skip
    assert lines[end + 1 : end + 3] == ["allowed", ""]
    assert lines[end + 3].split() == ["limit", "of", "limit", "used", "remaining", "resets"]
    assert any(line.startswith("pages_in_flight ") for line in lines[end + 4 :])


def test_a_refusal_has_its_answer_and_what_would_help(explaining: Explaining) -> None:
    text = explaining.text(*CI, "PUT", "/api/v1/marker/x")
    wanted = (
        "\n\nrefused: 405 method_not_allowed: Method not allowed\n"
        "  This path takes other methods: see Allow.\n"
        "  Allow: GET, HEAD\n"
        "what would help: "
    )
    assert wanted in text
    assert "limit of" not in text  # it was not asked for the limits of anybody
    found = explaining.found(*CI, "PUT", "/api/v1/marker/x")
    assert (found["allowed"], found["status"], found["reason"]) == (False, 405, "method_not_allowed")
    assert (found["title"], found["detail"]) == ("Method not allowed", "This path takes other methods: see Allow.")
    assert (found["retry_after"], found["limits"]) == (None, None)
    assert found["help"] in text


def test_a_refusal_that_is_over_soon_says_when(explaining: Explaining) -> None:
    explaining.configure(profiles={"default": {"requests_per_minute": 1}})
    profile = make_profile(requests_per_minute=1)
    explaining.on_ledger(lambda c: admit(c, make_claim("a", "key:ci"), profile, time.time(), time.time() + 600))
    found = explaining.found(*CI, *SUBMIT)
    assert (found["reason"], found["status"]) == ("rate_limited", 429)
    assert 0 < found["retry_after"] <= 60
    assert re.search(r"^  Retry-After: [0-9]+ s$", explaining.text(*CI, *SUBMIT), re.MULTILINE)


def test_what_dead_gateways_left_is_counted_of_the_account_that_asks(explaining: Explaining) -> None:
    assert "overdue" not in explaining.text(*CI, *POLL)
    now = time.time()
    for name, account, ends in (("a", "key:ci", -9), ("b", "key:ci", -1), ("c", "key:ci", 600), ("d", ANN, -9)):
        claim = make_claim(name, account)
        explaining.on_ledger(lambda c, claim=claim, ends=ends: admit(c, claim, make_profile(), now - 60, now + ends))  # type: ignore[misc] # its defaults are the values
    told = "\noverdue         2 reservations of this account are over: a gateway takes them back before it refuses\n"
    assert told in explaining.text(*CI, *POLL)
    assert explaining.found(*CI, *POLL)["overdue_reservations"] == 2
    assert explaining.found(*explaining.token(), "--ip", "10.1.2.3", *POLL)["overdue_reservations"] == 1
    assert explaining.found("--ip", "10.1.2.3", "GET", "/health_check")["overdue_reservations"] == 0


def test_a_key_of_the_ledger_is_judged_as_it_is_now(explaining: Explaining) -> None:
    new = NewKeyRow("made", "default", "o", networks=("10.9.0.0/16",))
    explaining.on_ledger(lambda c: create(c, new, b"1" * 32, time.time()))
    found = explaining.found("--key", "made", "--ip", "10.9.0.1", *POLL)
    assert found["allowed"]
    assert step(found, "key").startswith("made, of the ledger")
    assert not explaining.found("--key", "made", "--ip", "10.1.2.3", *POLL)["allowed"]


def test_a_caller_that_is_blocked_is_refused(explaining: Explaining) -> None:
    asked = (*explaining.token(), "--ip", "10.1.2.3", *POLL)
    assert explaining.found(*asked)["allowed"]
    explaining.on_ledger(lambda c: block(c, ANN, time.time()))
    found = explaining.found(*asked)
    assert (found["allowed"], found["why"]) == (False, "blocked")


def test_a_credential_is_judged_before_the_request_or_alone(explaining: Explaining) -> None:
    alone = explaining.found(*explaining.token())
    assert [step["name"] for step in alone["steps"]] == ["the token", "judgement"]
    assert (alone["allowed"], alone["limits"]) == (True, None)
    both = explaining.found(*explaining.token(), "--ip", "10.1.2.3", *POLL)
    assert [step["name"] for step in both["steps"]][:2] == ["the token", "request"]  # whose steps judge it
    assert both["limits"] is not None


def test_what_can_not_be_known_is_no_verdict_and_the_command_fails(explaining: Explaining) -> None:
    """No gateway runs here, and nobody has the issuer's keys."""
    path = explaining.path
    path.write_text(re.sub(r"jwks: .*", "jwks: http://127.0.0.1:1/jwks", path.read_text()))
    for more in ((), ("--ip", "10.1.2.3", *POLL)):
        asked = (*explaining.token(), *more)
        found = explaining.found(*asked, code=1)
        assert (found["allowed"], found["status"], found["reason"]) == (None, None, None)
        assert [step["name"] for step in found["steps"]] == ["the token", "running gateway", "judgement"]
        text = explaining.text(*asked, code=1)
        assert f"\n\nnot known whether it is allowed\nwhat would help: {found['help']}\n" in text
        assert "allowed\n\n" not in text


@pytest.mark.parametrize(
    ("names", "sections", "host"),
    [
        (("gateway.test", "other.test"), {}, "gateway.test:8443"),
        (("gateway.test",), {"listen": {"port": 443}}, "gateway.test"),
        (("gateway.test",), {"listen": {"port": 0}}, "gateway.test"),
        (("::1",), {}, "[::1]:8443"),
        (("gateway.test",), {"public_url": "https://public.test:444"}, "public.test:444"),
        ((), {}, "localhost:8443"),
    ],
)
def test_the_host_is_as_clients_write_it(
    names: tuple[str, ...], sections: dict[str, Any], host: str, explaining: Explaining
) -> None:
    explaining.configure(names, **sections)
    assert step(explaining.found(*CI, *POLL), "request").endswith(f" from 10.1.2.3, Host {host}")
    assert step(explaining.found(*CI, *POLL), "host") == f"clients know this gateway as https://{host}"
    asked = explaining.found(*CI, *POLL, "--host", "asked.test")
    assert step(asked, "request").endswith(", Host asked.test")


def test_what_was_asked_is_told_without_what_a_terminal_would_do(explaining: Explaining) -> None:
    text = explaining.text(*CI, "G\x07\x9bET", "/api/v1/marker/x")
    assert text.startswith("request         G\ufffd\ufffdET /api/v1/marker/x from 10.1.2.3")
