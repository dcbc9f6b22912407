"""Pydantic's findings in the operator's words: with the mend, and for the log without what may be a secret."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from gateway.config.fault_words import (
    fault_words,
    hint,
    is_path,
    is_variable_name,
    masked_words,
    may_be_logged,
    plain_words,
)
from gateway.errors import MASK

CANARY = "S3cr3tCanary0123456789xyz"
WHOLE, SWITCH, TEXT = "must be a whole number", "must be true or false", "must be a text"
LIST, SECTION = "must be a list", "must be a section: write"
LINES = "its settings in the lines below, indented"
FILLED_IN, OR_SECRET = "; variables are not filled in", "or a secret by {env: NAME}"
MOMENT = "must be a moment, such as 2027-01-31T00:00:00Z"


class Level(StrEnum):
    LOUD = "loud"
    CALM = "calm"


class Named(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    number: int = 1

    @field_validator("number")
    @classmethod
    def _odd(cls, number: int) -> int:
        if number % 2 == 0:
            raise ValueError("Is not odd")
        return number


def finding(kind: Any, value: Any) -> tuple[str, str, dict[str, Any]]:
    """What pydantic finds wrong with a value: its type, message and context."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value, strict=kind is not Level)
    (error,) = caught.value.errors()
    return error["type"], error["msg"], error.get("ctx", {})


def words(kind: Any, value: Any, path: str = "section.setting") -> str:
    return fault_words(path, *finding(kind, value), value)


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (int, "8443", f"{WHOLE}: write 8443 without quotes"),
        (int, "-1", f"{WHOLE}: write -1 without quotes"),
        (int, "1e5", f"{WHOLE}: write 100000"),
        (int, "8443\n", WHOLE),
        (int, "https", WHOLE),
        (int, 1.5, WHOLE),
        (float, "0.5", "must be a number: write 0.5 without quotes"),
        (float, "1.2.3", "must be a number"),
        (bool, "True", f"{SWITCH}: write true without quotes"),
        (bool, "yes", SWITCH),
        (bool, 1, SWITCH),
        (str, 7, f'{TEXT}: write "7" with quotes'),
        (str, True, f'{TEXT}: write "true" with quotes'),
        (str, {"a": "b"}, f'{TEXT}: quote what has {{ or [ in it: "..."'),
        (str, None, TEXT),
        (list[str], "10.0.0.0/8", f"{LIST}: write [10.0.0.0/8]"),
        (list[str], "a, b", f'{LIST}: write [...], or each entry in a line that begins with "- "'),
        (list[str], {"a": "b"}, f'{LIST}: begin each entry with "- "'),
        (dict[str, int], None, f"is empty: write {LINES}, or leave it out"),
        (Named, "x", f"{SECTION} {LINES}, each as name: value"),
        (Literal["a", "b"], "c", "must be a or b"),
        (Level, "x", "must be loud or calm"),
        (Annotated[list[int], Field(min_length=1)], [], "must not be empty"),
        (Annotated[list[int], Field(min_length=2)], [1], "must have at least 2"),
        (Annotated[list[int], Field(max_length=1)], [1, 2], "must have at most 1"),
        (Annotated[str, Field(min_length=1)], "", "must not be empty"),
        (Annotated[str, Field(min_length=2)], "a", "must have at least 2 characters"),
        (Annotated[str, Field(max_length=2)], "abc", "must have at most 2 characters"),
        (Annotated[str, Field(pattern="^a$")], "b", "must match ^a$"),
        (Annotated[int, Field(gt=0)], 0, "must be more than 0"),
        (Annotated[int, Field(ge=1)], 0, "must be at least 1"),
        (Annotated[int, Field(lt=9)], 9, "must be less than 9"),
        (Annotated[int, Field(le=9)], 10, "must be at most 9"),
        (AwareDatetime, datetime(2027, 1, 31), "needs a time zone, such as 2027-01-31T00:00:00Z"),  # noqa: DTZ001 -- as YAML may be read
        (datetime, "soon", MOMENT),
        (Named, {"name": "x", 1: 1}, "the name of a setting must be a text"),
        (Named, {"name": "x", "number": 2}, "is not odd"),  # in the words of a validator of ours
        (Named, {}, "is required"),
    ],
)  # fmt: skip
def test_what_pydantic_finds_is_said_with_its_mend(kind: Any, value: object, said: str) -> None:
    assert words(kind, value) == said


def test_what_is_required_says_what_it_is() -> None:
    assert words(Named, {}, "network").endswith("such as allow: [10.0.0.0/8]")
    assert words(Named, {}, "network.allow").endswith("there is no default")


@pytest.mark.parametrize(
    ("value", "section"),
    [
        ("0.0.0.0:8443", "{address: 0.0.0.0, port: 8443}"),
        ("[::1]:8443", '{address: "::1", port: 8443}'),
        ("host.test:1", "{address: host.test, port: 1}"),
    ],
)
def test_where_a_listener_is_to_listen_is_written_as_its_section(value: str, section: str) -> None:
    for path in ("listen", "admin"):
        assert words(Named, value, path) == f"{SECTION} {path}: {section}"
    assert words(Named, value, "upstream") == f"{SECTION} {LINES}, each as name: value"
    assert words(Named, f"{value}x", "listen") == f"{SECTION} {LINES}, each as name: value"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("upstream.url", "\u201chttp://h\u201d", '; its quotes are curly: write "..."'),
        ("upstream.url", "${URL}", f"{FILLED_IN}: set it by the variable GATEWAY__UPSTREAM__URL, {OR_SECRET}"),
        ("network.allow[0]", "$NET", f"{FILLED_IN}, {OR_SECRET}"),
        ("upstream.url", "$5", ""),
        ("upstream.url", 7, ""),
        ("upstream.url", "http://h", ""),
    ],
)  # fmt: skip
def test_a_value_shows_what_its_fault_does_not(path: str, value: object, said: str) -> None:
    assert hint(path, value) == said
    assert fault_words(path, "value_error", "Value error, Is wrong", {}, value) == f"is wrong{said}"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, "12345678901234567890"),
        (int, "8237001"),
        (str, 8237001),
        (list[str], CANARY),
        (list[str], f"/{CANARY}"),
        (Named, f"{CANARY}:80"),
        (int, {"a": CANARY}),
    ],
)
@pytest.mark.parametrize("path", ["listen", "keys[0].secret"])
def test_the_log_is_told_the_fault_without_what_may_be_a_secret(kind: Any, value: object, path: str) -> None:
    said = plain_words(path, *finding(kind, value), value)
    assert CANARY not in said
    assert "8237001" not in said
    assert "1234567890" not in said
    assert said.startswith("must be a")


def test_the_log_is_told_the_words_of_a_validator_without_it_too() -> None:
    said = plain_words("a.b", "value_error", f"Value error, {CANARY} is none of ours", {}, CANARY)
    assert said == f"{MASK} is none of ours"


def test_the_log_is_told_of_what_is_no_secret_as_the_operator_is() -> None:
    for kind, value in ((int, "8443"), (bool, "true"), (list[str], "10.0.0.0/8"), (str, 7)):
        found = finding(kind, value)
        assert plain_words("a.b", *found, value) == fault_words("a.b", *found, value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (CANARY, f"{CANARY} is wrong"),
        (f"a\n{CANARY}", f"'a\\n{CANARY}' is wrong"),  # as it is quoted
        (f"https://u:{CANARY}@h/x", f"Expected 4 octets in '{CANARY}'"),  # as ipaddress repeats a part
        ({"env": CANARY.lower()}, f"the variable {CANARY.lower()} is not there"),
        ([["a", {"b": CANARY}]], f"{CANARY} is wrong"),
    ],
)
def test_words_are_masked_in_whatever_form_they_repeat_a_secret(value: object, said: str) -> None:
    masked = masked_words("keys[0].secret", said, value)
    assert CANARY.lower() not in masked.lower()
    assert MASK in masked
    assert masked_words("log.level", "/pass/word is not there", "/pass//word") == f"{MASK} is not there"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("keys[0].secret", {"env": "CI_KEY"}, "the variable CI_KEY is not there"),
        ("keys[0].secret", {"file": "/not/there"}, "the file /not/there is not there"),
        ("tls.certificate", "certs/server.pem", "the file certs/server.pem is not there"),
        ("tls.jwks[0]", "certs/server.pem", "the file certs/server.pem is not there"),
        ("listen.name", "abc", "abc is wrong"),  # as much of a secret as this is said anyway
    ],
)
def test_names_of_variables_and_files_are_told(path: str, value: object, said: str) -> None:
    assert masked_words(path, said, value) == said


@pytest.mark.parametrize("value", [f"https://u:{CANARY}@h/x", f"https://{CANARY}/x", f"u@h/{CANARY}", CANARY])
def test_what_stands_for_a_file_and_is_none_is_masked(value: str) -> None:
    assert CANARY not in masked_words("tls.certificate", f"the file {value} is not there", value)


@pytest.mark.parametrize(
    "value",
    [True, "false", 8443, "8443", -1, 0.5, "10s", "1.5 h", "500ms", "200MB", "10.0.0.5/8", "::1", "fe80::1/10"],
)
def test_a_switch_a_short_number_a_span_or_a_network_is_no_secret(value: object) -> None:
    assert may_be_logged(value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "hunter2",
        8237001,
        "8237001",
        "123456",
        "10 years",
        "10sx",
        "loud",
        ["1"],
        {"a": 1},
        "1.2.3.4.5",
        "::1%canary",
        1e300,
    ],
)
def test_all_else_may_be_one(value: object) -> None:
    assert not may_be_logged(value)


def test_the_path_that_a_fault_begins_with_is_told_as_it_is() -> None:
    for said, told in (("Certs/Server.pem can't be read", "Certs/Server.pem can't be read"), ("Is odd", "is odd")):
        assert fault_words("tls.certificate", "value_error", f"Value error, {said}", {}, "x") == told


def test_a_name_of_a_variable_is_in_capitals() -> None:
    """What is in small letters, or neither words nor parted, may be the secret itself."""
    assert all(is_variable_name(name) for name in ("A", "_A1", "DB2", "PASSWORD", "X_" * 32, "KEY_9F3A0D21"))
    assert not any(is_variable_name(name) for name in ("", "a", "A-B", "1A", "A\n", "X" * 25, "X_" * 33))
    assert not any(is_variable_name(name) for name in ("JBSWY3DPEHPK3PXP", "9F3A0D21C4", "F3A0D21C4", "A1234"))


@pytest.mark.parametrize(
    "path",
    [
        "/etc/gateway/server.key",
        "/run/secrets/key",
        "./a b/x.key",
        "../tls.crt",
        "~/x",
        "certs/server.pem",
        "/var/spool/",
    ],
)
def test_a_path_is_told(path: str) -> None:
    assert is_path(path)


PEM = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49/gEGCCqGSM49\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    "text",
    [
        PEM, PEM.replace("\n", " "), PEM.splitlines()[1], "/" + "a1" * 40, "/abc+def", "/abc/def==", "pass/word",
        "s3cret/with.Slash", "//u:pass@h/x", "u@h/x.pem", "https://h/x.pem", "/a\n/b", "/" + "/".join(["abcd"] * 60),
        "", "plain",
    ],
)  # fmt: skip
@pytest.mark.parametrize("setting", ["tls.private_key", "tls.certificate", "keys[0].secret.file", "upstream.ca"])
def test_a_private_key_in_the_place_of_its_path_is_masked(text: str, setting: str) -> None:
    """It has slashes, too: whole in the log of a start, and on the page."""
    assert not is_path(text)
    said = masked_words(setting, f"the file {text} is not there", text)
    assert len(text) < 4 or said == f"the file {MASK} is not there"
