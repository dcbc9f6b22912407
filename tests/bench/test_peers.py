"""The peers: how each is started, and configurations without a place left open."""

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from bench import certificate, chart, peers
from bench.metrics import METRICS
from bench.options import HERE, PEERS
from bench.peers import NGINX_AUTH, Contestant, configured
from bench.site import Site, key_map, large_result

NGINX = shutil.which("nginx")


def contestant(kind: str, folder: Path) -> Contestant:
    return Contestant(kind, kind, kind, HERE, folder)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    certificate.write(tmp_path)
    (tmp_path / "keys.map").write_text(key_map("secret", 10_000))
    (tmp_path / "ledger.db").touch()
    return Site(tmp_path, "secret", 9, 1)


def written(kind: str, site: Site, **places: object) -> Path:
    folder = site.folder / "run"
    folder.mkdir()
    who = contestant(kind, site.folder)
    return configured(who, site, folder, port=4001, log=folder / "access.log", admin=4002, **places)


@pytest.mark.parametrize("kind", PEERS)
def test_each_peer_has_a_configuration_and_a_command(kind: str, site: Site) -> None:
    config = written(kind, site)
    text = config.read_text()
    assert "@{" not in text
    assert "4001" in text
    command = peers.command(contestant(kind, site.folder), config)
    assert str(config) in command
    assert kind in chart.COLOURS


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
@pytest.mark.parametrize("kind", ["nginx", NGINX_AUTH])
def test_nginx_takes_its_configuration(kind: str, site: Site) -> None:
    config = written(kind, site)
    command = [*peers.command(dataclasses.replace(contestant(kind, site.folder), program=str(NGINX)), config), "-t"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 -- a command of ours
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


def test_the_two_of_nginx_differ_by_key_and_limit_alone() -> None:
    plain, asked = ((HERE / "bench/configs" / name).read_text() for name in ("nginx.conf", "nginx-auth.conf"))
    missing = {line.strip() for line in plain.splitlines() if not line.startswith("#")} - {
        line.strip() for line in asked.splitlines()
    }
    assert missing == {
        'map $http_x_api_key $key_is_good { default 0; "@{key}" 1; }',
    }


def test_a_gateway_has_a_ledger_of_its_own_or_another(site: Site) -> None:
    own = yaml.safe_load(written("gateway", site).read_text())
    assert own["ledger"]["url"] == f"sqlite:///{site.folder}/run/ledger.db"
    assert own["jobs"]["hold"] == "0s"
    shutil.rmtree(site.folder / "run")
    changed = yaml.safe_load(written("gateway", site, ledger="postgresql:///x", hold="30s").read_text())
    assert (changed["ledger"]["url"], changed["jobs"]["hold"]) == ("postgresql:///x", "30s")
    assert not (site.folder / "run" / "ledger.db").exists()


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("nginx version: nginx/1.22.1", "1.22.1"),
        ("v2.11.7 h1:yj0Y4fYZGPkSvibBJ1sTWE33xC0fxztVyXEW5iIdUT4=", "2.11.7"),
        ("HAProxy version 2.6.12-1+deb12u4 2026/01/01", "2.6.12-1+deb12u4"),
        ("envoy  version: 5d0a3d4c1b/1.40.0/Clean/RELEASE/BoringSSL", "1.40.0"),
        ("nothing", "unknown"),
    ],
)
def test_a_version_is_found_in_what_a_program_says(said: str, number: str) -> None:
    assert peers.numbered(["echo", said], contestant("nginx", HERE)) == number


def test_who_knows_more_than_one_key() -> None:
    assert [kind for kind in PEERS if contestant(kind, HERE).knows_accounts] == ["gateway", NGINX_AUTH]


def test_the_keys_of_the_map_are_those_of_the_ledger() -> None:
    assert key_map("secret", 3) == '"secret" 1;\n"other-0" 1;\n"other-1" 1;\n'


def test_the_result_is_about_as_large_as_it_should_be() -> None:
    assert len(large_result(100_000)) == pytest.approx(100_000, rel=0.01)


def test_the_legend_of_the_chart_is_within_it() -> None:
    figures = {metric.key: dict.fromkeys(PEERS, 2.0) for metric in METRICS}
    picture = chart.draw(figures)
    found = re.search(r'<svg [^>]*width="(\d+)"', picture)
    assert found
    labels = [int(x) for x in re.findall(r'<text x="(\d+)" y="44">', picture)]
    assert len(labels) == len(PEERS)
    assert max(labels) + 50 < int(found[1])
