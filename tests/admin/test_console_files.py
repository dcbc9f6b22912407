"""The page's files: who gets them, and what they may do in a browser."""

import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from gateway.admin import console_files as page
from gateway.admin.console_files import FILES
from gateway.config.settings.limits import LimitOverrides
from gateway.model.reasons import VERDICTS
from tests.admin.api import TOKEN, Api
from tests.support.gateway import ENVIRON, Running, Start

WEB = Path(page.__file__).parent / "web"
KEYS = "/admin/v1/keys"


def test_the_forms_of_keys_have_every_limit_that_a_key_may_have() -> None:
    (table,) = re.findall(r"^const LIMITS = \[\n(.*?)^\];", (WEB / "keys.js").read_text(), re.MULTILINE | re.DOTALL)
    assert sorted(re.findall(r'\bname: "(\w+)"', table)) == sorted(LimitOverrides.model_fields)


async def fetch(
    gateway: Running, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    url = f"http://127.0.0.1:{gateway.admin_port}{path}"
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
        session.request(method, url, headers=headers) as answer,
    ):
        return answer.status, dict(answer.headers), await answer.read()


async def with_token(start: Start) -> Running:
    return await start(admin={"token": {"env": "TOKEN"}}, environ={**ENVIRON, "TOKEN": TOKEN})


@pytest.mark.parametrize("has_token", [True, False])
async def test_every_file_is_there_without_a_token_and_confined(has_token: bool, start: Start) -> None:
    gateway = await with_token(start) if has_token else await start()
    for path, name in FILES.items():
        status, headers, body = await fetch(gateway, path)
        assert (status, body) == (200, (WEB / name).read_bytes())
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert {policy[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
        assert {policy[name] for name in ("frame-ancestors", "base-uri", "form-action")} == {"'none'"}
        assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")
        assert headers["Cache-Control"] == "no-store"
        assert "Server" not in headers
        assert not [header for header in headers if header.lower().startswith("access-control")]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example.com"}, {"Host": "127.0.0.1.evil.example.com"}, {"Forwarded": "for=192.0.2.1"},
        {"X-Forwarded-For": "192.0.2.1"}, {"Via": "1.1 proxy"}, {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example.com"},
    ],
)  # fmt: skip
async def test_without_a_token_it_is_for_this_machine_alone(headers: dict[str, str], gateway: Running) -> None:
    for path in ("/", "/console/main.js"):
        assert (await fetch(gateway, path, headers=headers))[0] == 403


async def test_with_a_token_it_may_be_asked_for_through_a_proxy(start: Start) -> None:
    headers = {"Host": "console.example.com", "X-Forwarded-For": "192.0.2.1"}
    assert (await fetch(await with_token(start), "/", headers=headers))[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/console/", "/console/index.html", "/console/../page.py", "/console/%2e%2e/page.py", "/console/style.css/",
     "/console//style.css", "/console/..%2fpage.py", "/index.html", "/console/main.js%00"],
)  # fmt: skip
async def test_no_other_path_names_a_file(path: str, gateway: Running) -> None:
    url = f"http://127.0.0.1:{gateway.admin_port}{path}"
    async with aiohttp.ClientSession() as session, session.get(URL(url, encoded=True)) as answer:
        assert answer.status in {400, 404}
        assert b"import" not in await answer.read()


async def test_only_get_and_head_are_taken(gateway: Running) -> None:
    status, headers, body = await fetch(gateway, "/", "HEAD")
    assert (status, body, headers["Content-Type"]) == (200, b"", "text/html; charset=utf-8")
    status, headers, _ = await fetch(gateway, "/", "POST")
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


async def test_the_page_itself_may_change_things_and_a_page_of_another_port_may_not(gateway: Running) -> None:
    api, own = Api(gateway), f"http://127.0.0.1:{gateway.admin_port}"
    headers = {"Origin": own, "Sec-Fetch-Site": "same-origin"}
    assert (await api("POST", KEYS, {"id": "acme"}, headers=headers)).status == 201
    others: list[Any] = [
        own.replace("http:", "https:"), own[:-1], own + "/", f"http://localhost:{gateway.admin_port}", "null", "",
    ]  # fmt: skip
    for origin in others:
        answer = await api("POST", KEYS, {"id": "b"}, headers={"Origin": origin, "Sec-Fetch-Site": "same-origin"})
        answer.is_problem(403, "forbidden")
    rebound = {"Host": f"evil.test:{gateway.admin_port}", "Origin": f"http://evil.test:{gateway.admin_port}"}
    (await api("POST", KEYS, {"id": "b"}, headers=rebound)).is_problem(403, "forbidden")


@pytest.mark.parametrize("name", sorted(FILES.values()))
def test_a_file_has_nothing_inline_and_nothing_from_elsewhere(name: str) -> None:
    text = (WEB / name).read_text()
    addresses = set(re.findall(r"https?://[^\"'\s)]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function",
                 ".style.", "localStorage", "document.cookie"):  # fmt: skip
        assert word not in text, word
    if name.endswith(".svg"):
        return
    if name.endswith(".html"):
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son[a-z]+=|\sstyle=", text)
    for imported in re.findall(r'from "\./([^"]+)"', text):
        assert imported in FILES.values()
    assert max(map(len, text.splitlines())) <= 118


def test_each_reason_of_an_error_has_a_look_of_its_own() -> None:
    text = (WEB / "looks.js").read_text()
    listed = re.findall(r'"([a-z0-9_]+)"', text.partition("const REASONS = [")[2].partition("];")[0])
    of_errors = {str(reason) for reason, verdict in VERDICTS.items() if verdict.status >= 400}
    assert sorted(listed) == sorted(of_errors | {"forwarded_4xx", "forwarded_5xx"})
    styles = (WEB / "style.css").read_text()
    assert all(f"svg .d{place // 6 + 1} {{" in styles for place in range(6, len(listed)))


async def test_over_tls_the_page_itself_may_change_things_too(start: Start, certificates: Path) -> None:
    pair = {"certificate": f"{certificates}/server.pem", "private_key": f"{certificates}/server.key"}
    gateway = await start(admin={"tls": pair})
    own = f"https://127.0.0.1:{gateway.admin_port}"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=gateway.tls)) as session:
        for origin, status in ((own, 201), (own.replace("https:", "http:"), 403)):
            sent: Any = session.post(f"{own}{KEYS}", json={"id": "acme"}, headers={"Origin": origin})
            async with sent as answer:
                assert answer.status == status
