"""Who may do what, by credentials: through the listener, with the upstream as the witness."""

import pytest

from tests.support.backend import Backend
from tests.support.gateway import ADMIN_KEY, AWAY_KEY, KEY, RESULT, Running, Start, request, shared

USAGE = "/api/v1/usage"


async def denied(gateway: Running, backend: Backend, sent: bytes, status: int, reason: str) -> None:
    """Refused by reason, in answer, log and metrics, and nothing reached the upstream."""
    before = len(gateway.requests)
    problem = (await gateway.ask(sent)).is_refusal(status, reason)
    event = (await gateway.finished(before + 1))[-1]
    assert (event["status"], event["reason"], event["request_id"]) == (status, reason, problem["request_id"])
    assert gateway.counted(status=status, reason=reason) >= 1
    await backend.got_nothing()


async def test_a_key_in_its_own_header_is_let_through(gateway: Running) -> None:
    answer = await gateway.ask(request())
    assert (answer.status, answer.reason) == (200, None)
    (event,) = await gateway.finished(1)
    assert (event["key"], event["route"], event["reason"]) == ("ci", "result", "forwarded")
    assert gateway.counted(route="result", method="GET", status=200, reason="forwarded") == 1
    assert gateway.metric("gateway_authentications_total", method="api_key", result="accepted") == 1


@shared
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_a_key_as_bearer_is_let_through(scheme: str, gateway: Running, backend: Backend) -> None:
    answer = await gateway.ask(request("GET", RESULT, f"Authorization: {scheme} {KEY}", key=None))
    assert answer.status == 200
    (arrived,) = backend.requests
    assert arrived.values(b"authorization") == []
    assert arrived.value(b"x-gateway-key-id") == b"ci"


async def test_no_key_is_refused(gateway: Running, backend: Backend) -> None:
    await denied(gateway, backend, request(key=None), 401, "unauthenticated")
    assert gateway.requests[0]["key"] is None
    assert gateway.metric("gateway_authentications_total", method="none", result="missing") == 1


@shared
@pytest.mark.parametrize(
    "wrong",
    ["canary-wrong", KEY + "x", KEY[:-1], KEY.upper(), KEY + "\x80", "ci", "-", "a" * 8100],
    ids=["other", "longer", "shorter", "upper", "not-ascii", "id", "dash", "8-kb"],
)
async def test_a_wrong_key_is_refused(wrong: str, gateway: Running, backend: Backend) -> None:
    await denied(gateway, backend, request(key=wrong), 401, "unauthenticated")
    assert gateway.requests[0]["key"] is None
    assert gateway.metric("gateway_authentications_total", method="api_key", result="rejected") == 1


@shared
@pytest.mark.parametrize(
    "credential",
    ["X-API-Key:", "X-API-Key: ", "Authorization: Bearer", "Authorization: Bearer ", "Authorization:",
     f"Authorization: {KEY}", f"Authorization: Basic {KEY}", f"Authorization: Bearer{KEY}",
     "Authorization: Digest a=b",
     f"Cookie: x-api-key={KEY}", f"X-Auth-Token: {KEY}", f"Api-Key: {KEY}", f"Proxy-Authorization: Bearer {KEY}"],
)  # fmt: skip
async def test_what_is_no_credential_is_refused(credential: str, gateway: Running, backend: Backend) -> None:
    await denied(gateway, backend, request("GET", RESULT, credential, key=None), 401, "unauthenticated")


@shared
@pytest.mark.parametrize(
    "headers",
    [
        (f"X-API-Key: {KEY}", f"X-API-Key: {KEY}"),
        (f"X-API-Key: {KEY}", "X-API-Key: other"),
        (f"X-API-Key: {KEY}", f"Authorization: Bearer {KEY}"),
        (f"X-API-Key: {KEY}", "Authorization: Basic abc", "Authorization: bearer abc"),
        ("X-API-Key: other", f"Authorization: Bearer {KEY}"),
        (f"Authorization: Bearer {KEY}", f"Authorization: Bearer {ADMIN_KEY}"),
    ],
)
async def test_two_credentials_are_a_bad_request(
    headers: tuple[str, ...], gateway: Running, backend: Backend
) -> None:
    await denied(gateway, backend, request("GET", RESULT, *headers, key=None), 400, "bad_request")


@shared
@pytest.mark.parametrize("name", ["api_key", "key", "x-api-key", "X-API-Key", "token", "access_token"])
async def test_a_key_in_the_query_is_no_credential(name: str, gateway: Running, backend: Backend) -> None:
    await denied(gateway, backend, request("GET", f"{RESULT}?{name}={KEY}", key=None), 401, "unauthenticated")
    assert KEY not in str(gateway.events)


async def test_a_key_is_good_from_its_networks_only(gateway: Running, backend: Backend) -> None:
    await denied(gateway, backend, request(key=AWAY_KEY), 403, "address_denied")
    gateway.own("job-1", "key:away")
    answer = await gateway.ask(request(key=AWAY_KEY), source="127.0.0.7")
    assert answer.status == 200
    assert len(backend.requests) == 1


async def test_a_key_from_elsewhere_is_judged_anew_on_the_same_connection(gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    for _ in range(3):
        (await client.ask(request(key=AWAY_KEY))).is_refusal(403, "address_denied")
    assert (await client.ask(request())).status == 200
    assert len(backend.requests) == 1


async def test_the_admin_route_takes_keys_with_the_scope_admin(gateway: Running, backend: Backend) -> None:
    await denied(gateway, backend, request("GET", USAGE), 403, "forbidden")
    assert (await gateway.ask(request("GET", USAGE, key=ADMIN_KEY))).status == 200
    assert [arrived.target for arrived in backend.requests] == [USAGE.encode()]
    assert gateway.requests[-1]["key"] == "root"


async def test_a_good_answer_lends_nothing_to_the_next_request_of_its_connection(
    gateway: Running, backend: Backend
) -> None:
    client = await gateway.connect()
    assert (await client.ask(request("GET", USAGE, key=ADMIN_KEY))).status == 200
    (await client.ask(request("GET", USAGE, key=None))).is_refusal(401, "unauthenticated")
    (await client.ask(request("GET", USAGE))).is_refusal(403, "forbidden")
    (await client.ask(request("GET", USAGE, key="other"))).is_refusal(401, "unauthenticated")
    assert (await client.ask(request("GET", USAGE, key=ADMIN_KEY))).status == 200
    assert len(backend.requests) == 2


async def test_an_open_route_asks_for_nothing_and_believes_nothing(gateway: Running, backend: Backend) -> None:
    assert (await gateway.ask(request("GET", "/health_check", key=None))).status == 200
    assert (await gateway.ask(request("GET", "/health_check", key="wrong"))).status == 200
    for arrived in backend.requests:
        assert arrived.value(b"x-gateway-key-id") is None
        assert arrived.value(b"x-api-key") is None
    assert [event["key"] for event in await gateway.finished(2)] == [None, None]


@shared
@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/v1/marker/a/b", "/metrics", "/docs", "/api/v1/MARKER/x", "/api/v1/table_rec/"]
)
async def test_what_has_no_route_is_not_there_with_a_key_or_without(
    path: str, gateway: Running, backend: Backend
) -> None:
    await denied(gateway, backend, request("GET", path), 404, "route_not_found")
    await denied(gateway, backend, request("GET", path, key=None), 404, "route_not_found")


@shared
@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("DELETE", RESULT, b"GET, HEAD"), ("POST", USAGE, b"GET, HEAD"), ("GET", "/api/v1/ocr", b"POST")],
)
async def test_a_method_that_no_route_takes_is_refused_with_those_it_takes(
    method: str, path: str, allow: bytes, gateway: Running, backend: Backend
) -> None:
    client = await gateway.connect()
    answer = await client.ask(request(method, path), method.encode())
    assert (answer.status, answer.reason, answer.value(b"allow")) == (405, "method_not_allowed", allow)
    await backend.got_nothing()


async def test_keys_switched_off_open_nothing(start: Start, backend: Backend) -> None:
    gateway = await start(authentication={"api_keys": {"enabled": False}})
    await denied(gateway, backend, request(), 401, "unauthenticated")


async def test_bad_logins_drain_a_bucket_that_no_good_key_needs(start: Start, backend: Backend) -> None:
    gateway = await start(network={"allow": ["127.0.0.0/8"], "login_failures_per_minute": 3})
    client = await gateway.connect()
    for _ in range(3):
        (await client.ask(request(key="wrong"))).is_refusal(401, "unauthenticated")
    answer = await client.ask(request(key="wrong"))
    answer.is_refusal(429, "too_many_bad_logins")
    assert 1 <= int(answer.value(b"retry-after") or b"0") <= 21
    other_guess = await gateway.ask(request(key="guess"))
    other_guess.is_refusal(429, "too_many_bad_logins")
    await backend.got_nothing()
    # A good key is served all the same, and another address still has its own bucket.
    assert (await client.ask(request())).status == 200
    (await gateway.ask(request(key="wrong"), source="127.0.0.2")).is_refusal(401, "unauthenticated")
    # No credential is no guess.
    (await gateway.ask(request(key=None))).is_refusal(401, "unauthenticated")
    assert gateway.counted(status=429, reason="too_many_bad_logins") == 2
    assert gateway.metric("gateway_authentications_total", method="api_key", result="rejected") == 6


@shared
@pytest.mark.parametrize("path", [RESULT, "/nowhere"])
@pytest.mark.parametrize("key", [None, "wrong", KEY], ids=["none", "wrong", "good"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_client_that_asks_for_the_end_of_the_connection_gets_it(
    path: str, key: str | None, version: str, gateway: Running
) -> None:
    sent = request("GET", path, "Connection: close", key=key) if version == "1.1" else request("GET", path, key=key)
    client = await gateway.connect()
    answer = await client.ask(sent.replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
    assert answer.status in {200, 401, 404}
    assert answer.value(b"connection") == b"close"
    await client.is_closed()
