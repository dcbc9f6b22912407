"""A thread that runs the transactions of a SQLite ledger one after the other, for owners in turn.

A caller gives up by himself, on his loop: when his turn has not come in time, or his transaction takes too long. What
he gave up before its turn is never begun; what runs then is rolled back instead of committed.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from gateway.errors import LedgerUnavailable, ValueNotKept
from gateway.ledger.engine import fault_of_waiting, handed_on
from gateway.ledger.owner_turns import OwnerTurns
from gateway.ledger.sqlite_file import SqliteFile, unavailable

MAX_WAITING: Final = 10_000
_NO_TURN: Final = "no turn within ledger.turn_timeout"


@dataclass(slots=True, eq=False)
class LedgerCall:
    """A caller's transaction. `turn` is the time by which its turn has to come, `seconds` are for itself."""

    work: Callable[[Connection], Any]
    done: "asyncio.Future[Any]"
    in_turn_of: str
    turn: float
    seconds: float
    durable: bool
    abandoned: bool = False
    began: float | None = None
    timer: asyncio.TimerHandle | None = None

    def left(self, now: float) -> float:
        """Seconds until its caller gives up: first on its turn, then, once it has begun, on the transaction."""
        return self.turn - now if self.began is None else self.began + self.seconds - now

    def watch(self) -> None:
        """Lets its caller give up in time."""
        left = self.left(time.monotonic())
        if left > 0:
            self.timer = self.done.get_loop().call_later(min(left, self.seconds), self.watch)
        else:
            _end(self.done, None, _late(self))

    def give_up(self) -> None:
        """Its caller no longer waits. Not begun: it never will; begun: it rolls back before its commit."""
        self.abandoned = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.done.cancel()

    def end(self, result: Any, error: BaseException | None) -> None:
        """Called on its thread: lets its caller know. In the error's calls is this one, which would hold it."""
        error = None if error is None else handed_on(error)
        with suppress(RuntimeError):  # its loop has closed
            self.done.get_loop().call_soon_threadsafe(_end, self.done, result, error)


def _end(done: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)


def _late(call: LedgerCall) -> LedgerUnavailable:
    if call.began is None:  # others of its owner's may have been ahead; the one that runs says what is wrong
        return fault_of_waiting(call.in_turn_of)(_NO_TURN)
    return LedgerUnavailable("no answer within ledger.timeout")


class LedgerThread:
    """A thread with its own connection to the file; its name says whether it writes."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._calls: OwnerTurns[LedgerCall] = OwnerTurns(1)
        self._queue = Lock()
        self._signals: SimpleQueue[None] = SimpleQueue()  # one for each queued call, and one for the end
        name = "ledger-writer" if file.writes else "ledger-reader"
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many calls it has not begun."""
        return len(self._calls)

    def put(self, call: LedgerCall) -> None:
        """Queues a call.

        Raises:
            LedgerUnavailable: too many calls wait.
        """
        with self._queue:
            if len(self._calls) >= MAX_WAITING:
                raise fault_of_waiting(call.in_turn_of)("too many transactions wait for it")
            self._calls.put(call.in_turn_of, call)
        self._signals.put(None)

    def stop(self, timeout: float) -> None:
        """Ends the thread after its queued calls; blocks for at most `timeout` seconds."""
        self._signals.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while (call := self._next()) is not None:
            if not call.abandoned:  # else its transaction never begins
                self._serve(call)
        self._file.close()

    def _next(self) -> LedgerCall | None:
        """Waits for the next call, taking owners in turn; None when the thread is to end."""
        self._signals.get()
        with self._queue:
            found = self._calls.take()
            if found is None:
                return None
            self._calls.finish(found[0])  # the share is one, and this thread runs one at a time
            return found[1]

    def _serve(self, call: LedgerCall) -> None:
        try:
            call.began = time.monotonic()
            if call.began > call.turn:
                raise fault_of_waiting(call.in_turn_of)(_NO_TURN)
            result = self._transact(call)
        except IntegrityError as error:
            call.end(None, error)
        except DBAPIError as error:
            self._file.close()
            call.end(None, unavailable(handed_on(error).orig))
        except UnicodeEncodeError:  # the driver's, of a value: SQLite stores UTF-8, which has no lone surrogate
            call.end(None, ValueNotKept("it can't store a value"))
        except (OSError, sqlite3.Error, SQLAlchemyError) as error:
            self._file.close()
            call.end(None, unavailable(error))
        except BaseException as error:  # noqa: BLE001 -- the caller gets whatever the work raises
            call.end(None, error)
        else:
            is_log_large = self._file.is_log_large
            call.end(result, None)  # wakes the loop: what asks the system after this would wait for Python's lock
            if is_log_large:
                self._file.bound_log()

    def _transact(self, call: LedgerCall) -> Any:
        def work(connection: Connection) -> Any:
            result = call.work(connection)
            if call.abandoned:
                raise LedgerUnavailable("nobody waits for it any more")
            return result

        return self._file.transact(work, durable=call.durable)
