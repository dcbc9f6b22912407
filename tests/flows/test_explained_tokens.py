"""`gateway explain --token` beside a gateway that runs: what it holds counts where the issuer's keys are away."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from gateway.cli.main import cli
from gateway.config.ledger_url import url_of
from tests.admin.api import Api
from tests.support.gateway import ENVIRON, Running, Start, request
from tests.support.jobs import comes_true
from tests.support.pure import document, write
from tests.support.tokens import CLAIMS, ISSUER, jwk_of, jwks_of, make_token, p256_key

pytestmark = pytest.mark.usefixtures("restored_log")

CALLER = f"jwt:{ISSUER}#alice"


class Provider(NamedTuple):
    """An identity provider: where it is, and how it goes away."""

    url: str
    go_away: Callable[[], Awaitable[None]]


@pytest.fixture
async def provider(aiohttp_server: Any) -> Provider:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=jwks_of(jwk_of(p256_key(), kid="one")), content_type="application/json")

    application = web.Application()
    application.router.add_get("/jwks", answer)
    server = await aiohttp_server(application)
    return Provider(f"http://127.0.0.1:{server.port}/jwks", server.close)


def issuer_at(url: str) -> dict[str, Any]:
    return {"issuer": ISSUER, "audience": "gateway", "jwks": url, "algorithms": ["ES256"]}


async def explained(gateway: Running, directory: Path, *asked: str, port: int | None = None, **claims: Any) -> Result:
    """What `explain` says of a token, called on a thread of its own."""
    settings = gateway.gateway.live.state.settings
    jwt = [issuer.model_dump(mode="json", exclude_unset=True) for issuer in settings.authentication.jwt]
    whole = document(directory, ledger={"url": url_of(settings)}, authentication={"jwt": jwt})
    whole["admin"] = {**whole.get("admin", {}), "port": gateway.admin_port if port is None else port}
    path = write(directory, whole)
    (directory / "token").write_bytes(bearer(**claims))
    command = ["explain", "--token", str(directory / "token"), "--config", str(path), *asked]
    return await asyncio.to_thread(CliRunner().invoke, cli, command)


def bearer(**claims: Any) -> bytes:
    values = {**CLAIMS, "exp": int(time.time()) + 300, **claims}
    return bytes(make_token("ES256", key=p256_key(), header={"kid": "one"}, **values))


async def has_keys(gateway: Running) -> bool:
    (issuer,) = (await Api(gateway)("GET", "/admin/v1/overview")).json["issuers"]
    return issuer["keys"] is not None


async def test_while_the_provider_is_away_what_the_gateway_holds_counts(
    start: Start, provider: Provider, tmp_path: Path
) -> None:
    gateway = await start(environ=ENVIRON, authentication={"jwt": [issuer_at(provider.url)]})
    await comes_true(lambda: has_keys(gateway))
    await provider.go_away()
    good = await explained(gateway, tmp_path, "--json")
    found = json.loads(good.stdout)
    assert (good.exit_code, found["allowed"]) == (0, True), good.output
    steps = {step["name"]: step["text"] for step in found["steps"]}
    assert "its issuer's keys can't be fetched from here: " in steps["the token"]
    assert steps["running gateway"].startswith(
        f"accepts it now, for {CALLER}; it holds 1 of the issuer's keys, fetched "
    )
    assert steps["judgement"].startswith(f"good: owner {CALLER}, profile default")
    wrong = json.loads((await explained(gateway, tmp_path, "--json", aud="else")).stdout)
    assert (wrong["allowed"], wrong["reason"], wrong["why"]) == (False, "token_invalid", "audience")
    assert wrong["help"]
    asked = await explained(gateway, tmp_path, "--json", "--ip", "10.1.2.3", "GET", "/api/v1/marker/1")
    assert json.loads(asked.stdout)["limits"], asked.output


async def test_who_can_not_know_says_so(start: Start, provider: Provider, tmp_path: Path) -> None:
    gateway = await start(environ=ENVIRON, authentication={"jwt": [issuer_at(provider.url)]})
    await comes_true(lambda: has_keys(gateway))
    await provider.go_away()
    for asked in ((), ("--ip", "10.1.2.3", "GET", "/api/v1/marker/1")):
        result = await explained(gateway, tmp_path, "--json", *asked, port=1)
        found = json.loads(result.stdout)
        assert (result.exit_code, found["allowed"], found["reason"]) == (1, None, None)
        assert "can't tell: " in found["steps"][-1]["text"]
    text = await explained(gateway, tmp_path, port=1)
    assert "not known whether it is allowed\nwhat would help: Call this where the gateway runs" in text.stdout


async def test_a_gateway_that_never_had_the_keys_says_why_and_when_it_tries_again(
    start: Start, tmp_path: Path
) -> None:
    gateway = await start(
        environ=ENVIRON, authentication={"jwt": [issuer_at("http://127.0.0.1:1/jwks?secret=canary")]}
    )
    await gateway.says("jwks fetch failed")
    (issuer,) = (await Api(gateway)("GET", "/admin/v1/overview")).json["issuers"]
    assert (issuer["source"], issuer["keys"]) == ("http://127.0.0.1:1/jwks", None)
    assert issuer["trouble"]
    assert issuer["next_fetch_at"]
    result = await explained(gateway, tmp_path, "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["allowed"], found["why"]) == (0, False, "keys_not_there")
    (running,) = [step["text"] for step in found["steps"] if step["name"] == "running gateway"]
    assert "; it holds no keys of the issuer; the last fetch from http://127.0.0.1:1/jwks failed: " in running
    assert f"; the next one is at {issuer['next_fetch_at'][:10]}" in running


async def test_a_blocked_caller_is_told_so(start: Start, provider: Provider, tmp_path: Path) -> None:
    gateway = await start(environ=ENVIRON, authentication={"jwt": [issuer_at(provider.url)]})
    await comes_true(lambda: has_keys(gateway))
    path = f"/admin/v1/callers/{quote(CALLER, safe='')}/block"
    assert (await Api(gateway)("POST", path, {})).status == 200
    asked = request("GET", "/api/v1/marker/1", key=bearer().decode())
    (await gateway.ask(asked)).is_refusal(403, "forbidden")
    found = json.loads((await explained(gateway, tmp_path, "--json")).stdout)
    assert (found["allowed"], found["reason"], found["why"]) == (False, "forbidden", "blocked")
    assert "gateway callers unblock" in found["help"]


async def test_a_token_that_is_shown_to_the_api_is_judged_and_not_logged(start: Start, provider: Provider) -> None:
    gateway = await start(environ=ENVIRON, authentication={"jwt": [issuer_at(provider.url)]})
    await comes_true(lambda: has_keys(gateway))
    api, token = Api(gateway), bearer().decode()
    told = (await api("POST", "/admin/v1/tokens/judge", {"token": token})).json
    assert (told["accepted"], told["account"], told["profile"]) == (True, CALLER, "default")
    assert (told["reason"], told["why"], told["issuer"]["keys"]) == (None, None, 1)
    odd = (await api("POST", "/admin/v1/tokens/judge", {"token": "no token"})).json
    assert (odd["accepted"], odd["why"], odd["issuer"]) == (False, "malformed", None)
    (await api("POST", "/admin/v1/tokens/judge", {"token": "x" * 20_000})).is_problem(422, "invalid")
    (await api("POST", "/admin/v1/tokens/judge", {})).is_problem(422, "invalid")
    assert token not in str(gateway.events)


async def test_a_key_whose_name_is_no_text_is_told_of_all_the_same(start: Start, tmp_path: Path) -> None:
    keys = tmp_path / "issuer.json"
    keys.write_bytes(jwks_of(jwk_of(p256_key(), kid="\ud800\u001b")))
    gateway = await start(environ=ENVIRON, authentication={"jwt": [issuer_at(str(keys))]})
    answer = await Api(gateway)("POST", "/admin/v1/tokens/judge", {"token": bearer().decode()})
    assert (answer.status, answer.json["why"]) == (200, "unknown_key")
    assert "It has \ufffd\ufffd (ES256)." in answer.json["text"]
