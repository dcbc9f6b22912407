"""Slots of the connection pool, given to owners in turn; none gets more than half of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.ledger.owner_turns import OwnerTurns


class ConnectionSlots:
    """`count` slots of one event loop."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._turns: OwnerTurns[asyncio.Future[None]] = OwnerTurns(max(1, count // 2))

    def __repr__(self) -> str:
        return f"<ConnectionSlots free={self._free} waiting={len(self._turns)}>"

    @asynccontextmanager
    async def one(self, owner: str) -> AsyncIterator[None]:
        """Waits for a slot and holds it."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.put(owner, turn)
        self._call()
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():  # it got its slot and left at the same moment
                self._leave(owner)
            turn.cancel()
            raise
        try:
            yield
        finally:
            self._leave(owner)

    def _leave(self, owner: str) -> None:
        self._turns.finish(owner)
        self._free += 1
        self._call()

    def _call(self) -> None:
        while self._free and (found := self._turns.take()) is not None:
            owner, turn = found
            if turn.done():  # the waiter has left
                self._turns.finish(owner)
            else:
                self._free -= 1
                turn.set_result(None)
