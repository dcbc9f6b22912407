import asyncio
import gc
import os
import signal
import subprocess
import sys
import tempfile
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, BinaryIO

import pypdfium2
import pytest

from gateway.aio.drive import Drive
from gateway.demo.sample import sample_pdf
from gateway.errors import Refused
from gateway.model.reasons import Reason
from gateway.uploads.pages import worker_process
from gateway.uploads.pages.counter import PageCounter
from gateway.uploads.pages.cpu_budget import CpuBudgets
from gateway.uploads.pages.page_tree import MAX_BYTES
from gateway.uploads.pages.worker_process import WorkerProcess
from tests.support.waiting import eventually

LONG = 60.0  # a deadline that nothing here should meet


def build(*objects: bytes, trailer: bytes = b"/Root 1 0 R", before: bytes = b"") -> bytes:
    out, starts = bytearray(before + b"%PDF-1.7\n"), []
    for number, body in enumerate(objects, 1):
        starts.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % start for start in starts)
    out += b"trailer\n<< /Size %d %s >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, table)
    return bytes(out)


CATALOG = b"<< /Type /Catalog /Pages 2 0 R >>"
PAGE = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>"


def tree(pages: bytes, *more: bytes, before: bytes = b"") -> bytes:
    return build(CATALOG, pages, PAGE, *more, before=before)


def nested(depth: int) -> bytes:
    return build(CATALOG, *[b"<< /Type /Pages /Kids [%d 0 R] >>" % (number + 1) for number in range(2, depth)], PAGE)


def zeros(size: int) -> bytes:
    """Megabytes of zeros, compressed; its checksum is wrong, which comes too late for whoever unpacks it."""
    packer = zlib.compressobj(9)
    start = packer.compress(b"\x00" * 1_048_576) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(b"\x00" * 1_048_576) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + block * size + packer.flush()


def bomb(kind: bytes, size: int) -> bytes:
    """A cross-reference or object stream of so many megabytes."""
    packed = zeros(size)
    about = b"/Type /%b /Size 99999999 /W [1 8 8] /N 9999999 /First 9999999 /Root 2 0 R /Filter /FlateDecode" % kind
    stream = b"<< %b /Length %d >>\nstream\n%b\nendstream" % (about, len(packed), packed)
    out = b"%PDF-1.7\n1 0 obj\n" + stream + b"\nendobj\n"
    return out + b"startxref\n9\n%%EOF\n"


def graph(*widths: int, padding: int = 0) -> bytes:
    """A page tree that is a graph, without /Count: small, and pdfium goes through it for seconds.

    With 64 KB of padding it is so large that nobody looks at its tree before.
    """
    levels = [
        b"<< /Type /Pages /Kids [%b] >>" % b" ".join([b"%d 0 R" % (level + 3)] * width + [b"9 0 R"] * (not level))
        for level, width in enumerate(widths)
    ]
    return build(
        CATALOG,
        *levels,
        b"<< /Type /Pages /Kids [] >>",
        *[b"null"] * (6 - len(widths)),
        PAGE + b"\n%" + b"x" * padding,
    )


ENCRYPTED = build(
    CATALOG,
    b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
    PAGE,
    trailer=b"/Root 1 0 R /ID [<00><00>] /Encrypt << /Filter /Standard /V 1 /R 2 /O <%b> /U <%b> /P -1 >>"
    % (b"00" * 32, b"11" * 32),
)
# What pdfium 5.15 says, and so the container: /Count is believed from 1 to 1048575, otherwise the tree is walked.
HOSTILE: dict[str, Callable[[], tuple[bytes, int | None]]] = {
    "a count that lies": lambda: (tree(b"<< /Type /Pages /Count 999999 /Kids [3 0 R] >>"), 999_999),
    "a count beyond all": lambda: (tree(b"<< /Type /Pages /Count 2147483647 /Kids [3 0 R] >>"), 1),
    "a count below none": lambda: (tree(b"<< /Type /Pages /Count -5 /Kids [3 0 R] >>"), 1),
    "a count that hides": lambda: (tree(b"<< /Type /Pages /Count 1 /Kids [3 0 R 4 0 R] >>", PAGE), 1),
    "a tree without kids": lambda: (tree(b"<< /Type /Pages /Count 7 >>"), 1),
    "a tree in a circle": lambda: (tree(b"<< /Type /Pages /Kids [2 0 R 3 0 R] >>"), 1),
    "a deep tree": lambda: (nested(20_000), 1),
    "a password": lambda: (ENCRYPTED, None),
    "deep arrays": lambda: (tree(b"<< /Type /Pages /Kids [3 0 R] /X " + b"[" * 200_000 + b" >>"), 1),
    "a late header": lambda: (tree(b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>", before=b"x" * 1000), 1),
    "its end cut off": lambda: (sample_pdf(3)[:-20], 3),
    "its half cut off": lambda: (sample_pdf(3)[:3000], None),
    "no bytes": lambda: (b"", None),
    "zeros": lambda: (b"\x00" * 100_000, None),
    "zeros in a PDF": lambda: (b"%PDF-1.7\n" + b"\x00" * 1_000_000, None),
    "no PDF": lambda: (b"PK\x03\x04" * 1000, None),
    "a table in a circle": lambda: (build(CATALOG, trailer=b"/Root 1 0 R /Prev 60"), None),
    "a table of 4 billion": lambda: (b"%PDF-1.7\nxref\n0 4294967295\n0000000000 65535 f \nstartxref\n9\n%%EOF", None),
    "a cross-reference stream of 4 GB": lambda: (bomb(b"XRef", 4096), None),
    "an object stream of 4 GB": lambda: (bomb(b"ObjStm", 4096), None),
}  # fmt: skip


def file_of(content: bytes) -> BinaryIO:
    file = tempfile.TemporaryFile()  # noqa: SIM115 -- whoever asked closes it
    file.write(content)
    file.flush()
    return file


async def count(counter: PageCounter, content: bytes) -> int | None:
    with file_of(content) as file:
        return await counter.count(file.fileno())


def has(counter: PageCounter, *words: str) -> bool:
    """Whether its state has these words, `idle=1` for instance."""
    return set(words) <= set(repr(counter)[1:-1].split())


def now() -> float:
    return asyncio.get_running_loop().time()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children() -> set[int]:
    task = Path(f"/proc/self/task/{os.getpid()}/children")
    return set(map(int, task.read_text(encoding="ascii").split()))


Workers = Callable[[], set[int]]


@pytest.fixture
def workers() -> Workers:
    """Tells the processes that were started since the test began and are not reaped."""
    before = children()
    return lambda: children() - before


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The processes that were ever started."""
    pids: list[int] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            pids.append(self.pid)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    return pids


MakeCounter = Callable[..., PageCounter]


@pytest.fixture
async def make_counter(workers: Workers) -> AsyncIterator[MakeCounter]:
    """Makes one with one worker, and sees that nothing of it is left."""
    with ExitStack() as made:
        yield lambda **more: made.enter_context(closing(PageCounter(processes=1, timeout=LONG, **more)))
    assert workers() == set()
    gc.collect()


@pytest.fixture
def counter(make_counter: MakeCounter) -> PageCounter:
    return make_counter()


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_file_is_answered_and_the_next_one_counted(counter: PageCounter, name: str) -> None:
    content, pages = HOSTILE[name]()
    assert await count(counter, content) == pages
    with file_of(sample_pdf(2)) as file:
        assert await counter.count(file.fileno(), "key:bob") == 2


@pytest.mark.parametrize("pages", [1, 17, 100_000])
async def test_a_good_file_is_counted_as_pdfium_does(counter: PageCounter, pages: int) -> None:
    content = build(
        CATALOG,
        b"<< /Type /Pages /Count %d /Kids [%b] >>"
        % (pages, b" ".join(b"%d 0 R" % (number + 3) for number in range(pages))),
        *[PAGE] * pages,
    )
    assert await count(counter, content) == pages == len(pypdfium2.PdfDocument(content))


async def test_one_worker_serves_all_in_turn(counter: PageCounter, started: list[int]) -> None:
    assert await asyncio.gather(*(count(counter, sample_pdf(pages)) for pages in range(1, 6))) == [1, 2, 3, 4, 5]
    assert len(started) == 1


async def test_a_worn_worker_is_replaced(
    counter: PageCounter, workers: Workers, started: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.uploads.pages.counter.MAX_ANSWERS", 2)
    for _ in range(2):
        assert await count(counter, sample_pdf(1)) == 1
        assert len(started) == 1
    assert await count(counter, sample_pdf(1)) == 1
    assert len(started) == 2
    await eventually(lambda: has(counter, "idle=1", "ending=0"))
    assert workers() == {started[1]}


async def test_a_worker_that_died_idle_is_replaced(counter: PageCounter, workers: Workers) -> None:
    assert await count(counter, sample_pdf(1)) == 1
    (pid,) = workers()
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not is_alive(pid))
    assert await count(counter, sample_pdf(1)) == 1


async def test_a_worker_that_dies_at_work_costs_one_answer(make_counter: MakeCounter, tmp_path: Path) -> None:
    """One that somebody killed, as the kernel does when memory runs out: no account is suspended for that."""
    counter = make_counter(program=program(tmp_path, "os.kill(os.getpid(), 9)"))
    assert await count(counter, sample_pdf(1)) is None
    make_real(tmp_path)
    assert await count(counter, sample_pdf(1)) == 1


def program(directory: Path, text: str, start: str = "") -> Path:
    """A program that does this in the place of an answer; `start` before it is ready."""
    path = directory / "program.py"
    lines = [
        "import os, socket, struct, sys, time",
        start,
        "s = socket.socket(fileno=0)",
        "s.send(b'+')",
        "_, (fd, *_), _, _ = socket.recv_fds(s, 1, 1)",
        text,
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def make_real(directory: Path) -> None:
    """From now on that program is the worker's own."""
    worker = Path(worker_process.__file__).with_name("worker.py")
    text = f"import runpy\nrunpy.run_path({str(worker)!r}, run_name='__main__')"
    (directory / "program.py").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("text", ["s.recv(1)", "while True: pass", "s.send(b'1234567'); s.recv(1)"])
async def test_a_worker_that_does_not_answer_is_killed(tmp_path: Path, text: str) -> None:
    counter = PageCounter(processes=1, timeout=0.5, program=program(tmp_path, text))
    assert await count(counter, sample_pdf(1)) is None
    await eventually(lambda: has(counter, "idle=0", "busy=0", "ending=0"))
    counter.close()


@pytest.mark.parametrize("start", ["s = socket.socket(fileno=0); s.send(b'-')", "sys.exit(1)"])
async def test_a_worker_that_never_is_ready_is_killed(tmp_path: Path, start: str) -> None:
    counter = PageCounter(processes=1, timeout=LONG, program=program(tmp_path, ANSWER, start))
    assert await count(counter, sample_pdf(1)) is None
    assert has(counter, "idle=0", "busy=0", "suspended=0")  # no document had reached it
    counter.close()


async def test_who_came_first_pays_for_no_time_that_a_start_waited_before_it_failed(
    make_counter: MakeCounter, tmp_path: Path
) -> None:
    """It was dear for ten minutes after that."""
    spending = CpuBudgets(10.0)
    counter = make_counter(program=program(tmp_path, ANSWER, "time.sleep(0.5); sys.exit(1)"), spending=spending)
    with file_of(sample_pdf(1)) as file:
        assert await counter.count(file.fileno(), "key:ann") is None
    assert spending.of("key:ann", now()) < 0.4


async def test_a_slow_start_is_no_part_of_the_count(tmp_path: Path) -> None:
    """On a busy machine, the first document after a start cost the cap, and its account was suspended."""
    slow = program(tmp_path, ANSWER, START.replace("0.4", "1.0"))
    counter = PageCounter(processes=1, timeout=0.5, program=slow)
    assert (await count(counter, sample_pdf(1)), has(counter, "suspended=0")) == (4, True)
    counter.close()


@pytest.mark.parametrize(
    "text", ["s.send(b'123456789')", "s.send(b'1'); s.close()", "sys.exit(1)", "s.send(b'1'*5000); s.recv(1)"]
)
async def test_a_worker_that_talks_nonsense_is_killed(tmp_path: Path, text: str) -> None:
    counter = PageCounter(processes=1, timeout=LONG, program=program(tmp_path, text))
    assert await count(counter, sample_pdf(1)) is None
    assert has(counter, "idle=0", "busy=0")
    counter.close()


async def test_waiting_for_a_turn_is_no_part_of_the_count(tmp_path: Path) -> None:
    again = "s.send(struct.pack('<q', 4)); socket.recv_fds(s, 1, 1); time.sleep(0.7)"
    slow = program(tmp_path, f"import time\nwhile True: {again}")
    counter = PageCounter(processes=1, timeout=2.0, program=slow)
    counted = await asyncio.gather(*(count(counter, sample_pdf(4)) for _ in range(5)))
    assert counted == [4] * 5  # the last of them waited for longer than one count may take
    counter.close()


async def test_what_has_no_turn_is_refused_and_says_nothing_of_the_document(tmp_path: Path) -> None:
    counter = PageCounter(processes=1, timeout=LONG, patience=0.2, program=program(tmp_path, "s.recv(1)"))
    with file_of(sample_pdf(1)) as file:
        busy = asyncio.get_running_loop().create_task(counter.count(file.fileno(), "key:eve"))
        await eventually(lambda: has(counter, "busy=1"))
        with pytest.raises(Refused) as refused:
            await counter.count(file.fileno(), "key:bob")
        assert (refused.value.denial.reason, refused.value.denial.retry_after) == (Reason.SPOOL_FULL, 5)
        assert has(counter, "suspended=0")
        counter.close()
        await asyncio.gather(busy, return_exceptions=True)
    counter.close()


async def test_a_page_tree_that_is_a_graph_is_ended_at_once(make_counter: MakeCounter) -> None:
    content = graph(100, 100, 100, 24)
    assert len(content) < 3000
    spending = CpuBudgets(10.0)
    counter = make_counter(spending=spending)
    with file_of(content) as file, file_of(sample_pdf(3)) as good:
        assert await counter.count(good.fileno(), "key:bob") == 3  # its worker has started
        assert await counter.count(file.fileno(), "key:eve") is None
        assert spending.of("key:eve", now()) < 0.2  # pdfium takes 7 s
        assert await counter.count(good.fileno(), "key:eve") == 3


async def test_one_that_is_not_looked_at_ends_by_its_time_and_nobody_elses_count_suffers(
    make_counter: MakeCounter,
) -> None:
    spending = CpuBudgets(10.0)
    counter = make_counter(spending=spending)
    with file_of(graph(100, 100, 100, 24, padding=MAX_BYTES)) as file:
        assert await counter.count(file.fileno(), "key:eve") is None
    assert 0.2 < spending.of("key:eve", now()) < 5
    with file_of(sample_pdf(3)) as file:
        assert await counter.count(file.fileno(), "key:eve") is None  # it is suspended
        assert await counter.count(file.fileno(), "key:bob") == 3


async def test_who_has_used_its_time_is_told_when_to_come_again_and_is_not_charged_the_cap(
    make_counter: MakeCounter,
) -> None:
    spending = CpuBudgets(10.0)
    spending.add("key:eve", 11.0, now())
    counter = make_counter(spending=spending)
    with file_of(sample_pdf(1)) as file:
        with pytest.raises(Refused) as refused:
            await counter.count(file.fileno(), "key:eve")
        denial = refused.value.denial
        assert (denial.reason, denial.retry_after) == (Reason.SPOOL_FULL, 6)
        assert await counter.count(file.fileno(), "key:bob") == 1
    assert spending.of("key:bob", now()) < 1.0


START = "while time.process_time() < 0.4: pass"


@pytest.mark.parametrize("ends", ["s.recv(1)", "os.abort()"])
async def test_who_ends_a_worker_pays_for_the_next_ones_start_and_not_who_comes_next(
    make_counter: MakeCounter, tmp_path: Path, ends: str
) -> None:
    """A client that left during its count cost its owner nothing, and the next one some of its time, each time."""
    spending = CpuBudgets(10.0)
    answers = f"if os.fstat(fd).st_size == 1: {ANSWER}\n{ends}"
    counter = make_counter(program=program(tmp_path, answers, START), spending=spending)
    with file_of(b"x") as file, file_of(b"xx") as other:
        assert await counter.count(file.fileno(), "key:bob") == 4
        assert spending.of("key:bob", now()) < 0.2
        leaves = asyncio.get_running_loop().create_task(counter.count(other.fileno(), "key:eve"))
        await asyncio.wait([leaves], timeout=0.2)
        leaves.cancel()
        await asyncio.gather(leaves, return_exceptions=True)
        assert spending.of("key:eve", now()) > 0.3
        assert await counter.count(file.fileno(), "key:ann") == 4
        assert spending.of("key:ann", now()) < 0.2


async def test_who_leaves_before_a_worker_has_begun_to_run_pays_for_a_start(make_counter: MakeCounter) -> None:
    """In its first milliseconds it has used none that can be measured: 300 starts in three seconds cost nothing."""
    spending = CpuBudgets(10.0)
    counter = make_counter(spending=spending)
    with file_of(sample_pdf(1)) as file:
        for _ in range(3):
            leaves = asyncio.get_running_loop().create_task(counter.count(file.fileno(), "key:eve"))
            await eventually(lambda: has(counter, "busy=1"))
            leaves.cancel()
            await asyncio.gather(leaves, return_exceptions=True)
    assert spending.of("key:eve", now()) > 0.1


async def test_who_leaves_while_a_worker_starts_pays_for_that_much_of_it(
    make_counter: MakeCounter, tmp_path: Path
) -> None:
    spending = CpuBudgets(10.0)
    counter = make_counter(program=program(tmp_path, ANSWER, START.replace("0.4", "60")), spending=spending)
    with file_of(b"x") as file:
        leaves = asyncio.get_running_loop().create_task(counter.count(file.fileno(), "key:eve"))
        await eventually(lambda: has(counter, "busy=1"))
        await asyncio.sleep(0.3)
        leaves.cancel()
        await asyncio.gather(leaves, return_exceptions=True)
        assert 0.0 < spending.of("key:eve", now()) < 0.4
        make_real(tmp_path)
        assert await count(counter, sample_pdf(2)) == 2


async def test_the_time_that_documents_take_is_the_owners_whichever_key_sent_them(make_counter: MakeCounter) -> None:
    """With six keys, an owner had six times as much."""
    spending = CpuBudgets(10.0)
    counter = make_counter(spending=spending)
    with file_of(sample_pdf(1)) as file:
        assert await counter.count(file.fileno(), "key:one", owner="team") == 1
        assert (spending.of("key:one", now()), len(spending)) == (0.0, 1)
        spending.add("team", 11.0, now())
        for key in ("key:one", "key:two"):
            with pytest.raises(Refused):
                await counter.count(file.fileno(), key, owner="team")
        assert await counter.count(file.fileno(), "key:two", owner="another") == 1


ANSWER = "s.send(struct.pack('<q', 4)); socket.recv_fds(s, 1, 1)"


async def test_an_owner_has_no_more_turns_with_many_keys(
    make_counter: MakeCounter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each key was somebody: who had one waited for all of another's."""
    monkeypatch.setattr(WorkerProcess, "cpu_seconds", 0.0)
    answers = f"while True:\n time.sleep(os.fstat(fd).st_size // 1000)\n {ANSWER}"
    counter = make_counter(program=program(tmp_path, answers.replace("; socket", "; _, (fd, *_), _, _ = socket")))
    loop, served = asyncio.get_running_loop(), list[str]()

    async def counted(file: BinaryIO, key: str, owner: str) -> None:
        assert await counter.count(file.fileno(), key, owner=owner) == 4
        served.append(key)

    with file_of(b"x") as file, file_of(bytes(1000)) as slow:
        for owner in ("team", "ann"):  # the first of an owner is not known to be short
            await counted(file, "key:first", owner)
        first = loop.create_task(counted(slow, "key:slow", "first"))
        await eventually(lambda: has(counter, "busy=1"))
        keys = [counted(file, key, "team") for key in ("key:0", "key:0", "key:0", "key:1", "key:2")]
        await asyncio.gather(first, *keys, *(counted(file, "key:ann", "ann") for _ in range(3)))
    assert served[3:] == ["key:0", "key:ann", "key:1", "key:ann", "key:2", "key:ann", "key:0", "key:0"]


async def test_an_owner_whose_documents_take_long_has_one_worker_with_all_its_keys(tmp_path: Path) -> None:
    """A key that nobody knows had the other one: by a new key each time an owner had both."""
    slow = f"while time.process_time() < 0.4: pass\n{ANSWER}; s.recv(1)"
    counter = PageCounter(processes=2, timeout=LONG, program=program(tmp_path, slow))
    loop = asyncio.get_running_loop()
    with file_of(b"x") as file:
        assert await counter.count(file.fileno(), "key:one", owner="team") == 4
        asked = [loop.create_task(counter.count(file.fileno(), f"key:{n}", owner="team")) for n in range(3)]
        await eventually(lambda: has(counter, "busy=1"))
        await asyncio.sleep(0.1)
        assert has(counter, "busy=1")
        asked.append(loop.create_task(counter.count(file.fileno(), "key:ann", owner="ann")))
        await eventually(lambda: has(counter, "busy=2"))
        counter.close()
        await asyncio.gather(*asked, return_exceptions=True)
    counter.close()


async def test_a_key_is_suspended_alone(make_counter: MakeCounter, tmp_path: Path) -> None:
    """A suspended one's documents cost the cap: an owner's other keys may be other people's."""
    counter = make_counter(program=program(tmp_path, "os.abort()"))
    with file_of(sample_pdf(2)) as file:
        assert await counter.count(file.fileno(), "key:one", owner="team") is None
        make_real(tmp_path)
        assert await counter.count(file.fileno(), "key:one", owner="team") is None
        assert await counter.count(file.fileno(), "key:two", owner="team") == 2


async def test_a_worker_has_its_time_noted_and_gives_way_to_the_gateway() -> None:
    worker = WorkerProcess(512 * 1_048_576, 10)
    with file_of(sample_pdf(1)) as file:
        await worker.ready()
        assert await worker.ask(file.fileno()) == 1
    assert (worker.cpu_seconds or 0) > 0
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, worker.pid) == min(ours + 10, 19)
    worker.kill()
    worker.disconnect()
    worker.wait()


async def test_without_processes_nothing_is_counted(counter: PageCounter, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise BlockingIOError

    monkeypatch.setattr(subprocess, "Popen", none_left)
    assert await count(counter, sample_pdf(1)) is None


async def test_an_answer_that_nobody_waits_for_is_never_another_s(make_counter: MakeCounter, tmp_path: Path) -> None:
    counter = make_counter(program=program(tmp_path, "s.recv(1)"))
    ends: list[BaseException | None] = []
    with file_of(sample_pdf(9)) as file:

        async def work() -> None:
            await counter.count(file.fileno())

        drive = Drive(work(), ends.append)
        drive.step()
        await eventually(lambda: has(counter, "busy=1"))
        stop = RuntimeError("stop")
        drive.interrupt(stop)
        assert ends == [stop]
    make_real(tmp_path)
    assert await count(counter, sample_pdf(2)) == 2
    assert has(counter, "busy=0")


async def test_a_drive_may_be_interrupted_before_anything_began(counter: PageCounter) -> None:
    ends: list[BaseException | None] = []

    async def work() -> None:
        await counter.count(-1)

    drive = Drive(work(), ends.append)
    drive.step()
    drive.interrupt(RuntimeError("stop"))
    assert len(ends) == 1
    assert await count(counter, sample_pdf(2)) == 2


async def test_closing_ends_what_is_under_way(tmp_path: Path, workers: Workers) -> None:
    counter = PageCounter(processes=2, timeout=LONG, program=program(tmp_path, "s.recv(1)"))
    with file_of(b"x") as file:
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(counter.count(file.fileno(), f"key:{n}")) for n in range(3)]
        await eventually(lambda: has(counter, "busy=2"))
        assert len(workers()) == 2
        counter.close()
        assert workers() == set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    counter.close()


async def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    for text in ("s.recv(1)", "sys.exit(1)"):
        counter = PageCounter(processes=1, timeout=0.3, program=program(tmp_path, text))
        await count(counter, sample_pdf(1))
        counter.close()
    assert descriptors() == before


async def test_a_worker_inherits_nothing_and_may_do_nothing(
    monkeypatch: pytest.MonkeyPatch, workers: Workers
) -> None:
    monkeypatch.setenv("GATEWAY_SECRET", "s3cret")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    counter = PageCounter(processes=1, timeout=LONG)
    with file_of(b"secret") as inherited:
        os.set_inheritable(inherited.fileno(), True)
        assert await count(counter, sample_pdf(1)) == 1
    (pid,) = workers()
    about = Path(f"/proc/{pid}")
    environment = (about / "environ").read_bytes()
    limits = {
        line[:25].strip(): line[26:47].strip() for line in (about / "limits").read_text(encoding="ascii").splitlines()
    }
    status = (about / "status").read_text(encoding="utf-8")
    descriptors = {entry.name: str(entry.readlink()) for entry in (about / "fd").iterdir()}
    assert b"s3cret" not in environment
    assert environment.startswith(b"LD_LIBRARY_PATH=/nowhere")
    assert descriptors.pop("0").startswith("socket:")
    assert set(descriptors.values()) == {"/dev/null"}
    assert "NoNewPrivs:\t1" in status
    assert os.getsid(pid) == pid
    expected = {
        "Max address space": str(512 * 1_048_576),
        "Max file size": "0",
        "Max core file size": "0",
        "Max processes": "0",
    }
    assert expected.items() <= limits.items()
    assert limits["Max open files"] == "16"
    assert 0 < int(limits["Max cpu time"]) < 100
    counter.close()


GATEWAY = """
import asyncio, os, pathlib, signal, sys, tempfile
from gateway.uploads.pages.counter import PageCounter
from gateway.demo.sample import sample_pdf
async def main():
    counter = PageCounter()
    with tempfile.TemporaryFile() as file:
        file.write(sample_pdf(1)); file.flush()
        assert await counter.count(file.fileno()) == 1
    print(pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def test_no_worker_outlives_a_gateway_that_is_killed() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", GATEWAY, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == -signal.SIGKILL
    await eventually(lambda: not is_alive(int(output)))


async def test_an_idle_counter_serves_one_account_with_all_its_workers(tmp_path: Path) -> None:
    counter = PageCounter(processes=2, timeout=LONG, program=program(tmp_path, "s.recv(1)"))
    loop = asyncio.get_running_loop()
    with file_of(b"x") as file:
        asked = [loop.create_task(counter.count(file.fileno(), "key:eve")) for _ in range(3)]
        await eventually(lambda: has(counter, "busy=2"))
        counter.close()
        await asyncio.gather(*asked, return_exceptions=True)
    counter.close()


@pytest.mark.parametrize(("answer", "at_work"), [(4, 2), (-1, 1)])
async def test_large_documents_of_one_account_have_all_workers_once_one_was_counted(
    tmp_path: Path, answer: int, at_work: int
) -> None:
    only_the_first = f"if os.fstat(fd).st_size == 2_000_000: s.send(struct.pack('<q', {answer})); s.recv(1)"
    counter = PageCounter(processes=2, timeout=LONG, program=program(tmp_path, f"{only_the_first}\ns.recv(1)"))
    loop = asyncio.get_running_loop()
    with file_of(bytes(2_000_000)) as first, file_of(bytes(3_000_000)) as file:
        assert await counter.count(first.fileno(), "key:eve") == (None if answer < 0 else answer)
        asked = [loop.create_task(counter.count(file.fileno(), "key:eve")) for _ in range(3)]
        await eventually(lambda: has(counter, f"busy={at_work}"))
        await asyncio.sleep(0.1)
        assert has(counter, f"busy={at_work}")
        counter.close()
        await asyncio.gather(*asked, return_exceptions=True)
    counter.close()


async def test_an_account_whose_document_took_too_long_waits_and_others_do_not(
    tmp_path: Path, started: list[int]
) -> None:
    late = PageCounter(processes=1, timeout=0.2, program=program(tmp_path, "s.recv(1)"))
    with file_of(sample_pdf(2)) as file:
        assert await late.count(file.fileno(), "key:eve") is None
        assert has(late, "suspended=1")
        assert await late.count(file.fileno(), "key:eve") is None
        assert len(started) == 1  # nobody was asked the second time
        assert await late.count(file.fileno(), "key:bob") is None
        assert len(started) == 2
    late.close()


@pytest.mark.parametrize("text", ["os.abort()", "os._exit(3)", "s.send(b'123456789'); s.recv(1)"])
async def test_an_account_whose_document_ends_its_worker_waits_as_one_whose_took_too_long(
    tmp_path: Path, started: list[int], text: str
) -> None:
    """A new worker costs the loop 1 to 3 ms: so many documents that crash theirs would hold all others."""
    crashing = PageCounter(processes=1, timeout=LONG, program=program(tmp_path, text))
    with file_of(sample_pdf(2)) as file:
        for _ in range(3):
            assert await crashing.count(file.fileno(), "key:eve") is None
        assert has(crashing, "suspended=1")
        assert len(started) == 1
        assert await crashing.count(file.fileno(), "key:bob") is None
        assert len(started) == 2
    crashing.close()


async def test_a_document_that_is_counted_ends_the_memory_of_slow_ones(
    make_counter: MakeCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.uploads.pages.counter.SUSPENDED", 0.0)
    counter = make_counter()
    with file_of(graph(100, 100, 100, 24, padding=MAX_BYTES)) as slow, file_of(sample_pdf(2)) as file:
        assert await counter.count(slow.fileno(), "key:eve") is None
        assert has(counter, "suspended=1")
        assert await counter.count(file.fileno(), "key:eve") == 2
    assert has(counter, "suspended=0")
