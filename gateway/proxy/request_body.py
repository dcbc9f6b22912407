"""Reads a small body completely, for requests that the gateway answers itself."""

from collections.abc import Callable

from aiohttp.streams import StreamReader

from gateway.listener.connection import ClientConnection
from gateway.policy.routes import check_length


async def whole_body(
    client: ClientConnection, body: StreamReader, most: int, take: Callable[[int], None], *, invites: bool
) -> bytes:
    """Invites a body and waits for all of it; `take` counts each piece before it is kept, and may refuse it.

    `invites`: whether the client waits for a 100 Continue.

    Raises:
        Refused: the body is too large, too slow or malformed.
        ClientGone: the client left.
    """
    content = bytearray()  # not a list: a client may send one byte a piece, and a piece object costs more than a byte
    client.start_body(body)
    try:
        if invites:
            client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (body.is_eof() and body.at_eof()):
            piece = await client.next_piece(body)
            check_length(len(content) + len(piece), most)
            take(len(piece))
            content += piece
            client.body_moved()
    finally:
        client.end_body()
    return bytes(content)
