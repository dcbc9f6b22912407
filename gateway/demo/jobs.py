"""The table of jobs, in memory. It stores no owners: the container doesn't authenticate its callers."""

import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any, Literal

import orjson

from gateway.demo.conversion import ConversionError, Options, convert
from gateway.demo.render import render, render_ocr

Conversion = Literal["marker", "ocr", "oss"]

_FORMAT_FIELDS = ("output_format", "markdown", "html", "json", "chunks", "images", "metadata")
_NEVER_SET = (
    *("versions", "parse_quality_score", "total_cost", "cost_breakdown"),
    *("extraction_schema_json", "segmentation_results", "evaluation"),
)
_FILLER = "The quick brown fox jumps over the lazy dog. "
_USAGE_RECORDS = 100_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a conversion: the answer as sent, and what usage counts; `seconds` is its duration."""

    body: bytes
    success: bool
    pages: int
    seconds: float


@dataclass(slots=True)
class DemoJob:
    """A job; `body` is None while it runs; `ready_at` is the earliest time of its answer, by the table's clock."""

    request_id: str
    operation: Conversion
    ready_at: float
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """One line of the usage statistics."""

    when: datetime
    operation: Conversion
    success: bool
    pages: int
    seconds: float


class UnknownJobError(LookupError):
    """The job does not exist, or was dropped."""


class JobTable:
    """Jobs by request_id, and usage statistics.

    Args:
        keep_jobs: how many finished jobs are kept; the oldest are dropped first, the newest never.
        keep_bytes: total size of their answers at most.
        clock: seconds, monotonic; decides when an answer is ready.
        now: the time of day in UTC; dates the usage.
    """

    def __init__(
        self,
        keep_jobs: int,
        keep_bytes: int,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._keep_jobs, self._keep_bytes = keep_jobs, keep_bytes
        self._clock, self._now = clock, now
        self._jobs: dict[str, DemoJob] = {}
        self._kept: deque[tuple[DemoJob, int]] = deque()
        self._kept_bytes = 0
        self._finished: deque[Finished] = deque(maxlen=_USAGE_RECORDS)

    def open(self, operation: Conversion, processing_time: float, request_id: str | None = None) -> DemoJob:
        """Adds a job that is ready after `processing_time` seconds at the earliest; makes an id if none is given."""
        job = DemoJob(request_id or secrets.token_urlsafe(16), operation, self._clock() + processing_time)
        self._jobs[job.request_id] = job
        return job

    def finish(self, job: DemoJob, outcome: Outcome) -> None:
        """Keeps the answer, and drops the oldest ones beyond the bounds."""
        job.body = outcome.body
        self._kept.append((job, len(outcome.body)))
        self._kept_bytes += len(outcome.body)
        while len(self._kept) > 1 and (len(self._kept) > self._keep_jobs or self._kept_bytes > self._keep_bytes):
            oldest, size = self._kept.popleft()
            self._kept_bytes -= size
            self.forget(oldest.request_id)
        self._finished.append(Finished(self._now(), job.operation, outcome.success, outcome.pages, outcome.seconds))

    def forget(self, request_id: str) -> None:
        """Drops a job, if it exists."""
        self._jobs.pop(request_id, None)

    def answer(self, operation: str, request_id: str) -> bytes | None:
        """Returns the answer of a job, or None while it is processing.

        Raises:
            UnknownJobError: this operation has no such job.
        """
        job = self._jobs.get(request_id)
        if job is None or job.operation != operation:
            raise UnknownJobError(request_id)
        return job.body if self._is_ready(job) else None

    def usage(self, start: datetime, end: datetime) -> dict[str, Any]:
        """Sums up the jobs finished from `start` to `end`, in the five sections of the API.

        The names within the last two sections are ours: Datalab's are not known.
        """
        records = [record for record in self._finished if start <= record.when <= end]
        total = _count(records)
        done, requests = total["successful_requests"], total["total_requests"]
        seconds = [record.seconds for record in records]
        return {
            "period": {"start_date": start.isoformat(), "end_date": end.isoformat()},
            "summary": {**total, "success_rate": done / requests if requests else 0.0},
            "by_request_type": {
                name: _count([record for record in records if record.operation == name]) for name in ("marker", "ocr")
            },
            "performance": {
                "average_runtime_seconds": sum(seconds) / len(seconds) if seconds else None,
                "max_runtime_seconds": max(seconds, default=None),
            },
            "system_status": {
                "processing_requests": sum(not self._is_ready(job) for job in self._jobs.values()),
                "kept_results": len(self._kept),
                "kept_bytes": self._kept_bytes,
            },
        }

    def _is_ready(self, job: DemoJob) -> bool:
        return job.body is not None and self._clock() >= job.ready_at


def work(
    operation: Conversion,
    source: IO[bytes],
    options: Options,
    result_bytes: int = 0,
    stopped: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Converts a file and writes the whole answer once, so that a poll only sends it. Runs in the one worker thread.

    Args:
        operation: marker, ocr, or oss, which is marker under its other name.
        source: the uploaded file, seekable; it stays open.
        options: the form's.
        result_bytes: the size that a shorter markdown is padded to.
        stopped: called before each page; true ends the conversion.

    Returns:
        The outcome, also for a file that can't be converted.
    """
    start, pages = time.perf_counter(), 0
    try:
        fields = _result(operation, source, options, result_bytes, stopped)
        pages = fields["page_count"]
    except ConversionError as error:
        fields = {"error": str(error), "error_in": "VALIDATION"}
    except Exception as error:  # noqa: BLE001 - whatever a file does to the libraries, its job must end
        fields = {"error": f"The conversion failed ({type(error).__name__}).", "error_in": "INFERENCE"}
    seconds = time.perf_counter() - start
    empty = dict.fromkeys(("pages",) if operation == "ocr" else _FORMAT_FIELDS)
    answer = {"status": "complete", "success": pages > 0, "error": None, "error_in": None, **empty, "page_count": 0}
    kept = secrets.token_urlsafe(16) if options.save_checkpoint and pages else None
    answer |= {**fields, "runtime": round(seconds, 6), "checkpoint_id": kept, **dict.fromkeys(_NEVER_SET)}
    return Outcome(orjson.dumps(answer), pages > 0, pages, seconds)


def _result(
    operation: Conversion,
    source: IO[bytes],
    options: Options,
    result_bytes: int,
    stopped: Callable[[], bool],
) -> dict[str, Any]:
    if operation == "ocr":
        pages = convert(source, options.model_copy(update={"disable_image_extraction": True}), stopped)
        return {"pages": render_ocr(pages), "page_count": len(pages)}
    pages = convert(source, options, stopped)
    fields = render(pages, options)
    if fields["markdown"] is not None:
        fields["markdown"] += _padding(result_bytes - len(fields["markdown"].encode()))
    stats = [{"page_id": page.number, "blocks": len(page.blocks)} for page in pages]
    written = ",".join(options.output_format)
    return {**fields, "output_format": written, "metadata": {"page_stats": stats}, "page_count": len(pages)}


def _padding(size: int) -> str:
    """Text of `size` bytes that JSON needs no escapes for."""
    return (_FILLER * (size // len(_FILLER) + 1))[:size] if size > 0 else ""


def _count(records: list[Finished]) -> dict[str, int]:
    good = [record for record in records if record.success]
    bad = [record for record in records if not record.success]
    return {
        "total_requests": len(records),
        "successful_requests": len(good),
        "failed_requests": len(bad),
        "successful_pages_processed": sum(record.pages for record in good),
        "failed_pages_processed": sum(record.pages for record in bad),
    }
