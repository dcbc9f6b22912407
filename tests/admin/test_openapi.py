"""The OpenAPI document: whole, valid, and of the same table as the routes."""

import re
from typing import Any

import pytest
from aiohttp import web
from jsonschema import Draft202012Validator, ValidationError
from prometheus_client import CollectorRegistry

from gateway.admin.api import make_operations
from gateway.admin.console_files import FILES
from gateway.admin.probes import Probed
from gateway.admin.problem import TITLES
from gateway.admin.server import make_admin
from gateway.config.compile import compile_settings
from gateway.config.settings import Settings
from gateway.config.state import Live
from tests.admin.api import DOCUMENT, Api, validator
from tests.support.gateway import Running

OPENAPI = "/admin/v1/openapi.json"


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_route_is_in_it_and_the_reverse() -> None:
    live = Live(compile_settings(Settings.model_validate({
        "network": {"allow": ["127.0.0.1/32"]}, "tls": {"certificate": __file__, "private_key": __file__},
    })))  # fmt: skip
    nothing: Any = None
    app = make_admin(live, CollectorRegistry(), Probed(lambda: True, list, list, list), nothing, lambda: 0.0, nothing)
    routes = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if isinstance(route, web.ResourceRoute | web.AbstractRoute) and route.resource is not None
    }
    api = {(method, path) for method, path in routes if path.startswith("/admin/")}
    assert api == {(method.upper(), path) for path, method, _ in operations()}
    assert {path for _, path in routes - api} == {"/livez", "/readyz", "/metrics", *FILES}
    assert len(api) == len(make_operations())


async def test_it_is_served_as_it_is(gateway: Running) -> None:
    answer = await Api(gateway)("GET", OPENAPI)
    assert answer.json == DOCUMENT
    assert answer.json["openapi"] == "3.1.0"


def test_its_schemas_are_schemas_and_its_references_lead_somewhere() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    references = set(re.findall(r"#/components/schemas/(\w+)", str(DOCUMENT)))
    assert references <= set(DOCUMENT["components"]["schemas"])
    assert "-Input" not in str(DOCUMENT)
    assert "#/$defs" not in str(DOCUMENT)


@pytest.mark.parametrize(("path", "method", "operation"), operations())
def test_every_operation_says_all_that_clients_need(path: str, method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    assert {"400", "401", "403", "429", "500", "503"} <= set(responses)
    assert operation["summary"]
    assert ("requestBody" in operation) is (method != "get")
    named = [found["name"] for found in operation["parameters"] if found["in"] == "path"]
    assert named == re.findall(r"\{(\w+)\}", path)
    for status, response in responses.items():
        assert response["description"]
        (media_type,) = response["content"]
        assert media_type == ("application/json" if int(status) < 300 else "application/problem+json")
    assert "Retry-After" in responses["503"]["headers"]


def test_ids_of_operations_are_unique_and_every_word_is_explained() -> None:
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(ids)) == len(ids)
    described = str(DOCUMENT["paths"])
    unreached = {"route_not_found", "method_not_allowed"}  # these are of no operation
    assert [word for word in TITLES if f"{word}: " not in described and word not in unreached] == []


def test_security_is_the_token_or_nothing() -> None:
    assert DOCUMENT["security"] == [{"adminToken": []}, {}]
    assert DOCUMENT["components"]["securitySchemes"]["adminToken"]["scheme"] == "bearer"


@pytest.mark.parametrize(
    ("model", "value", "is_valid"),
    [
        ("NewKey", {"id": "a"}, True),
        ("NewKey", {"id": "A"}, False),
        ("NewKey", {"id": "a", "x": 1}, False),
        ("KeyChange", {"limits": {"pages_per_day": "default", "soft_limit": 0.5}}, True),
        ("KeyChange", {"limits": {"x": "default"}}, False),
        ("KeyChange", {"scopes": None}, False),
        ("Rotation", {"overlap": "24h"}, True),
        ("Rotation", {"overlap": "24"}, False),
        ("Revocation", {"generation": None, "force": True}, True),
        ("Grant", {"pages": 0, "until": "2027-01-01T00:00:00Z"}, False),
    ],
)
def test_the_schemas_of_bodies_say_what_is_taken(model: str, value: object, is_valid: bool) -> None:
    schema = {"$ref": f"#/components/schemas/{model}"}
    if is_valid:
        validator(schema).validate(value)
    else:
        with pytest.raises(ValidationError):
            validator(schema).validate(value)


def test_no_answer_has_room_for_a_digest() -> None:
    assert "digest" not in str(DOCUMENT)
    holders = [
        name for name, schema in DOCUMENT["components"]["schemas"].items() if "secret" in schema.get("properties", {})
    ]
    assert holders == ["NewSecret"]
