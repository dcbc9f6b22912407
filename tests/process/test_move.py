"""From SQLite to PostgreSQL, as docs/ledger.md says: one gateway behind its HAProxy, and no client sees an error.

The frontend is deploy/behind/haproxy-move.cfg, but for its addresses. The clients try nothing twice.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from signal import SIGTERM
from types import SimpleNamespace
from typing import Any, Final

import pytest

from tests.process.test_rolling_update import ENOUGH, KEYS, LIMITS, PAGES, WITHIN, Client, Load, Site, is_listening
from tests.support.fronts import PROGRAMS, needs
from tests.support.ledgers import Postgres
from tests.support.process import ROOT, Process, configure, eventually, free_port, run, serving

pytestmark = [needs["haproxy"], pytest.mark.timeout(600)]

FILE: Final = ROOT / "deploy" / "behind" / "haproxy-move.cfg"
TO: Final = ("ledger", "copy", "--to", "env:LEDGER_URL")


def frontend(port: int, gateway: int) -> str:
    """The file as it stands, with ports of this test."""
    text = FILE.read_text()
    for told, here in (("bind :443", f"bind 127.0.0.1:{port}"), ("10.0.5.10:8443", f"127.0.0.1:{gateway}")):
        assert text.count(told) == 1
        text = text.replace(told, here)
    return text


@pytest.fixture
def bridged(tmp_path: Path, certificates: Path, postgres: Postgres) -> Iterator[tuple[Site, int]]:
    """A site whose service is HAProxy, and the port at which its gateway is to listen."""
    gateway, front, name = free_port(), free_port(), postgres.database()
    (tmp_path / "haproxy.cfg").write_text(frontend(front, gateway))
    container = Process((sys.executable, "-m", "gateway.demo.container", "--port", "0", "--processing-time", "0.3"))
    with container, Process((str(PROGRAMS["haproxy"]), "-db", "-f", str(tmp_path / "haproxy.cfg"))):
        upstream = container.line(lambda line: line.startswith("container ready on ")).rpartition(" ")[2]
        eventually(lambda: is_listening(front))
        service: Any = SimpleNamespace(port=front)
        yield Site(tmp_path, certificates, service, upstream, postgres, name), gateway
    postgres.drop(name)


def configured(site: Site, port: int, ledger: object) -> Path:
    for key, secret in KEYS.items():
        (site.directory / key).write_text(secret)
    return configure(
        site.directory,
        site.certificates,
        site.upstream,
        listen={"address": "127.0.0.1", "port": port, "proxy_protocol": True},
        network={"allow": ["127.0.0.0/8"], "trusted_proxies": ["127.0.0.1/32"]},
        keys=[{"id": key, "secret": {"file": str(site.directory / key)}} for key in KEYS],
        ledger={"url": ledger, "timeout": "20s"},
        profiles={"default": LIMITS},
    )


def served_on(load: Load) -> None:
    """Waits until the clients were served for a while, or one was not."""
    done = load.done
    eventually(lambda: load.failures or load.done >= done + ENOUGH, WITHIN)
    assert load.failures == []


def command(path: Path, environ: dict[str, str], *words: str) -> str:
    code, output = run(*words, "--config", str(path), environ=environ)
    assert code == 0, output
    return output


def test_no_client_notices_that_the_ledger_moves(bridged: tuple[Site, int]) -> None:
    site, port = bridged
    environ = {"LEDGER_URL": site.postgres.url_of(site.database)}
    path = configured(site, port, f"sqlite:///{site.directory}/ledger.db")
    with serving(path) as old:
        with Client(site) as client:
            known = client.submit()
            client.result(known)
        with Load(site, known) as load:
            served_on(load)
            assert "what it writes from now on is not in the copy" in command(path, environ, *TO)
            served_on(load)
            old.process.send(SIGTERM)
            assert old.process.exit_code(WITHIN) == 0
            command(path, environ, *TO, "--replace")
            with serving(configured(site, port, {"env": "LEDGER_URL"}), environ):
                served_on(load)
                load.__exit__()
                assert load.failures == []
                assert load.jobs
                with Client(site) as owner:
                    assert {owner.result(job)["page_count"] for job in (known, *load.jobs)} == {PAGES}
                pages = PAGES * (1 + len(load.jobs))
                eventually(lambda: used(path, environ) == pages, WITHIN)


def used(path: Path, environ: dict[str, str]) -> int:
    told = command(path, environ, "usage", "--json")
    found: int = json.loads(told)["total"]["pages"]
    return found
