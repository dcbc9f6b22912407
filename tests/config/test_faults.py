"""What an operator gets wrong in a plain gateway.yaml, one thing at a time: path, line, value and mend, told once."""

from pathlib import Path

import pytest

from gateway.config.faults import parts_of
from gateway.config.load import load
from gateway.config.yaml_places import line_near, shown, value_at
from gateway.errors import ConfigurationError
from tests.support.pure import document, write

PLAIN = """\
listen:
  address: 127.0.0.1
  port: 23100
tls:
  certificate: {certificate}
  private_key: {key}
network:
  allow:
    - 10.0.0.0/8
    - 127.0.0.0/8
upstream:
  url: http://127.0.0.1:8000
ledger:
  url: sqlite:////tmp/ledger.db
profiles:
  default:
    pages_per_day: 100
keys:
  - id: ci
    secret: {{env: CI_KEY}}
aliases:
  /api/v1/convert: /api/v1/marker
admin:
  port: 23101
"""
NO_NETWORK = "network.allow[0]: is not a network, such as 10.0.0.0/8 or ::1/128"
ALIKE = "stands further left or right than the settings beside it: indent them alike"
ITEM = "a list item stands further left or right than the others: indent them alike"
URL = "upstream.url: needs the form http://host:port or https://host:port"
SECTION = "must be a section: write"

# What stands in the plain file, what is written instead, and what is said; FILE is the file's name.
TABLE = [
    ("upstream:", "upstrem:", "upstrem: there is no such setting; did you mean upstream? (line 11)"),
    ("port:", "prot:", "listen.prot: there is no such setting; did you mean port? (line 3)"),
    ("certificate:", "cert:", "tls.cert: there is no such setting; did you mean certificate? (line 5)"),
    ("network:", "netwrok:", "netwrok: there is no such setting; did you mean network? (line 7)"),
    ("  port: 23100", "port: 23100",
     "port: there is no such setting here; did you mean listen.port? Then indent it below listen (line 3)"),
    ("  port: 23101", "port: 23101",
     "port: there is no such setting here; did you mean admin.port? Then indent it below admin (line 24)"),
    ("  port: 23100", "   port: 23100", f"FILE, line 3: port {ALIKE}"),
    ("  address: 127.0.0.1\n", " address: 127.0.0.1\n", f"FILE, line 3: port {ALIKE}"),
    ("  default:\n", "  default:\n   page_range: required\n", f"FILE, line 18: pages_per_day {ALIKE}"),
    ("    - 127.0.0.0/8", "  - 127.0.0.0/8", f"FILE, line 10: {ITEM}"),
    ("    - 127.0.0.0/8", "      - 127.0.0.0/8",
     (f"{NO_NETWORK}: a list item stands further right than the one above it: indent them alike "
     '(line 9: "10.0.0.0/8 - 127.0.0.0/8")')),
    ("ledger:", "upstream: {}\nledger:", "FILE, line 13: the key upstream is there twice, first in line 11"),
    ("10.0.0.0/8", "10.0.0.5/8",
     f'{NO_NETWORK}: 10.0.0.5 is within one, so write 10.0.0.0/8, or 10.0.0.5 alone (line 9: "10.0.0.5/8")'),
    ("10.0.0.0/8", "10.0.0.0/33", f'{NO_NETWORK}: after the slash is at most 32 (line 9: "10.0.0.0/33")'),
    ("10.0.0.0/8", '"::1/129"', f'{NO_NETWORK}: after the slash is at most 128 (line 9: "::1/129")'),
    ("10.0.0.0/8", "10.0.0.1-10.0.0.9",
     (f"{NO_NETWORK}: a range is not read, so write 10.0.0.1/32, 10.0.0.2/31, 10.0.0.4/30, 10.0.0.8/31 "
     '(line 9: "10.0.0.1-10.0.0.9")')),
    ("10.0.0.0/8", "10.0.0.1-10.0.1.200",
     (f"{NO_NETWORK}: a range is not read, so write 10.0.0.1/32, 10.0.0.2/31, 10.0.0.4/30, 10.0.0.8/29, ... "
     '(line 9: "10.0.0.1-10.0.1.200")')),
    ("10.0.0.0/8", "10.0.0.9-10.0.0.1",
     f'{NO_NETWORK}: a range is not read, and this one ends before it begins (line 9: "10.0.0.9-10.0.0.1")'),
    ("10.0.0.0/8", "corp.example.org",
     f'{NO_NETWORK}: names are not looked up, so write addresses (line 9: "corp.example.org")'),
    ("10.0.0.0/8", "10.0.0", f"""{NO_NETWORK}: Expected 4 octets in '10.0.0' (line 9: "10.0.0")"""),
    ("allow:\n    - 10.0.0.0/8\n    - 127.0.0.0/8", "allow: 10.0.0.0/8",
     'network.allow: must be a list: write [10.0.0.0/8] (line 8: "10.0.0.0/8")'),
    ("  - id: ci\n    secret:", "  ci:\n    secret:", 'keys: must be a list: begin each entry with "- " (line 18)'),
    ("  port: 23100", '  port: "23100"',
     'listen.port: must be a whole number: write 23100 without quotes (line 3: "23100")'),
    ("  port: 23100", "  port: https", 'listen.port: must be a whole number (line 3: "https")'),
    ("  port: 23100", "  port: 231000", "listen.port: must be at most 65535 (line 3: 231000)"),
    ("  port: 23100", "  port: -1", "listen.port: must be at least 0 (line 3: -1)"),
    ("  port: 23100", "  port: true", "listen.port: must be a whole number (line 3: true)"),
    ("  port: 23100", '  proxy_protocol: "False"',
     'listen.proxy_protocol: must be true or false: write false without quotes (line 3: "False")'),
    ("listen:\n  address: 127.0.0.1\n  port: 23100", "listen: 0.0.0.0:8443",
     f'listen: {SECTION} listen: {{address: 0.0.0.0, port: 8443}} (line 1: "0.0.0.0:8443")'),
    ("listen:\n  address: 127.0.0.1\n  port: 23100", 'listen: "[::1]:8443"',
     f'listen: {SECTION} listen: {{address: "::1", port: 8443}} (line 1: "[::1]:8443")'),
    ("listen:\n  address: 127.0.0.1\n  port: 23100", "listen: 8443",
     f"listen: {SECTION} its settings in the lines below, indented, each as name: value (line 1: 8443)"),
    ("admin:", "jobs:\nadmin:",
     "jobs: is empty: write its settings in the lines below, indented, or leave it out (line 23)"),
    ("{env: CI_KEY}", "hunter2hunter2",
     "keys[0].secret: a secret is never written here: use {env: NAME}, {file: /path} or {sha256: HEX} (line 20)"),
    ("CI_KEY", "UNSET", "keys[0].secret: the variable UNSET is empty or not there (line 20)"),
    ("  port: 23100", "\tport: 23100", "FILE, line 3: a tab stands there: indent with spaces"),
    ("/api/v1/marker", "{a:b|c}",
     'aliases./api/v1/convert: must be a text: quote what has { or [ in it: "..." (line 22)'),
    ("/api/v1/marker", "/a/{a:b", ('aliases./api/v1/convert: /a/{a:b is not a plain path, such as /api/v1/marker '
     '(line 22: "/a/{a:b")')),
    ("/api/v1/marker", "{a, b",
     'FILE, line 23: a { begins a mapping, and no } ends it: a text must be quoted: "..."'),
    ("127.0.0.1\n", "[::1]\n", 'FILE, line 2: a [ or { begins a list or a mapping: a text must be quoted: "..."'),
    ("http://127.0.0.1:8000", "http: //127.0.0.1",
     'FILE, line 12: a value with a colon and a blank in it must be quoted: "..."'),
    ("127.0.0.1\n", "'127.0.0.1\n", "FILE, line 2: a quote begins here that is never closed"),
    ("/api/v1/convert", "/api/v1/\udce4", "FILE, line 22: a byte stands there that is not UTF-8: write UTF-8"),
    ("port: 23100", "port: \x01", "FILE, line 3: a control character stands there: this is not text"),
    ("listen:", "\x7fELF\x02\udcff", "FILE, line 1: a byte stands there that is not UTF-8: write UTF-8"),
    ("http://127.0.0.1:8000", "\u201chttp://127.0.0.1:8000\u201d",
     f'{URL}; its quotes are curly: write "..." (line 12: "\u201chttp://127.0.0.1:8000\u201d")'),
    ("http://127.0.0.1:8000", "${UPSTREAM}",
     (f"{URL}; variables are not filled in: set it by the variable GATEWAY__UPSTREAM__URL, "
     'or a secret by {env: NAME} (line 12: "${UPSTREAM}")')),
    ("10.0.0.0/8", "$NET", (f"{NO_NETWORK}: Expected 4 octets in '$NET'; variables are not filled in, "
     'or a secret by {env: NAME} (line 9: "$NET")')),
    ("/api/v1/marker", "api/v1/marker", 'aliases./api/v1/convert: a path begins with / (line 22: "api/v1/marker")'),
    ("/api/v1/convert", "api/v1/convert", "aliases.api/v1/convert: a path begins with / (line 22)"),
    ("pages_per_day: 100", "pages_per_day: 1e5",
     'profiles.default.pages_per_day: must be a whole number: write 100000 (line 17: "1e5")'),
    ("admin:", "log: {level: loud}\nadmin:",
     'log.level: must be debug, info, warning or error (line 23: "loud")'),
    ("admin:", "jobs: {result_ttl: 5}\nadmin:",
     "jobs.result_ttl: write a duration with its unit, such as 5s, 500ms or 1h (units: ms, s, m, h, d) (line 23: 5)"),
    ("admin:", "body:\n  spool_limit: 200\nadmin:",
     "body.spool_limit: write a size with its unit, such as 200MB or 1KB (units: B, KB, MB, GB) (line 24: 200)"),
    ("id: ci", "id: 7", 'keys[0].id: must be a text: write "7" with quotes (line 19: 7)'),
    ("id: ci", "name: ci", "keys[0].name: there is no such setting (line 19)\nkeys[0].id: is required (line 19)"),
    (None, "# only a comment\n", "FILE is empty: gateway config init writes one that works"),
    (None, "{}", "FILE is empty: gateway config init writes one that works"),
]  # fmt: skip


def plain_in(directory: Path) -> str:
    tls = document(directory)["tls"]
    return PLAIN.format(certificate=tls["certificate"], key=tls["private_key"])


@pytest.mark.parametrize(("old", "new", "told"), TABLE)
def test_a_fault_has_line_value_and_mend(tmp_path: Path, old: str | None, new: str, told: str) -> None:
    plain = plain_in(tmp_path)
    assert old is None or old in plain
    path = tmp_path / "gateway.yaml"
    path.write_bytes((new if old is None else plain.replace(old, new, 1)).encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigurationError) as caught:
        load(path, {"CI_KEY": "x" * 40})
    assert sorted(str(caught.value).replace(str(path), "FILE").split("\n")) == sorted(told.split("\n"))


def test_a_misspelt_name_hides_no_fault_of_the_right_one(tmp_path: Path) -> None:
    """The quoted port was told only once the other was mended."""
    path = write(tmp_path, document(tmp_path, listen={"prot": 1, "port": "8443"}))
    with pytest.raises(ConfigurationError) as caught:
        load(path, {})
    found = {fault.path: fault.message for fault in caught.value.faults}
    assert found == {
        "listen.prot": "there is no such setting; did you mean port?",
        "listen.port": "must be a whole number: write 8443 without quotes",
    }


def test_the_plain_file_is_right(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(plain_in(tmp_path))
    assert load(path, {"CI_KEY": "x" * 40}).listen.port == 23100


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("log.level", "loud", '"loud"'),
        ("listen.port", True, "true"),
        ("listen.port", None, None),
        ("keys", ["canary"], None),
        ("keys[0].secret", "canary", None),
        ("admin.token.env", "canary", None),
        ("ledger.url", "postgresql://u:canary@h/d", None),
        ("webhooks.out.default_url", "https://h/canary", None),
        ("log.level", "https://u:canary@h", None),
        ("upstream.url", "http://u:canary@h", None),
        ("upstream.url", "http://h?canary", None),
        ("upstream.url", "http://h:1/x", '"http://h:1/x"'),
        ("log.level", "x" * 61, None),
        ("log.level", "a\x1b[2J", None),
        ("listen.port", 10**70, None),
    ],
)
def test_a_value_is_shown_unless_it_is_long_or_may_be_a_secret(path: str, value: object, text: str | None) -> None:
    assert shown(path, value) == text


def test_a_path_leads_to_its_value_and_its_line() -> None:
    assert parts_of("keys[0].id") == ("keys", 0, "id")
    assert value_at({"keys": [{"id": "a"}]}, ("keys", 0, "id")) == "a"
    assert value_at({"keys": 7}, ("keys", 0, "id")) is None
    lines = {"keys": 1, "keys[0]": 2, "keys[0].id": 3}
    assert [line_near(lines, path) for path in ("keys[0].id", "keys[0].x", "keys[1]", "log.level")] == [3, 2, 1, None]


@pytest.mark.parametrize(
    ("known", "instead", "told", "logged"),
    [
        ("  port: 23100", "  port: '8237001'", "write 8237001 without quotes", "listen.port: must be a whole number"),
        ("  - id: ci", "  - id: 8237001", 'write "8237001" with quotes', "keys[0].id: must be a text"),
        ("  allow:\n    - 10.0.0.0/8\n    - 127.0.0.0/8", "  allow: canary", "write [canary]",
         "network.allow: must be a list: write [...]"),
        ("listen:\n  address: 127.0.0.1\n  port: 23100", "listen: canary:80", "{address: canary, port: 80}",
         "listen: must be a section: write its settings"),
        ("{env: CI_KEY}", "{env: canary-secret}", "not a name in capitals, and not repeated",
         "keys[0].secret: the variable is empty or not there"),
        ("{env: CI_KEY}", "{env: canary_in_small_letters}", "not a name in capitals, and not repeated",
         "keys[0].secret: the variable is empty or not there"),
        ("{env: CI_KEY}", "{env: canary/secret}", "not a name in capitals, and not repeated",
         "keys[0].secret: the variable is empty or not there"),
        ("{env: CI_KEY}", "{env: NOT_SET}", "the variable NOT_SET is empty",
         "keys[0].secret: the variable NOT_SET is empty or not there"),
        ("{env: CI_KEY}", "{file: /not/there}", "/not/there", "keys[0].secret: the file /not/there"),
        ("{env: CI_KEY}", "{file: canary-secret}", "not plainly a path, and not repeated",
         "keys[0].secret: the file can't be read"),
        ("{env: CI_KEY}", "{file: canary+/secret}", "not plainly a path, and not repeated",
         "keys[0].secret: the file can't be read"),
    ],
)  # fmt: skip
def test_no_mend_repeats_in_the_log_what_may_be_a_secret(
    known: str, instead: str, told: str, logged: str, tmp_path: Path
) -> None:
    path = tmp_path / "gateway.yaml"
    made = document(tmp_path)["tls"]
    plain = PLAIN.format(certificate=made["certificate"], key=made["private_key"])
    assert known in plain
    path.write_text(plain.replace(known, instead))
    with pytest.raises(ConfigurationError) as error:
        load(path, {"CI_KEY": "a-secret-that-is-long-enough-for-it"})
    assert told in str(error.value)
    (fault,) = (fault for fault in error.value.faults if fault.for_log.startswith(logged))
    assert "canary" not in fault.for_log
    assert "8237001" not in fault.for_log


@pytest.mark.parametrize(
    ("form", "misplaced"),
    [
        ("env", "correct-horse-battery-staple-1234"),
        ("env", "correcthorsebatterystaple"),
        ("env", "Correct_Horse_1"),
        ("env", "postgresql://u:correct-horse@h/db"),
        ("file", "correct-horse-battery-staple-1234"),
        ("file", "aGVsbG8/d29ybGQ="),
    ],
)
@pytest.mark.parametrize("setting", ["keys", "ledger"])
def test_a_misplaced_secret_is_told_nowhere(form: str, misplaced: str, setting: str, tmp_path: Path) -> None:
    """`gateway serve` printed it into the log of the service."""
    reference = {form: misplaced}
    wrong = {"keys": [{"id": "ci", "secret": reference}]} if setting == "keys" else {"ledger": {"url": reference}}
    with pytest.raises(ConfigurationError) as error:
        load(write(tmp_path, document(tmp_path, **wrong)), {})
    assert misplaced not in str(error.value)
    assert misplaced not in error.value.for_log
