"""Attempts at receivers that misbehave, over real TLS."""

import asyncio
import json
import ssl
import struct
import time
from contextlib import suppress
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from unittest.mock import patch

import pytest
from aiohttp.client_proto import ResponseHandler
from pytest_aiohttp import AiohttpRawServer

from gateway.aio.bounded_connector import BoundedHandler
from gateway.aio.tls.buffers import TlsBuffers
from gateway.aio.tls.openssl import RECORDS_AT_ONCE
from gateway.aio.tls.step_threads import StepThreads
from gateway.aio.tls.transport import RECORD
from gateway.aio.turn import MAX_CHUNKS
from gateway.errors import SetupError
from gateway.webhooks.egress.destination import Destination
from gateway.webhooks.egress.webhook_url import read_url
from gateway.webhooks.outbound.outcome import DeliveryAttempt, Result, Trouble, judge
from gateway.webhooks.outbound.sender import Link, body_of, make_context, send
from tests.support.iteration import iteration_now
from tests.support.pure import ip
from tests.support.work import counted_turns
from tests.webhooks.receivers import HOST, Receiver, Serve, misbehaving, receiving, server_context

BODY = b'{"request_id":"r1"}'
HERE = ip("127.0.0.1")
LONG = 30.0


def at(port: int, host: str = HOST, path: str = "/hook") -> Destination:
    return Destination(read_url(f"https://{host}:{port}{path}"), (HERE,))


@pytest.fixture
async def link(hook_certificates: Path) -> Link:
    return Link(make_context(hook_certificates / "ca.pem"), iteration_now(), TlsBuffers(StepThreads(time.monotonic)))


async def test_it_is_delivered_and_little_is_told_of_us(
    receiver: Receiver, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    receiver.headers = {"Set-Cookie": "a=b", "Retry-After": "5"}
    destination = at(receiver.port, path="/a%2Fb/../c?k=v%20w&'x=[y]")
    for _ in range(2):
        assert await send(destination, link, {"webhook-id": "d1"}, BODY, LONG) == DeliveryAttempt(
            Result.DELIVERED, 204
        )
    for got in receiver.got:
        assert (got.method, got.path, got.body) == ("POST", "/a%2Fb/../c?k=v%20w&'x=[y]", BODY)
        assert (
            got.headers
            == {
                "Host": f"{HOST}:{receiver.port}",
                "Content-Type": "application/json",
                "User-Agent": "document-gateway",
                "Accept": "*/*",
                "Accept-Encoding": "identity",
                "Content-Length": str(len(BODY)),
                "webhook-id": "d1",
                "Connection": "close",
            }
            or {**got.headers, "Connection": "close"} == got.headers
        )


async def test_an_address_is_connected_to_and_verified_as_such(receiver: Receiver, link: Link) -> None:
    destination = Destination(read_url(f"https://127.0.0.1:{receiver.port}/"), (HERE,))
    assert await send(destination, link, {}, BODY, LONG) == DeliveryAttempt(Result.DELIVERED, 204)


@pytest.mark.parametrize(
    ("status", "attempt"),
    [
        (200, DeliveryAttempt(Result.DELIVERED, 200)),
        (299, DeliveryAttempt(Result.DELIVERED, 299)),
        (301, DeliveryAttempt(Result.DEAD, 301, Trouble.REDIRECT)),
        (304, DeliveryAttempt(Result.DEAD, 304, Trouble.REDIRECT)),
        (307, DeliveryAttempt(Result.DEAD, 307, Trouble.REDIRECT)),
        (400, DeliveryAttempt(Result.DEAD, 400, Trouble.STATUS)),
        (404, DeliveryAttempt(Result.DEAD, 404, Trouble.STATUS)),
        (408, DeliveryAttempt(Result.RETRIED, 408, Trouble.STATUS, "7")),
        (410, DeliveryAttempt(Result.DEAD, 410, Trouble.GONE)),
        (429, DeliveryAttempt(Result.RETRIED, 429, Trouble.STATUS, "7")),
        (499, DeliveryAttempt(Result.DEAD, 499, Trouble.STATUS)),
        (500, DeliveryAttempt(Result.RETRIED, 500, Trouble.STATUS, "7")),
        (503, DeliveryAttempt(Result.RETRIED, 503, Trouble.STATUS, "7")),
        (101, DeliveryAttempt(Result.RETRIED, 101, Trouble.STATUS, "7")),
        (999, DeliveryAttempt(Result.RETRIED, 999, Trouble.STATUS, "7")),
    ],
)
def test_what_an_answer_makes_of_it(status: int, attempt: DeliveryAttempt) -> None:
    assert judge(status, "7") == attempt


async def test_a_redirect_is_not_followed(receiver: Receiver, link: Link) -> None:
    receiver.answer, receiver.headers = 307, {"Location": f"https://{HOST}:{receiver.port}/other"}
    assert await send(at(receiver.port), link, {}, BODY, LONG) == DeliveryAttempt(Result.DEAD, 307, Trouble.REDIRECT)
    assert len(receiver.got) == 1


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del writer
    await reader.read()
    await asyncio.Event().wait()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def endless_interim(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    while True:
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 10)
        await writer.drain()
        await asyncio.sleep(0)


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10_000)
        await writer.drain()


async def endless_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-More: and more\r\n" * 1000)
        await writer.drain()


async def endless_header(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        writer.write(b"x" * 100_000)
        await writer.drain()


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    await writer.drain()
    await reader.read()


async def both_framings(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n")
    await writer.drain()
    await reader.read()


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    del writer


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize(
    ("serve", "trouble", "deadline"),
    [
        (silence, Trouble.TIMEOUT, 0.3),
        (drip, Trouble.TIMEOUT, 0.3),
        (endless_interim, Trouble.PROTOCOL, LONG),
        (flood, Trouble.PROTOCOL, LONG),
        (endless_headers, Trouble.PROTOCOL, LONG),
        (endless_header, Trouble.PROTOCOL, LONG),
        (garbage, Trouble.PROTOCOL, LONG),
        (both_framings, Trouble.PROTOCOL, LONG),
        (hangs_up, Trouble.CONNECTION, LONG),
        (resets, Trouble.CONNECTION, LONG),
    ],
)
async def test_what_is_no_answer_is_tried_again(
    serve: Serve, trouble: Trouble, deadline: float, link: Link, hook_certificates: Path
) -> None:
    async with misbehaving(serve, server_context(hook_certificates)) as port:
        assert await send(at(port), link, {}, BODY, deadline) == DeliveryAttempt(Result.RETRIED, None, trouble)


async def hints(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 8 + b"HTTP/1.1 204 No Content\r\n\r\n")
    await writer.drain()
    await reader.read()


async def test_some_interim_answers_do_no_harm(link: Link, hook_certificates: Path) -> None:
    async with misbehaving(hints, server_context(hook_certificates)) as port:
        assert await send(at(port), link, {}, BODY, LONG) == DeliveryAttempt(Result.DELIVERED, 204)


async def many_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    while True:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * 10_000)
        await writer.drain()


@pytest.mark.parametrize(
    ("serve", "most"), [(flood, 512), (endless_interim, 4096), (many_answers, 17_000), (endless_headers, 65_536)]
)
async def test_a_flood_is_hardly_parsed(
    serve: Serve, most: int, link: Link, hook_certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[int] = []
    parse = ResponseHandler.data_received

    def counted(self: ResponseHandler, data: bytes) -> None:
        parsed.append(len(data))
        parse(self, data)

    monkeypatch.setattr(ResponseHandler, "data_received", counted)
    async with misbehaving(serve, server_context(hook_certificates)) as port:
        attempt = await send(at(port), link, {}, BODY, LONG)
    assert attempt.trouble in {Trouble.PROTOCOL, None}
    assert 0 < sum(parsed) <= most
    assert max(parsed) <= 512


async def test_a_value_error_is_an_attempt_too(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object) -> DeliveryAttempt:
        raise ValueError("canary")

    monkeypatch.setattr("gateway.webhooks.outbound.sender._exchange", fails)
    assert await send(at(1), link, {}, BODY, LONG) == DeliveryAttempt(Result.RETRIED, None, Trouble.PROTOCOL)


async def endless_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 100_000)
        await writer.drain()


async def dripping_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def broken_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nnot so much")
    await writer.drain()


async def bomb(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd")
    await writer.drain()
    await reader.read()


@pytest.mark.parametrize("serve", [endless_body, dripping_body, broken_body, bomb])
async def test_the_status_counts_whatever_follows_it(
    serve: Serve, link: Link, hook_certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.webhooks.outbound.sender.READ_SECONDS", 0.2)
    async with misbehaving(serve, server_context(hook_certificates)) as port:
        assert await send(at(port), link, {}, BODY, LONG) == DeliveryAttempt(Result.DELIVERED, 200)


async def test_a_receiver_that_takes_no_connection(link: Link) -> None:
    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    assert await send(at(port), link, {}, BODY, LONG) == DeliveryAttempt(Result.RETRIED, None, Trouble.CONNECTION)


async def test_a_receiver_that_never_answers_the_handshake(link: Link) -> None:
    async with misbehaving(silence, None) as port:
        assert await send(at(port), link, {}, BODY, 0.3) == DeliveryAttempt(Result.RETRIED, None, Trouble.TIMEOUT)


async def plain_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()
    await reader.read()


async def test_a_receiver_that_speaks_no_tls(link: Link) -> None:
    async with misbehaving(plain_http, None) as port:
        assert await send(at(port), link, {}, BODY, LONG) == DeliveryAttempt(Result.RETRIED, None, Trouble.TLS)


# A ServerHello of TLS 1.0, and the alert of a server that speaks nothing else: protocol_version.
OLD_HELLO = bytes.fromhex("160301002a 02000026 0301") + bytes(32) + bytes.fromhex("00 002f 00")
OLD_ALERT = bytes.fromhex("15 0301 0002 0246")


@pytest.mark.parametrize("said", [OLD_HELLO, OLD_ALERT])
async def test_tls_of_yesterday_is_not_spoken(link: Link, said: bytes) -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(said)
        await writer.drain()
        await reader.read()

    async with misbehaving(old, None) as port:
        assert await send(at(port), link, {}, BODY, LONG) == DeliveryAttempt(Result.RETRIED, None, Trouble.TLS)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_of_today_is(
    link: Link, hook_certificates: Path, version: ssl.TLSVersion, aiohttp_raw_server: AiohttpRawServer
) -> None:
    today = server_context(hook_certificates)
    today.minimum_version = today.maximum_version = version
    receiver = await receiving(aiohttp_raw_server, today)
    assert (await send(at(receiver.port), link, {}, BODY, LONG)).result is Result.DELIVERED


async def test_a_certificate_is_judged_by_the_name_and_the_ca(receiver: Receiver, link: Link) -> None:
    for destination, judged_by in (
        (at(receiver.port, "other.example"), link),
        (at(receiver.port), link._replace(context=make_context(None))),
    ):
        assert await send(destination, judged_by, {}, BODY, LONG) == DeliveryAttempt(
            Result.RETRIED, None, Trouble.TLS
        )
    assert receiver.got == []


async def test_the_name_is_sent_in_the_handshake(
    link: Link, hook_certificates: Path, aiohttp_raw_server: AiohttpRawServer
) -> None:
    names: list[str | None] = []
    server = server_context(hook_certificates)
    server.sni_callback = lambda _, name, __: names.append(name)
    receiver = await receiving(aiohttp_raw_server, server)
    await send(at(receiver.port), link, {}, BODY, LONG)
    assert names == [HOST]


async def test_it_goes_to_the_addresses_that_were_checked_in_their_turn(receiver: Receiver, link: Link) -> None:
    target = read_url(f"https://{HOST}:{receiver.port}/")
    attempt = await send(Destination(target, (ip("::1"), HERE)), link, {}, BODY, LONG)
    assert attempt == DeliveryAttempt(Result.DELIVERED, 204)
    nowhere = await send(Destination(target, (ip("127.0.0.9"),)), link, {}, BODY, LONG)
    assert nowhere == DeliveryAttempt(Result.RETRIED, None, Trouble.CONNECTION)


def test_a_ca_that_is_none_is_told_of(tmp_path: Path) -> None:
    bad = tmp_path / "ca.pem"
    for prepare in (lambda: None, lambda: bad.write_text("no certificate"), bad.touch):
        prepare()
        with pytest.raises(SetupError, match=r"webhooks\.out\.ca: .* can't be read, or holds no PEM certificate"):
            make_context(bad)
        bad.unlink(missing_ok=True)


async def test_what_a_receiver_floods_us_with_is_decrypted_in_turns(hook_certificates: Path, link: Link) -> None:
    """A head without an end, each byte of it in a record of its own."""

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(20_000):
            writer.write(b"a")
        with suppress(ConnectionError, ssl.SSLError):
            await reader.read()
        writer.close()

    async with (
        await asyncio.start_server(flood, "127.0.0.1", 0, ssl=server_context(hook_certificates)) as receiver,
        counted_turns() as work,
    ):
        port = receiver.sockets[0].getsockname()[1]
        taken = work.counting(BoundedHandler.data_received, lambda _, data: len(data))
        with patch.object(BoundedHandler, "data_received", taken):
            assert (await send(at(port), link, {}, BODY, LONG)).trouble in {Trouble.PROTOCOL, Trouble.CONNECTION}
    assert work.total > 8000
    assert work.most <= MAX_CHUNKS // RECORD + RECORDS_AT_ONCE


def test_the_body_is_compact_and_holds_no_result() -> None:
    body = body_of("r1", "https://g.example/api/v1/marker/r1", "complete")
    assert body == (
        b'{"request_id":"r1","request_check_url":"https://g.example/api/v1/marker/r1","status":"complete"}'
    )
    assert json.loads(body_of('"\n', None, "failed")) == {
        "request_id": '"\n', "request_check_url": None, "status": "failed",
    }  # fmt: skip
