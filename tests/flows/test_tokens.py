"""JWTs end to end: a real identity provider on this machine, real fetches, real requests."""

import asyncio
import base64
import json
import time
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer
from yarl import URL

from gateway.ledger import sync
from tests.admin.api import Api
from tests.support.backend import Backend
from tests.support.client import Response
from tests.support.gateway import KEY, RESULT, Running, Start, request, submit
from tests.support.jobs import Jobs, Used, comes_to, comes_true, complete, me, poll, used
from tests.support.tokens import SECRET, jwk_of, jwks_of, make_token, p256_key, pem_of, rsa_key, signed_texts

ALICES = "/api/v1/marker/job-alice"  # a job of the owner of a good token


class Provider:
    """An identity provider: `jwks` is what it answers, `asked` how often it was."""

    def __init__(self) -> None:
        self.jwks = jwks_of(jwk_of(p256_key(), kid="one"))
        self.status = 200
        self.asked = 0
        self.url = ""

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(status=self.status, body=self.jwks, content_type="application/json")

    async def describe(self, _: web.Request) -> web.Response:
        return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/keys"})

    @property
    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/keys", self.answer)
        application.router.add_get("/.well-known/openid-configuration", self.describe)
        return application


@pytest.fixture
async def provider(aiohttp_server: AiohttpServer) -> Provider:
    provider = Provider()
    server = await aiohttp_server(provider.application)
    provider.url = f"http://127.0.0.1:{server.port}"
    return provider


async def trusting(
    start: Start, provider: Provider, sections: dict[str, Any] | None = None, **members: Any
) -> Running:
    """A gateway that believes the provider, and has its keys."""
    issuer = {
        "issuer": provider.url,
        "audience": "gateway",
        "jwks": f"{provider.url}/keys",
        "leeway": "0s",
        **members,
    }
    gateway = await start(authentication={"jwt": [issuer]}, **(sections or {}))
    own(gateway, provider)
    await comes_true(lambda: is_ready(gateway))
    return gateway


def own(gateway: Running, provider: Provider) -> None:
    """Lets the owner of a good token have a job."""
    gateway.own("job-alice", f"jwt:{provider.url}#alice")


async def is_ready(gateway: Running) -> bool:
    status, body = await gateway.admin("/readyz")
    assert status == 200 or "jwks" in body or "ledger" in body
    return status == 200


def token(provider: Provider, key: Any = None, kid: str | None = "one", **claims: Any) -> str:
    """A good token, and what the test wants otherwise."""
    values = {"iss": provider.url, "exp": int(time.time()) + 300, **claims}
    return make_token(key=key or p256_key(), header={} if kid is None else {"kid": kid}, **values).decode()


def bearing(found: str, method: str = "GET", target: str = ALICES) -> bytes:
    return request(method, target, f"Authorization: Bearer {found}", key=None)


def challenges(response: Response, error: str) -> None:
    assert response.value(b"www-authenticate") == f'Bearer realm="gateway", {error}'.encode()


async def test_a_token_opens_and_names_its_owner(start: Start, provider: Provider, backend: Backend) -> None:
    backend.script = Jobs()
    gateway = await trusting(start, provider)
    bearer = f"Authorization: Bearer {token(provider)}"
    assert (await gateway.ask(request("GET", ALICES, bearer, key=None))).status == 200
    assert (await gateway.ask(submit(None, bearer, key=None), b"POST")).status == 200
    owner = f"jwt:{provider.url}#alice"
    report = await me(gateway, None, bearer)
    assert {name: report[name] for name in ("id", "owner", "authentication", "profile", "scopes")} == {
        "id": owner, "owner": owner, "authentication": "jwt", "profile": "default", "scopes": [],
    }  # fmt: skip
    assert await used(gateway, None, bearer) == Used(0, 1, 1, 1)
    assert backend.requests[0].values(b"authorization") == []
    assert backend.requests[0].value(b"x-gateway-key-id") == owner.encode()
    assert gateway.metric("gateway_authentications_total", method="jwt", result="accepted") >= 1
    assert bearer.removeprefix("Authorization: Bearer ") not in str(gateway.events)
    another = f"Authorization: Bearer {token(provider, sub='bob')}"
    assert await used(gateway, None, another) == Used()


async def test_a_caller_near_a_limit_is_in_the_overview(
    start: Start, provider: Provider, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "STANDINGS", 1)
    backend.script = Jobs()
    gateway = await trusting(start, provider, {"profiles": {"default": {"pages_per_month": 1}}})
    bearer = f"Authorization: Bearer {token(provider)}"
    assert (await gateway.ask(submit(None, bearer, key=None), b"POST")).status == 200

    async def is_near() -> bool:
        told = (await Api(gateway)("GET", "/admin/v1/overview")).json["near_limits"]
        near = {"account": f"jwt:{provider.url}#alice", "limit": "pages_per_month", "used_ratio": 1.0}
        return near in told

    await comes_true(is_near)


async def test_a_token_in_the_place_of_a_key_is_one(start: Start, provider: Provider) -> None:
    gateway = await trusting(start, provider)
    assert (await gateway.ask(request("GET", ALICES, key=token(provider)))).status == 200
    (await gateway.ask(request("GET", RESULT, f"Authorization: Bearer {token(provider)}"))).is_refusal(
        400, "bad_request"
    )
    assert (await gateway.ask(request(key=KEY))).status == 200


async def test_an_expired_token_says_so(start: Start, provider: Provider, backend: Backend) -> None:
    gateway = await trusting(start, provider)
    response = await gateway.ask(bearing(token(provider, exp=int(time.time()) - 1)))
    response.is_refusal(401, "token_expired")
    challenges(response, 'error="invalid_token", error_description="expired"')
    await backend.got_nothing()
    assert gateway.metric("gateway_authentications_total", method="jwt", result="rejected") == 1


@pytest.mark.parametrize(
    ("claims", "why", "audience"), [({"exp": 1}, "expired", None), ({"aud": "other"}, "audience", "other")]
)
async def test_a_refused_token_that_its_issuer_signed_names_its_owner_to_the_operator(
    claims: dict[str, Any], why: str, audience: str | None, start: Start, provider: Provider
) -> None:
    gateway = await trusting(start, provider)
    sent = token(provider, **claims)
    response = await gateway.ask(bearing(sent))
    owner = f"jwt:{provider.url}#alice"
    assert (response.status, b"alice" in response.body, owner.encode() in response.body) == (401, False, False)
    event = gateway.requests[-1]
    assert (event["key"], event["why"], event.get("audience")) == (owner, why, audience)
    (row,) = (await Api(gateway)("GET", "/admin/v1/refusals")).json["refusals"]
    assert (row["who"], row["is_stranger"], row["why"], row["audience"]) == (owner, False, why, audience)
    caller = (await Api(gateway)("GET", f"/admin/v1/callers/{quote(owner, safe='')}")).json
    assert caller["was_seen"] is False
    assert gateway.metric("gateway_key_refusals_total", key="other", reason=str(event["reason"])) == 0
    forged = token(provider, key=p256_key(1), **claims)
    (await gateway.ask(bearing(forged))).is_refusal(401, "token_invalid")
    assert gateway.requests[-1]["key"] is None
    assert sent not in str(gateway.events)


async def test_bearers_of_refused_tokens_fill_the_log_as_little_as_strangers(
    start: Start, provider: Provider
) -> None:
    gateway = await trusting(start, provider)
    client = await gateway.connect()
    for number in range(40):
        (await client.ask(bearing(token(provider, sub=f"s{number}", exp=1)))).is_refusal(401, "token_expired")
    told = [event for event in gateway.requests if event["reason"] == "token_expired"]
    assert 20 <= len(told) < 40


async def test_a_token_that_expires_is_refused_on_a_kept_connection(start: Start, provider: Provider) -> None:
    gateway = await trusting(start, provider)
    ends = int(time.time()) + 3
    sent = bearing(token(provider, exp=ends))
    client = await gateway.connect()
    answers = [await client.ask(sent)]
    assert answers[0].status == 200

    async def is_refused() -> bool:
        answers.append(await client.ask(sent))
        return answers[-1].status != 200

    await comes_true(is_refused, within=6)
    assert ends <= time.time() < ends + 1
    answers[-1].is_refusal(401, "token_expired")


def forged(provider: Provider) -> dict[str, str]:
    good = token(provider)
    head, payload, signature = good.split(".")
    other = base64.urlsafe_b64encode(json.dumps({"iss": provider.url, "sub": "root"}).encode()).rstrip(b"=").decode()
    claims = json.dumps({"iss": provider.url, "aud": "gateway", "sub": "a", "exp": int(time.time()) + 300}).encode()
    return {
        "payload": f"{head}.{other}.{signature}",
        "signature": good[:-6] + ("A" * 6 if not good.endswith("A" * 6) else "B" * 6),
        "no-signature": f"{head}.{payload}.",
        "two-parts": f"{head}.{payload}",
        "four-parts": f"{good}.{signature}",
        "another-key": token(provider, key=p256_key(7)),
        "audience": token(provider, aud="another"),
        "no-audience": token(provider, aud=[]),
        "issuer": token(provider, iss="https://evil.test"),
        "not-yet": token(provider, nbf=int(time.time()) + 100),
        "from-tomorrow": token(provider, iat=int(time.time()) + 100),
        "none": signed_texts(b'{"alg": "none"}', claims, "HS256", SECRET).decode().rpartition(".")[0] + ".",
        "shared-secret": signed_texts(b'{"alg": "HS256"}', claims, "HS256", pem_of(p256_key())).decode(),
        "large": token(provider, padding="x" * 8192)[:12_000],
        "no-token": "abc",
    }


@pytest.mark.parametrize("name", ["payload", "signature", "no-signature", "two-parts", "four-parts", "another-key",
                                  "audience", "no-audience", "issuer", "not-yet", "from-tomorrow", "none",
                                  "shared-secret", "large", "no-token"])  # fmt: skip
async def test_a_forged_token_says_nothing_of_why(
    name: str, start: Start, provider: Provider, backend: Backend
) -> None:
    gateway = await trusting(start, provider)
    sent = forged(provider)[name]
    if len(sent) > 8000:
        sent = sent[:8100]  # a header of more is refused by itself
    response = await gateway.ask(bearing(sent))
    problem = response.is_refusal(401, "token_invalid")
    assert problem["detail"] == "This token is not valid here."
    challenges(response, 'error="invalid_token"')
    await backend.got_nothing()
    assert sent not in str(gateway.events)


WHYS = {
    "payload": "signature", "signature": "signature", "no-signature": "malformed", "two-parts": "malformed",
    "four-parts": "malformed", "another-key": "signature", "audience": "audience", "no-audience": "audience",
    "issuer": "issuer", "not-yet": "not_yet_valid", "from-tomorrow": "not_yet_valid", "none": "malformed",
    "shared-secret": "algorithm", "no-token": "malformed",
}  # fmt: skip


async def test_the_log_and_the_metric_say_why(start: Start, provider: Provider) -> None:
    gateway = await trusting(start, provider)
    found: dict[str, str] = {}
    for name in WHYS:
        (await gateway.ask(bearing(forged(provider)[name]))).is_refusal(401, "token_invalid")
        found[name] = (await gateway.says("request", len(found) + 1))["why"]
    assert found == WHYS
    assert gateway.metric("gateway_credentials_refused_total", method="jwt", why="signature") == 3


async def test_forged_tokens_are_bad_logins(start: Start, provider: Provider) -> None:
    network = {"allow": ["127.0.0.0/8"], "login_failures_per_minute": 2}
    gateway = await trusting(start, provider, {"network": network})
    answers = [await gateway.ask(bearing("a.b.c")) for _ in range(3)]
    assert [answer.reason for answer in answers] == ["token_invalid", "token_invalid", "too_many_bad_logins"]
    assert (await gateway.ask(bearing(token(provider)))).status == 200


async def test_claims_and_scopes_decide(start: Start, provider: Provider) -> None:
    profiles = {"default": {}, "gold": {"requests_per_minute": 7}}
    gateway = await trusting(
        start, provider, {"profiles": profiles}, required_scopes=["convert"], profile_claim="plan",
        required_claims={"tenant": "acme"}, owner_claim="email",
    )  # fmt: skip
    good = {"scope": "convert admin", "plan": "gold", "tenant": "acme", "email": "a@acme.test"}
    report = await me(gateway, None, f"Authorization: Bearer {token(provider, **good)}")
    assert report["owner"] == f"jwt:{provider.url}#a@acme.test"
    assert (report["profile"], report["scopes"]) == ("gold", ["admin", "convert"])
    assert report["limits"]["requests_per_minute"]["limit"] == 7
    usage = bearing(token(provider, **good), target="/api/v1/usage")
    assert (await gateway.ask(usage)).status == 200
    (await gateway.ask(bearing(token(provider, **{**good, "scope": "admin"})))).is_refusal(403, "forbidden")
    (await gateway.ask(bearing(token(provider, **{**good, "plan": "none"})))).is_refusal(403, "forbidden")
    (await gateway.ask(bearing(token(provider, **{**good, "tenant": "other"})))).is_refusal(401, "token_invalid")
    plain = token(provider, **{**good, "scope": "convert"})
    (await gateway.ask(bearing(plain, target="/api/v1/usage"))).is_refusal(403, "forbidden")


async def test_limits_of_a_token_are_its_owners(start: Start, provider: Provider, backend: Backend) -> None:
    backend.script = jobs = Jobs()
    gateway = await trusting(start, provider, {"profiles": {"default": {"pages_per_day": 1}}})
    first, second = (f"Authorization: Bearer {token(provider, jti=name)}" for name in ("a", "b"))
    assert (await gateway.ask(submit(None, first, key=None), b"POST")).status == 200
    (await gateway.ask(submit(None, second, key=None), b"POST")).is_refusal(403, "budget_exhausted")
    assert (await gateway.ask(submit(), b"POST")).status == 200
    await comes_to(gateway, Used(0, 1, 1, 1))
    assert jobs.started == 2
    assert (await gateway.ask(poll("job-2"))).status == 200


async def test_pages_of_a_token_are_those_of_others(start: Start, provider: Provider, backend: Backend) -> None:
    """Its owner's name is not ours to bound, so no label has it."""
    backend.script = jobs = Jobs()
    gateway = await trusting(start, provider)
    bearer = f"Authorization: Bearer {token(provider)}"
    assert (await gateway.ask(submit(None, bearer, key=None), b"POST")).status == 200
    jobs.results["job-1"] = complete(1)
    assert (await gateway.ask(bearing(token(provider), target=RESULT))).status == 200

    async def is_settled() -> bool:
        return await used(gateway, None, bearer) == Used(0, 0, 1, 1)

    await comes_true(is_settled)
    assert gateway.metric("gateway_pages_total", key="other", kind="settled") == 1
    assert "alice" not in (await gateway.admin("/metrics"))[1]


# Keys that change


async def test_a_key_that_is_new_is_fetched_once(start: Start, provider: Provider) -> None:
    gateway = await trusting(start, provider)
    client = await gateway.connect()
    old = token(provider)
    assert (await client.ask(bearing(old))).status == 200
    assert provider.asked == 1
    provider.jwks = jwks_of(jwk_of(rsa_key(), kid="two"))
    new = make_token("RS256", rsa_key(), {"kid": "two"}, iss=provider.url, exp=int(time.time()) + 300).decode()
    answers = await asyncio.gather(*(gateway.ask(bearing(new)) for _ in range(10)))
    assert {answer.status for answer in answers} == {200}
    assert provider.asked == 2
    (await client.ask(bearing(old))).is_refusal(401, "token_invalid")  # its key was taken away
    for number in range(5):
        (await gateway.ask(bearing(token(provider, kid=f"unknown-{number}")))).is_refusal(401, "token_invalid")
    assert provider.asked == 2


async def test_keys_outlive_a_provider_that_is_down(start: Start, provider: Provider) -> None:
    gateway = await trusting(start, provider, refresh="200ms")
    provider.status = 503
    event = await gateway.says("jwks fetch failed")
    assert event["why"] == "the answer is 503"
    assert (await gateway.ask(bearing(token(provider)))).status == 200
    assert await is_ready(gateway)
    assert gateway.metric("gateway_jwks_age_seconds", issuer=provider.url) > 0


async def test_without_keys_there_is_no_token_and_no_readiness(start: Start, provider: Provider) -> None:
    provider.status = 500
    issuer = {"issuer": provider.url, "audience": "gateway", "jwks": f"{provider.url}/keys"}
    gateway = await start(authentication={"jwt": [issuer]})
    own(gateway, provider)
    (await gateway.ask(bearing(token(provider)))).is_refusal(401, "token_invalid")
    assert (await gateway.ask(request())).status == 200
    assert not await is_ready(gateway)
    provider.status = 200
    await comes_true(lambda: is_ready(gateway))
    assert (await gateway.ask(bearing(token(provider)))).status == 200


async def test_an_unreachable_issuer_that_a_reload_adds_takes_no_serving_gateway_out(
    start: Start, provider: Provider
) -> None:
    gateway = await trusting(start, provider)
    away = {"issuer": "https://away.test", "audience": "gateway", "jwks": "http://127.0.0.1:1/keys"}
    gateway.rewrite(lambda document: document["authentication"]["jwt"].append(away))
    event = await gateway.says("jwks fetch failed")
    assert (event["issuer"], event["held"]) == ("https://away.test", 0)
    status, text = await gateway.admin("/readyz")
    told = json.loads(text)
    assert (status, told["status"], told["missing"]) == (200, "ready", [])
    assert told["issuers_without_keys"] == ["https://away.test"]
    assert gateway.metric("gateway_jwks_keys", issuer="https://away.test") == 0
    assert gateway.metric("gateway_jwks_keys", issuer=provider.url) == 1
    assert (await gateway.ask(bearing(token(provider)))).status == 200
    gateway.rewrite(lambda document: document["authentication"]["jwt"].pop())

    async def is_mended() -> bool:
        return bool(json.loads((await gateway.admin("/readyz"))[1])["issuers_without_keys"] == [])

    await comes_true(is_mended)
    assert gateway.gateway.registry.get_sample_value("gateway_jwks_keys", {"issuer": "https://away.test"}) is None


async def test_keys_are_found_by_discovery(start: Start, provider: Provider) -> None:
    issuer = {"issuer": provider.url, "audience": "gateway", "discovery": True}
    gateway = await start(authentication={"jwt": [issuer]})
    own(gateway, provider)
    await comes_true(lambda: is_ready(gateway))
    assert (await gateway.ask(bearing(token(provider)))).status == 200


async def test_an_issuer_that_a_reload_takes_away_opens_nothing(start: Start, provider: Provider) -> None:
    gateway = await trusting(start, provider)
    client = await gateway.connect()
    assert (await client.ask(bearing(token(provider)))).status == 200
    gateway.rewrite(lambda document: document.pop("authentication"))
    gateway.gateway.reloader.force()
    await gateway.says("configuration reloaded")
    (await client.ask(bearing(token(provider)))).is_refusal(401, "unauthenticated")


async def test_a_blocked_caller_is_refused_also_on_a_connection_that_is_open_and_named(
    start: Start, provider: Provider
) -> None:
    gateway = await trusting(start, provider)
    good = bearing(token(provider, sub="alice"))
    account = f"jwt:{provider.url}#alice"
    path = f"/admin/v1/callers/{quote(account, safe='')}"
    async with await gateway.connect() as client:
        assert (await client.ask(good)).status == 200
        await change(gateway, f"{path}/block")
        answer = await client.ask(good)
        answer.is_refusal(403, "forbidden")
        assert b"This caller is blocked here." in answer.body
        assert (await gateway.ask(bearing(token(provider, sub="bob")))).status == 404  # of no one else
    (await gateway.ask(good)).is_refusal(403, "forbidden")
    assert gateway.requests[-1]["key"] == account
    assert gateway.metric("gateway_authentications_total", method="jwt", result="forbidden") == 2
    await change(gateway, f"{path}/unblock")
    assert (await gateway.ask(good)).status == 200


async def change(gateway: Running, path: str) -> None:
    url = f"http://127.0.0.1:{gateway.admin_port}{path}"
    async with aiohttp.ClientSession() as session, session.post(URL(url, encoded=True), json={}) as answer:
        assert answer.status == 200, await answer.text()
