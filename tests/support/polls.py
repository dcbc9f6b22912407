"""Answers about jobs, as they pass."""

import json
from typing import Any

from gateway.jobs.job import Job
from gateway.jobs.status_watch import StatusWatch
from gateway.upstream.response_head import ResponseHead, read_answer_head
from tests.support.room import Room


def head(status: int = 200, *headers: tuple[bytes, bytes]) -> ResponseHead:
    return read_answer_head(status, b"", list(headers), http_1_1=True, bodiless=False)


async def poll(
    room: Room, job: Job, *pieces: bytes, of: ResponseHead | None = None, is_own: bool = False
) -> StatusWatch:
    """One answer as it passes."""
    watch = room.findings.watch(job) if is_own else room.findings.watch_read(job, job.target)
    assert watch is not None
    watch.begin(of or head())
    for piece in pieces:
        watch.take(piece)
    await watch.end()
    await room.quiet()
    return watch


async def says(room: Room, job: Job, /, **members: Any) -> StatusWatch:
    return await poll(room, job, json.dumps(members).encode())
