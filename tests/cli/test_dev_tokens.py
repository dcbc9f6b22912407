"""`gateway certs token`: an issuer for trying out, which a gateway believes and nobody else can use."""

import json
import stat
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.cli.check_warnings import warnings
from gateway.cli.dev_tokens import ISSUER, LIFETIME, make_tokens
from gateway.cli.main import cli
from gateway.errors import SetupError
from tests.support.pure import make_settings

pytestmark = pytest.mark.usefixtures("restored_log")

NOW = 1_800_000_000.0


def call(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, ["certs", "token", *words])
    assert result.exit_code == code, result.output
    return result


def test_a_gateway_takes_the_token(tmp_path: Path) -> None:
    told = json.loads(call(str(tmp_path / "new"), "--for", "ann", "--for", "bob", "--json").stdout)
    assert (told["issuer"], [token["name"] for token in told["tokens"]]) == (ISSUER, ["ann", "bob"])
    issuer = {"issuer": ISSUER, "audience": told["audience"], "jwks": told["keys"]}
    settings = make_settings(tmp_path, authentication={"jwt": [issuer]})
    assert [found.text for found in warnings(settings) if "certs token" in found.text]
    for token in told["tokens"]:
        words = ["explain", "--config", str(tmp_path / "gateway.yaml"), "--token", token["file"], "--json"]
        judged = json.loads(CliRunner().invoke(cli, words).stdout)
        assert judged["allowed"] is True, judged
        assert f"{ISSUER}#{token['name']}" in json.dumps(judged)


def test_only_its_owner_can_read_a_token_and_no_file_has_the_key(tmp_path: Path) -> None:
    make_tokens(tmp_path, ["ann"], "here", NOW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ann.jwt", "issuer.json"]
    assert stat.S_IMODE((tmp_path / "ann.jwt").stat().st_mode) == 0o600
    (key,) = json.loads((tmp_path / "issuer.json").read_text())["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "alg", "use"}
    assert LIFETIME == 86_400


@pytest.mark.parametrize("there", ["issuer.json", "ann.jwt"])
def test_what_is_there_is_not_overwritten(there: str, tmp_path: Path) -> None:
    (tmp_path / there).write_text("mine")
    told = call(str(tmp_path), "--for", "ann", code=1).stderr
    assert told.startswith(f"gateway: {tmp_path / there} is there already")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
    (tmp_path / there).unlink()
    (tmp_path / there).symlink_to(tmp_path / "elsewhere")
    call(str(tmp_path), "--for", "ann", code=1)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".hidden", "a" * 64, "a\n"])
def test_a_name_is_a_files(name: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="is not a name for a token"):
        make_tokens(tmp_path, [name], "here", NOW)
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "can't be written" in call(str(tmp_path / "file" / "x"), code=1).stderr


def test_it_tells_what_the_configuration_needs(tmp_path: Path) -> None:
    told = call(str(tmp_path), "--audience", "here")
    assert told.stdout == f"{tmp_path}/issuer.json  {tmp_path}/alice.jwt\n"
    assert f"    - issuer: {ISSUER}\n      audience: here\n      jwks: {tmp_path}/issuer.json\n" in told.stderr


@pytest.mark.parametrize(
    "audience", ["a: b", "# no", "7", "two\nlines", "\N{SNOWMAN}: x", "api " * 60, "document-gateway"]
)
def test_what_the_configuration_needs_is_yaml(audience: str, tmp_path: Path) -> None:
    told = call(str(tmp_path / "a: b"), "--audience", audience).stderr
    found = yaml.safe_load(told[told.index("authentication:") :])
    keys = str(tmp_path / "a: b" / "issuer.json")
    assert found == {"authentication": {"jwt": [{"issuer": ISSUER, "audience": audience, "jwks": keys}]}}


def test_a_file_that_comes_at_this_moment_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is it written through a link."""
    make = ec.generate_private_key

    def meanwhile(curve: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
        (tmp_path / "issuer.json").symlink_to(tmp_path / "elsewhere")
        return make(curve)

    monkeypatch.setattr(ec, "generate_private_key", meanwhile)
    with pytest.raises(SetupError, match="is there already"):
        make_tokens(tmp_path, ["ann"], "here", NOW)
    assert not (tmp_path / "elsewhere").exists()
