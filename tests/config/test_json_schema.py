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

from gateway.auth.jwks.files import read_local_keys
from gateway.cli.run_check import check_settings
from gateway.config.compile import compile_settings
from gateway.config.json_schema import main, schema_text
from gateway.config.load import load
from gateway.config.settings import LimitOverrides, ProfileSettings, Settings
from gateway.demo.run import CONFIGURATION
from gateway.errors import Refused
from gateway.limits.job_cost import FailedCosts
from gateway.model.routes import Kind
from gateway.tls.dev_certificates import make_development_certificates
from gateway.upstream.job_api import is_id
from tests.support.tokens import SECRET, jwk_of, jwks_of, p256_key, pem_of

CONFIG = Path(__file__).parents[2] / "config"
SHIPPED = CONFIG / "gateway.yaml"
EXAMPLE = re.compile(r"^( *)# Example.*\n((?: *# .*\n)+)", re.MULTILINE)
ALLOW = ["10.0.0.0/8", "127.0.0.0/8", "::1/128"]
# References to secrets have one form of several; null stands for all of AdminTls; overrides are those of a profile.
NOT_LOOKED_INTO = {"SecretDigest", "SecretValue", "AdminTls", "LimitOverrides"}


def validator() -> Draft202012Validator:
    schema = json.loads((CONFIG / "gateway.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def with_examples(text: str) -> str:
    """The shipped file with its examples in the place of the empty values that they stand under."""
    for example in reversed(list(EXAMPLE.finditer(text))):
        indent = len(example[1])
        shown = "".join(line[:indent] + line[indent + 2 :] for line in example[2].splitlines(keepends=True))
        head = re.sub(r"(: )(?:\[\]|\{\}|null)([^\n]*\n)\Z", r":\2", text[: example.start()])
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
        said = field.alias or name
        here = f"{path}.{said}".lstrip(".")
        found = [entry[said] for entry in entries if isinstance(entry, dict) and said in entry]
        if not found:
            yield here
        inner = [item for item in found if item is not None]
        for section in sections(field.annotation):
            if section.__name__ in NOT_LOOKED_INTO or not inner:
                continue
            below = inner[0]
            yield from missing(section, list(below.values()) if _is_table(field.annotation) else below, here)


def _is_table(annotation: Any) -> bool:
    return get_origin(annotation) is dict


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the certificates that the defaults name, and the files that the examples do."""
    certs = tmp_path / "certs"
    make_development_certificates(certs, ["localhost"])
    (certs / "other.pem").write_bytes((certs / "server.pem").read_bytes())
    (certs / "other.key").write_bytes((certs / "server.key").read_bytes())
    (certs / "batch.pem").write_bytes(pem_of(p256_key()))
    (certs / "cluster-keys.json").write_bytes(jwks_of(jwk_of(p256_key(), kid="1")))
    for name in ("legacy", "acme", "datalab"):
        (certs / f"{name}.key").write_bytes(SECRET)
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
    issuers = {issuer.issuer for issuer in settings.authentication.jwt}
    assert issuers - set(read_local_keys(settings.authentication.jwt)) == {"https://id.example.org/realms/main"}
    assert compile_settings(settings).certificates is None  # `identity` is null: names alone let nobody in


def test_the_shipped_file_holds_every_setting() -> None:
    document = yaml.safe_load(with_examples(SHIPPED.read_text()))
    assert list(missing(Settings, document, "")) == []


def test_the_shipped_file_says_the_defaults(at_home: Path) -> None:
    (at_home / "short.yaml").write_text(yaml.safe_dump({"network": {"allow": ALLOW}}))
    shipped, short = load(SHIPPED, {}), load(at_home / "short.yaml", {})
    assert shipped.model_dump() == short.model_dump()


def test_the_examples_say_the_defaults() -> None:
    document = yaml.safe_load(with_examples(SHIPPED.read_text()))
    authentication = Settings.model_fields["authentication"].annotation
    for place, entry in (
        (Settings.model_fields["keys"], document["keys"][0]),
        (authentication.model_fields["jwt"], document["authentication"]["jwt"][0]),  # type: ignore[union-attr]
    ):
        (model,) = sections(place.annotation)
        for name, field in model.model_fields.items():
            if field.default is not PydanticUndefined and name in entry and name != "discovery":
                default = field.default
                assert entry[name] == (default.model_dump(exclude_unset=True) if name == "limits" else default), name


def test_the_file_for_the_open_source_container_is_right(at_home: Path) -> None:
    """Its ids become paths there: nothing but UUIDs of the caller's own jobs gets to it."""
    assert at_home.is_dir()
    document = yaml.safe_load((CONFIG / "oss-container.yaml").read_text())
    validator().validate(document)
    state = compile_settings(load(CONFIG / "oss-container.yaml", {}))
    shape = state.shapes["oss"]
    assert shape.page_fields == frozenset()  # max_pages=1 converted 240 pages for one
    assert shape.failed_costs is FailedCosts.IF_TAKEN  # of its chunks of a document one may fail: the others are read
    assert (shape.checkpoint_field, shape.checkpoint_member) == (None, None)
    assert is_id(shape, "0b8c8e5e-7f6a-4b0e-9a55-0d1c2b3a4f5e")
    assert not any(is_id(shape, text) for text in ("..", "../../etc", "0B8C8E5E-7F6A-4B0E-9A55-0D1C2B3A4F5E", "a"))
    places = [("GET", "/marker/results"), ("GET", "/static/x/a.png"), ("POST", "/marker/clear")]
    rules = [state.routes.match(method, path, "h").route for method, path in places]
    assert [(rule.kind, rule.id_in, rule.id_name, rule.job, rule.rewrites) for rule in rules] == [
        (Kind.RESULT, "query", "file_id", "oss", True),
        (Kind.ASSET, "path", "file_id", "oss", False),
        (Kind.DELETE, "body", "file_id", "oss", False),
    ]
    for path in ("/status", "/docs", "/openapi.json", "/static/x", "/marker/clear"):
        with pytest.raises(Refused):
            state.routes.match("GET", path, "h")
    assert [finding for finding in check_settings(CONFIG / "oss-container.yaml", {}) if finding.is_fault] == []


def test_overrides_are_those_of_a_profile() -> None:
    assert set(LimitOverrides.model_fields) == set(ProfileSettings.model_fields) - {"networks", "routes"}


def test_the_demos_file_fits_the_schema() -> None:
    values = {"directory": "/demo", "port": 8443, "admin_port": 9090, "upstream": "http://127.0.0.1:8000"}
    validator().validate(yaml.safe_load(CONFIGURATION.format(**values)))


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
        {"profiles": {"default": {"requests_per_minute": 0}}},
        {"keys": [{"id": "ci", "secret": {"env": "A"}, "limits": {"networks": []}}]},
        {"authentication": {"jwt": [{"issuer": "https://id.example"}]}},
        {"authentication": {"jwt": [{"issuer": "a", "audience": "b", "secret": "in the clear"}]}},
        {"authentication": {"jwt": [{"issuer": "a", "audience": "b", "algorithms": ["none"]}]}},
        {"authentication": {"certificates": {"identity": "serial"}}},
        {"tls": {"client_certificates": "maybe"}},
        {"body": {"spool_limit": 1}},
        {"prices": {"per_1000_pages": {"quick": 1}}},
        {"ledger": {"timeout": 2}},
        {"upstream": {"url": ["http://a", "http://b"]}},
        {"upstreams": {"two": {"urls": []}}},
        {"routes": [{"name": "a", "methods": ["GET"], "path": "/a", "id": {"in": "header"}}]},
        {"routes": [{"name": "a", "methods": ["GET"], "path": "/a", "upstream": ["a", "b"]}]},
        {"jobs": {"result_ttl": 1}},
        {"jobs": {"shapes": {"x": {"status": "status"}}}},
    ],
)
def test_the_schema_refuses(wrong: dict[str, Any]) -> None:
    document = {"network": {"allow": ALLOW}, **wrong}
    assert list(validator().iter_errors(document)), wrong
