"""What answers about jobs say, and what follows."""

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.aio.iteration import MAX_SECONDS, Iteration
from gateway.jobs.findings import Findings
from gateway.jobs.reading import WHYS as WHYS_OF_ALL
from gateway.jobs.status_watch import StatusWatch
from gateway.limits.job_cost import Known
from gateway.model.times import Times
from gateway.upstream.job_api import Finding, Said, finding
from gateway.upstream.response_head import ResponseHead
from tests.support.polls import head, poll, says
from tests.support.room import OWNER, PAGES, Room, ended

MOST_TEXT = 65_536  # of one step
A_STEP = 0.001  # seconds


@pytest.mark.parametrize(
    ("answer", "used"),
    [
        ({"status": "complete", "success": True, "page_count": 4}, (4, 6, 0)),
        ({"status": "complete", "page_count": 4}, (4, 6, 0)),
        ({"status": "complete"}, (10, 0, 0)),
        ({"status": "complete", "page_count": "4"}, (10, 0, 0)),
        ({"status": "complete", "page_count": True}, (10, 0, 0)),
        ({"status": "complete", "page_count": -1}, (10, 0, 0)),
        ({"status": "complete", "page_count": 10**9}, (10, 0, 0)),
        ({"status": "complete", "page_count": 4.0}, (10, 0, 0)),
        ({"status": "complete", "page_count": 0}, (0, 10, 0)),
        ({"status": "complete", "success": False, "page_count": 4}, (0, 10, 1)),
        ({"status": "failed"}, (0, 10, 1)),
        ({"status": "failed", "success": None}, (0, 10, 1)),
    ],
)
async def test_a_final_answer_settles(room: Room, answer: dict[str, Any], used: tuple[int, int, int]) -> None:
    job = await room.begin_job()
    woken: list[float | None] = []
    job.waiters["somebody"] = lambda: woken.append(job.expires_at)
    assert (await says(room, job, **answer)).is_final
    assert await room.used() == used
    assert room.hooks.settled == [(OWNER, used[0], used[1])]
    assert woken == [room.wall() + 3600]
    assert room.ended == 1
    writes = room.faulty.writes
    room.findings.apply(job, finding(job.shape, answer), is_own=False)
    await room.quiet()
    assert (room.faulty.writes, room.ended) == (writes, 1)  # there is nothing left to learn


@pytest.mark.parametrize(
    "answer",
    [{"status": "processing"}, {"status": "pending", "success": True}, {"status": "queued"}],
)
async def test_an_answer_that_says_that_a_job_runs_is_known_again(room: Room, answer: dict[str, Any]) -> None:
    job = await room.begin_job()
    content = json.dumps(answer).encode()
    assert not room.findings.unfinished.has(job, content)
    assert not (await says(room, job, **answer)).is_final
    assert room.findings.unfinished.has(job, content)
    assert await room.used() == (0, 0, 0)
    assert (job.is_running, job.known) == (True, Known.NOTHING)


async def test_an_answer_that_names_a_checkpoint_is_read_each_time(room: Room) -> None:
    """Another owner's job may say the same, and what an owner may use is written down for an hour."""
    job = await room.begin_job()
    answer = {"status": "processing", "checkpoint_id": "cp-1"}
    assert (await says(room, job, **answer)).is_unfinished
    assert not room.findings.unfinished.has(job, json.dumps(answer).encode())


@pytest.mark.parametrize(
    "answer", [{}, {"status": 5}, {"status": None, "success": False, "id": "x" * 64}, {"busy": 1.5}]
)
async def test_a_running_job_that_says_no_word_gives_nothing_if_it_gives_no_text(
    room: Room, answer: dict[str, Any]
) -> None:
    """Its later failure cost all that was reserved."""
    job = await room.begin_job()
    watch = await says(room, job, **answer)
    assert (watch.is_unfinished, watch.is_final, watch.gives_nothing) == (True, False, True)
    elsewhere = room.findings.watch_read(job, job.target + "?a=1")
    assert elsewhere is not None
    elsewhere.begin(head())
    elsewhere.take(json.dumps(answer).encode())
    await elsewhere.end()
    assert not elsewhere.gives_nothing  # that may be the request for the result
    assert (job.is_running, job.known) == (True, Known.NOTHING)


@pytest.mark.parametrize(
    "answer",
    [
        {"markdown": "x" * 65},
        {"x" * 65: 1},
        {str(number): number for number in range(100)},
        {"status": 5, "pages": []},
        {"job": {"status": "complete"}},
        {"status": "a"},
    ],
)
async def test_an_answer_without_a_word_for_it_may_be_a_result_and_is_looked_at_each_time(
    room: Room, answer: dict[str, Any]
) -> None:
    job = await room.begin_job()
    watch = await says(room, job, **answer)
    assert (watch.is_unfinished, watch.is_final, watch.gives_nothing) == (True, False, False)
    assert not room.findings.unfinished.has(job, json.dumps(answer).encode())
    assert (job.is_running, job.known) == (True, Known.NOTHING)


@pytest.mark.parametrize("answer", [b"", b"[]", b"no JSON", b'{"status": "complete"', b'{"status": "complete"} x'])
async def test_an_answer_that_is_not_whole_says_nothing(room: Room, answer: bytes) -> None:
    job = await room.begin_job()
    job.misses = 1
    assert not (await poll(room, job, answer)).is_final
    assert (await room.used(), job.misses) == ((0, 0, 0), 1)
    assert not room.findings.unfinished.has(job, answer)


async def test_nothing_at_all_says_nothing(room: Room) -> None:
    job = await room.begin_job()
    assert not (await poll(room, job)).is_final


WHYS = [
    ("redirect", head(302), ended()),
    ("redirect", head(307), ended()),
    ("status", head(400), ended()),
    ("status", head(206), ended()),
    ("coding", head(200, (b"content-encoding", b"br")), ended()),
    ("coding", head(200, (b"content-encoding", b"gzip, gzip")), gzip.compress(gzip.compress(ended()))),
    ("coding", head(200, (b"content-encoding", b"gzip")), b"no gzip"),
    ("coding", head(200, (b"content-encoding", b"gzip")), gzip.compress(ended()) + b"more"),
    ("coding", head(200, (b"content-encoding", b"deflate")), zlib.compress(ended()) + b"more"),
    ("cut", head(200, (b"content-encoding", b"gzip")), gzip.compress(ended())[:-1]),
    ("cut", head(200, (b"content-encoding", b"gzip")), b""),
    ("charset", head(), ended().decode().encode("utf-16")),
    ("charset", head(), ended().decode().encode("utf-16-le")),
    ("charset", head(), ended().decode().encode("utf-32-be")),
    ("no_object", head(), b""),
    ("no_object", head(), b"[]"),
    ("no_object", head(), ended()[:-1]),
    ("no_object", head(), b"\xef\xbb\xbf" * 2 + ended()),
]


@pytest.mark.parametrize(
    ("why", "of", "content"), WHYS, ids=[f"{why}-{number}" for number, (why, *_) in enumerate(WHYS)]
)
async def test_what_cannot_be_read_is_said_once_and_is_no_end(
    room: Room, why: str, of: ResponseHead, content: bytes
) -> None:
    job = await room.begin_job()
    with capture_logs() as events:
        for number in range(1, 4):
            watch = await poll(room, job, content, of=of, is_own=True)
            assert watch.finding == Finding(Said.UNREADABLE, why=why)
            assert (job.unread, room.findings.unreadable[why]) == (number, number)
    assert [event.get("why") for event in events] == [why]
    assert why in WHYS_OF_ALL
    assert job.is_running
    await says(room, job, status="processing")
    assert job.unread == 0


@pytest.mark.parametrize("content", [b"[]", ended().decode().encode("utf-16")], ids=["list", "utf-16"])
async def test_what_a_client_was_answered_that_cannot_be_read_is_no_evidence(room: Room, content: bytes) -> None:
    """Its own headers may have brought that about."""
    job = await room.begin_job()
    for of in (head(), head(404)):
        await poll(room, job, content, of=of)
    assert (job.unread, job.misses, room.findings.unreadable.total()) == (0, 0, 0)


@pytest.mark.parametrize("status", [500, 502, 503, 529, 429, 408])
async def test_a_fault_of_the_server_says_nothing_of_a_job(room: Room, status: int) -> None:
    job = await room.begin_job()
    watch = await poll(room, job, ended(), of=head(status), is_own=True)
    assert (watch.finding, job.unread, job.is_running) == (None, 0, True)


CODED = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("GZip", lambda text: gzip.compress(text[:7]) + gzip.compress(text[7:])),
    ("deflate", zlib.compress),
    ("deflate", lambda text: zlib.compress(text)[2:-4]),
    ("identity", bytes),
]


@pytest.mark.parametrize("size", [1, 100, 1_000_000])
@pytest.mark.parametrize(("coding", "encode"), CODED, ids=["gzip", "x-gzip", "members", "zlib", "raw", "identity"])
async def test_a_coding_that_nobody_asked_for_is_undone(
    room: Room, coding: str, encode: Callable[[bytes], bytes], size: int
) -> None:
    job = await room.begin_job()
    coded = encode(b"\xef\xbb\xbf" + ended(4, markdown="some text " * 2000))
    pieces = (coded[start : start + size] for start in range(0, len(coded), size))
    watch = await poll(room, job, *pieces, of=head(200, (b"content-encoding", coding.encode())))
    assert watch.is_final
    assert await room.used() == (4, 6, 0)


async def test_an_answer_that_unpacks_without_end_holds_nobody_up(room: Room) -> None:
    """A hundred megabytes in a hundred kilobytes: read 64 KB at a time, with a turn for others in between."""
    job = await room.begin_job()
    coded = gzip.compress(b'{"a": "' + b"x" * 100_000_000 + b'", "status": "complete"}')
    watch = room.findings.watch(job)
    watch.begin(head(200, (b"content-encoding", b"gzip")))
    watch.take(coded)
    assert watch.reader is not None
    assert 0 < watch.reader.decoded <= 65_536
    turns, ending = 0, asyncio.ensure_future(watch.end())
    while not ending.done():
        turns += 1
        await asyncio.sleep(0)
    assert watch.is_final
    assert turns > 1400
    await room.quiet()


async def test_answers_that_unpack_without_end_share_an_iteration(room: Room) -> None:
    """Thirty that came whole together: each had a step in every iteration, where there is time for few."""
    job, watches = await room.begin_job(), list[StatusWatch]()

    def steps() -> int:
        return sum(watch.reader.decoded for watch in watches if watch.reader is not None) // MOST_TEXT

    iteration = Iteration(lambda: steps() * A_STEP, asyncio.get_running_loop().call_soon)
    findings = Findings(
        room.completion, room.checkpoints, lambda: room.state, Times(room.clock, room.wall), iteration
    )
    coded = gzip.compress(b'{"a": "' + b"x" * 10 * MOST_TEXT + b'"}')
    for _ in range(30):
        watches.append(findings.watch(job))
        watches[-1].begin(head(200, (b"content-encoding", b"gzip")))
        watches[-1].take(coded)
    ending = asyncio.gather(*(watch.end() for watch in watches))
    taken = list[int]()
    while not ending.done():
        before = steps()
        await asyncio.sleep(0)
        taken.append(steps() - before)
    assert sum(taken) >= 30 * 9
    assert max(taken) <= MAX_SECONDS / A_STEP + 1
    await room.quiet()


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("size", [300_000_000])
async def test_what_is_unpacked_is_bounded(room: Room, size: int) -> None:
    job = await room.begin_job()
    coded = gzip.compress(b'{"a": "' + b"x" * size + b'"}', 1)
    watch = await poll(room, job, coded, of=head(200, (b"content-encoding", b"gzip")), is_own=True)
    assert watch.finding == Finding(Said.UNREADABLE, why="too_large")


async def test_an_answer_with_a_coding_is_not_known_again_by_its_bytes(room: Room) -> None:
    job = await room.begin_job()
    coded = gzip.compress(b'{"status": "processing"}')
    assert (await poll(room, job, coded, of=head(200, (b"content-encoding", b"gzip")))).is_unfinished
    assert not room.findings.unfinished.has(job, coded)


async def test_a_word_that_is_in_no_list_means_that_it_runs_and_is_said_once(room: Room) -> None:
    job = await room.begin_job()
    with capture_logs() as events:
        for _ in range(3):
            await says(room, job, status="Finalizing", success=True)
        await says(room, job, status="x\n" * 50)
    assert [event.get("word") for event in events] == ["finalizing", "(no plain word)"]
    assert room.findings.unknown_words == 4
    assert job.is_running
    await says(room, job, status="Complete", page_count=4)
    assert await room.used() == (4, 6, 0)


async def test_two_answers_that_do_not_know_it_count_in_a_row_only(room: Room) -> None:
    job = await room.begin_job()
    for _ in range(3):
        for of in (head(404), head(302)):
            room.seconds += 1.0
            await poll(room, job, of=of, is_own=True)
    assert job.is_running


async def test_what_runs_costs_nothing_more_for_being_asked_elsewhere(room: Room) -> None:
    job = await room.begin_job()
    watch = room.findings.watch_read(job, job.target + "?a=1")
    assert watch is not None
    watch.begin(head())
    watch.take(b'{"status": "complete", "page_count": 1}')
    await watch.end()
    assert (watch.is_final, watch.gives_nothing, job.is_running) == (True, False, True)
    for said in ("processing", "failed"):
        watch = room.findings.watch_read(job, job.target + "?a=1")
        assert watch is not None
        watch.begin(head())
        watch.take(b'{"status": "%b"}' % said.encode())
        await watch.end()
        assert (watch.gives_nothing, job.is_running) == (True, True)


async def test_what_is_known_to_have_gone_well_is_watched_only_where_a_read_deletes_it(room: Room) -> None:
    job = await room.begin_job()
    await says(room, job, status="complete", page_count=3)
    assert room.findings.watch_read(job, job.target) is None
    room.configure(delete_after_read=True)
    watch = room.findings.watch_read(job, job.target)
    assert watch is not None
    watch.begin(head())
    watch.take(b'{"detail": "maintenance"}')
    await watch.end()
    assert (watch.is_final, await room.used()) == (False, (3, PAGES - 3, 0))


async def test_what_ran_by_other_words_is_looked_at_anew(room: Room) -> None:
    job = await room.begin_job()
    await says(room, job, status="processing")
    room.findings.unfinished.remember(job, b"the same answer")
    assert room.findings.unfinished.has(job, b"the same answer")
    room.configure(shapes={"default": {"status": {"complete": ["processing"], "processing": ["queued"]}}})
    assert not room.findings.unfinished.has(job, b"the same answer")
    room.findings.unfinished.remember(job, b"another")
    assert room.findings.unfinished.has(job, b"another")
    assert not room.findings.unfinished.has(job, b"the same answer")


async def test_an_answer_in_pieces_is_read_as_it_passes(room: Room) -> None:
    job = await room.begin_job()
    content = ended(4, markdown='"status"' * 5000)
    watch = await poll(room, job, *(content[start : start + 777] for start in range(0, len(content), 777)))
    assert watch.content is None
    assert await room.used() == (4, 6, 0)


async def test_what_is_kept_of_an_answer_is_more_when_somebody_waits(room: Room) -> None:
    job = await room.begin_job()
    content = json.dumps({"status": "processing", "of": "x" * 600}).encode()
    assert (await poll(room, job, content[:100], content[100:])).content is None
    assert not room.findings.unfinished.has(job, content)
    held = room.hold(job)
    assert (await poll(room, job, content[:100], content[100:])).content == content
    assert not room.findings.unfinished.has(job, content)
    held.leave()


async def test_what_is_remembered_is_bounded(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.jobs.unfinished_answers.MAX", 3)
    job = await room.begin_job()
    for number in range(10):
        room.findings.unfinished.remember(job, b"%d" % number)
        room.findings.unfinished.remember(job, b"x" * 513)
    assert repr(room.findings) in {f"<Findings <UnfinishedAnswers {kept}> unknown_words=0>" for kept in (1, 2, 3)}
    assert room.findings.unfinished.has(job, b"9")
    assert not room.findings.unfinished.has(job, b"x" * 513)


async def test_what_is_not_known_twice_within_a_second_is_not_known_once(room: Room) -> None:
    job = await room.begin_job()
    for _ in range(5):
        room.findings.count_miss(job)
    await room.quiet()
    assert (job.is_running, await room.used()) == (True, (0, 0, 0))
    room.seconds += 1
    room.findings.count_miss(job)
    await room.quiet()
    assert (job.is_running, await room.used()) == (False, (0, PAGES, 1))
    room.seconds += 1
    room.findings.count_miss(job)
    await room.quiet()
    assert await room.used() == (0, PAGES, 1)
