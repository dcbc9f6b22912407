"""`gateway config show` and `init`, called as the command line calls them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from gateway.cli.main import cli
from gateway.config.load import load
from gateway.config.origins import masked
from gateway.tls.dev_certificates import make_development_certificates
from tests.support.pure import document, write

pytestmark = pytest.mark.usefixtures("restored_log")

CANARY = "canary-secret-of-the-file-1a2b3c"
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CI_KEY", CANARY)

    def invoke(*arguments: str, code: int = 0, input: str | None = None) -> Result:  # noqa: A002 -- as click calls it
        result = CliRunner().invoke(cli, ["config", *arguments], input=input)
        assert result.exit_code == code, result.output
        assert CANARY not in result.output
        return result

    return invoke


def shown(run: Run, *arguments: str) -> dict[str, tuple[Any, str]]:
    told = json.loads(run("show", "--json", *arguments).stdout)
    return {row["setting"]: (row["value"], row["from"]) for row in told["settings"]}


def test_every_setting_has_its_origin(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [{"id": "ci", "secret": {"env": "CI_KEY"}}]
    write(tmp_path, document(tmp_path, listen={"port": 7, "idle_timeout": "20s"}, keys=keys, jobs={}))
    monkeypatch.setenv("GATEWAY__LISTEN__PORT", "8")
    monkeypatch.setenv("GATEWAY__LEDGER__URL", f"postgresql://u:{CANARY}@h/d")
    found = shown(run)
    assert found["listen.port"] == (8, "GATEWAY__LISTEN__PORT")
    assert found["listen.idle_timeout"][0] == "20s"
    assert found["listen.idle_timeout"][1].startswith("file, line ")
    assert found["listen.address"] == ("0.0.0.0", "default")  # noqa: S104 -- what is written there
    assert found["ledger.url"] == ("postgresql://u:***@h/d", "GATEWAY__LEDGER__URL")
    assert found["keys[0].secret"][0] == {"env": "CI_KEY"}
    assert found["profiles.default.requests_per_minute"] == (200, "default")
    assert found["admin.tls"] == (None, "default")
    assert [entry["name"] for entry in found["routes"][0]] == ["submit", "usage", "result", "health"]
    assert found["jobs.result_ttl"] == ("1h", "default")
    assert not any(source == "default" for _, source in shown(run, "--set").values())
    assert "listen.port" in run("show").stdout


def test_what_is_wrong_is_told(run: Run, tmp_path: Path) -> None:
    write(tmp_path, document(tmp_path, listen={"prot": 7}))
    assert "listen.prot: there is no such setting" in run("show", code=1).stderr


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("ledger.url", "postgresql://u:canary@h/d?sslmode=require", "postgresql://u:***@h/d?sslmode=***"),
        ("ledger.url", "postgresql://h/d?user=u&password=canary", "postgresql://h/d?user=***&password=***"),
        ("authentication.jwt[0].jwks", "https://h/keys?api_key=canary&canary", "https://h/keys?api_key=***&***"),
        ("authentication.jwt[0].jwks", "https://h/keys", "https://h/keys"),
        ("ledger.url", "postgresql://[canary", "***"),
        ("webhooks.out.default_url", "https://h:1/canary?x=canary", "https://h:1/***"),
        ("webhooks.out.default_url", "https://h:1", "https://h:1"),
        ("keys[0].secret", {"sha256": "0123456789abcdef"}, {"sha256": "01234567***"}),
        ("network.allow", ["10.0.0.0/8"], ["10.0.0.0/8"]),
    ],
)
def test_a_secret_is_masked(path: str, value: object, told: object) -> None:
    assert masked(path, value) == told


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A directory with server.pem and server.key, and another pair in other/."""
    make_development_certificates(tmp_path, ["localhost"])
    make_development_certificates(tmp_path / "other", ["localhost"])
    return tmp_path


PAIR = ("--certificate", "server.pem", "--private-key", "server.key")


@pytest.mark.usefixtures("pairs")
def test_what_is_written_is_a_configuration(run: Run, tmp_path: Path) -> None:
    flags = (*PAIR, "--allow", "10.0.0.0/8", "--allow", "::1")
    result = run("init", *flags, "--port", "7", "--ledger", "env:LEDGER_URL", "--config", "new.yaml")
    written = (tmp_path / "new.yaml").read_text()
    assert result.stdout == written
    assert "  set LEDGER_URL in this shell\n" in result.stderr
    assert len(written.splitlines()) <= 16
    assert "# public_url: https://" in written
    assert "# profiles: {default: {pages_per_month: 100000}}" in written
    settings = load(tmp_path / "new.yaml", {"LEDGER_URL": "postgresql://u@h/d"})
    assert settings.listen.port == 7
    assert settings.aliases == {"/api/v1/convert": "/api/v1/marker"}
    assert list(map(str, settings.network.allow)) == ["10.0.0.0/8", "::1/128"]
    assert settings.tls.certificate == tmp_path / "server.pem"
    assert "is there already" in run("init", *flags, "--config", "new.yaml", code=1).stderr
    result = run("init", *flags)
    assert "  gateway serve --config gateway.yaml\n" in result.stderr
    assert yaml.safe_load((tmp_path / "gateway.yaml").read_text())["ledger"]["url"] == (
        f"sqlite:///{tmp_path}/data/ledger.db"
    )


@pytest.mark.usefixtures("pairs")
def test_what_is_wrong_is_not_written(run: Run, tmp_path: Path) -> None:
    told = run("init", *PAIR, "--allow", "10.0.0.5/8", code=1).stderr
    assert "so write 10.0.0.0/8" in told
    assert "line " not in told
    told = run("init", *PAIR, "--allow", "::1", "--upstream", "ftp://x", code=1).stderr
    assert "upstream.url: " in told
    assert '(--upstream: "ftp://x")' in told
    assert "admin.port: 9090 is listen.port" in run("init", *PAIR, "--allow", "::1", "--port", "9090", code=1).stderr
    assert "0 is not in the range 1<=x" in run("init", *PAIR, "--allow", "::1", "--port", "0", code=2).stderr
    assert not (tmp_path / "gateway.yaml").exists()
    told = run("init", *PAIR, "--allow", "10.0.0.0/8", "--config", "no/where.yaml", code=1).stderr
    assert "no/where.yaml can't be written: No such file or directory" in told


@pytest.mark.parametrize(
    ("certificate", "key", "told"),
    [
        ("server.key", "server.pem", "server.key holds no PEM certificate, but a private key (--certificate)"),
        ("server.pem", "other/server.key", "other/server.key is not the key of server.pem (--private-key)"),
        ("server.pem", "server.pem", "server.pem can't be used: it holds no PEM private key (--private-key)"),
        ("empty", "server.key", "empty holds no PEM certificate (--certificate)"),
        ("server.pem", "empty", "empty can't be used: it holds no PEM private key (--private-key)"),
        ("server.pem", "/dev/zero", "/dev/zero is not a regular file (--private-key)"),
    ],
)
def test_a_pair_that_can_not_be_served_is_not_written(
    certificate: str, key: str, told: str, run: Run, pairs: Path
) -> None:
    (pairs / "empty").touch()
    result = run("init", "--certificate", certificate, "--private-key", key, "--allow", "::1", code=1)
    assert told in result.stderr
    assert not (pairs / "gateway.yaml").exists()


def test_without_a_terminal_all_that_is_missing_is_named_at_once(run: Run) -> None:
    told = run("init", code=2).stderr
    assert all(option in told for option in ("--certificate", "--private-key", "--allow"))
    assert "--port" not in told


def test_what_is_given_is_checked_before_anything_is_asked(
    run: Run, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.cli.init_config.is_terminal", lambda: True)
    told = run("init", "--certificate", str(pairs / "server.key"), code=1).stderr
    assert "(--certificate)" in told
    assert "private key (PEM file)" not in told


@pytest.mark.usefixtures("pairs")
def test_it_asks_on_a_terminal(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.cli.init_config.is_terminal", lambda: True)
    run("init", "--upstream", "http://[::1]:9", input="server.pem\nserver.key\n10.0.0.0/8, ::1\n\n7\n")
    settings = load(tmp_path / "gateway.yaml", {})
    assert list(map(str, settings.network.allow)) == ["10.0.0.0/8", "::1/128"]
    assert (settings.upstream.url, settings.listen.port) == ("http://[::1]:9", 7)


@pytest.mark.usefixtures("pairs")
def test_an_answer_that_will_not_do_is_asked_for_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.cli.init_config.is_terminal", lambda: True)
    answers = (
        "server.key", "server.pem", "other/server.key", "server.key", "10.0.0.5/8", "10.0.0.0/8",
        "ftp://x", "", "nonsense", "", "many", "0", "9090", "7",
    )  # fmt: skip
    told = run("init", input="".join(f"{line}\n" for line in answers)).stderr
    for wrong in ("holds no PEM certificate", "is not the key of server.pem", "so write 10.0.0.0/8", "http://host:port",
                  "sqlite:///path", "must be a whole number", "clients need one that stays",
                  "Error: admin.port: 9090 is listen.port"):  # fmt: skip
        assert f"{wrong}" in told
    assert told.count("Error: ") == 8
    assert load(tmp_path / "gateway.yaml", {}).listen.port == 7
