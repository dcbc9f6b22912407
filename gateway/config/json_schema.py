"""The JSON Schema of the configuration, for editors: `python -m gateway.config.json_schema FILE` writes it.

It describes the form of a file. `gateway check` checks the rest: whether files exist and settings agree.
"""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from gateway.config.settings import SecretDigest, SecretValue, Settings


class _Plain(GenerateJsonSchema):
    """Omits the titles that pydantic derives from names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        del schema
        return False


def make_schema() -> dict[str, Any]:
    """Makes the schema; the same settings give the same text."""
    made = Settings.model_json_schema(schema_generator=_Plain)
    for definition in (made, *made["$defs"].values()):
        definition.pop("title", None)
        for field in definition.get("properties", {}).values():
            if "$ref" in field and isinstance(field.get("default"), dict):
                del field["default"]  # a section's default comes from its settings, where it has units
    for reference in (SecretDigest, SecretValue):
        made["$defs"][reference.__name__] |= {"minProperties": 1, "maxProperties": 1}
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Document gateway configuration"}
    return {**schema, **made}


def schema_text() -> str:
    """The text of config/gateway.schema.json."""
    return json.dumps(make_schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> None:
    """Writes the schema to the named file, or to standard output."""
    if arguments:
        Path(arguments[0]).write_text(schema_text(), encoding="utf-8")
    else:
        sys.stdout.write(schema_text())


if __name__ == "__main__":
    main(sys.argv[1:])
