"""The stand-in's API as an aiohttp application: marker, ocr, usage and health_check.

Its answers have the shapes of FastAPI, which the container is built on. As there, X-API-Key is ignored, and so is
who submitted a job: all of that is the gateway's part.
"""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import Any, Literal, TypeVar, cast

import orjson
from aiohttp import hdrs, web
from pydantic import BaseModel, Field, ValidationError

from gateway.demo.conversion import Options
from gateway.demo.form import File, Form, read_form, refusal
from gateway.demo.jobs import Job, JobTable, Operation, Outcome, UnknownJobError, work

CheckUrl = Literal["absolute", "relative", "null"]
_Model = TypeVar("_Model", bound=BaseModel)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_SLICE = 1 << 18  # bytes written at once
_LONGEST_USAGE = timedelta(days=7)
_OVERRIDES = ("processing_time", "result_bytes")
_PROCESSING = orjson.dumps({"status": "processing", "success": None, "error": None, "page_count": None})


@dataclass(frozen=True, slots=True)
class Config:
    """How the stand-in behaves.

    Attributes:
        processing_time: seconds from a submit to its result, at least; a long conversion takes longer.
        check_url: what request_check_url looks like.
        allow_overrides: lets a form set `processing_time` and `result_bytes`, what its markdown is padded to.
        keep_jobs: finished jobs kept at most.
        keep_bytes: size of their results at most.
    """

    processing_time: float = 2.0
    check_url: CheckUrl = "absolute"
    allow_overrides: bool = False
    keep_jobs: int = 1000
    keep_bytes: int = 1 << 30


class Submission(Options):
    """All fields of the form but the file."""

    processing_time: float | None = Field(default=None, ge=0, le=3600)
    result_bytes: int = Field(default=0, ge=0, le=1 << 30)


class Period(BaseModel):
    """The query of a usage report."""

    start_date: datetime | None = None
    end_date: datetime | None = None


class Container:
    """The endpoints, over one table of jobs and the one thread that converts: PDFium bears no second one."""

    def __init__(self, config: Config, jobs: JobTable) -> None:
        self._config, self._jobs = config, jobs
        self._worker = ThreadPoolExecutor(1, "conversion")
        self._stopped = threading.Event()

    async def submit(self, request: web.Request) -> web.StreamResponse:
        """Takes a file and the options of its conversion."""
        with contextlib.closing(await read_form(request)) as form:
            file, submission = self._validated(form)
            del form.fields["file"]  # the job closes it; all else closes here
        operation = cast("Operation", request.match_info["operation"])
        seconds = submission.processing_time
        job = self._jobs.open(operation, self._config.processing_time if seconds is None else seconds)
        self._start(job, file, submission)
        answer = {"success": True, "error": None, "request_id": job.request_id}
        return _json({**answer, "request_check_url": self._check_url(request, job), "versions": None})

    async def result(self, request: web.Request) -> web.StreamResponse:
        """Says how far a job is; a large answer goes out in slices of the one copy there is."""
        try:
            body = self._jobs.answer(request.match_info["operation"], request.match_info["request_id"])
        except UnknownJobError as error:
            raise refusal(web.HTTPNotFound, "Request not found") from error
        if body is None or len(body) <= _SLICE:
            return web.Response(body=body or _PROCESSING, content_type="application/json")
        response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "application/json"})
        response.content_length = len(body)
        await response.prepare(request)
        for start in range(0, len(body), _SLICE):
            await response.write(memoryview(body)[start : start + _SLICE])
        await response.write_eof()
        return response

    async def usage(self, request: web.Request) -> web.StreamResponse:
        """Reports what was converted, by default within the last 24 hours."""
        period = _valid(Period, {name: value for name, value in request.query.items() if value}, "query")
        end = _utc(period.end_date or datetime.now(UTC))
        start = _utc(period.start_date or end - timedelta(days=1))
        if start > end:
            raise refusal(web.HTTPBadRequest, "start_date must not be after end_date")
        if end - start > _LONGEST_USAGE:
            raise refusal(web.HTTPBadRequest, "Date range cannot exceed 7 days")
        return _json(self._jobs.usage(start, end))

    async def health(self, _request: web.Request) -> web.StreamResponse:
        """Says that requests are accepted."""
        return _json({"status": "healthy"})

    async def close(self, _app: web.Application) -> None:
        """Ends the conversion that is running after its page, and forgets those that wait."""
        self._stopped.set()
        self._worker.shutdown(cancel_futures=True)

    def _validated(self, form: Form) -> tuple[File, Submission]:
        file, ignored = form.fields.get("file"), ("file", *(() if self._config.allow_overrides else _OVERRIDES))
        values = {name: value for name, value in form.fields.items() if value != "" and name not in ignored}
        if isinstance(file, SpooledTemporaryFile):
            return file, _valid(Submission, values, "body")
        problem = {"type": "missing", "msg": "Field required", "input": None}
        if file:
            problem = {"type": "value_error", "msg": "Value error, Expected UploadFile", "input": file}
        raise refusal(web.HTTPUnprocessableEntity, [{"loc": ["body", "file"], **problem}])

    def _start(self, job: Job, file: File, submission: Submission) -> None:
        call = partial(work, job.operation, file, submission, submission.result_bytes, self._stopped.is_set)
        outcome = asyncio.get_running_loop().run_in_executor(self._worker, call)
        outcome.add_done_callback(partial(self._finish, job, file))

    def _finish(self, job: Job, file: File, outcome: asyncio.Future[Outcome]) -> None:
        file.close()
        if not outcome.cancelled():
            self._jobs.finish(job, outcome.result())

    def _check_url(self, request: web.Request, job: Job) -> str | None:
        path = f"/api/v1/{job.operation}/{job.request_id}"
        absolute = f"http://{request.headers.get(hdrs.HOST, 'localhost')}{path}"
        return {"absolute": absolute, "relative": path, "null": None}[self._config.check_url]


def make_app(config: Config, jobs: JobTable | None = None) -> web.Application:
    """Builds the stand-in, to be run in this process or in one of its own.

    Args:
        config: how it behaves.
        jobs: a table with clocks of the caller's choice; made from `config` by default.
    """
    container = Container(config, jobs or JobTable(config.keep_jobs, config.keep_bytes))
    app = web.Application(middlewares=[_fastapi_errors])
    app.router.add_route("POST", "/api/v1/{operation:marker|ocr}", container.submit)
    app.router.add_route("GET", "/api/v1/{operation:marker|ocr}/{request_id}", container.result)
    app.router.add_route("GET", "/api/v1/usage", container.usage)
    app.router.add_route("GET", "/health_check", container.health)
    app.on_cleanup.append(container.close)
    return app


@web.middleware
async def _fastapi_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.content_type == "application/json":
            raise
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return _json({"detail": error.reason}, error.status, allow)


def _json(content: dict[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(content), status=status, headers=headers, content_type="application/json")


def _valid(model: type[_Model], values: dict[str, Any], place: str) -> _Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        detail = [
            {
                "type": problem["type"],
                "loc": [place, *problem["loc"]],
                "msg": problem["msg"],
                "input": problem["input"] if isinstance(problem["input"], str) else None,
            }
            for problem in error.errors(include_url=False, include_context=False)
        ]
        raise refusal(web.HTTPUnprocessableEntity, detail) from error


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
