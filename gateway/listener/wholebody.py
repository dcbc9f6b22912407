"""A small body taken whole, for requests that the gateway answers itself."""

from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestPayloadError

from gateway.errors import refuse
from gateway.listener.connection import ClientConnection
from gateway.model import Reason
from gateway.policy import check_length


async def whole_body(client: ClientConnection, body: StreamReader, most: int, *, expects_continue: bool) -> bytes:
    """Invites a body and waits for all of it.

    Raises:
        Refused: it is too large, too slow or malformed.
        ClientGone: the client left.
    """
    pieces: list[bytes] = []
    size = 0
    client.start_body(body)
    try:
        if expects_continue:
            client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (body.is_eof() and body.at_eof()):
            pieces.append(await client.next_piece(body))
            size += len(pieces[-1])
            check_length(size, most)
            client.body_moved()
    except RequestPayloadError:
        raise refuse(Reason.BODY_MALFORMED, "The request's body is malformed or ends too early.") from None
    finally:
        client.end_body()
    return b"".join(pieces)
