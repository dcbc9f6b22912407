"""The stand-in for Datalab's on-prem container: a process of its own that speaks its API and really converts.

Its answers have the shapes of FastAPI, which the container is built on. As there, X-API-Key is ignored, and so is
who submitted a job: all of that is the gateway's part.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import Any, Literal, TypeVar, cast, get_args

import orjson
import uvloop
from aiohttp import hdrs, web
from pydantic import BaseModel, Field, ValidationError
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from gateway.demo.conversion import Options
from gateway.demo.jobs import Job, JobTable, Operation, Outcome, UnknownJobError, work

CheckUrl = Literal["absolute", "relative", "null"]
File = SpooledTemporaryFile[bytes]
_Model = TypeVar("_Model", bound=BaseModel)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_KEEPALIVE = 5.0  # seconds, uvicorn's default
_LEAVE_WITHIN = 1.0  # seconds that open answers have at the end
_IN_MEMORY = 1 << 20  # bytes of a part; what is larger goes to a temporary file, as with Starlette
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


class Form:
    """A form as Starlette reads it: of two fields with one name the last wins; a part with a filename is a file."""

    def __init__(self, fields: dict[str, str] | None = None) -> None:
        self.fields: dict[str, str | File] = {**(fields or {})}
        self._part: File | None = None
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = bytearray(), bytearray()

    def parser(self, boundary: bytes) -> MultipartParser:
        """Makes what fills this form from the bytes of a multipart body."""
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._header,
                "on_part_data": self._data,
                "on_part_end": self._end,
            },
        )

    def close(self) -> None:
        """Frees all files, unfinished ones too."""
        for value in (*self.fields.values(), self._part):
            if isinstance(value, SpooledTemporaryFile):
                value.close()

    def _begin(self) -> None:
        self._headers.clear()
        self._part = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - close() and _end() close it

    def _header(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part is not None:
            self._part.write(memoryview(data)[start:end])

    def _end(self) -> None:
        part, self._part = self._part, None
        if part is None:
            return
        _, about = parse_options_header(self._headers.get(b"content-disposition"))
        name = about.get(b"name", b"").decode("utf-8", "replace")
        if isinstance(earlier := self.fields.pop(name, None), SpooledTemporaryFile):
            earlier.close()
        if b"filename" in about:
            self.fields[name] = part
            return
        with part:
            size = part.tell()
            part.seek(0)
            if size > _IN_MEMORY:
                raise FormParserError(f"Part exceeded maximum size of {_IN_MEMORY // 1024}KB.")
            self.fields[name] = part.read().decode("utf-8", "replace")


async def read_form(request: web.Request) -> Form:
    """Reads a body to its end; one that is no form is an empty form.

    Raises:
        web.HTTPBadRequest: no boundary, or the parts are malformed.
    """
    kind, parameters = parse_options_header(request.headers.get(hdrs.CONTENT_TYPE))
    if kind == b"application/x-www-form-urlencoded":
        return Form({name: value for name, value in (await request.post()).items() if isinstance(value, str)})
    form = Form()
    if kind != b"multipart/form-data":
        return form
    if b"boundary" not in parameters:
        raise _refusal(web.HTTPBadRequest, "Missing boundary in multipart.")
    try:
        parser = form.parser(parameters[b"boundary"])
        async for chunk in request.content.iter_any():
            parser.write(chunk)  # a write into the page cache: short enough for the loop
        parser.finalize()
    except BaseException as error:
        form.close()
        if isinstance(error, FormParserError):
            raise _refusal(web.HTTPBadRequest, str(error)) from error
        if isinstance(error, ConnectionError):  # the client left: no news, so let aiohttp not log it
            raise _refusal(web.HTTPBadRequest, "There was an error parsing the body") from error
        raise
    return form


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
            raise _refusal(web.HTTPNotFound, "Request not found") from error
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
            raise _refusal(web.HTTPBadRequest, "start_date must not be after end_date")
        if end - start > _LONGEST_USAGE:
            raise _refusal(web.HTTPBadRequest, "Date range cannot exceed 7 days")
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
        raise _refusal(web.HTTPUnprocessableEntity, [{"loc": ["body", "file"], **problem}])

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


def _refusal(status: type[web.HTTPException], detail: object) -> web.HTTPException:
    return status(text=orjson.dumps({"detail": detail}).decode(), content_type="application/json")


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
        raise _refusal(web.HTTPUnprocessableEntity, detail) from error


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


async def _serve(host: str, port: int, config: Config, *, until_stdin_closes: bool) -> int:
    stop = asyncio.Event()
    _on_signals(stop)
    if until_stdin_closes:
        _on_closed_stdin(stop)
    app = make_app(config)
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=_KEEPALIVE,
        read_bufsize=_SLICE,
        shutdown_timeout=_LEAVE_WITHIN,
    )
    await runner.setup()
    try:
        if problem := await _listen(runner, host, port):
            print(f"container: cannot listen on {host}:{port}: {problem}", file=sys.stderr)
            return 1
        with contextlib.suppress(BrokenPipeError):  # whoever started it may be gone already
            print(f"container ready on http://{host}:{runner.addresses[0][1]}", flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()
    return 0


async def _listen(runner: web.AppRunner, host: str, port: int) -> str | None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
    return None


def _on_signals(stop: asyncio.Event) -> None:
    """Lets SIGTERM and SIGINT end the server, and lets no second one spoil the end."""
    loop = asyncio.get_running_loop()

    def ask(_signal: int, _frame: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: all is done
            loop.call_soon_threadsafe(stop.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)


def _on_closed_stdin(stop: asyncio.Event) -> None:
    """Ends the server once its standard input closes: so it never outlives who started it, however that ended."""
    loop = asyncio.get_running_loop()

    def readable() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            stop.set()

    loop.add_reader(0, readable)


def _port(text: str) -> int:
    if not 0 <= (port := int(text)) <= 65535:  # noqa: PLR2004 - the largest port
        raise argparse.ArgumentTypeError("a port is 0 to 65535")
    return port


def _seconds(text: str) -> float:
    if not 0 <= (seconds := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError("seconds are 0 or more")
    return seconds


def main() -> int:
    """Runs the stand-in until SIGTERM or SIGINT; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m gateway.demo.container", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=_port, default=8000, help="0 takes a free one")
    parser.add_argument("--processing-time", type=_seconds, default=2.0, metavar="SECONDS")
    parser.add_argument("--check-url", choices=get_args(CheckUrl), default="absolute")
    parser.add_argument(
        "--allow-overrides", action="store_true", help="obey processing_time and result_bytes in forms"
    )
    parser.add_argument("--keep-jobs", type=int, default=1000, help="finished jobs kept at most")
    parser.add_argument("--keep-bytes", type=int, default=1 << 30, help="size of their results at most")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when standard input does")
    options = vars(parser.parse_args())
    host, port, until_stdin_closes = (options.pop(name) for name in ("host", "port", "until_stdin_closes"))
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # what a client sends is no news
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(host, port, Config(**options), until_stdin_closes=until_stdin_closes))


if __name__ == "__main__":
    sys.exit(main())
