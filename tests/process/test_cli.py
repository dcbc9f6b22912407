"""The commands from outside: exit codes, one line for each fault, never a traceback."""

import re
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import click
import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway import __version__
from gateway.cli.main import COMMANDS, Listed, cli
from gateway.cli.this_machine import local_addresses
from tests.support.ledgers import write_sqlite_ledger
from tests.support.process import (
    DEADLINE,
    GATEWAY,
    Process,
    Upstream,
    configure,
    free_port,
    run,
    taken_port,
    trusting,
)


def complaints(output: str) -> list[str]:
    assert "Traceback" not in output
    return [line for line in output.splitlines() if line.startswith(("gateway: ", "fault: "))]


def in_process(*arguments: str) -> tuple[int, str]:
    """The same as `run`, without a process: for what needs no start of Python of its own."""
    result = CliRunner().invoke(cli, arguments, prog_name="gateway")
    if sys.modules.get("rich", cli) is None:
        del sys.modules["rich"]  # `serve` keeps it out of its process, and this one has other tests
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def the_complaint(*arguments: str, cwd: Path | None = None, environ: dict[str, str] | None = None) -> str:
    """What a command that fails says: exactly one line."""
    code, output = run(*arguments, cwd=cwd, environ=environ)
    (line,) = complaints(output)
    assert code == 1
    return line


def make_certificate(directory: Path, starts: timedelta, ends: timedelta) -> None:
    now = datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + starts)
        .not_valid_after(now + ends)
        .sign(key, hashes.SHA256())
    )
    (directory / "server.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@pytest.fixture
def away() -> str:
    """An address of this machine that is not loopback."""
    addresses = [address for address in local_addresses() if ":" not in address]
    if not addresses:
        pytest.skip("this machine has no address but loopback ones")
    return addresses[0]


@pytest.fixture
def path(tmp_path: Path, certificates: Path, upstream: Upstream) -> Path:
    """A good configuration."""
    return configured(tmp_path, certificates, upstream.url)


def configured(directory: Path, certificates: Path, upstream: str, **sections: Any) -> Path:
    """A configuration with a ledger of its own: these processes run where the tests do."""
    return configure(
        directory, certificates, upstream, **{"ledger": {"url": f"sqlite:///{directory}/ledger.db"}, **sections}
    )


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_help_and_version(option: str) -> None:
    code, output = run(option)
    assert code == 0
    assert (__version__ if option == "--version" else "serve") in output


def every_command(command: click.Command = cli, *path: str) -> Iterator[tuple[list[str], click.Command]]:
    yield list(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from every_command(inner, *path, name)


EVERY = [path for path, _ in every_command()]
GROUPS = [path for path, command in every_command() if isinstance(command, click.Group)]


@pytest.mark.parametrize(
    ("path", "command"), [pytest.param(*found, id=" ".join(found[0])) for found in every_command()]
)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_each_command_has_help(path: list[str], command: click.Command, option: str) -> None:
    command._help_option = None  # click keeps the one of the first call, which another test may have made without -h
    code, output = in_process(*path, option)
    assert code == 0
    assert output.startswith("Usage: gateway")


@pytest.mark.parametrize(
    "wrong",
    [
        ["serve"],
        ["nonsense"],
        ["serve", "--nonsense"],
        ["demo", "--port", "70000"],
        ["certs", "dev"],
        ["keys", "list"],
        ["usage"],
        ["explain", "--config", "x", "GET", "/"],
    ],
)
def test_wrong_usage_is_two(wrong: list[str]) -> None:
    code, output = in_process(*wrong)
    assert code == 2
    assert output.startswith("Usage: ")


def test_what_serve_prints_into_a_log_repeats_no_value(tmp_path: Path, certificates: Path) -> None:
    """A password in the wrong place stood in the journal from then on."""
    path = configured(tmp_path, certificates, "http://127.0.0.1:1", log={"level": "hunter2-hunter2"})
    line = the_complaint("serve", "--config", str(path))
    assert line.startswith("gateway: log.level: must be ")
    assert line.endswith(": ***)")
    assert "hunter2" not in line


def test_serve_tells_the_faults_that_check_tells(tmp_path: Path, certificates: Path) -> None:
    """The log of a service had neither the value nor the mend."""
    sections = {
        "listen": {"port": "8443", "head_timeout": "5 minutes", "idle_timeout": 20},
        "admin": {"port": 70000},
        "network": {"allow": ["10.0.0.5/8", "fe80::1/10"]},
        "body": {"spool_limit": "5XB"},
    }
    path = configured(tmp_path, certificates, "http://127.0.0.1:1", **sections)
    served = [line.removeprefix("gateway: ") for line in complaints(in_process("serve", "--config", str(path))[1])]
    checked = [line.removeprefix("fault: ") for line in complaints(in_process("check", "--config", str(path))[1])]
    assert "write 8443 without quotes (line " in served[0]
    masked = [re.sub(r': "5 minutes"\)|: "5XB"\)', ": ***)", line) for line in checked]
    assert served == masked
    assert len(served) == 7


def test_a_spool_that_can_not_be_used_at_start(tmp_path: Path, certificates: Path) -> None:
    place = tmp_path / "file"
    place.write_text("")
    path = configured(tmp_path, certificates, "http://127.0.0.1:1", body={"spool_dir": str(place / "x")})
    line = the_complaint("serve", "--config", str(path))
    assert line.startswith(f"gateway: body.spool_dir: {place}/x can't be used: ")


@pytest.mark.parametrize("section", ["listen", "admin"])
def test_a_taken_port_at_start(tmp_path: Path, certificates: Path, section: str) -> None:
    with taken_port() as port:
        sections = {section: {"address": "127.0.0.1", "port": port}}
        path = configured(tmp_path, certificates, "http://127.0.0.1:1", **sections)
        line = the_complaint("serve", "--config", str(path))
    assert line.startswith(f"gateway: {section}: can't listen on 127.0.0.1 port {port}: ")


def test_an_address_that_is_not_ours_at_start(tmp_path: Path, certificates: Path) -> None:
    path = configured(
        tmp_path, certificates, "http://127.0.0.1:1", listen={"address": "192.0.2.1", "port": free_port()}
    )
    assert "192.0.2.1" in the_complaint("serve", "--config", str(path))


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_missing_certificate(tmp_path: Path, command: str) -> None:
    path = configured(tmp_path, tmp_path / "nowhere", "http://127.0.0.1:1")
    code, output = run(command, "--config", str(path))
    assert code == 1
    found = complaints(output)
    assert len(found) == 2
    assert "tls.certificate: " in found[0]
    assert "server.pem can't be read: No such file or directory" in found[0]
    assert "tls.private_key: " in found[1]


@pytest.mark.parametrize("arguments", [["serve"], ["check", "--live"]])
def test_an_expired_certificate(tmp_path: Path, upstream: Upstream, arguments: list[str]) -> None:
    make_certificate(tmp_path, -timedelta(days=2), -timedelta(days=1))
    path = configured(tmp_path, tmp_path, upstream.url)
    assert "server.pem expired on " in the_complaint(*arguments, "--config", str(path))


def test_a_certificate_of_tomorrow(tmp_path: Path, upstream: Upstream) -> None:
    make_certificate(tmp_path, timedelta(days=1), timedelta(days=2))
    path = configured(tmp_path, tmp_path, upstream.url)
    assert "is valid only from " in the_complaint("serve", "--config", str(path))


def test_a_key_of_another_certificate(tmp_path: Path, certificates: Path, upstream: Upstream) -> None:
    make_certificate(tmp_path, -timedelta(days=1), timedelta(days=30))
    pair = {"certificate": str(tmp_path / "server.pem"), "private_key": str(certificates / "server.key")}
    path = configured(tmp_path, tmp_path, upstream.url, tls=pair)
    assert "is not the key of " in the_complaint("serve", "--config", str(path))


@pytest.mark.parametrize(
    ("section", "wrong"),
    [
        ("tls", {"private_key": "server.pem"}),
        ("tls.certificates[0]", {"certificates": [{"certificate": "server.key", "private_key": "server.pem"}]}),
        ("tls.client_ca", {"client_ca": "server.key", "client_certificates": "optional"}),
        ("admin.tls", {"certificate": "server.key", "private_key": "server.pem"}),
    ],
)
def test_serve_and_check_name_the_setting_of_a_certificate_that_will_not_do(
    section: str, wrong: dict[str, Any], tmp_path: Path, certificates: Path
) -> None:
    def placed(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: placed(entry) for name, entry in value.items()}
        if isinstance(value, list):
            return list(map(placed, value))
        return str(certificates / value) if str(value).startswith("server.") else value

    pair = placed({"certificate": "server.pem", "private_key": "server.key"})
    sections = {"admin": {"tls": placed(wrong)}} if section == "admin.tls" else {"tls": {**pair, **placed(wrong)}}
    path = configured(tmp_path, certificates, "http://127.0.0.1:1", **sections)
    served = the_complaint("serve", "--config", str(path)).removeprefix("gateway: ")
    assert served == the_complaint("check", "--config", str(path)).removeprefix("fault: ")
    assert served.startswith(f"{section}: {certificates}/server.")


@pytest.mark.parametrize("text", ["listen: [", "a: b: c", "\tlisten: 1", "- listen", "listen: *x", "\x00", "&a [*a]"])
@pytest.mark.parametrize("command", ["serve", "check"])
def test_bad_yaml_is_one_line_of_complaint(tmp_path: Path, text: str, command: str) -> None:
    (tmp_path / "gateway.yaml").write_text(text)
    code, output = in_process(command, "--config", str(tmp_path / "gateway.yaml"))
    (line,) = complaints(output)
    assert code == 1
    assert "gateway.yaml" in line


def test_bad_yaml_of_a_process(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("listen:\n  port: 1\n  port: 2\n")
    line = the_complaint("serve", "--config", str(tmp_path / "gateway.yaml"))
    assert line == f"gateway: {tmp_path / 'gateway.yaml'}, line 3: the key port is there twice, first in line 2"


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_missing_file(tmp_path: Path, command: str) -> None:
    code, output = in_process(command, "--config", str(tmp_path / "gateway.yaml"))
    (line,) = complaints(output)
    assert code == 1
    assert line.endswith("gateway.yaml can't be read: No such file or directory")


def test_all_faults_at_once(tmp_path: Path, certificates: Path) -> None:
    path = configured(
        tmp_path,
        certificates,
        "http://127.0.0.1:1",
        listen={"prot": 1},
        network={"allow": ["10.0.0.0/33"]},
        log={"level": "loud"},
    )
    code, output = run("check", "--config", str(path))
    found = complaints(output)
    assert code == 1
    assert any(
        line.startswith("fault: listen.prot: there is no such setting; did you mean port? (line ") for line in found
    )
    assert [line.split(": ")[1] for line in found] == ["listen.prot", "network.allow[0]", "log.level"]


def test_a_good_configuration_is_zero(path: Path) -> None:
    code, output = run("check", "--config", str(path))
    assert code == 0
    assert output.splitlines()[-1] == f"ok: {path} is a valid configuration"


def test_no_c_extension_is_one_line(path: Path) -> None:
    line = the_complaint("serve", "--config", str(path), environ={"AIOHTTP_NO_EXTENSIONS": "1"})
    assert "C extension" in line


@pytest.mark.parametrize("form", ["--wide", "--json"])
def test_a_reader_that_leaves_is_no_traceback(form: str, path: Path) -> None:
    """As in `gateway config show | head`."""
    command = (*GATEWAY, "config", "show", form, "--config", str(path))
    with Popen(command, stdout=PIPE, stderr=PIPE) as process:  # noqa: S603 -- our own command
        assert process.stdout
        process.stdout.close()
        assert process.wait(DEADLINE) == 1
        told = process.stderr.read().decode() if process.stderr else ""
    assert "Traceback" not in told
    assert len(told.splitlines()) <= 1


def test_live_finds_all_well(path: Path) -> None:
    code, output = run("check", "--live", "--config", str(path))
    assert code == 0, output
    assert "ok: certificate for localhost" in output
    assert "is reached on the loopback address alone" in output


def test_live_misses_the_upstream(tmp_path: Path, certificates: Path) -> None:
    port = free_port()
    path = configured(tmp_path, certificates, f"http://127.0.0.1:{port}")
    line = the_complaint("check", "--live", "--config", str(path))
    assert line.startswith(f"fault: upstream.url: 127.0.0.1:{port}: no answer")


class _Everywhere(Upstream):
    def server_bind(self) -> None:
        self.server_address = ("0.0.0.0", 0)  # noqa: S104 -- the fault that the check is to find
        super().server_bind()


def test_live_finds_the_way_around(tmp_path: Path, certificates: Path, away: str) -> None:
    with _Everywhere() as upstream:
        port = upstream.server_address[1]
        path = configured(tmp_path, certificates, f"http://127.0.0.1:{port}")
        line = the_complaint("check", "--live", "--config", str(path))
    assert "can be reached around the gateway" in line
    assert away in line


def test_the_certificates_of_certs_dev_work(tmp_path: Path) -> None:
    code, output = run("certs", "dev", str(tmp_path / "certs"), "--host", "gateway.internal", "--host", "127.0.0.1")
    assert code == 0, output
    assert {path.name for path in (tmp_path / "certs").iterdir()} == {"ca.pem", "server.pem", "server.key"}
    assert names_after_handshake(tmp_path / "certs") == [("DNS", "gateway.internal"), ("IP Address", "127.0.0.1")]


def names_after_handshake(certificates: Path) -> list[tuple[str, str]]:
    """The names of a server's certificate, as a client that trusts the CA alone sees them."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    ours = trusting(certificates).wrap_bio(to_client, to_server, server_hostname="gateway.internal")
    for side in (ours, theirs, ours, theirs):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    certificate: Any = ours.getpeercert()
    return list(certificate["subjectAltName"])


def test_certs_dev_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, output = run("certs", "dev", str(tmp_path / "file/certs"))
    assert code == 1
    assert "Traceback" not in output


def test_the_environment_overrides(tmp_path: Path, certificates: Path) -> None:
    path = configured(tmp_path, certificates, "http://127.0.0.1:1")
    with taken_port() as port:
        line = the_complaint("serve", "--config", str(path), environ={"GATEWAY__LISTEN__PORT": str(port)})
    assert f"port {port}" in line
    line = the_complaint("check", "--config", str(path), environ={"GATEWAY__LISTEN__PROT": "1"})
    assert line == "fault: listen.prot: there is no such setting; did you mean port? (GATEWAY__LISTEN__PROT)"


@pytest.fixture
def occupied() -> Iterator[int]:
    """A port that is taken on all addresses, IPv6 included."""
    with socket.socket(socket.AF_INET6) as listening:
        listening.bind(("::", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_a_port_that_is_taken_on_all_addresses(tmp_path: Path, certificates: Path, occupied: int) -> None:
    path = configured(tmp_path, certificates, "http://127.0.0.1:1", listen={"address": "::", "port": occupied})
    assert f"port {occupied}" in the_complaint("serve", "--config", str(path))


HEAVY = (
    "pydantic", "sqlalchemy", "alembic", "aiohttp", "uvloop", "asyncio", "ssl", "rich.table", "structlog", "yaml",
    "cryptography", "asyncpg", "gateway.config", "gateway.ledger",
)  # fmt: skip


@pytest.mark.parametrize("group", [[], ["keys"], ["callers"], ["jobs"], ["webhooks"], ["certs"]], ids=" ".join)
def test_help_imports_only_what_it_needs(group: list[str]) -> None:
    """`gateway --help` is what a hurried person types; settings, SQLAlchemy and rich are more than a second."""
    program = (
        "import sys\n"
        "from gateway.__main__ import main\n"
        "heavy, sys.argv = sys.argv[1].split(), ['gateway', *sys.argv[2:], '--help']\n"
        "try:\n    main()\n"
        "finally:\n    print('imported:', [m for m in heavy if m in sys.modules])\n"
    )
    with Process((sys.executable, "-c", program, " ".join(HEAVY), *group), is_forked=False) as process:
        assert process.exit_code() == 0
        assert "Usage: gateway" in process.output
        assert "imported: []" in process.output


UNUSED = ("alembic", "mako", "jinja2", "asyncpg", "rich.console", "unittest", "pypdfium2")


def test_serve_imports_only_what_it_needs(tmp_path: Path, certificates: Path) -> None:
    """On a ledger in a file with its tables: each of these is memory that stays, and time before the first answer."""
    write_sqlite_ledger(tmp_path / "ledger.db")
    program = (
        "import sys\n"
        "from gateway.__main__ import main\n"
        "unused, sys.argv = sys.argv[1].split(), ['gateway', 'serve', '--config', sys.argv[2]]\n"
        "try:\n    main()\n"
        "finally:\n    print('imported:', [m for m in unused if m in sys.modules])\n"
    )
    path = configured(tmp_path, certificates, "http://127.0.0.1:1")
    with Process((sys.executable, "-c", program, " ".join(UNUSED), str(path)), is_forked=False) as process:
        process.line(lambda line: '"listening"' in line)
        process.send(signal.SIGTERM)
        process.exit_code()
        assert "imported: []" in process.output


@pytest.mark.parametrize(("name", "listed"), COMMANDS.items())
def test_help_lists_each_command_in_its_own_words(name: str, listed: Listed) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
    assert command.get_short_help_str(1000) == listed.about


def test_help_lists_all_commands() -> None:
    _, output = in_process("--help")
    assert re.findall(r"^  (\w+)  ", output.partition("Commands:")[2], re.MULTILINE) == sorted(COMMANDS)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["kyes"], "No such command 'kyes'. Did you mean 'keys'?"),
        (["statsu", "--config", "x"], "No such command 'statsu'. Did you mean 'status'?"),
        (["frobnicate"], "No such command 'frobnicate'."),
        (["keys", "lst"], "No such command 'lst'. Did you mean 'list'?"),
        (["--config", "x", "status"], "--config stands behind the command: gateway status --config ..."),
        (["keys", "--config", "x", "list"], "--config stands behind the command: gateway keys list --config ..."),
        (["keys", "--confg", "x", "list"],
         "No such option '--confg'. Did you mean '--config'? It stands behind the command: gateway keys list"),
        (["--confg", "x", "keys", "list"], "No such option '--confg'. Did you mean '--config'?"),
        (["keys", "--frobnicate", "x", "list"], "No such option '--frobnicate'."),
        (["keys", "--limit", "x", "list"], "No such option '--limit'."),
        (["explain", "--key", "ci", "--config", "x"],
         "Name METHOD and PATH of a request; or a --token, --certificate or --request-id."),
        (["--nope"], "No such option '--nope'."),
        (["keys", "show", "--config", "x"], "Missing argument 'ID'."),
        (["keys", "grant", "ci", "--config", "x", "--pages", "many"], "Invalid value for '--pages': 'many' is not"),
        (["explain", "--config", "x"], "Name METHOD and PATH of a request"),
    ],
)  # fmt: skip
def test_wrong_usage_is_told_in_one_form_with_the_way_out(words: list[str], told: str) -> None:
    code, output = in_process(*words)
    assert code == 2
    usage, hint, nothing, line = output.splitlines()
    assert usage.startswith("Usage: gateway")
    assert re.fullmatch(r"Try 'gateway[a-z ]* --help' for help\.", hint)
    assert nothing == ""
    assert line.startswith(f"gateway: {told}")


def test_without_a_word_all_is_told() -> None:
    code, output = in_process()
    assert code == 2
    assert output.startswith("Usage: gateway")
    assert "  webhooks" in output


@pytest.mark.parametrize("group", GROUPS, ids=" ".join)
def test_a_list_of_commands_says_each_in_a_whole_line(group: list[str]) -> None:
    _, output = in_process(*group, "--help")
    listed = output.partition("Commands:\n")[2].splitlines()
    assert listed
    assert all(len(line) <= 80 for line in listed)
    assert [line for line in listed if line.endswith("...")] == []


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_help_has_no_marks_and_breaks_no_example(command: list[str]) -> None:
    _, output = in_process(*command, "--help")
    assert "`" not in output
    lines = [line.startswith("      ") for line in output.partition("Options:")[0].splitlines()]
    assert (True, True) not in pairwise(lines), "an example takes one line, or can't be copied"
