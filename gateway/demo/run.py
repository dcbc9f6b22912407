"""The first run: everything needed in one directory, a stand-in container, the gateway, and a line to copy."""

import contextlib
import os
import secrets
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import uvloop
import yaml

from gateway.app.gateway import Addresses
from gateway.app.serve import serve
from gateway.config.document import LEDGER_VARIABLE, PREFIX
from gateway.demo.firstkey import has_ledger, provide_key
from gateway.demo.place import take_place
from gateway.demo.sample import sample_pdf
from gateway.errors import SetupError
from gateway.tls.dev_certificates import make_development_certificates

_HOSTS: Final = ["localhost", "127.0.0.1", "::1"]
_STOP_TIMEOUT: Final = 10.0
_GONE: Final = "the stand-in container has ended ({how}): nothing is converted until the demo is started anew"
CONFIGURATION: Final = """\
# Made by `gateway demo`; yours to edit: the gateway reloads it within a second. All settings: docs/configuration.md
listen:
  address: 127.0.0.1            # 0.0.0.0 once others are to reach it
  port: {port}
tls:
  certificate: {directory}/server.pem
  private_key: {directory}/server.key
network:
  allow: [127.0.0.0/8, "::1/128"]   # the networks of your clients; nobody else is served
upstream:
  url: {upstream}
ledger:
  url: sqlite:///{directory}/ledger.db   # the key `demo` is in it, and whatever it uses; see `gateway keys --help`
# profiles:                     # limits that keys share: gateway keys create ID --profile small
#   small: {{pages_per_month: 1000, requests_per_minute: 10, pages_per_request: 100}}
webhooks:
  out:                          # a form's webhook_url may lead to this machine alone
    secret: {{file: "{directory}/webhook-secret.txt"}}
    allow: [localhost]
    ca: {directory}/ca.pem
aliases:
  /api/v1/convert: /api/v1/marker   # lets today's Datalab SDK speak to today's container
admin:
  port: {admin_port}            # /metrics, /readyz, /livez on 127.0.0.1
shutdown:
  drain_delay: 0s               # nothing in front of a demo needs to notice first
log:
  format: console
"""
_WELCOME: Final = """\

The gateway listens on {url} and hands on to {upstream}.
Made in {directory}: ca.pem, server.pem, server.key, ledger.db, key.txt (the key demo),
webhook-secret.txt, gateway.yaml, sample.pdf

Convert the sample (one line, for another terminal: the upload, and a poll that waits for its end):

{call} -F "file=@{directory}/sample.pdf" {url}/api/v1/marker | grep -o 'https:[^"]*' | xargs {call} -H Prefer:wait=9

Make a key with a budget, watch it, rotate it (its old secret works one hour more):

{gateway} keys create alice {config} --limit pages_per_month=1000
{gateway} keys show alice {config}
{gateway} usage {config}
{gateway} keys rotate alice {config} --overlap 1h

What runs: http://127.0.0.1:{admin_port}/
Metrics: curl -s http://127.0.0.1:{admin_port}/metrics          End: Ctrl-C
"""


@dataclass(frozen=True, slots=True)
class Demo:
    """The options of `gateway demo`. `upstream` is the URL of a real container, or None for the stand-in.

    `given` names the ports set on the command line; for the others an existing gateway.yaml decides.
    """

    directory: Path
    port: int
    admin_port: int
    upstream_port: int
    upstream: str | None
    given: frozenset[str] = frozenset()


def run(demo: Demo) -> None:
    """Runs the demo until Ctrl-C.

    Raises:
        SetupError: it can't run; the message says what to do.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # until the gateway installs its own handlers
    with contextlib.suppress(KeyboardInterrupt):
        try:
            _run(demo)
        except SetupError as error:
            hint = "; see --port, --admin-port and --upstream-port" if "port" in str(error) else ""
            raise SetupError(f"{error}{hint}") from None
    _say("stopped")


def _run(demo: Demo) -> None:
    directory = demo.directory.absolute()
    _say(f"Preparing {directory}: CA, certificate, key, configuration, sample")
    _prepare(directory)
    with _upstream(demo) as upstream:
        configuration = directory / "gateway.yaml"
        _configure(configuration, demo, upstream)
        environ = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        environ |= _overrides(demo, upstream, configuration)
        told = _provide_key(configuration, environ)
        serve(
            configuration,
            environ,
            loop_factory=uvloop.new_event_loop,
            listening=lambda addresses: _welcome(configuration, environ, upstream, addresses, told),
            ended_by=(signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
        )


def _welcome(
    configuration: Path, environ: Mapping[str, str], upstream: str, addresses: Addresses, told: str | None
) -> None:
    """Says what runs where, with lines to copy, and what was `told` of the key."""
    directory, url = configuration.parent, f"https://localhost:{addresses.public[1]}"
    call = f'curl -sS --cacert "{directory}/ca.pem" -H "X-API-Key: $(cat "{directory}/key.txt")"'
    port = addresses.admin[1]
    values = {"url": url, "upstream": upstream, "directory": directory, "admin_port": port, "call": call}
    _say(_WELCOME.format(**values, gateway=_own_name(environ), config=f'--config "{configuration}"'))
    if told is not None:
        _say(told)
    _say(f"ready {url}")


def _say(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(text, flush=True)


def _prepare(directory: Path) -> None:
    try:
        take_place(directory)
        if not all((directory / name).is_file() for name in ("ca.pem", "server.pem", "server.key")):
            make_development_certificates(directory, _HOSTS)
        if not (directory / "sample.pdf").is_file():
            (directory / "sample.pdf").write_bytes(sample_pdf(pages=3))
        _make_secret(directory / "webhook-secret.txt")
    except OSError as error:
        raise SetupError(f"{error.filename or directory} can't be written: {error.strerror}") from None


def _make_secret(path: Path) -> None:
    if not path.is_file():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")


def _configure(path: Path, demo: Demo, upstream: str) -> None:
    if path.is_file():
        return
    values = {"directory": path.parent, "port": demo.port, "admin_port": demo.admin_port, "upstream": upstream}
    path.write_text(CONFIGURATION.format(**values))


def _provide_key(configuration: Path, environ: Mapping[str, str]) -> str | None:
    try:
        return provide_key(configuration, environ)
    except OSError as error:
        raise SetupError(f"{error.filename or configuration} can't be used: {error.strerror}") from None


def _own_name(environ: Mapping[str, str]) -> str:
    """The `gateway` command as it can be called from anywhere, also when its environment isn't activated."""
    beside = Path(sys.executable).with_name("gateway")
    name = shlex.quote(str(beside)) if beside.is_file() else f"{shlex.quote(sys.executable)} -m gateway"
    ledger = environ.get(LEDGER_VARIABLE)
    return name if ledger is None else f"{LEDGER_VARIABLE}={shlex.quote(ledger)} {name}"


def _overrides(demo: Demo, upstream: str, configuration: Path) -> dict[str, str]:
    """Options override a gateway.yaml from an earlier start."""
    overrides = {f"{PREFIX}UPSTREAM__URL": yaml.safe_dump(upstream).splitlines()[0]}
    if not has_ledger(configuration):  # made before ledgers existed: keep it in this directory
        overrides[LEDGER_VARIABLE] = f"sqlite:///{configuration.with_name('ledger.db')}"
    if "port" in demo.given:
        overrides[f"{PREFIX}LISTEN__PORT"] = str(demo.port)
    if "admin_port" in demo.given:
        overrides["GATEWAY__ADMIN__PORT"] = str(demo.admin_port)
    return overrides


@contextlib.contextmanager
def _upstream(demo: Demo) -> Iterator[str]:
    """The URL of the upstream: the named real one, or a stand-in that runs while the context lasts."""
    if demo.upstream is not None:
        yield demo.upstream
        return
    container = _start_container(demo.upstream_port)
    is_ending = threading.Event()
    try:
        line = container.stdout.readline() if container.stdout else ""
        if "ready on " not in line:
            raise SetupError(f"the stand-in container did not start; is port {demo.upstream_port} taken?")
        _say(line.strip())
        threading.Thread(target=_say_end, args=(container, is_ending), daemon=True).start()
        yield line.strip().rpartition(" ")[2]
    finally:
        is_ending.set()
        _end_container(container)


def _start_container(port: int) -> subprocess.Popen[str]:
    if find_spec("PIL") is None or find_spec("python_multipart") is None:
        raise SetupError("the stand-in container needs more than serve: install requirements/demo.txt")
    command = [sys.executable, "-m", "gateway.demo.container", "--port", str(port)]
    # Its standard input is our pipe: however this process ends, the container sees it close and ends too.
    command += ["--processing-time", "1", "--until-stdin-closes"]
    # It gets its own session: Ctrl-C then reaches only the gateway, which drains while the container still answers.
    return subprocess.Popen(  # noqa: S603 -- our own interpreter and module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def _end_container(container: subprocess.Popen[str]) -> None:
    container.send_signal(signal.SIGTERM)
    try:
        container.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        container.kill()
        container.wait()
    for pipe in (container.stdin, container.stdout):
        if pipe:
            pipe.close()


def _say_end(container: subprocess.Popen[str], is_ending: threading.Event) -> None:
    code = container.wait()
    if not is_ending.is_set():
        _say(_GONE.format(how=f"by signal {-code}" if code < 0 else f"exit code {code}"))
