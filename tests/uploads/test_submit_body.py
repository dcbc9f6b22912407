import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from gateway.aio.drive import Drive
from gateway.demo.sample import sample_pdf
from gateway.errors import Refused
from gateway.model.reasons import Reason
from gateway.uploads.file_kind import FileKind
from gateway.uploads.form import FileFacts, Form, FormRules
from gateway.uploads.pages.bound import page_bound
from gateway.uploads.pages.counter import PageCounter
from gateway.uploads.pages.worker_protocol import Content
from gateway.uploads.spool import Spool
from gateway.uploads.submit_body import Inspected, SubmitBody
from tests.support.pure import nobody_waits

RULES = FormRules(refused=frozenset({"file_url"}), removed=frozenset({"webhook_url"}))
LIMIT = 4 * 1_048_576


def field(name: str, value: bytes, more: bytes = b"") -> bytes:
    return b'--b0\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % (name.encode(), more, value)


def form(content: bytes, *parts: bytes, filename: bytes = b"x.pdf") -> bytes:
    return field("file", content, b'; filename="%b"' % filename) + b"".join(parts) + b"--b0--\r\n"


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    thread = ThreadPoolExecutor(1)
    with closing(Spool(tmp_path, LIMIT, thread=thread)) as made:
        yield made
        assert made.used == 0
    assert made.kept == 0
    thread.shutdown()


class Counter(PageCounter):
    """Says a number at once; notes what it was given."""

    def __init__(self, pages: int | None = 7) -> None:
        super().__init__()
        self.pages = pages
        self.contents: list[bytes] = []

    async def count(self, fd: int, account: str = "", content: Content = Content.PDF, owner: str = "") -> int | None:
        del account, content, owner
        self.contents.append(os.pread(fd, 1 << 24, 0))
        return self.pages


def submit(spool: Spool, counter: PageCounter) -> SubmitBody:
    return SubmitBody(b"b0", lambda: RULES, spool, counter)


async def send(body: SubmitBody, content: bytes, step: int = 262_144) -> bytes:
    out = b""
    for start in range(0, len(content), step):
        out += await body.take(content[start : start + step])
    return out


PDF = sample_pdf(40)


@pytest.mark.parametrize("step", [1, 50, 1000, 262_144])
async def test_a_pdf_goes_through_and_is_counted(spool: Spool, step: int) -> None:
    counter = Counter()
    content = form(PDF, field("page_range", b"0-4"))
    with closing(submit(spool, counter)) as body:
        out = await send(body, content, step)
        assert body.tail == b""
        inspected = await body.finish(nobody_waits)
        form_of = Form(page_range="0-4", file=FileFacts(FileKind.PDF, len(PDF)))
        assert inspected == Inspected(form_of, 7, has_waited=True)
        assert out + body.tail == content
    assert counter.contents == [PDF]
    assert spool.used == 0


async def test_with_real_workers() -> None:
    counter = PageCounter(processes=1, timeout=60)
    with closing(counter), closing(Spool(None, LIMIT)) as spool:
        for content, pages in ((PDF, 40), (b"%PDF-1.7 and no more", None), (sample_pdf(1), 1)):
            with closing(submit(spool, counter)) as body:
                await send(body, form(content))
                inspected = await body.finish(nobody_waits)
                assert inspected.counted == pages
                assert page_bound(inspected.form, inspected.counted, 100) == (pages or 100)


@pytest.mark.parametrize(
    ("content", "filename", "kind"),
    [(b"\x89PNG\r\n\x1a\n" + b"x" * 5000, b"x.png", FileKind.IMAGE),
     (b"PK\x03\x04" * 2000, b"x.docx", FileKind.UNKNOWN),
     (b"x", b"", FileKind.UNKNOWN)],
)  # fmt: skip
@pytest.mark.parametrize("step", [1, 262_144])
async def test_what_is_no_pdf_is_not_kept(
    spool: Spool, content: bytes, filename: bytes, kind: FileKind, step: int
) -> None:
    counter = Counter()
    body = submit(spool, counter)
    await send(body, form(content, filename=filename), step)
    assert spool.used == 0
    assert await body.finish(nobody_waits) == Inspected(
        Form(file=FileFacts(kind, len(content))), None, has_waited=False
    )
    assert counter.contents == []
    body.close()


async def test_a_short_pdf_is_kept_too(spool: Spool) -> None:
    counter = Counter()
    with closing(submit(spool, counter)) as body:
        await send(body, form(b"%PDF-"), 1)
        await body.finish(nobody_waits)
    assert counter.contents == [b"%PDF-"]


async def test_a_form_without_a_file(spool: Spool) -> None:
    with closing(submit(spool, Counter())) as body:
        await send(body, field("mode", b"fast") + b"--b0--")
        assert await body.finish(nobody_waits) == Inspected(Form(mode="fast"), None, has_waited=False)
        assert body.tail == b"\r\n--b0--"


@pytest.mark.parametrize("longer_first", [True, False])
async def test_the_counter_never_sees_what_an_earlier_upload_left(spool: Spool, longer_first: bool) -> None:
    counter = Counter()
    contents = [b"%PDF-1.7" + b"A" * 1_500_000, b"%PDF-1.4" + b"B" * 10]
    if not longer_first:
        contents.reverse()
    for content in contents:
        with closing(submit(spool, counter)) as body:
            await send(body, form(content))
            await body.finish(nobody_waits)
        assert (spool.used, spool.kept) == (0, len(content))
    assert counter.contents == contents


@pytest.mark.parametrize("length", [0, 10, 5000, -2])
async def test_a_body_that_is_cut_off_frees_everything(spool: Spool, length: int) -> None:
    content = form(PDF)[:length]
    body = submit(spool, Counter())
    out = await send(body, content)
    if length != -2:
        with pytest.raises(Refused) as caught:
            await body.finish(nobody_waits)
        assert caught.value.denial.reason is Reason.BODY_MALFORMED
    assert b"--b0--" not in out
    body.close()
    body.close()
    assert (spool.used, spool.kept) == (0, 0)


async def test_a_refusal_midway_frees_everything(spool: Spool) -> None:
    body = submit(spool, Counter())
    with pytest.raises(Refused, match="file_url"):
        await send(body, form(PDF, field("file_url", b"http://h/")), 1000)
    assert 0 < spool.used <= len(PDF)
    body.close()
    assert (spool.used, spool.kept) == (0, 0)


async def test_without_room_a_pdf_is_refused_and_another_file_is_not(spool: Spool) -> None:
    body = submit(spool, Counter())
    with pytest.raises(Refused) as caught:
        await send(body, form(b"%PDF-1.7" + b"x" * LIMIT))
    assert caught.value.denial.reason is Reason.SPOOL_FULL
    body.close()
    other = submit(spool, Counter())
    await send(other, form(b"PK\x03\x04" + b"x" * LIMIT))
    assert (await other.finish(nobody_waits)).counted is None


async def test_the_room_that_its_uploads_may_have_is_an_owners_whichever_key_sends_them(spool: Spool) -> None:
    """With sixteen keys, of which each had less than an eighth, it had all of it for as long as it liked."""
    piece = form(b"%PDF-1.7" + bytes(LIMIT // 16))[:-20]
    with ExitStack() as bodies:
        for number in range(13):
            slow = SubmitBody(b"b0", lambda: RULES, spool, Counter(), f"key:{number}", "key:team")
            bodies.enter_context(closing(slow))
            await send(slow, piece)
        mine = SubmitBody(b"b0", lambda: RULES, spool, Counter(), "key:ann", "key:ann")
        bodies.enter_context(closing(mine))
        await send(mine, form(b"%PDF-1.7" + bytes(LIMIT // 4)))
        assert (await mine.finish(nobody_waits)).counted == 7


async def test_a_drive_runs_it_and_may_interrupt_the_count(spool: Spool) -> None:
    class Slow(Counter):
        async def count(
            self, fd: int, account: str = "", content: Content = Content.PDF, owner: str = ""
        ) -> int | None:
            del account, content, owner
            await asyncio.get_running_loop().create_future()
            return await super().count(fd)

    async def work(counter: PageCounter) -> None:
        with closing(submit(spool, counter)) as body:
            await send(body, form(b"%PDF-1.7" + b"x" * 3_000_000))
            await body.finish(nobody_waits)

    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()
    Drive(work(Counter()), ended.set_result).step()
    assert await ended is None

    interrupted: asyncio.Future[Any] = loop.create_future()
    drive = Drive(work(Slow()), interrupted.set_result)
    drive.step()
    stop = RuntimeError("stop")
    drive.interrupt(stop)
    assert await interrupted is stop
    assert spool.used == 0


async def test_a_broken_off_count_that_still_reads_does_not_disturb_the_next(spool: Spool) -> None:
    lasting: list[int] = []
    reads = asyncio.Event()

    class Slow(Counter):
        async def count(
            self, fd: int, account: str = "", content: Content = Content.PDF, owner: str = ""
        ) -> int | None:
            del account, content, owner
            lasting.append(os.dup(fd))  # as a worker has it: the same place in the file, and closed by itself
            reads.set()
            await asyncio.get_running_loop().create_future()
            return await super().count(fd)

    class Reads(Counter):
        async def count(
            self, fd: int, account: str = "", content: Content = Content.PDF, owner: str = ""
        ) -> int | None:
            del account, content, owner
            os.lseek(lasting[0], 5, os.SEEK_SET)
            self.contents.append(os.read(fd, 1 << 24))
            return 7

    async def work(counter: PageCounter, content: bytes) -> None:
        with closing(submit(spool, counter)) as body:
            await send(body, form(content))
            await body.finish(nobody_waits)

    interrupted: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    drive = Drive(work(Slow(), b"%PDF-1.7 of one"), interrupted.set_result)
    drive.step()
    await reads.wait()
    drive.interrupt(RuntimeError("stop"))
    await interrupted
    assert (spool.used, spool.kept) == (0, 15)

    counter = Reads()
    await work(counter, b"%PDF-1.7 of two")
    assert counter.contents == [b"%PDF-1.7 of two"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(lasting[0], b"x")
    os.close(lasting[0])


@pytest.mark.parametrize("is_let_in", [True, False])
async def test_a_form_is_judged_by_new_rules_in_a_turn_of_its_own(spool: Spool, *, is_let_in: bool) -> None:
    """Both judgements in one turn held all others for 15 ms; and rules may change during the wait for the next."""
    strict = FormRules(refused=frozenset({"mode"}))
    reloads = [strict, FormRules()] if is_let_in else [FormRules(), strict]
    in_force = [RULES]
    told: list[str] = []

    async def let_others() -> None:
        told.append("a turn")
        in_force.append(reloads.pop(0))

    body = SubmitBody(b"b0", lambda: in_force[-1], spool, Counter())
    await send(body, form(b"hello", field("mode", b"fast"), filename=b"a.txt"))
    in_force.append(reloads.pop(0))
    finished = body.finish(let_others, lambda _: told.append("checked"))
    if is_let_in:
        assert (await finished).form.mode == "fast"
        assert told == ["a turn", "checked"]
    else:
        with pytest.raises(Refused, match="mode"):
            await finished
