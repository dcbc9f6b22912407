"""What may be a secret in the wrong place is in no fault that goes to the log, whatever setting it stands at."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from gateway.config.fault_words import is_path
from gateway.config.load import load
from gateway.config.settings import Settings
from gateway.errors import SetupError
from tests.support.pure import document

CANARY: Final = "S3cr3tCanary0123456789xyz"
FORMS: Final = (
    f"https://user:{CANARY}@h.example/x",
    f"postgresql://u:{CANARY}@h/db",
    f"https://h.example/x?k={CANARY}",
    f"1.2.3.4/{CANARY}",
    f"::1%{CANARY}",
    f"-----BEGIN PRIVATE KEY-----\nMIGH/{CANARY}\n-----END PRIVATE KEY-----\n",
    f"MIGH/{CANARY}/gEGCCqGSM49",
    CANARY,
)
FILES: Final = frozenset({"certificate", "private_key", "client_ca", "ca", "public_key", "jwks", "file", "spool_dir"})
"""Whose values are paths, which are told: that a file is not there says nothing without its name."""
DEEPEST: Final = 6
Steps = tuple[str | int, ...]


def places() -> list[Steps]:
    """Each place of the configuration, entries of lists and mappings among them."""
    schema = Settings.model_json_schema()
    return list(dict.fromkeys(steps_in(schema, schema["$defs"], ())))


def steps_in(node: dict[str, Any], known: dict[str, Any], here: Steps) -> Iterator[Steps]:
    node = known[node["$ref"].rpartition("/")[2]] if "$ref" in node else node
    if len(here) > DEEPEST:
        return
    for inner in (*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())):
        yield from steps_in(inner, known, here)
    below = dict[str | int, Any](node.get("properties", {}))
    below |= {0: node["items"]} if isinstance(node.get("items"), dict) else {}
    below |= {"x": node["additionalProperties"]} if isinstance(node.get("additionalProperties"), dict) else {}
    for name, inner in below.items():
        yield (*here, name)
        yield from steps_in(inner, known, (*here, name))


def put(whole: dict[str, Any], steps: Steps, value: object) -> dict[str, Any]:
    """The document with a value at a place; what is in the way is replaced."""
    made: Any = copy.deepcopy(whole)
    current = made
    for step, following in zip(steps, (*steps[1:], None), strict=True):
        if isinstance(step, int) and not current:
            current.append(None)
        if following is None:
            current[step] = value
            break
        wanted = list if isinstance(following, int) else dict
        found = current[step] if isinstance(step, int) else current.get(step)
        if not isinstance(found, wanted) or (wanted is list and found):
            current[step] = wanted()
        current = current[step]
    return dict(made)


def faults_for_log(file: Path, whole: dict[str, Any]) -> str:
    file.write_text(yaml.safe_dump(whole))
    try:
        load(file, {})
    except SetupError as error:
        return error.for_log
    return ""


@pytest.mark.parametrize("form", FORMS)
def test_no_fault_tells_the_log_what_may_be_a_secret(tmp_path: Path, form: str) -> None:
    whole, found = document(tmp_path), places()
    assert len(found) > 150
    told = {}
    for steps in found:
        is_told = bool(FILES & set(steps)) and is_path(form)
        if not is_told and CANARY in (text := faults_for_log(tmp_path / "gateway.yaml", put(whole, steps, form))):
            told[steps] = text
    assert told == {}


def test_a_number_that_may_be_a_secret_is_told_nobody(tmp_path: Path) -> None:
    whole = put(document(tmp_path), ("admin", "token"), 12345)
    file = tmp_path / "gateway.yaml"
    file.write_text(yaml.safe_dump(whole))
    with pytest.raises(SetupError) as caught:
        load(file, {})
    assert "12345" not in str(caught.value)
    assert "12345" not in caught.value.for_log
