"""Whom a request comes from: peers, proxies we trust, and headers of both kinds. 127.0.0.0/8 plays the hosts."""

import ssl
import struct
from ipaddress import ip_address

import pytest

from tests.support.backend import Backend
from tests.support.gateway import AWAY_KEY, RESULT, Running, Start, request

PROXY = "127.0.0.9"
NETWORK = {
    "allow": ["127.0.0.1/32", "127.0.0.9/32", "10.0.0.0/8", "2001:db8::/32"],
    "trusted_proxies": [f"{PROXY}/32"],
}
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


@pytest.fixture
async def proxied(start: Start) -> Running:
    """A gateway that trusts one proxy."""
    return await start(network=NETWORK)


async def forwarded(gateway: Running, backend: Backend, *headers: str, source: str = PROXY) -> tuple[str, str]:
    """Whom the gateway believed a served request to be from: as it told the upstream, and as it logged it."""
    answer = await gateway.ask(request("GET", RESULT, *headers), source=source)
    assert (answer.status, answer.reason) == (200, None)
    value = backend.requests[-1].value(b"x-forwarded-for")
    assert value is not None
    return value.decode(), gateway.requests[-1]["client"]


async def denied(gateway: Running, backend: Backend, *headers: str, source: str, status: int = 403) -> None:
    answer = await gateway.ask(request("GET", RESULT, *headers), source=source)
    reason = "address_denied" if status == 403 else "bad_request"
    answer.is_refusal(status, reason)
    (event,) = await gateway.finished(1)
    assert (event["reason"], event["peer"]) == (reason, source)
    assert gateway.counted(status=status, reason=reason) == 1
    await backend.got_nothing()


async def test_an_address_that_is_not_allowed_is_refused_before_its_key_is_looked_at(
    proxied: Running, backend: Backend
) -> None:
    await denied(proxied, backend, source="127.0.0.2")
    assert proxied.requests[0]["key"] is None
    assert proxied.metric("gateway_authentications_total", method="api_key", result="accepted") == 0


async def test_an_address_that_is_not_allowed_is_refused_on_open_routes_too(
    proxied: Running, backend: Backend
) -> None:
    answer = await proxied.ask(request("GET", "/health_check", key=None), source="127.0.0.2")
    answer.is_refusal(403, "address_denied")
    await backend.got_nothing()


@pytest.mark.parametrize(
    "header",
    ["X-Forwarded-For: 10.0.0.1", "Forwarded: for=10.0.0.1", "X-Real-IP: 10.0.0.1", "X-Client-IP: 10.0.0.1",
     "True-Client-IP: 10.0.0.1", "CF-Connecting-IP: 10.0.0.1", "X-Original-Forwarded-For: 10.0.0.1"],
)  # fmt: skip
async def test_who_is_no_proxy_of_ours_is_not_believed(header: str, proxied: Running, backend: Backend) -> None:
    await denied(proxied, backend, header, source="127.0.0.2")
    assert proxied.requests[0]["client"] == "127.0.0.2"
    believed = await forwarded(proxied, backend, header, source="127.0.0.1")
    assert believed == ("127.0.0.1", "127.0.0.1")
    assert b"10.0.0.1" not in backend.connections[0].received


@pytest.mark.parametrize(
    ("header", "client"),
    [
        ("X-Forwarded-For: 10.0.0.1", "10.0.0.1"),
        ("X-Forwarded-For: 192.0.2.1, 10.0.0.2", "10.0.0.2"),
        ("X-Forwarded-For: 10.0.0.3, 127.0.0.9", "10.0.0.3"),
        ("X-Forwarded-For: canary, 10.0.0.3", "10.0.0.3"),
        ("X-Forwarded-For: 10.0.0.4:5678", "10.0.0.4"),
        ("X-Forwarded-For: 2001:db8::1", "2001:db8::1"),
        ("X-Forwarded-For: [2001:db8::2]:443", "2001:db8::2"),
        ("X-Forwarded-For: ::ffff:10.0.0.5", "10.0.0.5"),
        ("X-Forwarded-For: 127.0.0.9", "127.0.0.9"),
        ("X-Forwarded-For: 10.0.0.6\r\nX-Forwarded-For: 10.0.0.7", "10.0.0.7"),
        ("Forwarded: for=10.0.0.8", "10.0.0.8"),
        ('Forwarded: for="10.0.0.8:99";proto=https;by=127.0.0.9', "10.0.0.8"),
        ('Forwarded: for=192.0.2.7, For="[2001:db8::3]"', "2001:db8::3"),
        ("X-Real-IP: 192.0.2.1", PROXY),
    ],
)
async def test_a_trusted_proxy_says_who_the_client_is(
    header: str, client: str, proxied: Running, backend: Backend
) -> None:
    assert await forwarded(proxied, backend, header) == (client, client)
    assert proxied.requests[0]["peer"] == PROXY


@pytest.mark.parametrize(
    "header",
    ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 10.0.0.1, 192.0.2.1", "X-Forwarded-For: 192.0.2.1, 127.0.0.9",
     "Forwarded: for=192.0.2.1", "X-Forwarded-For: ::ffff:192.0.2.1", "X-Forwarded-For: 127.0.0.2"],
)  # fmt: skip
async def test_a_client_behind_a_trusted_proxy_must_be_allowed_itself(
    header: str, proxied: Running, backend: Backend
) -> None:
    await denied(proxied, backend, header, source=PROXY)


@pytest.mark.parametrize(
    "header",
    ["X-Forwarded-For: canary", "X-Forwarded-For: unknown", "X-Forwarded-For:", "X-Forwarded-For: 10.0.0.1,",
     "X-Forwarded-For: 10.0.0.256", "X-Forwarded-For: 010.0.0.1", "X-Forwarded-For: 10.0.0.1 10.0.0.2",
     "X-Forwarded-For: fe80::1%eth0", "X-Forwarded-For: 10.1", "X-Forwarded-For: 167772161",
     "X-Forwarded-For: " + ", ".join(["10.0.0.1"] * 40), "Forwarded: for=_hidden", "Forwarded: for=unknown",
     "Forwarded: by=10.0.0.1", "Forwarded: for=10.0.0.1;for=10.0.0.2", "Forwarded: 10.0.0.1",
     'Forwarded: for="10.0.0.1',
     "X-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1", "Forwarded: for=10.0.0.1\r\nX-Forwarded-For: 10.0.0.2"],
)  # fmt: skip
async def test_what_a_trusted_proxy_says_must_be_readable(header: str, proxied: Running, backend: Backend) -> None:
    await denied(proxied, backend, header, source=PROXY, status=400)
    assert "canary" not in str(proxied.events)


async def test_the_networks_of_a_key_hold_for_the_client_behind_the_proxy(start: Start, backend: Backend) -> None:
    gateway = await start(network={"allow": ["127.0.0.0/8"], "trusted_proxies": [f"{PROXY}/32"]})
    gateway.own("job-1", "key:away")
    client = await gateway.connect(source=PROXY)
    near = await client.ask(request("GET", RESULT, "X-Forwarded-For: 127.0.0.7", key=AWAY_KEY))
    assert near.status == 200
    far = await client.ask(request("GET", RESULT, "X-Forwarded-For: 127.0.0.8", key=AWAY_KEY))
    far.is_refusal(403, "address_denied")
    unsaid = await client.ask(request("GET", RESULT, key=AWAY_KEY))
    unsaid.is_refusal(403, "address_denied")
    assert len(backend.requests) == 1


async def test_bad_logins_count_against_the_client_not_its_proxy(start: Start) -> None:
    gateway = await start(
        network={"allow": ["127.0.0.0/8"], "trusted_proxies": [f"{PROXY}/32"], "login_failures_per_minute": 1}
    )
    client = await gateway.connect(source=PROXY)
    for who, status in (("127.0.0.3", 401), ("127.0.0.3", 429), ("127.0.0.4", 401)):
        answer = await client.ask(request("GET", RESULT, f"X-Forwarded-For: {who}", key="wrong"))
        assert answer.status == status


async def test_the_networks_of_a_route_hold_too(start: Start, backend: Backend) -> None:
    routes = [{"name": "near", "methods": ["GET"], "path": "/near", "access": "anyone", "networks": ["127.0.0.3/32"]}]
    gateway = await start(routes=routes)
    (await gateway.ask(request("GET", "/near", key=None))).is_refusal(403, "address_denied")
    assert (await gateway.ask(request("GET", "/near", key=None), source="127.0.0.3")).status == 200
    assert len(backend.requests) == 1


# The PROXY protocol


@pytest.fixture
async def balanced(start: Start) -> Running:
    """A gateway behind a load balancer that speaks the PROXY protocol."""
    return await start(
        network=NETWORK,
        listen={"address": "127.0.0.1", "port": 0, "proxy_protocol": True, "handshake_timeout": "500ms"},
    )


def version_2(
    source: str, port: int = 1234, *, command: int = 0x21, family: int | None = None, tail: bytes = b""
) -> bytes:
    """A header of version 2; `tail` are TLVs."""
    address = ip_address(source)
    kind = (0x11 if address.version == 4 else 0x21) if family is None else family
    body = address.packed * 2 + struct.pack("!HH", port, 443) + tail
    return SIGNATURE + struct.pack("!BBH", command, kind, len(body)) + body


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (b"PROXY TCP4 10.0.0.1 10.0.0.2 56324 443\r\n", "10.0.0.1"),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n", "2001:db8::1"),
        (b"PROXY TCP6 ::ffff:10.0.0.1 ::ffff:10.0.0.2 56324 443\r\n", "10.0.0.1"),
        (b"PROXY UNKNOWN\r\n", PROXY),
        (b"PROXY UNKNOWN 10.0.0.1 10.0.0.2 1 2\r\n", PROXY),
        (version_2("10.0.0.1"), "10.0.0.1"),
        (version_2("2001:db8::1"), "2001:db8::1"),
        (version_2("10.0.0.1", tail=b"\x04\x00\x03abc"), "10.0.0.1"),
        (version_2("10.0.0.1", command=0x20), PROXY),
        (version_2("10.0.0.1", family=0), PROXY),
        (SIGNATURE + b"\x20\x00\x00\x00", PROXY),
    ],
)
async def test_a_trusted_balancer_says_who_connected(
    header: bytes, client: str, balanced: Running, backend: Backend
) -> None:
    connection = await balanced.connect(source=PROXY, before=header)
    assert (await connection.ask(request())).status == 200
    assert backend.requests[0].value(b"x-forwarded-for") == client.encode()
    (event,) = await balanced.finished(1)
    assert (event["client"], event["peer"]) == (client, client)


async def test_a_client_behind_the_balancer_must_be_allowed_itself(balanced: Running, backend: Backend) -> None:
    connection = await balanced.connect(source=PROXY, before=b"PROXY TCP4 192.0.2.1 10.0.0.2 56324 443\r\n")
    (await connection.ask(request())).is_refusal(403, "address_denied")
    await backend.got_nothing()


async def test_a_balancer_that_is_trusted_no_more_names_nobody_on_connections_that_stand(
    balanced: Running, backend: Backend
) -> None:
    connection = await balanced.connect(source=PROXY, before=b"PROXY TCP4 10.0.0.1 10.0.0.2 56324 443\r\n")
    assert (await connection.ask(request())).status == 200
    other = {"allow": ["10.0.0.0/8", "127.0.0.7/32"], "trusted_proxies": ["127.0.0.8/32"]}
    balanced.rewrite(lambda document: document["network"].update(other))
    balanced.gateway.reloader.force()
    await balanced.says("configuration reloaded")
    (await connection.ask(request())).is_refusal(403, "address_denied")
    assert len(backend.requests) == 1


async def test_a_client_behind_the_balancer_is_no_proxy_itself(balanced: Running, backend: Backend) -> None:
    connection = await balanced.connect(source=PROXY, before=b"PROXY TCP4 10.0.0.1 10.0.0.2 56324 443\r\n")
    assert (await connection.ask(request("GET", RESULT, "X-Forwarded-For: 10.0.0.77"))).status == 200
    assert backend.requests[0].value(b"x-forwarded-for") == b"10.0.0.1"


SILENT_OF_ITS_CLIENT = {
    "unknown": b"PROXY UNKNOWN\r\n",
    "unknown-with-addresses": b"PROXY UNKNOWN 10.0.0.1 10.0.0.2 1 2\r\n",
    "local": version_2("10.0.0.1", command=0x20),
    "local-without-addresses": SIGNATURE + b"\x20\x00\x00\x00",
    "unspecified": version_2("10.0.0.1", family=0),
}


@pytest.mark.parametrize("header", SILENT_OF_ITS_CLIENT.values(), ids=SILENT_OF_ITS_CLIENT)
@pytest.mark.parametrize("claim", ["X-Forwarded-For: 10.0.0.77", "Forwarded: for=10.0.0.77", "X-Forwarded-For: junk"])
async def test_a_balancer_that_names_nobody_is_the_client_whatever_is_claimed(
    claim: str, header: bytes, balanced: Running, backend: Backend
) -> None:
    connection = await balanced.connect(source=PROXY, before=header)
    answer = await connection.ask(request("GET", RESULT, claim, "X-Request-Id: canary-claimed"))
    assert answer.status == 200
    assert answer.value(b"x-request-id") != b"canary-claimed"
    assert backend.requests[0].value(b"x-forwarded-for") == PROXY.encode()
    (event,) = await balanced.finished(1)
    assert (event["client"], event["peer"]) == (PROXY, PROXY)


async def test_a_proxy_behind_the_balancer_says_who_its_client_is(balanced: Running, backend: Backend) -> None:
    """Whom the PROXY header names is a trusted proxy itself: it ended its client's TLS, and adds its line."""
    header = f"PROXY TCP4 {PROXY} 10.0.0.2 56324 443\r\n".encode()
    connection = await balanced.connect(source=PROXY, before=header)
    answer = await connection.ask(request("GET", RESULT, "X-Forwarded-For: 10.0.0.77", "X-Request-Id: of-the-proxy"))
    assert (answer.status, answer.value(b"x-request-id")) == (200, b"of-the-proxy")
    assert backend.requests[0].value(b"x-forwarded-for") == b"10.0.0.77"


async def turned_away(gateway: Running, source: str, before: bytes, why: str, *, silent: bool = False) -> None:
    """No TLS comes about, nothing is answered, and the metric says why."""
    if silent:
        client = await gateway.connect(source=source, before=before, tls=False)
        assert await client.rest() == b""
    else:
        with pytest.raises((OSError, ssl.SSLError)):
            await gateway.connect(source=source, before=before)
    await gateway.facts.until(lambda: gateway.metric("gateway_connections_refused_total", why=why) == 1)
    assert gateway.requests == []


async def test_a_trusted_balancer_must_say_who_connected(balanced: Running, backend: Backend) -> None:
    await turned_away(balanced, PROXY, b"", "proxy_header")
    await backend.got_nothing()


async def test_who_is_no_balancer_may_not_say_who_he_is(balanced: Running, backend: Backend) -> None:
    await turned_away(balanced, "127.0.0.1", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", "handshake")
    await backend.got_nothing()


async def test_who_is_no_balancer_needs_no_header(balanced: Running, backend: Backend) -> None:
    assert (await balanced.ask(request())).status == 200
    assert backend.requests[0].value(b"x-forwarded-for") == b"127.0.0.1"


async def test_without_proxy_protocol_its_header_is_no_tls(proxied: Running) -> None:
    await turned_away(proxied, PROXY, b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", "handshake")


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2 3\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1 65536\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 -1 2\r\n",
        b"PROXY TCP4 10.0.0.256 10.0.0.2 1 2\r\n",
        b"PROXY TCP4 010.0.0.1 10.0.0.2 1 2\r\n",
        b"PROXY TCP4 canary 10.0.0.2 1 2\r\n",
        b"PROXY TCP4  10.0.0.1 10.0.0.2 1 2\r\n",
        b"PROXY UDP4 10.0.0.1 10.0.0.2 1 2\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2" + b" " * 200 + b"\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        b"PROXY TCP6 10.0.0.1 10.0.0.2 1 2\r\n",
        b"proxy tcp4 10.0.0.1 10.0.0.2 1 2\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216),
        SIGNATURE + b"\x21\x12\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x04" + bytes(4),
        SIGNATURE + b"\x21\x11\xff\xff" + bytes(65535),
    ],
    ids=lambda header: header[:24].hex(),
)
async def test_a_malformed_proxy_header_ends_the_connection(
    header: bytes, balanced: Running, backend: Backend
) -> None:
    await turned_away(balanced, PROXY, header, "proxy_header", silent=True)
    await backend.got_nothing()


async def test_a_balancer_that_says_nothing_is_silent(balanced: Running) -> None:
    await turned_away(balanced, PROXY, b"", "silent", silent=True)


@pytest.mark.parametrize("header", [b"PROXY TCP4 10.0", SIGNATURE[:7], SIGNATURE + b"\x21\x11\x00\x0c" + bytes(5)])
async def test_a_proxy_header_that_never_ends_ends_the_connection(header: bytes, balanced: Running) -> None:
    await turned_away(balanced, PROXY, header, "handshake", silent=True)


async def test_connections_are_counted_for_the_client_behind_the_balancer(start: Start) -> None:
    gateway = await start(network=NETWORK, listen={"proxy_protocol": True, "max_connections_per_address": 1})
    first = await gateway.connect(source=PROXY, before=b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n")
    assert (await first.ask(request())).status == 200
    await turned_away_again(gateway, b"PROXY TCP4 10.0.0.1 10.0.0.2 3 2\r\n")
    other = await gateway.connect(source=PROXY, before=b"PROXY TCP4 10.0.0.3 10.0.0.2 1 2\r\n")
    assert (await other.ask(request())).status == 200


async def turned_away_again(gateway: Running, before: bytes) -> None:
    with pytest.raises((OSError, ssl.SSLError)):
        await gateway.connect(source=PROXY, before=before)
