"""The OpenAPI 3.1 document of a table of operations: pure."""

from collections.abc import Iterable
from typing import Any, Final, Protocol

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway import __version__
from gateway.admin.problem import PROBLEM_TYPE, TITLES, Problem

_REF: Final = "#/components/schemas/{model}"
_NAMED: Final = {
    "id": {"type": "string", "pattern": "^[a-z0-9-]{1,63}$"},
    "request_id": {"type": "string", "minLength": 1, "maxLength": 256},
    "account": {"type": "string", "pattern": "^(jwt|cert):", "maxLength": 600},
}
_FORMS: Final = ("/admin/v1/keys/", "/admin/v1/callers/")
_OPERATION: Final = {"type": "string", "pattern": "^[!-~]{1,128}$"}
_ALWAYS: Final = (400, 401, 403, 429, 500, 503)
_OF_BODIES: Final = (408, 413, 415, 422)
_OF_KEYS: Final = (404, 409, 422)
_CONFLICTING: Final = frozenset({"createKey", "retryWebhook"})
_LONG: Final = {429: "Retry-After", 503: "Retry-After"}


class Described(Protocol):
    """What the document needs to know of an operation."""

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def method(self) -> str: ...  # noqa: D102
    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def summary(self) -> str: ...  # noqa: D102
    @property
    def answer(self) -> type[BaseModel]: ...  # noqa: D102
    @property
    def body(self) -> type[BaseModel] | None: ...  # noqa: D102
    @property
    def query(self) -> type[BaseModel] | None: ...  # noqa: D102
    @property
    def status(self) -> int: ...  # noqa: D102
    @property
    def takes_idempotency_key(self) -> bool: ...  # noqa: D102


def document_of(operations: Iterable[Described]) -> dict[str, Any]:
    """Makes the document."""
    table = list(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in table:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Document gateway: admin API", "version": __version__},
        "security": [{"adminToken": []}, {}],
        "paths": paths,
        "components": {
            "schemas": _schemas(table),
            "securitySchemes": {
                "adminToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "admin.token; where none is set, loopback peers need none.",
                }
            },
        },
    }


def _described(operation: Described) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": _parameters(operation),
        "responses": _responses(operation),
    }
    if operation.body is not None:
        is_required = any(field.is_required() for field in operation.body.model_fields.values())
        described["requestBody"] = {
            "required": is_required,
            "content": {"application/json": {"schema": _ref(operation.body)}},
        }
    return described


def _parameters(operation: Described) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in _NAMED.items()
        if f"{{{name}}}" in operation.path
    ]
    if operation.takes_idempotency_key:
        summary = "The same as `operation` of the body."
        found.append({"name": "Idempotency-Key", "in": "header", "description": summary, "schema": _OPERATION})
    if operation.query is not None:
        schemas = operation.query.model_json_schema()["properties"]
        found += [{"name": name, "in": "query", "schema": schema} for name, schema in schemas.items()]
    return found


def _responses(operation: Described) -> dict[str, Any]:
    content = {"application/json": {"schema": _ref(operation.answer)}}
    done = {"description": _first_line(operation.answer), "content": content}
    statuses = {
        *_ALWAYS,
        *(_OF_BODIES if operation.body is not None else ()),
        *((422,) if operation.query is not None else ()),
        *(_OF_KEYS if operation.path.startswith(_FORMS) else ()),
        *((404,) if "{" in operation.path else ()),
        *((409,) if operation.id in _CONFLICTING else ()),
    }
    return {str(operation.status): done, **{str(status): _problem(status) for status in sorted(statuses)}}


def _problem(status: int) -> dict[str, Any]:
    words = [f"{reason}: {title}" for reason, (found, title) in TITLES.items() if found == status]
    problem: dict[str, Any] = {
        "description": "; ".join(words),
        "content": {PROBLEM_TYPE: {"schema": _ref(Problem)}},
    }
    if status in _LONG:
        problem["headers"] = {_LONG[status]: {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
    return problem


def _schemas(operations: list[Described]) -> dict[str, Any]:
    requests = {operation.body for operation in operations if operation.body is not None}
    given = {operation.answer for operation in operations} | {Problem}
    models = sorted(requests, key=lambda model: model.__name__), sorted(given, key=lambda model: model.__name__)
    _, definitions = models_json_schema(
        [*((model, "validation") for model in models[0]), *((model, "serialization") for model in models[1])],
        ref_template=_REF,
    )
    schemas: dict[str, Any] = definitions["$defs"]
    return schemas


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").partition("\n")[0]
