"""The examples of docs/webhooks.md: the one for aiohttp runs, the one for FastAPI is Python."""

import ast
from pathlib import Path
from typing import Any

import pytest
from pytest_aiohttp import AiohttpClient

from gateway.webhooks.outbound.sender import body_of
from gateway.webhooks.signature import Secrets, sign

PAGE = Path(__file__).parents[2] / "docs" / "webhooks.md"
EXAMPLES = [part.partition("\n```")[0] for part in PAGE.read_text().split("```python\n")[1:]]
SECRET = "secret-0123456789"


async def test_the_example_for_aiohttp_verifies(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    scope: dict[str, Any] = {"__name__": "example"}
    exec(compile(EXAMPLES[0], "docs/webhooks.md", "exec"), scope)  # noqa: S102 -- a page of ours
    client = await aiohttp_client(scope["app"])
    body = body_of("r1", None, "complete")
    import time  # noqa: PLC0415 -- the example asks the system's clock

    good = sign(Secrets(SECRET.encode(), (SECRET.encode(),)), "d1", time.time(), body)
    statuses = []
    for headers in (good, good, {}, {**good, "webhook-signature": "v1,x"}, {"X-Webhook-Signature": "0" * 64}):
        async with client.post("/hook", data=body, headers=headers) as response:
            statuses.append(response.status)
    assert statuses == [204, 204, 401, 401, 401]
    assert capsys.readouterr().out == "r1 complete\n"


def test_the_example_for_fastapi_is_python_and_verifies_first() -> None:
    tree = ast.parse(EXAMPLES[1])
    compile(tree, "docs/webhooks.md", "exec")
    (hook,) = [node for node in tree.body if isinstance(node, ast.AsyncFunctionDef)]
    assert "verify(body, request.headers, SECRET, plain=False)" in ast.unparse(hook)
    assert ast.unparse(hook).index("verify") < ast.unparse(hook).index("json.loads")
