"""docs/kubernetes.md is true of deploy/kubernetes, as far as that can be tried without a cluster."""

import re
import shlex
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.kubernetes import COMPONENTS, MANIFESTS, OVERLAYS, ROOT, Object, needs_kubectl, render, volume

pytestmark = needs_kubectl
PAGE: Final = (ROOT / "docs" / "kubernetes.md").read_text()


def shown(beginning: str) -> list[str]:
    """The commands of the page that begin so, with what is piped into them, without the lines' ends within them."""
    lines = re.sub(r" \\\n +", " ", PAGE)
    return re.findall(rf"^    ((?:[^|\n]+ \| )*{re.escape(beginning)}.*)$", lines, re.MULTILINE)


def made_by(command: str, directory: Path) -> Object:
    """What `kubectl create` would send; nothing is sent. The shell fills in what the page has it fill in."""
    shell = ["sh", "-e", "-c", f"{command.partition(' --dry-run')[0]} --dry-run=client -o yaml"]
    done = subprocess.run(shell, cwd=directory, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    document: Object = yaml.safe_load(done.stdout)
    return document


@pytest.fixture
def directory(tmp_path: Path, certificates: Path) -> Path:
    """Where the files are that the page's commands name."""
    shutil.copytree(certificates, tmp_path / "certs")
    for name, source in (("new.pem", "server.pem"), ("new.key", "server.key"), ("ledger-ca.pem", "ca.pem")):
        shutil.copy(certificates / source, tmp_path / name)
    for name in ("license.txt", "datalab.json", "ledger-url.txt"):
        (tmp_path / name).write_text("made-up\n")
    return tmp_path


def needed(value: Any) -> set[tuple[str, str]]:
    """Names and keys of the Secrets that pods ask for."""
    found = set()
    if isinstance(value, dict):
        if "secretKeyRef" in value:
            found.add((value["secretKeyRef"]["name"], value["secretKeyRef"]["key"]))
        if "secret" in value:
            found |= {(value["secret"]["name"], item["key"]) for item in value["secret"]["items"]}
        if "imagePullSecrets" in value:
            found |= {(each["name"], ".dockerconfigjson") for each in value["imagePullSecrets"]}
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return found.union(*(needed(each) for each in inner))


def test_its_commands_make_each_secret_with_the_keys_that_are_asked_for(directory: Path) -> None:
    secrets = [made_by(command, directory) for command in shown("kubectl -n document-gateway create secret")]
    made = {(secret["metadata"]["name"], key) for secret in secrets for key in secret["data"]}
    asked = set().union(*(needed(list(render(overlay).of("Deployment"))) for overlay in OVERLAYS))
    assert made == asked
    assert {secret["metadata"]["namespace"] for secret in secrets} == {"document-gateway"}


def test_the_admin_token_that_is_made_is_a_random_one(directory: Path) -> None:
    (command,) = shown("kubectl -n document-gateway create secret generic gateway-admin-token")
    tokens = {made_by(command, directory)["data"]["token"] for _ in range(2)}
    assert len(tokens) == 2
    assert all(len(token) > 40 for token in tokens)


def test_the_directories_that_it_applies_are_there() -> None:
    found = re.findall(r"(deploy/\S+?)(?:\s|$)", "\n".join(shown("kubectl")))
    assert {"deploy/kubernetes/overlays/sidecar", "deploy/prometheus/prometheusrule.yaml"} <= set(found)
    assert all((ROOT / path).exists() for path in found)


def test_its_commands_name_objects_that_there_are() -> None:
    text = "\n".join(line for line in shown("kubectl") if "-n monitoring port-forward" not in line)
    for kind in ("deployment", "service"):
        names = {each["metadata"]["name"] for each in render("sidecar").of(kind.capitalize())}
        assert set(re.findall(rf"\b{kind}/(\S+)", text)) <= names
    containers = {
        each["name"] for each in (*render("sidecar").pod["containers"], *render("sidecar").pod["initContainers"])
    }
    assert set(re.findall(r" -c ([a-z]+)\b", re.sub(r"python -c", "", PAGE))) <= containers


def test_its_table_has_each_policy_and_no_other() -> None:
    rendered = [render(overlay, *COMPONENTS) for overlay in OVERLAYS]
    there = {policy["metadata"]["name"] for each in rendered for policy in each.of("NetworkPolicy")} - {
        "default-deny"
    }
    table = PAGE.partition("| policy |")[2].partition("\n\n")[0]
    told = [name for first in re.findall(r"^\| ([a-z, -]+) \|", table, re.MULTILINE) for name in first.split(", ")]
    assert sorted(told) == sorted(there)


def test_the_seconds_that_it_tells_are_those_of_the_pod() -> None:
    assert f"terminationGracePeriodSeconds is {render('sidecar').pod['terminationGracePeriodSeconds']}:" in PAGE
    shutdown = yaml.safe_load(render("sidecar").configuration)["shutdown"]
    assert f"{shutdown['drain_delay'][:-1]} s of still accepting" in PAGE
    assert f"most {shutdown['drain_timeout'][:-1]} s for what runs" in PAGE
    assert volume(render("sidecar").pod, "spool")["emptyDir"]["sizeLimit"] == "3Gi"


EDITS: Final = [
    [cell.strip() for cell in line.strip("| ").split(" | ")]
    for line in PAGE.partition("## Every edit, in order")[2].partition("\n## ")[0].splitlines()
    if re.match(r"\| \d+ \|", line)
]


def test_its_edits_are_numbered_in_their_order() -> None:
    assert [int(number) for number, *_ in EDITS] == list(range(1, len(EDITS) + 1))
    assert len(EDITS) > 8


def test_each_edit_stands_in_an_example_where_the_page_says() -> None:
    patched = {
        (patch["kind"], patch["metadata"]["name"])
        for overlay in OVERLAYS
        for patch in yaml.safe_load_all((MANIFESTS / "examples" / overlay / "edits.yaml").read_text())
    }
    told = set[tuple[str, str]]()
    for _, _, where, _ in EDITS:
        for kind, names in re.findall(r"(Deployment|NetworkPolicy) ((?:`[a-z-]+`(?: \(\w+\))?(?: or )?)+)", where):
            told |= {(kind, name) for name in re.findall(r"`([a-z-]+)`", names)}
        told |= {
            (kind, name) for kind, name in patched if kind in where and kind not in {"Deployment", "NetworkPolicy"}
        }
    assert told == patched


def test_what_the_last_column_names_is_there() -> None:
    there = {path.name for path in MANIFESTS.rglob("*.yaml")}
    named = [name for *_, where in EDITS for name in re.findall(r"[\w/-]+\.yaml", where)]
    assert len(named) > 8
    assert all(Path(name).name in there and ("/" not in name or (MANIFESTS / name).exists()) for name in named)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on the PATH (Debian: prometheus)")
def test_prometheus_takes_the_scrape_job(tmp_path: Path) -> None:
    """All but its discovery: Debian's Prometheus is built without that of Kubernetes, and knows no such field."""
    block = textwrap.dedent(re.findall(r"^    scrape_configs:\n(?:    .*\n)+", PAGE, re.MULTILINE)[0])
    document = yaml.safe_load(block)
    (job,) = document["scrape_configs"]
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod", "namespaces": {"names": ["document-gateway"]}}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(document))
    command = shlex.split("promtool check config --syntax-only prometheus.yml")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr


def test_the_policy_that_the_copy_needs_is_taken_out_of_the_overlay_alone() -> None:
    (command,) = shown("awk 'BEGIN")
    shell = ["sh", "-e", "-c", command.replace("> policy.yaml", "")]
    done = subprocess.run(shell, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    (policy,) = yaml.safe_load_all(done.stdout)
    assert (policy["kind"], policy["metadata"]["name"]) == ("NetworkPolicy", "gateway-to-ledger")
