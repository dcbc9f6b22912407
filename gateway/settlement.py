"""Settles jobs by what their final answers say, when a client's own poll shows one.

The poll waits for nothing of this: its answer is looked at as it passes, and the ledger is told in the background.
"""

from collections import OrderedDict
from typing import Any, Final

import structlog

from gateway.admission import Admission
from gateway.errors import LedgerUnavailable
from gateway.forward.scalars import TopScalars
from gateway.ledger.reservations import settle

_WANTED: Final = ("status", "success", "page_count")
_UNFINISHED: Final = frozenset({"processing", "pending", "queued"})
_MOST_REMEMBERED: Final = 10_000
_REMEMBERED_FOR: Final = 60.0  # seconds; an id may have been asked for before it was given to a job
_SMALL: Final = 512
_MOST_SMALL: Final = 1024
_MOST_PAGES: Final = 10_000_000
_TRIES: Final = 3
log = structlog.get_logger()


class Settler:
    """Watches the answers of polls. What was settled lately is remembered, so that the ledger is asked once."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._settled: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._unfinished: set[bytes] = set()

    def watch(self, upstream: str, request_id: str) -> "Watch | None":
        """What looks at the answer to one poll; None when there is nothing left to learn."""
        asked = self._settled.get((upstream, request_id))
        is_known = asked is not None and 0 <= self._admission.wall() - asked < _REMEMBERED_FOR
        return None if is_known else Watch(self, upstream, request_id)

    def is_unfinished(self, content: bytes) -> bool:
        """Whether this very answer was read before, and said that the job still runs."""
        return content in self._unfinished

    def learnt(self, upstream: str, request_id: str, content: bytes, values: dict[str, Any]) -> None:
        """Takes what an answer said."""
        status, success = values.get("status"), values.get("success")
        if status in _UNFINISHED or not isinstance(status, str):
            if len(content) <= _SMALL:
                self._remember_unfinished(content)
            return
        self._remember(upstream, request_id)
        pages = values.get("page_count")
        known = pages if type(pages) is int and 0 <= pages <= _MOST_PAGES else None
        failed = success is False or (success is None and status != "complete")
        self._admission.work(self._settle(upstream, request_id, known, failed=failed))

    async def _settle(self, upstream: str, request_id: str, pages: int | None, *, failed: bool) -> None:
        admission = self._admission
        for _ in range(_TRIES):
            try:
                settled = await admission.ledger.write(
                    lambda c: settle(c, upstream, request_id, pages, admission.wall(), failed=failed)
                )
            except LedgerUnavailable:
                continue
            if settled is not None:
                admission.counts.pages(*settled)
                admission.turnstile.given_back(settled.account)
            return
        self._settled.pop((upstream, request_id), None)  # the next poll tries again

    def _remember(self, upstream: str, request_id: str) -> None:
        self._settled[upstream, request_id] = self._admission.wall()
        if len(self._settled) > _MOST_REMEMBERED:
            self._settled.popitem(last=False)

    def _remember_unfinished(self, content: bytes) -> None:
        if len(self._unfinished) >= _MOST_SMALL:
            self._unfinished.clear()
        self._unfinished.add(content)


class Watch:
    """Looks at one answer as it passes."""

    __slots__ = ("_request_id", "_scalars", "_settler", "_small", "_upstream")

    def __init__(self, settler: Settler, upstream: str, request_id: str) -> None:
        self._settler = settler
        self._upstream = upstream
        self._request_id = request_id
        self._scalars: TopScalars | None = None
        self._small = b""

    def take(self, data: bytes) -> None:
        """Takes the next bytes of an answer."""
        if self._scalars is None:
            self._scalars = TopScalars(_WANTED)
        self._scalars.take(data)
        self._small = self._small + data if len(self._small) + len(data) <= _SMALL else b"x" * (_SMALL + 1)

    def end(self) -> None:
        """Called once the answer is whole."""
        if self._scalars is not None and self._scalars.is_whole:
            self._settler.learnt(self._upstream, self._request_id, self._small, self._scalars.values)
