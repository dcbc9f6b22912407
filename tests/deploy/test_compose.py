"""deploy/compose: valid by the Compose specification, nothing published but the gateway, its configuration good."""

import json
import os
import shutil
import subprocess
from importlib.metadata import files
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

from gateway.cli.run_check import check_settings
from tests.support.process import ROOT

HERE: Final = ROOT / "deploy/compose"
FILES: Final = ["compose.yaml", "compose.container.yaml", "compose.postgres.yaml"]
SCHEMA: Final = "check_jsonschema/builtin_schemas/vendor/compose-spec.json"  # the specification's own
MADE: Final = {"secrets", "tls", "container.env"}  # by ./prepare, or by the operator


class _Loader(yaml.SafeLoader):
    """Reads `!override` (Compose 2.24.4) as what stands behind it."""


def _behind(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("!override", _behind)


def load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.load((HERE / name).read_text(), _Loader)  # noqa: S506 -- safe, with one tag more
    return document


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    (found,) = [file for file in files("check-jsonschema") or () if str(file) == SCHEMA]
    return Draft202012Validator(json.loads(found.read_text()))


@pytest.mark.parametrize("name", FILES)
def test_it_is_valid(name: str, schema: Draft202012Validator) -> None:
    schema.validate(load(name))


def test_a_misspelt_key_is_not(schema: Draft202012Validator) -> None:
    document = load("compose.yaml")
    document["services"]["gateway"]["stop_grace_perod"] = "1s"
    with pytest.raises(ValidationError, match="stop_grace_perod"):
        schema.validate(document)


def test_the_gateway_alone_publishes_a_port() -> None:
    published = {
        name: service["ports"] for f in FILES for name, service in load(f)["services"].items() if "ports" in service
    }
    assert published == {"gateway": ["8443:8443"]}
    assert all("network_mode" not in service for f in FILES for service in load(f)["services"].values())


def test_the_container_is_reached_by_the_gateway_alone() -> None:
    document = load("compose.yaml")
    assert {name for name, one in document["services"].items() if "inner" in one["networks"]} == {
        "gateway",
        "container",
    }
    assert document["networks"]["inner"] == {"internal": True}
    real = load("compose.container.yaml")
    assert real["services"]["container"]["networks"] == ["inner", "licence"]
    assert real["networks"] == {"licence": {}}
    assert load("compose.postgres.yaml")["networks"]["ledger"] == {"internal": True}


def test_the_container_is_told_what_the_vendors_script_tells_it_and_asked_at_that_port() -> None:
    told = load("compose.container.yaml")["services"]["container"]["environment"]
    assert set(told) == {"INFERENCE_HOST", "INFERENCE_PORT"}
    asked = yaml.safe_load((HERE / "gateway.yaml").read_text())["upstream"]["url"]
    assert asked.rpartition(":")[2] == told["INFERENCE_PORT"]


def test_ours_run_without_rights_on_a_root_that_is_read_only() -> None:
    for name, service in load("compose.yaml")["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"] == "10001:10001", name


def test_every_file_that_is_mounted_is_there() -> None:
    for name in FILES:
        document = load(name)
        found = [
            v.split(":")[0] for s in document["services"].values() for v in s.get("volumes", []) if isinstance(v, str)
        ]
        found += [secret["file"] for secret in document.get("secrets", {}).values()]
        for source in (one for one in found if one.startswith(".")):
            assert (HERE / source).exists() or Path(source).parts[0] in MADE, source
    ignored = (HERE / ".gitignore").read_text()
    assert all(f"/{name}" in ignored for name in MADE)


def test_every_stage_that_is_built_is_one() -> None:
    stages = (ROOT / "Dockerfile").read_text()
    targets = [
        s["build"]["target"] for s in load("compose.yaml")["services"].values() if "target" in s.get("build", {})
    ]
    assert targets == ["demo"]
    assert " AS demo\n" in stages


def test_the_configuration_is_good(tmp_path: Path, certificates: Path) -> None:
    (tmp_path / "admin-token").write_text("0" * 64)
    text = (HERE / "gateway.yaml").read_text()
    for there, here in (
        ("/etc/gateway/tls", certificates),
        ("/run/secrets", tmp_path),
        ("/var/lib/gateway", tmp_path),
    ):
        assert there in text
        text = text.replace(there, str(here))
    (tmp_path / "gateway.yaml").write_text(text)
    findings = [str(one) for one in check_settings(tmp_path / "gateway.yaml", {}) if one.kind == "fault"]
    assert findings == []
    grace = int(load("compose.yaml")["services"]["gateway"]["stop_grace_period"].removesuffix("s"))
    shutdown = yaml.safe_load(text)["shutdown"]
    assert grace > sum(int(value.removesuffix("s")) for value in shutdown.values())
    assert yaml.safe_load(text)["upstream"]["url"] == "http://container:8000"
    assert yaml.safe_load((HERE / "targets.yml").read_text()) == [{"targets": ["gateway:9090"]}]


def test_the_program_that_prepares_is_a_program() -> None:
    done = subprocess.run(["/bin/sh", "-n", HERE / "prepare"], capture_output=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    assert (HERE / "prepare").stat().st_mode & 0o111


DOCKER: Final = """#!/bin/sh
# Stands in for docker: writes down what it is asked, and makes the certificate and knows the key as told.
echo "$*" >> "$HERE/asked"
case "$*" in
"compose version --short") [ -n "$COMPOSE" ] && echo "$COMPOSE" ;;
*"certs dev"*) echo made > tls/server.pem ;;
*"keys show"*) [ -e "$HERE/key" ] ;;
*"keys create"*) : > "$HERE/key"; echo the-secret ;;
esac
"""


def prepare(here: Path, version: str) -> "subprocess.CompletedProcess[str]":
    """Runs it on a copy, with stand-ins for docker and for chown, which wants root."""
    (here / "bin").mkdir(exist_ok=True)
    for name, text in (("docker", DOCKER), ("chown", "#!/bin/sh\n")):
        (here / "bin" / name).write_text(text)
        (here / "bin" / name).chmod(0o755)
    shutil.copy(HERE / "prepare", here / "prepare")
    environment = {"PATH": f"{here / 'bin'}:{os.environ['PATH']}", "HERE": str(here), "COMPOSE": version}
    command = [str(here / "prepare")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603


@pytest.mark.parametrize("version", ["", "2.24.3", "v2.9.0", "1.29.2"])
def test_without_a_compose_that_will_do_it_says_so_and_leaves_nothing(version: str, tmp_path: Path) -> None:
    done = prepare(tmp_path, version)
    assert done.returncode == 1
    assert "Docker Compose 2.24.4 or newer is needed" in done.stderr
    assert {each.name for each in tmp_path.iterdir()} == {"bin", "prepare", "asked"}
    assert (tmp_path / "asked").read_text() == "compose version --short\n"


@pytest.mark.parametrize("version", ["2.24.4", "v2.40.3", "5.0.0", "2.24.6-desktop.1"])
def test_a_second_run_keeps_what_is_there(version: str, tmp_path: Path) -> None:
    first = prepare(tmp_path, version)
    assert (first.returncode, first.stdout) == (0, "the-secret\n"), first.stderr
    made = {each: each.read_bytes() for place in ("secrets", "tls") for each in (tmp_path / place).iterdir()}
    assert {each.name for each in made} == {"admin-token", "postgres-password", "pgpass", "server.pem"}
    second = prepare(tmp_path, version)
    assert (second.returncode, second.stdout) == (0, ""), second.stderr
    assert "is there already" in second.stderr
    assert {each: each.read_bytes() for each in made} == made
