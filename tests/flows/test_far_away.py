"""A ledger 50 ms away: submits through a whole gateway take longer, and none is refused for it."""

import asyncio
import time
from collections import Counter

from tests.support.backend import Backend
from tests.support.faraway import FarAway
from tests.support.forms import form, pdf
from tests.support.gateway import Start, submit
from tests.support.jobs import Jobs
from tests.support.ledgers import Postgres

FAR = 0.05
LONG = 60.0  # for a machine that is busy


async def test_190_at_once_by_one_key_are_all_taken(
    start: Start, backend: Backend, postgres: Postgres, migrated: str
) -> None:
    backend.script = jobs = Jobs()
    document = form(pdf(1))
    async with FarAway(postgres.socket_directory, FAR) as relay:
        gateway = await start(ledger={"url": relay.url_of(migrated)}, jobs={"watch": False})

        async def ask() -> int:
            async with await gateway.connect() as client:
                return (await client.ask(submit(document), b"POST", within=LONG)).status

        asked = await asyncio.gather(*(ask() for _ in range(190)))
        await gateway.end()
    await asyncio.to_thread(postgres.empty, migrated)
    assert Counter(asked) == {200: 190}
    assert jobs.started == 190


async def test_a_submit_takes_less_than_a_second(
    start: Start, backend: Backend, postgres: Postgres, migrated: str
) -> None:
    """From its head to its answer through all of it: the best of some, where the machine is busy."""
    backend.script = Jobs()
    took = []
    async with FarAway(postgres.socket_directory, FAR) as relay:
        gateway = await start(ledger={"url": relay.url_of(migrated)}, jobs={"watch": False})
        for _ in range(5):
            async with await gateway.connect() as client:
                began = time.monotonic()
                assert (await client.ask(submit(form(pdf(1))), b"POST", within=LONG)).status == 200
                took.append(time.monotonic() - began)
        await gateway.end()
    await asyncio.to_thread(postgres.empty, migrated)
    assert min(took) < 1.0
