"""Reads a small body completely, of requests that we answer ourselves or about a job; drops one that nobody wants."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from aiohttp.streams import StreamReader

from gateway.admission.unverified_bodies import UnverifiedBodies
from gateway.errors import ClientTooSlow, GatewayError
from gateway.listener.connection import ClientConnection
from gateway.listener.draining import DRAIN_SECONDS, MAX_DRAIN_BYTES
from gateway.model.request import BodyLimit
from gateway.policy.body_limits import check_length
from gateway.proxy.forward_order import ForwardOrder


class BodyCheck(NamedTuple):
    """Judges a body: `take` its next bytes, as they come; `follow` all of it, where rules changed meanwhile."""

    take: Callable[[bytes], None]
    follow: Callable[[bytes], Awaitable[None]]


async def read_whole(
    order: ForwardOrder, limit: BodyLimit, unverified: UnverifiedBodies, check: BodyCheck | None = None
) -> bytes:
    """Reads a body of at most `limit`, and invites it if its sender waits for that.

    It returns when there is time to judge them all. Bytes of a sender who is not authenticated count in `unverified`
    until then.

    Raises:
        Refused: the body is too large, too slow or malformed, or there are too many such bodies.
        ClientGone: the client left.
    """
    check_length(order.prepared.headers.content_length, limit)
    if order.prepared.permit.identity is not None:
        return await _read(order, limit, None, check)
    with _counted(order, unverified) as count:
        return await _read(order, limit, count, check)


async def _read(
    order: ForwardOrder,
    limit: BodyLimit,
    count: Callable[[int], None] | None,
    check: BodyCheck | None,
) -> bytes:
    client, body = order.client, order.body
    content = bytearray()  # not a list: a client may send one byte a piece, and a piece object costs more than a byte
    client.start_body(body)
    try:
        client.invite(order.prepared.headers)
        while not (body.is_eof() and body.at_eof()):
            piece = await client.next_piece(body)
            check_length(len(content) + len(piece), limit)
            if count is not None:
                count(len(piece))
            content += piece
            if check is not None:
                check.take(piece)
            client.note_body_progress()
    finally:
        client.end_body()
    order.delivery.received = len(content)
    await client.time_for(len(content))
    whole = bytes(content)
    del content  # what others may have waits for turns below, and what is counted is one of them
    if check is not None:
        await check.follow(whole)
    return whole


@contextmanager
def _counted(order: ForwardOrder, unverified: UnverifiedBodies) -> Iterator[Callable[[int], None]]:
    """Gives what counts the bytes of a body before they are kept, and may refuse them."""
    stay = unverified.enter(order.prepared.permit.client, order.client.interrupt)
    try:
        yield partial(unverified.take, stay)
    finally:
        unverified.leave(stay)


async def drain(client: ClientConnection, body: StreamReader) -> None:
    """Reads and drops the rest of an unwanted body, limited in bytes on the wire and in time.

    Without this the kernel would reset the connection at the client's next bytes, which destroys our answer. If the
    body does not end within the limits, the connection closes.
    """
    most = client.body_wire + MAX_DRAIN_BYTES
    client.expect(DRAIN_SECONDS, lambda: ClientTooSlow("The rest of the body was not waited for."))
    try:
        while client.body_wire < most and not (body.is_eof() and body.at_eof()) and not client.is_gone:
            await client.next_piece(body)
    except GatewayError:
        return
    finally:
        client.expect_nothing()
        if not (body.is_eof() and body.at_eof()):
            client.end_after_this()
