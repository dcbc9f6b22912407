"""The stand-in as an aiohttp application: marker, ocr, usage and health_check, and the open-source API (oss.py).

Its answers have the form of FastAPI, on which the container is built. Like the container it ignores X-API-Key and who
submitted a job: both are up to the gateway.
"""

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from tempfile import SpooledTemporaryFile
from typing import Literal, cast

import orjson
from aiohttp import hdrs, web
from pydantic import BaseModel, Field

from gateway.demo.answering import fastapi_errors, json_answer, valid
from gateway.demo.conversion import Options
from gateway.demo.conversion_thread import Converter
from gateway.demo.jobs import Conversion, DemoJob, JobTable, UnknownJobError
from gateway.demo.oss import OssContainer
from gateway.demo.submitted_form import DemoForm, File, read_form, refusal

Api = Literal["datalab", "oss", "both"]
CheckUrl = Literal["absolute", "relative", "null"]

_SLICE = 1 << 18  # bytes written at once
_MAX_USAGE = timedelta(days=7)
_OVERRIDES = ("processing_time", "result_bytes", "fail")
_PROCESSING = orjson.dumps({"status": "processing", "success": None, "error": None, "page_count": None})


@dataclass(frozen=True, slots=True)
class Config:
    """How the stand-in behaves.

    Attributes:
        processing_time: seconds from a submit to its result, at least; a long conversion takes longer.
        check_url: the form of request_check_url.
        allow_overrides: lets a form set `processing_time`, `result_bytes` (what its markdown is padded to) and
            `fail`, which makes the job fail.
        api: which one it serves: Datalab's on-prem one, that of the open-source container, or both.
        keep_jobs: finished jobs kept at most.
        keep_bytes: size of their results at most.
    """

    processing_time: float = 2.0
    check_url: CheckUrl = "absolute"
    allow_overrides: bool = False
    api: Api = "both"
    keep_jobs: int = 1000
    keep_bytes: int = 1 << 30


class DemoSubmission(Options):
    """All fields of the form except the file."""

    processing_time: float | None = Field(default=None, ge=0, le=3600)
    result_bytes: int = Field(default=0, ge=0, le=1 << 30)
    fail: bool = False


class Period(BaseModel):
    """The query of a usage report."""

    start_date: datetime | None = None
    end_date: datetime | None = None


class Container:
    """Datalab's endpoints, on top of the job table."""

    def __init__(self, config: Config, jobs: JobTable, worker: Converter) -> None:
        self._config, self._jobs, self._worker = config, jobs, worker

    async def submit(self, request: web.Request) -> web.StreamResponse:
        """Takes a file and its conversion options."""
        with contextlib.closing(await read_form(request)) as form:
            file, submission = self._validated(form)
            del form.fields["file"]  # the job closes it; the rest is closed here
        operation = cast("Conversion", request.match_info["operation"])
        seconds = submission.processing_time
        job = self._jobs.open(operation, self._config.processing_time if seconds is None else seconds)
        self._worker.start(job, file, submission, result_bytes=submission.result_bytes, fails=submission.fail)
        answer = {"success": True, "error": None, "request_id": job.request_id}
        return json_answer({**answer, "request_check_url": self._check_url(request, job), "versions": None})

    async def result(self, request: web.Request) -> web.StreamResponse:
        """Reports a job's status or result; a large answer is sent in slices of the one copy."""
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
        period = valid(Period, {name: value for name, value in request.query.items() if value}, "query")
        end = _utc(period.end_date or datetime.now(UTC))
        start = _utc(period.start_date or end - timedelta(days=1))
        if start > end:
            raise refusal(web.HTTPBadRequest, "start_date must not be after end_date")
        if end - start > _MAX_USAGE:
            raise refusal(web.HTTPBadRequest, "Date range cannot exceed 7 days")
        return json_answer(self._jobs.usage(start, end))

    async def health(self, _request: web.Request) -> web.StreamResponse:
        """Reports that requests are accepted."""
        return json_answer({"status": "healthy"})

    def _validated(self, form: DemoForm) -> tuple[File, DemoSubmission]:
        file, ignored = form.fields.get("file"), ("file", *(() if self._config.allow_overrides else _OVERRIDES))
        values = {name: value for name, value in form.fields.items() if value != "" and name not in ignored}
        if isinstance(file, SpooledTemporaryFile):
            return file, valid(DemoSubmission, values, "body")
        problem = {"type": "missing", "msg": "Field required", "input": None}
        if file:
            problem = {"type": "value_error", "msg": "Value error, Expected UploadFile", "input": file}
        raise refusal(web.HTTPUnprocessableEntity, [{"loc": ["body", "file"], **problem}])

    def _check_url(self, request: web.Request, job: DemoJob) -> str | None:
        path = f"/api/v1/{job.operation}/{job.request_id}"
        absolute = f"http://{request.headers.get(hdrs.HOST, 'localhost')}{path}"
        return {"absolute": absolute, "relative": path, "null": None}[self._config.check_url]


def make_app(config: Config, jobs: JobTable | None = None) -> web.Application:
    """Builds the stand-in, to run in this process or in its own.

    Args:
        config: how it behaves.
        jobs: a table with clocks of the caller's choice; made from `config` by default.
    """
    jobs = jobs or JobTable(config.keep_jobs, config.keep_bytes)
    worker = Converter(jobs)
    container = Container(config, jobs, worker)
    app = web.Application(middlewares=[fastapi_errors])
    if config.api != "oss":
        app.router.add_route("POST", "/api/v1/{operation:marker|ocr}", container.submit)
        app.router.add_route("GET", "/api/v1/{operation:marker|ocr}/{request_id}", container.result)
        app.router.add_route("GET", "/api/v1/usage", container.usage)
    if config.api != "datalab":
        other = OssContainer(jobs, worker, config.processing_time, allow_overrides=config.allow_overrides)
        other.add_routes(app)
    app.router.add_route("GET", "/health_check", container.health)
    app.on_cleanup.append(worker.close)
    return app


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
