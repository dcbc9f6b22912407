"""A submit's body on its way to the upstream: the interface of this package for proxy/submission.py.

The order of calls: `take` for each piece, `finish` after the last, then `tail` goes upstream once the reservation is
made; `close` on every path. Only a PDF or a TIFF is spooled, because only these are counted from the whole file
(their directories may be at the end), and a large PDF is not spooled completely (pdf_gaps.py).
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from gateway.uploads.file_kind import COUNTED, FileKind
from gateway.uploads.form import Form, FormRules
from gateway.uploads.judged_again import judge_again
from gateway.uploads.multipart.inspector import Inspector
from gateway.uploads.pages.counter import PageCounter
from gateway.uploads.pages.pdf_gaps import PdfGaps
from gateway.uploads.pages.worker_protocol import Content
from gateway.uploads.spool import Spool
from gateway.uploads.spool_file import SpoolFile
from gateway.uploads.urlencoded import UrlEncoded


class Inspected(NamedTuple):
    """The result of a whole body: its form, and its pages.

    `counted` is None for a file that is neither PDF nor TIFF or can't be counted, or if the form also names another
    document. `has_waited`: others ran after the form was checked, so what the check found may be true no more.
    """

    form: Form
    counted: int | None
    has_waited: bool


def _any(_: Form) -> None:
    """No check."""


class SubmitBody:
    """Inspects one body; without a boundary, a url-encoded one. `rules_now` gives the rules that are in force."""

    __slots__ = (
        "_account",
        "_counter",
        "_early",
        "_file",
        "_gaps",
        "_inspector",
        "_owner",
        "_rules",
        "_rules_now",
        "_spool",
    )

    def __init__(
        self,
        boundary: bytes,
        rules_now: Callable[[], FormRules],
        spool: Spool,
        counter: PageCounter,
        account: str = "",
        owner: str = "",
    ) -> None:
        self._rules = rules = rules_now()
        self._rules_now = rules_now
        self._inspector = Inspector(boundary, rules) if boundary else UrlEncoded(rules)
        self._spool = spool
        self._counter = counter
        self._account = account
        self._owner = owner
        self._early: list[bytes] = []  # the beginning of the file, until its kind is known
        self._file: SpoolFile | None = None
        self._gaps = PdfGaps()

    @property
    def tail(self) -> bytes:
        """The part held back: the closing delimiter. Empty until `finish` has returned."""
        return self._inspector.tail

    async def take(self, data: bytes) -> bytes:
        """Inspects the next bytes; returns those that may go upstream now, which may be none.

        Raises:
            Refused: unsupported_media_type, field_refused, body_too_large or spool_full.
        """
        passed = self._inspector.take(data)
        if passed.file or self._early:
            await self._keep(passed.file)
        return passed.upstream

    async def finish(
        self, let_others: Callable[[], Awaitable[None]], check: Callable[[Form], None] = _any
    ) -> Inspected:
        """Called after the last byte: completes the checks, including `check`, and counts the pages.

        `let_others` gives all others a turn: each judgement of the form may take what one turn has.

        Raises:
            Refused: body_malformed or spool_full.
        """
        form = self._inspector.finish()
        while (rules := self._rules_now()) is not self._rules and rules != self._rules:
            await let_others()
            self._rules = self._rules_now()
            judge_again(form, self._rules)
        check(form)
        if self._file is None or form.document is None:
            return Inspected(form, None, has_waited=False)
        content = Content.TIFF if self._inspector.kind is FileKind.TIFF else Content.PDF
        table = self._gaps.table()
        if table:
            content = Content.GAPPED_PDF
            await self._file.write(table)
        counted = await self._counter.count(await self._file.finish(), self._account, content, self._owner)
        self.close()
        return Inspected(form, counted, has_waited=True)

    def close(self) -> None:
        """Frees the spooled file. May be called at any time, and more than once."""
        self._early.clear()
        if self._file is not None:
            self._file.close()

    async def _keep(self, pieces: list[bytes]) -> None:
        kind = self._inspector.kind
        if kind is None:
            self._early += pieces
            return
        early, self._early = self._early, []
        if kind not in COUNTED:
            return
        if self._file is None:
            self._file = self._spool.open(self._owner)
        for piece in (*early, *pieces):
            for kept in self._gaps.take(piece) if kind is FileKind.PDF else (piece,):
                await self._file.write(kept)
