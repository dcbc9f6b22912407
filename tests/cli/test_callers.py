"""`gateway callers`: what the admin API does for callers by token and certificate, over the ledger."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from gateway.cli.main import cli
from tests.support.pure import document, write

pytestmark = pytest.mark.usefixtures("restored_log")

Run = Callable[..., Result]
ALICE = "jwt:https://idp.test#alice"


@pytest.fixture
def config(tmp_path: Path, ledger_url: str) -> Path:
    return write(tmp_path, document(tmp_path, ledger={"url": ledger_url, "timeout": "30s"}, admin={"port": 1}))


@pytest.fixture
def run(config: Path) -> Run:
    def invoke(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(cli, ["callers", *arguments, "--config", str(config)])
        assert result.exit_code == code, result.output
        return result

    return invoke


def told(run: Run, *arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def test_a_caller_is_blocked_and_let_in_again(run: Run, config: Path) -> None:
    assert told(run, "list") == []
    assert f"{ALICE} is blocked." in run("block", ALICE).stdout
    (listed,) = told(run, "list", "--blocked")
    shown = told(run, "show", ALICE)
    assert (listed["account"], listed["blocked_at"]) == (ALICE, shown["blocked_at"])
    assert (shown["was_seen"], shown["used_this_month"]["pages"], shown["grants"]) == (False, 0, [])
    assert f"{ALICE} is not blocked." in run("unblock", ALICE).stdout
    assert told(run, "list", "--blocked") == []
    audit = CliRunner().invoke(cli, ["audit", "--json", "--config", str(config)]).stdout
    assert [(row["action"], row["subject"]) for row in json.loads(audit)] == [
        ("caller.unblock", ALICE),
        ("caller.block", ALICE),
    ]


def test_pages_are_granted_and_windows_begin_anew(run: Run) -> None:
    granted = told(run, "grant", ALICE, "--pages", "5", "--until", "2099-01-01")
    assert granted == {"account": ALICE, "pages": 5, "until": "2099-01-01T00:00:00Z"}
    assert told(run, "show", ALICE)["grants"] == [{"pages": 5, "until": "2099-01-01T00:00:00Z"}]
    assert "5 pages until 2099-01-01T00:00:00Z" in run("show", ALICE).stdout
    assert told(run, "end-grants", ALICE) == {
        "account": ALICE, "grants": [{"pages": 5, "until": "2099-01-01T00:00:00Z"}],
    }  # fmt: skip
    assert told(run, "show", ALICE)["grants"] == []
    assert f"{ALICE} has no grants now." in run("end-grants", ALICE).stdout
    plain = run("grant", ALICE, "--pages", "1", "--until", "2099-01-01").stdout
    assert plain.startswith(f"{ALICE} has 1 page more in each budget of pages that its profile has, until ")
    assert told(run, "reset", ALICE) == {"account": ALICE, "requests": 0, "pages": 0, "spend": 0}


def test_a_list_finds_by_text_and_ends(run: Run) -> None:
    for name in ("cert:a.test", "cert:b.test", ALICE):
        run("block", name)
    assert [row["account"] for row in told(run, "list", "--search", ".test")] == ["cert:a.test", "cert:b.test", ALICE]
    assert [row["account"] for row in told(run, "list", "--limit", "1")] == ["cert:a.test"]
    assert "cert:b.test" in run("list", "--search", "b.t").stdout


def test_a_key_is_no_caller(run: Run) -> None:
    for command in ("show", "block", "reset"):
        assert "a caller is named jwt:<issuer>#<owner> or cert:<name>" in run(command, "key:ci", code=1).stderr


def test_a_caller_is_stopped_beside_a_faulty_line(run: Run, config: Path) -> None:
    whole = yaml.safe_load(config.read_text())
    jwt = [{"issuer": "https://idp.test", "audience": "a", "jwks": "https://idp.test/keys", "profile": "gold"}]
    certificates = {"identity": "dns", "profile": "gold"}
    faults: list[dict[str, Any]] = [
        {"profiles": {"gold": {"pages_per_month": "x"}}},
        {"proflies": {"gold": {}}},
        {"authentication": {"jwt": [{"issuer": 1}], "certificates": certificates}},
    ]
    for faulty in faults:
        write(config.parent, whole | {"authentication": {"jwt": jwt, "certificates": certificates}} | faulty)
        for name, as_blocked in ((ALICE, ALICE), ("cert:Scanner.Test", "cert:scanner.test")):
            assert f"{as_blocked} is blocked." in run("block", name).stdout
            run("grant", name, "--pages", "5", "--until", "2099-01-01")
            run("reset", name)
            assert "goes on without" in run("unblock", as_blocked).stderr


@pytest.mark.parametrize(
    "certificates", [{"identity": "DNS"}, {"idenity": "dns"}, {"names": {}}, {"identity": {"a": 1}}, "dns"]
)
def test_whether_names_of_certificates_have_a_case_has_to_be_told(run: Run, config: Path, certificates: Any) -> None:
    whole = yaml.safe_load(config.read_text())
    write(config.parent, whole | {"nope": 1, "authentication": {"certificates": certificates}})
    assert "nope: " in run("block", "cert:Scanner.Test", code=1).stderr
    run("block", ALICE)
    run("unblock", "cert:Scanner.Test")


def test_names_are_offered(run: Run, config: Path) -> None:
    run("block", ALICE)
    words = {
        "_GATEWAY_COMPLETE": "bash_complete",
        "COMP_WORDS": f"gateway callers show --config {config} ",
        "COMP_CWORD": "5",
    }
    assert ALICE in CliRunner().invoke(cli, env=words, prog_name="gateway").stdout
