"""The connection pool of one upstream: reuses connections only while the upstream surely keeps them open.

uvicorn closes a connection that was idle for 5 s. A request that reuses one at that moment is lost, so our idle
timeout is shorter: `idle_timeout` (3 s). Which requests go on a used connection at all says repetition.py.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from typing import Final

from gateway.aio.host_lookups import HostLookups, literal_address, look_up
from gateway.aio.iteration import Iteration
from gateway.aio.shared_context import NoContext, SharedContext
from gateway.aio.tls.buffers import TlsBuffers
from gateway.aio.tls.step_threads import StepThreads
from gateway.aio.tls.transport import TlsTransport
from gateway.errors import EXHAUSTED, OutOfFiles, UpstreamUnreachable
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.response_head import ResponseHead
from gateway.upstream.target import UpstreamTarget

_MAX_IDLE: Final = 512
_PORTION: Final = 32  # connections that end in one turn of the loop: all that are idle would hold it for 20 ms


class Pool:
    """The connection pool of one upstream."""

    __slots__ = (
        "_address",
        "_buffers",
        "_idle",
        "_is_closed",
        "_iteration",
        "_known_heads",
        "_lookups",
        "_loop",
        "_open",
        "_opening",
        "_tls",
        "is_retired",
        "target",
    )

    def __init__(
        self,
        target: UpstreamTarget,
        loop: asyncio.AbstractEventLoop,
        iteration: Iteration,
        lookups: HostLookups | None = None,
        context: SharedContext | None = None,
    ) -> None:
        self.target = target
        self._address = literal_address(target.host)  # of a name, who connects looks
        self._lookups = lookups or new_lookups()
        self._iteration = iteration
        self.is_retired = False
        self._is_closed = False
        self._loop = loop
        self._tls = (context or SharedContext(iteration.clock)) if target.scheme == "https" else None
        self._buffers = TlsBuffers(StepThreads.of_one(iteration.clock))
        self._idle: deque[UpstreamConnection] = deque()
        self._open: set[UpstreamConnection] = set()
        self._opening: set[asyncio.Task[UpstreamConnection]] = set()
        self._known_heads: dict[bytes, ResponseHead] = {}

    def take_idle(self, now: float) -> UpstreamConnection | None:
        """The connection used last, if it may be reused; `now` is the loop's time."""
        idle = self._idle
        for _ in range(min(len(idle), _PORTION)):
            connection = idle.pop()
            is_fresh = now - connection.idle_since < self.target.idle_timeout
            if is_fresh and connection.is_idle and not connection.has_news:
                return connection
            connection.discard()
        return None

    async def connect(self, peer: Hashable = None) -> UpstreamConnection:
        """Opens a new connection; `peer` is whom it is for, in whose turns it works.

        Raises:
            UpstreamUnreachable: refused, no route, unknown host, an untrusted certificate, or a timeout.
            OutOfFiles: no file descriptor is left.
        """
        # A separate task: asyncio.timeout needs a current task, and a Drive has none.
        task = self._loop.create_task(self._connect(peer))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        try:
            return await task  # not shielded: who interrupts the Drive cancels it, and no descriptor stays
        except BaseException:
            task.add_done_callback(_abandon)  # the client may have left in the same iteration that connected
            raise
        finally:
            del task  # it has the error, whose traceback has this call

    async def _connect(self, peer: Hashable) -> UpstreamConnection:
        target = self.target
        try:
            async with asyncio.timeout(target.connect_timeout):
                connection = await (self._open_plain() if self._tls is None else self._open_tls(self._tls, peer))
        except TimeoutError:
            failure: Exception = UpstreamUnreachable(
                f"No connection to the upstream within {target.connect_timeout:g} s."
            )
        except NoContext:
            failure = UpstreamUnreachable("No certificate of the upstream can be verified now.")
        except OSError as error:
            failure = _failure_of(error)
        else:
            if connection.transport is not None:  # else it was lost meanwhile, and nobody would take it out again
                self._open.add(connection)
            if self._is_closed:
                connection.abort()
            return connection
        try:
            raise failure
        finally:
            del failure  # its traceback has this call

    def _make(self) -> UpstreamConnection:
        return UpstreamConnection(self._open.discard, self._known_heads, self._iteration)

    async def _open_plain(self) -> UpstreamConnection:
        connection = self._make()
        try:
            await self._reach(lambda: connection)
        except BaseException:
            if connection.transport is not None:
                connection.connection_lost(None)  # uvloop tells no end of what was made when it is cancelled
            raise
        return connection

    async def _open_tls(self, shared: SharedContext, peer: Hashable) -> UpstreamConnection:
        context = await shared.get()
        connection = self._make()
        tls = TlsTransport(context, connection, self._buffers, self._iteration, peer=peer, server=self.target.host)
        try:
            await self._reach(lambda: tls)
            await tls.until_open()
        except BaseException as error:
            if isinstance(error, ssl.SSLCertVerificationError):
                shared.doubt(context)
            tls.abort()
            if not tls.is_lost:
                tls.connection_lost(None)  # nor of this; where a loop does, the second time changes nothing
            raise
        return connection

    async def _reach(self, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        """Connects to the first of the host's addresses that accepts it. OSError: that of the last one."""
        *others, last = self._address or await self._lookups(self.target.host)
        for other in others:
            with suppress(OSError):
                await self._loop.create_connection(protocol, other.address, self.target.port)
                return
        await self._loop.create_connection(protocol, last.address, self.target.port)

    def give_back(self, connection: UpstreamConnection, now: float) -> None:
        """Returns a connection to the pool if its exchange ended well; closes any other."""
        if connection.is_reusable and not self.is_retired and len(self._idle) < _MAX_IDLE:
            connection.recycle()
            connection.idle_since = now
            self._idle.append(connection)
        else:
            connection.discard()

    def discard(self, connection: UpstreamConnection) -> None:
        """Closes a connection whose exchange was given up, so that the upstream can notice it."""
        connection.discard()

    def close_expired(self, now: float) -> None:
        """Closes connections past their idle timeout; called about once a second."""
        idle, expired = self._idle, list[UpstreamConnection]()
        while idle and (idle[0].transport is None or now - idle[0].idle_since >= self.target.idle_timeout):
            expired.append(idle.popleft())
        self._end(expired)

    def retire(self) -> None:
        """Closes idle connections; those in use close when they are given back."""
        self.is_retired = True
        idle, self._idle = self._idle, deque()
        self._end(list(idle))

    def _end(self, left: list[UpstreamConnection]) -> None:
        """Ends connections in portions, each in a turn of its own; those whose turn is to come are open till then."""
        for connection in left[-_PORTION:]:
            connection.abort()
        del left[-_PORTION:]
        if left:
            self._iteration.call_in_turn(partial(self._end, left), is_small=True)

    def close(self) -> None:
        """Closes all connections at once, and those that are being opened as soon as they are open."""
        self.is_retired = self._is_closed = True
        self._idle.clear()
        for connection in list(self._open):
            connection.abort()

    def __repr__(self) -> str:
        retired = " retired" if self.is_retired else ""
        return f"<Pool {self.target.authority} open={len(self._open)} idle={len(self._idle)}{retired}>"

    def __len__(self) -> int:
        return len(self._open)

    @property
    def is_over(self) -> bool:
        """Whether it is retired, and no connection of it is open or being opened."""
        return self.is_retired and not (self._open or self._opening)


def new_lookups() -> HostLookups:
    """Look-ups of containers; a name may mean ::1 on a machine without any other address of IPv6."""
    return HostLookups(partial(look_up, flags=0))


def _failure_of(error: OSError) -> Exception:
    if error.errno in EXHAUSTED:
        return OutOfFiles()
    what = "is not a trusted TLS server" if isinstance(error, ssl.SSLError) else "accepts no connection"
    return UpstreamUnreachable(f"The upstream {what}.")


def _abandon(task: "asyncio.Task[UpstreamConnection]") -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().abort()


class Upstreams:
    """One connection pool for each upstream of the configuration in force; a route has exactly one upstream."""

    def __init__(self, loop: asyncio.AbstractEventLoop, iteration: Iteration) -> None:
        self._loop = loop
        self._iteration = iteration
        self._lookups = new_lookups()
        self._context = SharedContext(iteration.clock)
        self._pools: dict[UpstreamTarget, Pool] = {}
        self._retired: list[Pool] = []  # until they are over
        self._latest: Pool | None = None

    def pool_of(self, target: UpstreamTarget) -> Pool:
        """The pool of a target, created on first use."""
        pool = self._latest
        if pool is not None and pool.target is target:  # hashing a target costs more than all else here
            return pool
        pool = self._pools.get(target)
        if pool is None:
            pool = self._pools[target] = Pool(target, self._loop, self._iteration, self._lookups, self._context)
        self._latest = pool
        return pool

    def keep_only(self, targets: frozenset[UpstreamTarget]) -> None:
        """Retires the pools of upstreams that the configuration has dropped."""
        self._latest = None
        for target in [target for target in self._pools if target not in targets]:
            pool = self._pools.pop(target)
            pool.retire()
            self._retired.append(pool)

    def close_expired(self, now: float) -> None:
        """Closes connections past their idle timeout."""
        self._retired = [pool for pool in self._retired if not pool.is_over]
        for pool in self._pools.values():
            pool.close_expired(now)

    def close(self) -> None:
        """Closes all connections."""
        for pool in (*self._pools.values(), *self._retired):
            pool.close()
