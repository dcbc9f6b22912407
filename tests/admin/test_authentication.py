"""Who is let in to the admin API: the token's bearer, or this machine without its browsers' pages."""

import pytest

from tests.admin.api import TOKEN, Api
from tests.support.backend import Backend
from tests.support.gateway import ENVIRON, KEY, RESULT, Running, Start, request

KEYS = "/admin/v1/keys"
PATHS = [
    ("GET", KEYS), ("POST", KEYS), ("GET", f"{KEYS}/a"), ("PATCH", f"{KEYS}/a"), ("POST", f"{KEYS}/a/rotate"),
    ("POST", f"{KEYS}/a/revoke"), ("POST", f"{KEYS}/a/grants"), ("POST", f"{KEYS}/a/reset"),
    ("GET", "/admin/v1/usage"), ("GET", "/admin/v1/audit"), ("GET", "/admin/v1/openapi.json"),
    ("GET", "/admin/v1/none"), ("OPTIONS", KEYS),
]  # fmt: skip


async def with_token(start: Start, **sections: object) -> Running:
    return await start(admin={"token": {"env": "TOKEN"}}, environ={**ENVIRON, "TOKEN": TOKEN}, **sections)


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"X-API-Key": TOKEN}, {"Authorization": f"Bearer {KEY}"}],
)
async def test_where_there_is_a_token_nothing_is_open_without_it(headers: dict[str, str], start: Start) -> None:
    api = Api(await with_token(start))
    for method, path in PATHS:
        answer = await api(method, path, {"id": "a"} if method in {"POST", "PATCH"} else None, headers=headers)
        answer.is_problem(401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="gateway admin"'
    assert (await Api(api.gateway, TOKEN)("GET", KEYS)).json["keys"] == []


async def test_the_token_is_the_actor_of_the_audit(start: Start) -> None:
    api = Api(await with_token(start), TOKEN)
    await api.make("acme")
    (change,) = (await api("GET", "/admin/v1/audit?key=acme")).json["changes"]
    assert (change["actor"], change["action"]) == ("admin:token@127.0.0.1", "key.create")
    assert TOKEN not in str(api.gateway.events) + str(change)


async def test_the_token_minds_no_host_no_origin_and_no_proxy(start: Start) -> None:
    api = Api(await with_token(start), TOKEN)
    headers = {"X-Forwarded-For": "192.0.2.1", "Via": "1.1 proxy"} | {
        "Host": "gateway.example.com",
        "Origin": "https://console.example.com",
        "Sec-Fetch-Site": "cross-site",
    }
    answer = await api("POST", KEYS, {"id": "acme"}, headers=headers)
    assert answer.status == 201
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


async def test_wrong_tokens_drain_a_bucket_that_the_right_one_does_not_need(start: Start) -> None:
    gateway = await with_token(start, network={"login_failures_per_minute": 3})
    api, wrong = Api(gateway, TOKEN), Api(gateway, "wrong")
    for _ in range(3):
        (await wrong("GET", KEYS)).is_problem(401, "unauthenticated")
    for _ in range(2):
        answer = await wrong("GET", KEYS)
        answer.is_problem(429, "too_many_bad_logins")
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert (await api("GET", KEYS)).status == 200
    (await Api(gateway)("GET", KEYS)).is_problem(401, "unauthenticated")  # no guess
    events = [event for event in gateway.events if event["event"] == "admin login failed"]
    assert [event["client_ip"] for event in events] == ["127.0.0.1"] * 3
    (await gateway.ask(request(key="wrong"))).is_refusal(401, "unauthenticated")  # the public listener counts its own


@pytest.mark.parametrize(
    "header",
    [f"X-API-Key: {TOKEN}", f"Authorization: Bearer {TOKEN}", f"Authorization: Basic {TOKEN}"],
)
async def test_the_token_is_worth_nothing_on_the_public_listener(header: str, start: Start, backend: Backend) -> None:
    gateway = await with_token(start)
    for path in (RESULT, "/api/v1/usage", "/gateway/v1/me"):
        answer = await gateway.ask(request("GET", path, header, key=None))
        answer.is_refusal(401, "unauthenticated")
    unknown = await gateway.ask(request("GET", RESULT, header.replace(TOKEN, "x" * len(TOKEN)), key=None))
    known = await gateway.ask(request("GET", RESULT, header, key=None))
    assert (known.status, known.reason) == (unknown.status, unknown.reason)
    await backend.got_nothing()
    for path in (KEYS, "/admin/v1/openapi.json"):
        (await gateway.ask(request("GET", path, header, key=None))).is_refusal(404, "route_not_found")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example.com"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9090"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example.com"},
        {"Forwarded": "for=192.0.2.1"},
        {"X-Forwarded-For": "192.0.2.1"},
        {"x-forwarded-host": "gateway.example.com"},
        {"X-Forwarded-Anything": ""},
        {"X-Real-IP": "127.0.0.1"},
        {"Via": "1.1 proxy"},
        {"True-Client-IP": "192.0.2.1"},
        {"CF-Connecting-IP": "192.0.2.1"},
        {"X-Forwarded": "for=192.0.2.1"},
        {"Forwarded-For": "192.0.2.1"},
        {"X-Envoy-External-Address": "192.0.2.1"},
        {"Fly-Client-IP": "192.0.2.1"},
        {"Fastly-Client-IP": "192.0.2.1"},
        {"X-Azure-ClientIP": "192.0.2.1"},
        {"X-Appengine-User-IP": "192.0.2.1"},
        {"X-ProxyUser-Ip": "192.0.2.1"},
        {"X-Envoy-Original-Path": "/"},
        {"X-Client-IP": "192.0.2.1"},
        {"X-Cluster-Client-IP": "192.0.2.1"},
        {"X-Original-Host": "gateway.example.com"},
        {"Remote-User": "me"},
    ],
)
async def test_without_a_token_no_web_page_and_no_proxy_gets_through(
    headers: dict[str, str], gateway: Running
) -> None:
    for method, path in PATHS:
        answer = await Api(gateway)(method, path, {"id": "a"} if method == "POST" else None, headers=headers)
        answer.is_problem(403, "forbidden")
    assert (await Api(gateway)("GET", KEYS)).json["keys"] == []


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "", "application/jsonx",
     "text/plain; application/json", "application/json/x", ", application/json"],
)  # fmt: skip
async def test_what_a_page_may_send_without_a_preflight_is_no_body(content_type: str, gateway: Running) -> None:
    api = Api(gateway)
    for path, body in [(KEYS, b'{"id": "a"}'), (f"{KEYS}/a/reset", b"{}"), (f"{KEYS}/a/revoke", b"")]:
        answer = await api("POST", path, data=body, headers={"Content-Type": content_type})
        answer.is_problem(415, "unsupported_media_type")
    assert (await api("GET", KEYS)).json["keys"] == []


async def test_a_preflight_is_never_granted(gateway: Running) -> None:
    headers = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    answer = await Api(gateway)("OPTIONS", KEYS, headers=headers)
    answer.is_problem(405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET, POST"
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("site", ["none", "same-origin"])
async def test_a_person_at_this_machine_may_look(site: str, gateway: Running) -> None:
    assert (await Api(gateway)("GET", KEYS, headers={"Sec-Fetch-Site": site})).status == 200


async def test_a_reload_may_set_the_token(start: Start) -> None:
    gateway = await start(environ={**ENVIRON, "TOKEN": TOKEN})
    assert (await Api(gateway)("GET", KEYS)).status == 200
    gateway.rewrite(lambda document: document["admin"].update(token={"env": "TOKEN"}))
    gateway.gateway.reloader.force()
    await gateway.says("configuration reloaded")
    (await Api(gateway)("GET", KEYS)).is_problem(401, "unauthenticated")
    assert (await Api(gateway, TOKEN)("GET", KEYS)).status == 200
