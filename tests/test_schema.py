"""The shipped configuration and its schema: fresh, complete, and true to the defaults."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from gateway.configuration import load
from gateway.demo.run import _CONFIGURATION
from gateway.devcerts import make_development_certificates
from gateway.schema import main, schema_text
from gateway.settings import Settings

CONFIG = Path(__file__).parent.parent / "config"
SHIPPED = CONFIG / "gateway.yaml"
EXAMPLE = re.compile(r"^( *)# Example.*\n((?: *# .*\n)+)", re.MULTILINE)
ALLOW = ["10.0.0.0/8", "127.0.0.0/8", "::1/128"]


def validator() -> Draft202012Validator:
    schema = json.loads((CONFIG / "gateway.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def with_examples(text: str) -> str:
    """The shipped file with its examples in the place of the empty lists and mappings that they stand under."""
    for example in reversed(list(EXAMPLE.finditer(text))):
        indent = len(example[1])
        shown = "".join(line[:indent] + line[indent + 2 :] for line in example[2].splitlines(keepends=True))
        head = re.sub(r"(: )(?:\[\]|\{\})([^\n]*\n)\Z", r":\2", text[: example.start()])
        text = head + shown + text[example.end() :]
    return text


def sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in {list, dict, Union, UnionType}:
        for argument in get_args(annotation):
            yield from sections(argument)


def missing(model: type[BaseModel], value: Any, path: str) -> Iterator[str]:
    """Settings of a section, and of all below it, that a document does not hold."""
    entries = value if isinstance(value, list) else [value]
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        here = f"{path}.{name}".lstrip(".")
        found = [entry[name] for entry in entries if isinstance(entry, dict) and name in entry]
        if not found:
            yield here
        inner = [item for item in found if item is not None]
        for section in sections(field.annotation):
            if section.__name__ in {"SecretDigest", "AdminTls"} or not inner:
                continue  # a reference has one form of three; null stands for the whole
            below = inner[0]
            yield from missing(section, list(below.values()) if _is_table(field.annotation) else below, here)


def _is_table(annotation: Any) -> bool:
    return get_origin(annotation) is dict


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the certificates that the defaults name."""
    make_development_certificates(tmp_path / "certs", ["localhost"])
    (tmp_path / "certs/other.pem").write_bytes((tmp_path / "certs/server.pem").read_bytes())
    (tmp_path / "certs/other.key").write_bytes((tmp_path / "certs/server.key").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_schema_is_fresh() -> None:
    assert (CONFIG / "gateway.schema.json").read_text() == schema_text(), "run: make schema"


def test_the_command_writes_the_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(tmp_path / "schema.json")])
    main([])
    assert (tmp_path / "schema.json").read_text() == capsys.readouterr().out == schema_text()


def test_the_shipped_file_fits_the_schema() -> None:
    validator().validate(yaml.safe_load(SHIPPED.read_text()))


def test_its_examples_fit_the_schema_and_the_settings(at_home: Path) -> None:
    text = with_examples(SHIPPED.read_text())
    document = yaml.safe_load(text)
    assert document["keys"]
    assert document["aliases"]
    assert document["tls"]["certificates"]
    validator().validate(document)
    (at_home / "gateway.yaml").write_text(text)
    settings = load(at_home / "gateway.yaml", {})
    assert settings.keys[0].id == "ci"


def test_the_shipped_file_holds_every_setting() -> None:
    document = yaml.safe_load(with_examples(SHIPPED.read_text()))
    assert list(missing(Settings, document, "")) == []


def test_the_shipped_file_says_the_defaults(at_home: Path) -> None:
    (at_home / "short.yaml").write_text(yaml.safe_dump({"network": {"allow": ALLOW}}))
    shipped, short = load(SHIPPED, {}), load(at_home / "short.yaml", {})
    assert shipped.model_dump() == short.model_dump()


def test_the_examples_of_keys_say_the_defaults() -> None:
    (key,) = yaml.safe_load(with_examples(SHIPPED.read_text()))["keys"]
    fields = Settings.model_fields["keys"].annotation
    (model,) = sections(fields)
    for name, field in model.model_fields.items():
        if field.default is not PydanticUndefined:
            assert key[name] == field.default, name


def test_the_demos_file_fits_the_schema() -> None:
    values = {"directory": "/demo", "port": 8443, "admin_port": 9090, "upstream": "http://127.0.0.1:8000"}
    validator().validate(yaml.safe_load(_CONFIGURATION.format(**values)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"listen": {"prot": 1}},
        {"listen": {"port": 70000}},
        {"listen": {"head_timeout": 15}},
        {"network": {"allow": []}},
        {"keys": [{"id": "ci", "secret": "in the clear"}]},
        {"keys": [{"id": "ci", "secret": {"env": "A", "file": "b"}}]},
        {"keys": [{"id": "ci", "secret": {}}]},
        {"routes": [{"name": "a", "methods": ["TRACE"], "path": "/a"}]},
        {"profiles": {"default": {"body_limit": "a lot"}}},
    ],
)
def test_the_schema_refuses(wrong: dict[str, Any]) -> None:
    document = {"network": {"allow": ALLOW}, **wrong}
    assert list(validator().iter_errors(document)), wrong
