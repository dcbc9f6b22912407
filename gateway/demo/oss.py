"""The stand-in's other API: that of Datalab's open-source container, with its weak spots.

As in the original, an unknown file_id stays `processing` forever, anyone with the id can read pictures and results,
and picture URLs are built from the Host header. Their scheme is X-Forwarded-Proto, which uvicorn trusts from this
machine.
"""

import base64
import contextlib
import uuid
from tempfile import SpooledTemporaryFile
from typing import Any

import orjson
from aiohttp import hdrs, web
from pydantic import BaseModel, Field

from gateway.demo.answering import json_answer, valid
from gateway.demo.conversion import PDF_HEAD, Options
from gateway.demo.conversion_thread import Converter
from gateway.demo.jobs import JobTable, UnknownJobError
from gateway.demo.submitted_form import DemoForm, File, read_form, refusal

_FORMATS = ("markdown", "html", "json")


class Overrides(BaseModel):
    """Form fields that control the stand-in, if it allows overrides."""

    processing_time: float | None = Field(default=None, ge=0, le=3600)
    result_bytes: int = Field(default=0, ge=0, le=1 << 30)
    fail: bool = False


class Asked(BaseModel):
    """The query of a poll."""

    file_id: str
    download: bool = False


class Cleared(BaseModel):
    """The body of a request that clears a job."""

    file_id: str


class OssContainer:
    """The endpoints, on the job table and the worker thread of the other API.

    Args:
        jobs: the table.
        worker: the converter.
        processing_time: seconds that a job takes, at least.
        allow_overrides: whether forms may have Overrides.
    """

    def __init__(self, jobs: JobTable, worker: Converter, processing_time: float, *, allow_overrides: bool) -> None:
        self._jobs, self._worker = jobs, worker
        self._processing_time, self._allow_overrides = processing_time, allow_overrides

    def add_routes(self, app: web.Application) -> None:
        """Adds the endpoints to an application."""
        app.router.add_route("POST", "/marker/inference", self.submit)
        app.router.add_route("GET", "/marker/results", self.results)
        app.router.add_route("POST", "/marker/clear", self.clear)
        app.router.add_route("GET", "/static/{file_id}/{name}", self.static)

    async def submit(self, request: web.Request) -> web.StreamResponse:
        """Takes a PDF and the JSON that configures its conversion."""
        with contextlib.closing(await read_form(request)) as form:
            file, options, overrides = _pdf(form), _options(form), self._overrides(form)
            del form.fields["file"]  # the job closes it; the rest is closed here
        seconds = self._processing_time if overrides.processing_time is None else overrides.processing_time
        job = self._jobs.open("oss", seconds, str(uuid.uuid4()))
        self._worker.start(job, file, options, result_bytes=overrides.result_bytes, fails=overrides.fail)
        return json_answer({"file_id": job.request_id})

    async def results(self, request: web.Request) -> web.StreamResponse:
        """Reports a job's status, and its result if requested."""
        asked = valid(Asked, dict(request.query), "query")
        found = self._found(asked.file_id)
        answer = {"file_id": asked.file_id, "status": "processing"}
        if found is None:
            return json_answer(answer)
        if not found["success"]:
            return json_answer({**answer, "status": "failed", "error": found["error"]})
        if not asked.download:
            return json_answer({**answer, "status": "done"})
        base = f"{request.headers.get('X-Forwarded-Proto', 'http')}://{request.headers.get(hdrs.HOST, 'localhost')}"
        images = [f"{base}/static/{asked.file_id}/{name}" for name in found["images"] or {}]
        info = {"pages": found["page_count"], "worker_time": found["runtime"]}
        result = next((found[name] for name in _FORMATS if found[name] is not None), None)
        return json_answer({**answer, "status": "done", "result": result, "images": images, "worker_info": info})

    async def clear(self, request: web.Request) -> web.StreamResponse:
        """Drops a job; answers the same for an unknown one."""
        try:
            body = orjson.loads(await request.read())
        except ValueError:
            raise refusal(web.HTTPUnprocessableEntity, [_problem("json_invalid", "JSON decode error")]) from None
        except ConnectionError as error:  # the client left: keeps aiohttp from logging it
            raise refusal(web.HTTPBadRequest, "There was an error parsing the body") from error
        cleared = valid(Cleared, body if isinstance(body, dict) else {}, "body")
        self._jobs.forget(cleared.file_id)
        return json_answer({"file_id": cleared.file_id, "status": "cleared"})

    async def static(self, request: web.Request) -> web.StreamResponse:
        """Serves a picture of a result."""
        found = self._found(request.match_info["file_id"]) or {}
        picture = (found.get("images") or {}).get(request.match_info["name"])
        if picture is None:
            raise web.HTTPNotFound
        return web.Response(body=base64.b64decode(picture), content_type="image/png")

    def _found(self, file_id: str) -> dict[str, Any] | None:
        """The result in the form of the other API; None until there is one."""
        with contextlib.suppress(UnknownJobError):
            body = self._jobs.answer("oss", file_id)
            return None if body is None else orjson.loads(body)
        return None

    def _overrides(self, form: DemoForm) -> Overrides:
        return valid(Overrides, dict(form.fields), "body") if self._allow_overrides else Overrides()


def _pdf(form: DemoForm) -> File:
    file = form.fields.get("file")
    if not isinstance(file, SpooledTemporaryFile):
        raise refusal(web.HTTPUnprocessableEntity, [_problem("missing", "Field required", "file")])
    file.seek(0)
    if b"%PDF-" not in file.read(PDF_HEAD):
        raise refusal(web.HTTPBadRequest, "Invalid PDF file - Failed to load document (PDFium: Data format error).")
    return file


def _options(form: DemoForm) -> Options:
    try:
        config = orjson.loads(str(form.fields.get("config", "{}")))
    except ValueError as error:
        raise refusal(web.HTTPBadRequest, f"Invalid JSON: {error}") from None
    return valid(Options, config if isinstance(config, dict) else {}, "body")


def _problem(kind: str, message: str, *place: str) -> dict[str, Any]:
    return {"type": kind, "loc": ["body", *place], "msg": message, "input": None}
