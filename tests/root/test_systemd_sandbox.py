"""The unit under a real systemd: its user, its credentials, its directories, its sandbox, and what it is told."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.demo.sample import sample_pdf
from tests.support.process import ROOT, eventually
from tests.support.systemd import UNIT, Machine, machine, why_not

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("machine")]
PAGES = 7
# What docs/systemd.md has an operator type before the first start, by hand.
PREPARE = """
systemd-sysusers
install -d -m 0750 -o root -g document-gateway /etc/gateway /etc/gateway/tls
install -d -m 0700 /etc/gateway/credentials
cp /opt/gateway/source/deploy/systemd/gateway.yaml /etc/gateway/gateway.yaml
(umask 077; openssl rand -hex 32 > /etc/gateway/credentials/admin-token)
/opt/gateway/bin/gateway certs dev /etc/gateway/tls
chgrp document-gateway /etc/gateway/tls/server.key; chmod 0640 /etc/gateway/tls/server.key
"""
AS_GATEWAY = "setpriv --reuid document-gateway --regid document-gateway --clear-groups --no-new-privs"
CONTAINER = "setsid /opt/gateway/venv/bin/python -B -m gateway.demo.container --processing-time 0"


@pytest.fixture(scope="module")
def prepared() -> Iterator[Machine]:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with machine() as made:
        made.run(PREPARE)
        made.run(f"cd /opt/gateway/source; {CONTAINER} > /mnt/container.log 2>&1 < /dev/null &")
        yield made


@pytest.fixture
def started(prepared: Machine) -> Machine:
    """With the unit running: `systemctl start` comes back when READY=1 has come."""
    prepared.run(f"systemctl start {UNIT}")
    return prepared


def processes(started: Machine) -> list[int]:
    group = started.unit("ControlGroup")
    return [int(line) for line in started.run(f"cat /sys/fs/cgroup{group}/cgroup.procs").split()]


def secret(started: Machine, key: str) -> str:
    """Makes a key as the documentation says; the running gateway follows it."""
    made = started.run(f"{AS_GATEWAY} /opt/gateway/bin/gateway keys create {key} --config /etc/gateway/gateway.yaml")
    eventually(lambda: asked(started, made, "/gateway/v1/me")[1] == 200)
    return made


def asked(started: Machine, key: str, path: str, *options: str) -> tuple[str, int]:
    said = started.run(
        f"curl -sS --cacert /etc/gateway/tls/ca.pem -H 'X-API-Key: {key}' -w '\\n%{{http_code}}' "
        f"{' '.join(options)} https://localhost:8443{path}"
    )
    body, _, status = said.rpartition("\n")
    return body, int(status)


def test_it_is_ready_when_systemd_says_that_it_is_started(started: Machine) -> None:
    assert (started.unit("ActiveState"), started.unit("SubState")) == ("active", "running")
    assert started.unit("StatusText") in {"Serving port 8443", "Reloaded"}
    assert started.unit("User") == "document-gateway"
    assert started.run("curl -sS http://127.0.0.1:9090/readyz -o /dev/null -w '%{http_code}'") == "200"


def test_secrets_and_state_are_the_services_alone(started: Machine) -> None:
    modes = started.run(
        f"stat -c '%a %U %n' /run/credentials/{UNIT} /run/credentials/{UNIT}/* /var/lib/document-gateway "
        "/var/lib/document-gateway/ledger.db /var/cache/document-gateway /etc/gateway/credentials/admin-token"
    )
    assert re.findall(r"^(\S+ \S+) \S*?([^/\n]*)$", modes, re.MULTILINE) == [
        ("500 document-gateway", UNIT),
        ("400 document-gateway", "admin-token"),
        ("700 document-gateway", "document-gateway"),
        ("600 document-gateway", "ledger.db"),
        ("700 document-gateway", "document-gateway"),
        ("600 root", "admin-token"),
    ]
    metrics = "curl -sS http://127.0.0.1:9090/metrics -o /dev/null -w '%{http_code}'"
    assert started.run(metrics) == "401"
    token = '-H "Authorization: Bearer $(cat /etc/gateway/credentials/admin-token)"'
    assert started.run(f"{metrics} {token}") == "200"


def test_in_its_sandbox_it_counts_pages_and_converts(started: Machine) -> None:
    key = secret(started, "pages")
    content = sample_pdf(PAGES).hex()
    started.run(f"echo {content} | /opt/gateway/venv/bin/python -c '{UNHEX}' > /mnt/sample.pdf")
    body, status = asked(started, key, "/api/v1/marker", "-F file=@/mnt/sample.pdf", "-D /mnt/head")
    assert status == 200, body
    # What pdfium can't count is reserved as the cap of a request, and settled only later as what it was.
    assert f'"pages_per_month";r={100_000 - PAGES};' in started.run("cat /mnt/head")
    path = f"/api/v1/marker/{json.loads(body)['request_id']}"
    result = eventually(lambda: complete(asked(started, key, path, "-H 'Prefer: wait=20'")[0]))
    assert result["page_count"] == PAGES
    used = json.loads(asked(started, key, "/gateway/v1/me")[0])["usage"]["day"]
    assert used["pages"] == PAGES
    assert len(processes(started)) == 2
    assert "unavailable" not in started.log


UNHEX = "import sys; sys.stdout.buffer.write(bytes.fromhex(sys.stdin.read()))"


def complete(body: str) -> dict[str, Any] | None:
    answer: dict[str, Any] = json.loads(body)
    return answer if answer.get("status") == "complete" else None


def test_nothing_in_it_has_a_capability_or_is_without_a_filter(started: Machine) -> None:
    for pid in processes(started):
        status = started.run(f"cat /proc/{pid}/status")
        found = dict(re.findall(r"^(\w+):\s+(.*)$", status, re.MULTILINE))
        assert {int(found[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh")} == {0}
        assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
        assert found["Uid"].split()[0] != "0"


@pytest.mark.parametrize("path", ["/etc/gateway/x", "/usr/x", "/opt/gateway/x", "/var/x", "/var/lib/x", "/boot/x"])
def test_its_view_of_the_machine_is_read_only(started: Machine, path: str) -> None:
    pid = started.unit("MainPID")
    tried = started.run(f"nsenter -t {pid} -m /bin/touch {path} 2>&1", check=False)
    assert "Read-only file system" in tried


def test_a_reload_is_told_of_good_or_refused(started: Machine) -> None:
    before = started.log.count('"configuration reloaded"')
    started.run(f"systemctl reload {UNIT}")
    eventually(lambda: started.unit("StatusText") == "Reloaded")
    eventually(lambda: started.log.count('"configuration reloaded"') == before + 1)
    started.run("cp /etc/gateway/gateway.yaml /mnt/good.yaml; echo 'nonsense: 1' >> /etc/gateway/gateway.yaml")
    try:
        started.run(f"systemctl reload {UNIT}")
        eventually(lambda: started.unit("StatusText").startswith("Reload refused"))
        assert started.unit("ActiveState") == "active"
    finally:
        started.run(f"cp /mnt/good.yaml /etc/gateway/gateway.yaml; systemctl reload {UNIT}")
    eventually(lambda: started.unit("StatusText") == "Reloaded")


def test_a_loop_that_stands_still_is_ended_and_started_anew(started: Machine) -> None:
    first = started.unit("MainPID")
    drop = "/run/systemd/system/document-gateway.service.d"
    started.run(f"mkdir -p {drop}; printf '[Service]\\nWatchdogSec=3\\n' > {drop}/watchdog.conf")
    try:
        started.run(f"systemctl daemon-reload; systemctl restart {UNIT}")
        first = started.unit("MainPID")
        started.run(f"kill -STOP {first}")
        eventually(lambda: started.unit("NRestarts") == "1" and started.unit("ActiveState") == "active", 120.0)
        assert started.unit("MainPID") not in {first, "0"}
    finally:
        started.run(f"rm {drop}/watchdog.conf; systemctl daemon-reload")


def test_it_drains_when_it_is_stopped(started: Machine) -> None:
    started.run(f"systemctl stop {UNIT}")
    assert (started.unit("ActiveState"), started.unit("Result")) == ("inactive", "success")
    last = json.loads(started.log.splitlines()[-1])
    assert (last["event"], last["cut_off"]) == ("drained", 0)


def test_a_drop_in_lets_it_listen_below_1024(started: Machine) -> None:
    page = (ROOT / "docs/systemd.md").read_text()
    (drop_in,) = re.findall(r"^    (\[Service\]\n(?:    .*\n)*?    PrivateUsers=no)$", page, re.MULTILINE)
    directory = f"/run/systemd/system/{UNIT}.d"
    text = drop_in.replace("\n    ", "\n")
    started.run(f"mkdir -p {directory}; cat > {directory}/port.conf <<'END'\n{text}\nEND")
    started.run("sed -i '1i listen: {port: 443}' /etc/gateway/gateway.yaml")
    try:
        started.run(f"systemctl daemon-reload; systemctl restart {UNIT}")
        assert started.unit("StatusText") == "Serving port 443"
    finally:
        started.run(
            f"sed -i '/^listen:/d' /etc/gateway/gateway.yaml; rm {directory}/port.conf; systemctl daemon-reload"
        )
