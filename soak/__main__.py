"""`python -m soak neighbours [SECONDS]`: a quiet tenant beside attacks of docs/threat-model.md, as a table.

Starts `gateway demo` in a directory of its own, gives the attacker a key of its own, and lets both go for so many
seconds (10), attack by attack. Read the figures of a shared machine against the row
`nothing` of the same run.
"""

import asyncio
import json
import re
import socket
import ssl
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from gateway.demo.run import CONFIGURATION
from soak.attacks import ATTACKS
from soak.tenant import Fared, Tenant, p95


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port


def configure(folder: Path, port: int, admin: int, upstream: int) -> None:
    """Writes the demo's configuration, and what some attacks aim at: webhooks received, client certificates."""
    values = {"directory": folder, "port": port, "admin_port": admin, "upstream": f"http://127.0.0.1:{upstream}"}
    settings = yaml.safe_load(CONFIGURATION.format(**values))
    settings["tls"] |= {"client_ca": f"{folder}/ca.pem", "client_certificates": "optional"}
    own = {
        "name": "soak",
        "secret": {"file": f"{folder}/webhook-secret.txt"},
        "forward_to": f"http://127.0.0.1:{upstream}/hook",
    }
    settings["webhooks"]["in"] = [own]
    folder.mkdir(mode=0o700)
    (folder / "gateway.yaml").write_text(yaml.safe_dump(settings))


@contextmanager
def demo(folder: Path) -> Iterator[tuple[int, int]]:
    """A gateway and its stand-in, from `ready` on; gives the public port and the admin listener's."""
    port, admin, upstream = free_port(), free_port(), free_port()
    configure(folder, port, admin, upstream)
    command = [sys.executable, "-m", "gateway", "demo", "--dir", str(folder), "--port", str(port)]
    command += ["--admin-port", str(admin), "--upstream-port", str(upstream)]
    log = (folder.parent / "demo.log").open("wb")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            assert process.stdout is not None  # noqa: S101 -- a pipe was asked for
            if not any(re.match("ready", line) for line in process.stdout):
                sys.exit(f"soak: the gateway did not start: {log.name} says why")
            yield port, admin
        finally:
            process.terminate()
            log.close()


def key_of(folder: Path, name: str) -> str:
    """A new key."""
    command = [sys.executable, "-m", "gateway", "keys", "create", name, "--json"]
    made = subprocess.run([*command, "--config", str(folder / "gateway.yaml")], check=True, capture_output=True)
    secret: str = json.loads(made.stdout)["secret"]
    return secret


def beside(attack: str, folder: Path, ports: tuple[int, int], keys: tuple[str, str], seconds: float) -> Fared:
    """How the quiet tenant fares beside one attack."""
    authority = str(folder / "ca.pem")
    command = [sys.executable, "-m", "soak.attacks", attack, *map(str, ports), authority, keys[1], str(seconds)]
    with subprocess.Popen(command) as attacker:
        tls = ssl.create_default_context(cafile=authority)
        fared = asyncio.run(Tenant(f"https://localhost:{ports[0]}", tls, keys[0]).fare(seconds))
        attacker.wait(timeout=60)
    return fared


def row(attack: str, fared: Fared) -> str:
    """One line of the table."""
    failures = ", ".join(f"{count} x {what}" for what, count in Counter(fared.failures).most_common()) or "none"
    polls, submits = p95(fared.polls) * 1000, p95(fared.submits) * 1000
    return (
        f"| {attack} | {len(fared.polls)} | {polls:.0f} ms | {len(fared.submits)} | {submits:.0f} ms | {failures} |"
    )


def neighbours(seconds: float) -> None:
    """Prints the table, row by row."""
    print("| beside | polls | p95 | submits | p95 | failures |\n|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as parent:
        folder = Path(parent) / "demo"
        with demo(folder) as ports:
            keys = key_of(folder, "quiet"), key_of(folder, "loud")
            for attack in ATTACKS:
                print(row(attack, beside(attack, folder, ports, keys, seconds)), flush=True)


def main(arguments: list[str]) -> None:
    """Reads the command line."""
    if not arguments or arguments[0] != "neighbours" or not all(word.isdigit() for word in arguments[1:2]):
        sys.exit("usage: python -m soak neighbours [SECONDS]")
    neighbours(float(arguments[1]) if len(arguments) > 1 else 10.0)


if __name__ == "__main__":
    main(sys.argv[1:])
