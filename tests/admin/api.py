"""The admin API as its clients use it; every answer is held against the OpenAPI document."""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from jsonschema import Draft202012Validator, FormatChecker

from gateway.admin.api import make_operations
from gateway.admin.openapi import document_of
from tests.support.gateway import Running

DOCUMENT: Final = document_of(make_operations())
TOKEN: Final = "canary-admin-token"
SECRET: Final = re.compile(r"dgw_[a-z0-9-]+_[A-Za-z0-9_-]{49}")


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str
    json: Any

    def is_problem(self, status: int, reason: str) -> Any:
        """A refusal with this reason; its document."""
        assert (self.status, self.json["reason"]) == (status, reason), self.text
        assert self.headers["Content-Type"] == "application/problem+json; charset=utf-8" or self.headers[
            "Content-Type"
        ].startswith("application/problem+json")
        assert self.headers["X-Gateway-Reason"] == reason
        assert ("Retry-After" in self.headers) is (status in {429, 503})
        return self.json


@dataclass
class Api:
    """Asks one gateway, with the token when it has one."""

    gateway: Running
    token: str | None = None
    secrets: list[str] = field(default_factory=list)

    async def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request; `body` is sent as JSON, `data` as it is."""
        sent = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if body is not None or data is not None:
            sent["Content-Type"] = "application/json"
        content = json.dumps(body).encode() if data is None and body is not None else data
        url = f"http://127.0.0.1:{self.gateway.admin_port}{path}"
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
            session.request(method, url, data=content, headers={**sent, **(headers or {})}) as got,
        ):
            text = await got.text()
            answer = Answer(got.status, dict(got.headers), text, json.loads(text) if text else None)
        return self._checked(method, path, answer)

    async def make(self, key_id: str, **values: Any) -> str:
        """Makes a key; its secret."""
        answer = await self("POST", "/admin/v1/keys", {"id": key_id, **values})
        assert answer.status == 201, answer.text
        return str(answer.json["secret"])

    def _checked(self, method: str, path: str, answer: Answer) -> Answer:
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Server" not in answer.headers
        self.secrets += SECRET.findall(answer.text)
        is_documented(method, path, answer)
        return answer


def is_documented(method: str, path: str, answer: Answer) -> None:
    """The document has this status for this operation, and the answer's schema."""
    operation = _operation(method, path.partition("?")[0])
    if operation is None:
        assert answer.status >= 400
        content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    else:
        assert str(answer.status) in operation["responses"], (method, path, answer.status)
        content = operation["responses"][str(answer.status)]["content"]
    ((media_type, described),) = content.items()
    assert answer.headers["Content-Type"].partition(";")[0] == media_type
    validator(described["schema"]).validate(answer.json)


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    """A validator of a schema of the document."""
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]}, format_checker=FormatChecker())


def _operation(method: str, path: str) -> Any:
    for template, operations in DOCUMENT["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) and method.lower() in operations:
            return operations[method.lower()]
    return None
