"""No client holds the loop for others, however it cuts what it sends: counted in chunks for each turn of the loop."""

import pytest

from gateway.turn import MOST_CHUNKS, SLICE
from tests.support.forms import FORM_TYPE
from tests.support.gateway import PLAIN, SUBMIT, Running, request
from tests.support.work import counted_chunks

CODED = "Transfer-Encoding: chunked"
FORM = f"Content-Type: {FORM_TYPE}"
TINY = b"1\r\nx\r\n"
# A turn is over once it has had its chunks; it may find that out behind the slice that filled it.
MOST_OF_A_TURN = MOST_CHUNKS + SLICE // len(TINY)


@pytest.mark.parametrize(
    "head",
    [
        request("POST", "/nothing", CODED, key=None),
        request("POST", PLAIN, CODED, key=None),
        request("POST", PLAIN, CODED),
        request("POST", SUBMIT, CODED, FORM),
        request("POST", "/api/v1/../marker", CODED),
    ],
    ids=["no-route", "no-key", "plain", "submit", "bad-target"],
)
async def test_a_body_in_chunks_of_one_byte_takes_its_turns(head: bytes, gateway: Running) -> None:
    async with counted_chunks() as work, await gateway.connect() as client:
        client.send(head + TINY * 100_000 + b"0\r\n\r\n")
        assert (await client.response()).status in {200, 400, 401, 404, 415}
        await gateway.finished(1)
    assert 0 < work.most <= MOST_OF_A_TURN
