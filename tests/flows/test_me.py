"""GET /gateway/v1/me: what a caller is told of himself, by the gateway alone."""

import json

import pytest

from gateway.keys.validation import Wanted
from tests.support.backend import Backend
from tests.support.forms import form, pdf
from tests.support.gateway import ADMIN_KEY, AWAY_KEY, KEY, Running, Start, request, shared, submit
from tests.support.jobs import ME, Jobs, administering, known, me

LIMITS = {
    "requests_per_minute": 200, "concurrent_requests": 400, "pages_in_flight": 20000, "polls_per_minute": 6000,
    "concurrent_downloads": 100, "pages_per_request": 5000, "body_limit": 200 * 1024**2,
}  # fmt: skip
NOTHING = {"requests": 0, "pages": 0, "spend": 0.0}


async def test_a_key_is_told_all_of_itself(gateway: Running, backend: Backend) -> None:
    response = await gateway.ask(request("GET", ME))
    assert (response.status, response.phrase, response.reason) == (200, "OK", None)
    assert response.value(b"content-type") == b"application/json"
    assert response.value(b"cache-control") == b"no-store"
    assert response.value(b"server") is None
    assert response.value(b"date")
    report = json.loads(response.body)
    limits = report.pop("limits")
    assert report == {
        "id": "ci", "owner": "key:ci", "authentication": "api_key", "generation": None, "expires_at": None,
        "scopes": [], "profile": "default", "page_range": "optional", "soft_limit": 0.8,
        "usage": {"day": NOTHING, "month": NOTHING},
    }  # fmt: skip
    assert {name: row["limit"] for name, row in limits.items()} == LIMITS
    assert limits["concurrent_requests"] == {"limit": 400, "used": 0, "remaining": 400}
    assert set(limits["requests_per_minute"]) == {"limit", "used", "remaining", "resets_at"}
    await backend.got_nothing()
    (event,) = await gateway.finished(1)
    told = {name: event[name] for name in ("route", "key", "status", "reason", "source", "level", "detail")}
    assert told == {
        "route": "me", "key": "ci", "status": 200, "reason": "answered", "source": "gateway", "level": "info",
        "detail": None,
    }  # fmt: skip
    assert event["request_id"].encode() == response.value(b"x-request-id")
    assert gateway.counted(route="me", method="GET", status=200, reason="answered") == 1
    for secret in (KEY, ADMIN_KEY, AWAY_KEY):
        assert secret.encode() not in response.body


async def test_usage_and_limits_agree(start: Start, backend: Backend) -> None:
    backend.script = Jobs()
    budgets = {"pages_per_day": 10, "pages_per_month": 100, "requests_per_day": 5, "requests_per_month": 50}
    gateway = await start(profiles={"default": {**budgets, "soft_limit": 0.7}})
    for _ in range(2):
        assert (await gateway.ask(submit(form(pdf(4))), b"POST")).status == 200
    report = await me(gateway)
    assert report["usage"]["day"] == report["usage"]["month"] == {"requests": 2, "pages": 8, "spend": 0.0}
    rows = {name: report["limits"][name] for name in budgets}
    assert {name: (row["used"], row["remaining"]) for name, row in rows.items()} == {
        "pages_per_day": (8, 2), "pages_per_month": (8, 92), "requests_per_day": (2, 3),
        "requests_per_month": (2, 48),
    }  # fmt: skip
    assert rows["pages_per_day"]["soft_limit_crossed"] is True
    assert rows["pages_per_day"]["resets_at"].endswith("T00:00:00Z")
    assert rows["pages_per_month"]["resets_at"].endswith("-01T00:00:00Z")
    for name, row in rows.items():
        ratio = gateway.metric("gateway_limit_used_ratio", key="ci", limit=name)
        assert ratio == pytest.approx(row["used"] / row["limit"])
    assert (await me(gateway, ADMIN_KEY))["usage"]["day"] == NOTHING


@shared
@pytest.mark.parametrize(
    ("key", "source", "status", "reason"),
    [
        (None, "127.0.0.1", 401, "unauthenticated"),
        ("wrong", "127.0.0.1", 401, "unauthenticated"),
        (AWAY_KEY, "127.0.0.1", 403, "address_denied"),
        (AWAY_KEY, "127.0.0.7", 200, None),
    ],
)
async def test_it_asks_who_calls(
    key: str | None, source: str, status: int, reason: str | None, gateway: Running
) -> None:
    response = await gateway.ask(request("GET", ME, key=key), source=source)
    assert (response.status, response.reason) == (status, reason)


@shared
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_it_is_only_read(method: str, gateway: Running, backend: Backend) -> None:
    response = await gateway.ask(request(method, ME), method.encode())
    response.is_refusal(405, "method_not_allowed")
    assert response.value(b"allow") == b"GET, HEAD"
    await backend.got_nothing()


async def test_head_has_the_length_alone_and_the_connection_stays(gateway: Running) -> None:
    client = await gateway.connect()
    headed = await client.ask(request("HEAD", ME), b"HEAD")
    assert (headed.status, headed.body) == (200, b"")
    whole = await client.ask(request("GET", ME))
    assert abs(int(headed.value(b"content-length") or 0) - len(whole.body)) < 20
    closing = await client.ask(request("GET", ME, close=True))
    assert (closing.status, closing.value(b"connection")) == (200, b"close")
    await client.is_closed()
    await gateway.finished(3)


async def test_no_route_takes_its_place_and_no_other_path_is_ours(start: Start, backend: Backend) -> None:
    everything = {"name": "any", "methods": ["GET"], "path": "/{rest*}", "access": "anyone"}
    gateway = await start(routes=[everything])
    (await gateway.ask(request("GET", ME, key=None))).is_refusal(401, "unauthenticated")
    assert (await me(gateway))["id"] == "ci"
    await backend.got_nothing()
    for path in (ME + "/x", "/gateway/v1", ME.upper()):
        assert (await gateway.ask(request("GET", path, key=None))).status == 200
    assert len(backend.requests) == 3


@shared
@pytest.mark.parametrize("comes", [True, False], ids=["comes", "never-comes"])
async def test_a_body_is_not_waited_for(comes: bool, gateway: Running) -> None:
    client = await gateway.connect()
    client.send(request("GET", ME, "Content-Length: 5") + (b"hello" if comes else b""))
    response = await client.response()
    assert response.status == 200
    if response.value(b"connection") == b"close":
        await client.is_closed()
    else:
        assert (await client.ask(request("GET", ME))).status == 200


async def test_a_query_changes_nothing(gateway: Running, backend: Backend) -> None:
    response = await gateway.ask(request("GET", ME + "?key=root&id=root"))
    assert json.loads(response.body)["id"] == "ci"
    await backend.got_nothing()


async def test_a_key_of_the_ledger_is_told_of_its_generation_and_its_end(gateway: Running) -> None:
    async with administering(gateway) as admin:
        made = await admin.create("tests", Wanted("led", owner="team", scopes=("admin",), expires_at=1_900_000_000))
        await known(gateway, made.secret)
        report = await me(gateway, made.secret)
        assert {name: report[name] for name in ("id", "owner", "generation", "expires_at", "scopes")} == {
            "id": "led", "owner": "key:team", "generation": 1, "expires_at": "2030-03-17T17:46:40Z",
            "scopes": ["admin"],
        }  # fmt: skip
        rotated = await admin.rotate("tests", "led", 3600.0, None)
        await known(gateway, rotated.secret)
        assert (await me(gateway, rotated.secret))["generation"] == 2
        old = await me(gateway, made.secret)
        assert old["generation"] == 1
        assert old["expires_at"] != "2030-03-17T17:46:40Z"


async def test_a_grant_is_more_of_the_budget(start: Start) -> None:
    gateway = await start(profiles={"default": {"pages_per_day": 10}})
    async with administering(gateway) as admin:
        await admin.grant("tests", "ci", 500, 1_900_000_000)
    row = (await me(gateway))["limits"]["pages_per_day"]
    assert (row["limit"], row["remaining"]) == (510, 510)
