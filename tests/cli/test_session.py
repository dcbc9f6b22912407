"""Commands that need the ledger alone go on where the secrets of other sections can't be read."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli.main import cli
from tests.support.pure import document, write

pytestmark = pytest.mark.usefixtures("restored_log")

AWAY = "/run/credentials/document-gateway.service"


def run(tmp_path: Path, *command: str, code: int = 0, **sections: Any) -> Result:
    whole = {
        "ledger": {"url": {"env": "LEDGER_URL"}},
        "admin": {"token": {"file": f"{AWAY}/admin-token"}, "port": 1},
        "webhooks": {"out": {"secret": {"file": f"{AWAY}/webhook-secret"}}},
        "keys": [{"id": name, "secret": {"env": f"KEY_OF_{name}"}} for name in ("one", "two")],
        **sections,
    }
    path = write(tmp_path, document(tmp_path, **whole))
    result = CliRunner().invoke(cli, [*command, "--config", str(path)])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(autouse=True)
def _ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")


def test_a_ledger_moves_without_the_secrets_of_the_service(tmp_path: Path) -> None:
    run(tmp_path, "keys", "create", "made")
    listed = json.loads(run(tmp_path, "keys", "list", "--json").stdout)
    assert [key["id"] for key in listed] == ["one", "two", "made"]
    run(tmp_path, "ledger", "backup", str(tmp_path / "backup.db"))
    run(tmp_path, "ledger", "copy", "--to", f"sqlite:///{tmp_path}/copy.db")
    run(tmp_path, "usage")


def test_its_own_url_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEDGER_URL")
    told = run(tmp_path, "keys", "list", code=1).stderr
    assert "gateway: ledger.url: the variable LEDGER_URL is empty or not there" in told
    assert "webhooks.out.secret" in told


def test_other_faults_are_told_and_the_command_goes_on(tmp_path: Path) -> None:
    run(tmp_path, "keys", "create", "made")
    faulty: dict[str, Any] = {"network": {"allow": ["10.0.0.5/8"]}, "nope": 1}
    found = run(tmp_path, "keys", "list", "--json", **faulty)
    assert [key["id"] for key in json.loads(found.stdout)] == ["one", "two", "made"]
    assert "warning: network.allow[0]: " in found.stderr
    assert "warning: nope: " in found.stderr
    assert found.stderr.endswith("gateway.yaml is refused; this goes on without what it says of: network, nope\n")
    assert "webhooks" not in found.stderr


def test_a_leaked_key_is_stopped_beside_a_faulty_line(tmp_path: Path) -> None:
    run(tmp_path, "keys", "create", "made")
    for command in ("disable", "rotate", "reset"):
        assert "warning: nope: " in run(tmp_path, "keys", command, "made", nope=1).stderr
    run(tmp_path, "keys", "revoke", "made", "--force", profiles={"default": {"pages_per_month": "x"}})
    (key,) = json.loads(run(tmp_path, "keys", "list", "--json").stdout)[2:]
    assert (key["state"], {entry["state"] for entry in key["generations"]}) == ("disabled", {"revoked"})


def test_a_fault_that_another_one_hid_is_told_and_the_command_goes_on(tmp_path: Path) -> None:
    """Two keys of one secret are looked for once all else is right."""
    run(tmp_path, "keys", "create", "made")
    alike: dict[str, Any] = {"admin": {"token": {"env": "NOT_THERE"}}}
    alike["keys"] = [{"id": name, "secret": {"sha256": "ab" * 32}} for name in ("one", "two")]
    told = run(tmp_path, "keys", "disable", "made", **alike).stderr
    assert told.startswith("warning: keys[1].secret: is the same as that of one\n")
    assert "goes on without what it says of: keys\n" in told


def test_what_only_comes_of_leaving_out_is_no_fault_of_the_file(tmp_path: Path) -> None:
    faulty: dict[str, Any] = {"profiles": {"basic": {"pages_per_day": -1}}}
    faulty["keys"] = [{"id": "one", "secret": {"sha256": "ab" * 32}, "profile": "basic"}]
    told = run(tmp_path, "keys", "list", **faulty).stderr
    assert "warning: profiles.basic.pages_per_day: " in told
    assert "there is no profile" not in told
    assert "goes on without what it says of: keys, profiles\n" in told


def test_a_leaked_key_is_stopped_where_the_certificate_is_missing(tmp_path: Path) -> None:
    """As on another machine than the gateway's, or when a renewal went wrong."""
    run(tmp_path, "keys", "create", "made")
    away = {"certificate": f"{AWAY}/server.pem", "private_key": f"{AWAY}/server.key"}
    found = run(tmp_path, "keys", "disable", "made", tls=away)
    assert "warning: tls.certificate: " in found.stderr
    assert "goes on without what it says of: tls\n" in found.stderr
    assert "tls.certificate" in run(tmp_path, "check", code=1, tls=away).stdout


def test_a_file_with_nothing_but_the_ledger_will_do_for_what_needs_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    alone = tmp_path / "alone.yaml"
    alone.write_text("ledger: {url: {env: LEDGER_URL}}\n")
    run(tmp_path, "keys", "create", "made")
    found = CliRunner().invoke(cli, ["keys", "disable", "made", "--config", str(alone)])
    assert (found.exit_code, "network: is required" in found.stderr) == (0, True), found.output


def test_a_leaked_key_is_stopped_beside_a_file_that_is_no_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, "keys", "create", "made")
    broken = tmp_path / "broken.yaml"
    broken.write_text("listen:\n\tport: 1\n")
    stop = ["keys", "disable", "made", "--config", str(broken)]
    refused = CliRunner().invoke(cli, stop)
    assert (refused.exit_code, "broken.yaml, line 2: a tab" in refused.stderr) == (1, True)
    monkeypatch.setenv("GATEWAY__LEDGER__URL", f"sqlite:///{tmp_path}/ledger.db")
    found = CliRunner().invoke(cli, stop)
    assert (found.exit_code, "broken.yaml, line 2: a tab" in found.stderr) == (0, True), found.output
    assert "goes on with the ledger of GATEWAY__LEDGER__URL alone" in found.stderr
    for needs_more in (["keys", "create", "other"], ["status"], ["explain", "GET", "/", "--ip", "127.0.0.1"]):
        assert CliRunner().invoke(cli, [*needs_more, "--config", str(broken)]).exit_code == 1
    missing = CliRunner().invoke(cli, ["keys", "list", "--config", str(tmp_path / "typo.yaml")])
    assert missing.exit_code == 1


def test_limits_of_profiles_that_are_left_out_are_not_told(tmp_path: Path) -> None:
    well: dict[str, Any] = {"profiles": {"gold": {"pages_per_month": 9}}}
    faulty: dict[str, Any] = {"profiles": {"gold": {"pages_per_month": "x"}}}
    run(tmp_path, "keys", "create", "made", "--profile", "gold", **well)
    limits = json.loads(run(tmp_path, "keys", "show", "made", "--json", **well).stdout)["account"]["limits"]
    assert limits["pages_per_month"]["limit"] == 9
    for key in ("made", "one"):
        shown = json.loads(run(tmp_path, "keys", "show", key, "--json", **faulty).stdout)
        assert (shown["state"], shown["account"]["limits"]) == ("live", None)
        assert "pages_per_request" not in run(tmp_path, "keys", "show", key, **faulty).stdout
        granting = ("keys", "grant", key, "--pages", "5", "--until", "2099-01-01")
        assert "changes nothing" not in run(tmp_path, *granting, **faulty).stderr
    (*_, listed) = json.loads(run(tmp_path, "keys", "list", "--json", **faulty).stdout)
    disabled = json.loads(run(tmp_path, "keys", "disable", "made", "--json", **faulty).stdout)
    assert (listed["state"], disabled["state"]) == ("live", "disabled")


def test_what_is_of_a_profile_needs_a_right_one(tmp_path: Path) -> None:
    faulty: dict[str, Any] = {"profiles": {"default": {"pages_per_month": "x"}}}
    for command in (("create", "other"), ("change", "one", "--owner", "x")):
        found = run(tmp_path, "keys", *command, code=1, **faulty)
        assert "gateway: profiles.default.pages_per_month: " in found.stderr
        assert "goes on" not in found.stderr


def test_a_misspelt_ledger_is_no_other_ledger(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    run(tmp_path, "keys", "create", "made")
    path.write_text(path.read_text().replace("\nledger:", "\nlegder:").replace("{ledger:", "{legder:"))
    result = CliRunner().invoke(cli, ["keys", "disable", "made", "--config", str(path)])
    assert (result.exit_code, "did you mean ledger" in result.stderr) == (1, True)
    path.write_text("a: [")
    assert CliRunner().invoke(cli, ["keys", "list", "--config", str(path)]).exit_code == 1


@pytest.mark.parametrize(
    "sections",
    [
        {"admin": {"port": 1, "ledger": {"url": {"env": "LEDGER_URL"}}}},
        {"database": {"url": {"env": "LEDGER_URL"}}},
        {"ledger": {"timeout": "3s"}, "nope": 1},
    ],
)
def test_a_ledger_that_may_stand_in_the_faulty_part_is_not_the_default_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sections: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = run(tmp_path, "callers", "block", "jwt:https://idp.test#ann", code=1, **{"ledger": {}} | sections)
    assert "goes on" not in found.stderr
    assert not (tmp_path / "data").exists()


def test_a_variable_of_the_wrong_name_names_no_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY__LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")
    found = run(tmp_path, "keys", "list", code=1, ledger={"timeout": "3s"})
    assert "GATEWAY__LEDGER_URL" in found.stderr
    monkeypatch.delenv("GATEWAY__LEDGER_URL")
    monkeypatch.setenv("GATEWAY__LEDGER__URL", f"sqlite:///{tmp_path}/ledger.db")
    run(tmp_path, "keys", "list", ledger={"timeout": "3s"}, nope=1)


def test_whoever_judges_by_secrets_needs_them(tmp_path: Path) -> None:
    explain = ("explain", "--key", "made", "--ip", "127.0.0.1", "GET", "/api/v1/marker/a")
    assert "webhooks.out.secret" in run(tmp_path, *explain, code=1).stderr
    assert "webhooks.out.secret" in run(tmp_path, "check", code=1).stdout


def test_a_variable_stands_for_a_url_that_is_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    away: dict[str, Any] = {"url": {"file": f"{AWAY}/ledger-url"}}
    assert "ledger.url: " in run(tmp_path, "keys", "list", code=1, ledger=away).stderr
    monkeypatch.setenv("GATEWAY__LEDGER__URL", f"sqlite:///{tmp_path}/ledger.db")
    run(tmp_path, "keys", "create", "made", ledger=away)
