import asyncio
import io
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession, FormData
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request
from PIL import Image
from pytest_aiohttp import AiohttpClient

from gateway.demo.api import Config, make_app
from gateway.demo.jobs import JobTable, Outcome, UnknownJobError
from gateway.demo.sample import sample_pdf
from gateway.demo.submitted_form import DemoForm

Client = TestClient[Request, Application]
Running = Callable[..., Awaitable[Client]]
ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def running(aiohttp_client: AiohttpClient) -> Running:
    """Runs a stand-in of this configuration, until the test is over."""

    async def run(jobs: JobTable | None = None, **config: Any) -> Client:
        return await aiohttp_client(make_app(Config(**{"processing_time": 0, **config}), jobs))

    return run


@pytest.fixture
async def client(running: Running) -> Client:
    return await running()


def upload(data: bytes, *fields: tuple[str, str], first: bool = True) -> FormData:
    """A form with the file before the fields, as the SDK sends it, or behind them."""
    form = FormData()
    steps: list[Callable[[], None]] = [lambda: form.add_field("file", io.BytesIO(data), filename="a.pdf")]
    steps += [lambda name=name, value=value: form.add_field(name, value) for name, value in fields]  # type: ignore[misc]
    for step in steps if first else steps[1:] + steps[:1]:
        step()
    return form


async def submit(client: Client, form: FormData, operation: str = "marker") -> str:
    async with client.post(f"/api/v1/{operation}", data=form) as response:
        answer = await response.json()
        assert (response.status, answer["success"], answer["error"], answer["versions"]) == (200, True, None, None)
    request_id: str = answer["request_id"]
    return f"/api/v1/{operation}/{request_id}"


async def finished(client: Client, path: str) -> dict[str, Any]:
    while True:
        async with client.get(path) as response:
            assert response.status == 200
            answer: dict[str, Any] = await response.json()
        if answer["status"] == "complete":
            return answer
        assert answer["status"] == "processing"


async def convert(client: Client, data: bytes, *fields: tuple[str, str], first: bool = True) -> dict[str, Any]:
    return await finished(client, await submit(client, upload(data, *fields, first=first)))


async def detail(response: ClientResponse) -> Any:
    body = await response.json()
    assert list(body) == ["detail"]
    return body["detail"]


async def test_converts_the_sample(client: Client) -> None:
    answer = await convert(client, sample_pdf())
    assert (answer["success"], answer["error"], answer["error_in"], answer["page_count"]) == (True, None, None, 3)
    assert answer["output_format"] == "markdown"
    assert "It asks every caller who they are." in answer["markdown"]
    assert (answer["html"], answer["json"], answer["chunks"]) == (None, None, None)
    assert list(answer["images"]) == ["_page_1_Picture_3.png"]
    assert answer["runtime"] > 0


@pytest.mark.parametrize("first", [True, False])
async def test_the_file_may_come_first_or_last(client: Client, first: bool) -> None:
    answer = await convert(client, sample_pdf(), ("page_range", "0-1"), ("output_format", "html,json"), first=first)
    assert (answer["page_count"], answer["output_format"]) == (2, "html,json")
    assert len(answer["json"]["children"]) == 2
    assert answer["markdown"] is None


async def test_the_last_of_two_fields_wins(client: Client) -> None:
    answer = await convert(client, sample_pdf(), ("page_range", "0"), ("page_range", "0-1"))
    assert answer["page_count"] == 2


async def test_the_last_of_two_files_wins(client: Client) -> None:
    form = upload(b"junk")
    form.add_field("file", sample_pdf(1), filename="b.pdf")
    assert (await finished(client, await submit(client, form)))["success"] is True


async def test_empty_and_unknown_fields_count_for_nothing(client: Client) -> None:
    form = upload(sample_pdf(), ("page_range", ""), ("extras", "x"), ("processing_time", "9"), ("result_bytes", "?"))
    form.add_field("attachment", b"unused", filename="c.bin")
    assert (await finished(client, await submit(client, form)))["page_count"] == 3


async def test_ocr_has_its_own_answer(client: Client) -> None:
    path = await submit(client, upload(sample_pdf(), ("max_pages", "2")), "ocr")
    answer = await finished(client, path)
    assert (answer["page_count"], len(answer["pages"])) == (2, 2)
    assert answer["pages"][1]["text_lines"][0]["text"] == "Sample document, page 2"
    async with client.get(path.replace("ocr", "marker")) as response:
        assert response.status == 404


async def test_an_image_file_is_a_page(client: Client) -> None:
    png = io.BytesIO()
    Image.new("RGB", (8, 8)).save(png, "PNG")
    answer = await convert(client, png.getvalue())
    assert (answer["page_count"], list(answer["images"])) == (1, ["_page_0_Picture_0.png"])


@pytest.mark.parametrize(
    ("data", "fields", "error"),
    [
        (b"", [], "The file is empty."),
        (b"%PDF-1.7 cut", [], "The PDF is broken."),
        (sample_pdf(), [("page_range", "3")], "page_range must lie within the document's pages, 0-2."),
        (sample_pdf(), [("page_range", "0-999999999")], "page_range must lie within the document's pages, 0-2."),
        (b"\0" * 3_000_000, [], "The file is neither a PDF nor an image that can be read."),
    ],
)
async def test_a_failure_is_a_complete_job(
    client: Client, data: bytes, fields: list[tuple[str, str]], error: str
) -> None:
    answer = await convert(client, data, *fields)
    assert (answer["success"], answer["error"], answer["error_in"]) == (False, error, "VALIDATION")
    assert (answer["page_count"], answer["markdown"]) == (0, None)


async def test_the_processing_time_must_be_over(running: Running) -> None:
    time = 100.0
    jobs = JobTable(10, 10**9, clock=lambda: time, now=lambda: NOON)
    client = await running(jobs, processing_time=2.0)
    path = await submit(client, upload(sample_pdf()))
    while not jobs.usage(NOON, NOON)["summary"]["total_requests"]:
        await client.get("/health_check")
    time = 101.9
    async with client.get(path) as response:
        assert await response.json() == {
            "status": "processing",
            "success": None,
            "error": None,
            "page_count": None,
        }
    time = 102.0
    async with client.get(path) as response:
        assert (await response.json())["status"] == "complete"


async def test_overrides_pad_a_result_that_is_then_streamed(running: Running) -> None:
    client = await running(processing_time=3600, allow_overrides=True)
    fields = (("processing_time", "0"), ("result_bytes", "1000000"), ("disable_image_extraction", "True"))
    path = await submit(client, upload(sample_pdf(), *fields))
    answer = await finished(client, path)
    assert (len(answer["markdown"]), answer["images"], answer["page_count"]) == (1_000_000, {}, 3)
    async with client.get(path) as response:
        assert response.content_length == len(await response.read())


async def test_a_form_may_have_its_job_fail_where_that_is_allowed(running: Running) -> None:
    client = await running(allow_overrides=True)
    answer = await convert(client, sample_pdf(), ("fail", "true"))
    assert (answer["status"], answer["success"], answer["page_count"]) == ("complete", False, 0)
    client = await running()
    assert (await convert(client, sample_pdf(), ("fail", "true")))["success"] is True


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("absolute", "http://docs.example:81/api/v1/ocr/{id}"), ("relative", "/api/v1/ocr/{id}"), ("null", None)],
)
async def test_the_check_url_has_the_shape_asked_for(shape: str, expected: str | None, running: Running) -> None:
    client = await running(check_url=shape)
    headers = {"Host": "docs.example:81"}
    async with client.post("/api/v1/ocr", data=upload(sample_pdf()), headers=headers) as response:
        answer = await response.json()
    assert answer["request_check_url"] == (expected and expected.format(id=answer["request_id"]))


async def test_its_health_is_as_the_containers(client: Client) -> None:
    async with client.get("/health_check") as response:
        assert (response.status, await response.json()) == (200, {"status": "healthy"})


@pytest.mark.parametrize("path", ["/", "/docs", "/api/v1/convert", "/api/v1/marker/a/b", "/api/v1/marker/"])
async def test_other_paths_are_not_found(client: Client, path: str) -> None:
    async with client.get(path) as response:
        assert (response.status, await detail(response)) == (404, "Not Found")
        assert response.headers["Content-Type"] == "application/json"


async def test_an_unknown_job_is_not_found(client: Client) -> None:
    async with client.get("/api/v1/marker/unknown") as response:
        assert (response.status, await detail(response)) == (404, "Request not found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("GET", "/api/v1/marker", "POST"), ("HEAD", "/api/v1/ocr/x", "GET"), ("POST", "/health_check", "GET")],
)
async def test_other_methods_are_not_allowed(client: Client, method: str, path: str, allow: str) -> None:
    async with client.request(method, path) as response:
        assert (response.status, response.headers["Allow"]) == (405, allow)
        if method != "HEAD":
            assert await detail(response) == "Method Not Allowed"


@pytest.mark.parametrize("data", [{"max_pages": "1"}, {"file": ""}, None])
async def test_a_form_without_a_file_is_invalid(client: Client, data: dict[str, str] | None) -> None:
    async with client.post("/api/v1/marker", data=data) as response:
        problem = {"loc": ["body", "file"], "type": "missing", "msg": "Field required", "input": None}
        assert (response.status, await detail(response)) == (422, [problem])


async def test_a_file_that_is_a_field_is_invalid(client: Client) -> None:
    async with client.post("/api/v1/marker", data={"file": "text"}) as response:
        assert response.status == 422
        assert (await detail(response))[0]["type"] == "value_error"


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("max_pages", "many", "int_parsing"),
        ("max_pages", "0", "greater_than_equal"),
        ("disable_image_extraction", "maybe", "bool_parsing"),
    ],
)
async def test_bad_fields_are_invalid(client: Client, field: str, value: str, kind: str) -> None:
    async with client.post("/api/v1/marker", data=upload(sample_pdf(), (field, value))) as response:
        (problem,) = await detail(response)
        assert (response.status, problem["type"], problem["loc"]) == (422, kind, ["body", field])
        assert (problem["input"], sorted(problem)) == (value, ["input", "loc", "msg", "type"])


async def test_an_option_that_is_a_file_is_invalid(client: Client) -> None:
    form = upload(sample_pdf())
    form.add_field("page_range", b"0", filename="range.txt")
    async with client.post("/api/v1/marker", data=form) as response:
        (problem,) = await detail(response)
        assert (response.status, problem["type"], problem["input"]) == (422, "string_type", None)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=a", b"no boundary here"),
        ("multipart/form-data; boundary=a", b"--a\r\nbroken header\r\n\r\n"),
    ],
)
async def test_malformed_forms_are_bad_requests(client: Client, kind: str, body: bytes) -> None:
    async with client.post("/api/v1/marker", data=body, headers={"Content-Type": kind}) as response:
        assert response.status == 400
        assert isinstance(await detail(response), str)


async def test_a_field_is_bounded(client: Client) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="extras"\r\n\r\n' + b"x" * 1_100_000
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    async with client.post("/api/v1/marker", data=io.BytesIO(part + b"\r\n--b--\r\n"), headers=headers) as response:
        assert (response.status, await detail(response)) == (400, "Part exceeded maximum size of 1024KB.")


def test_a_form_cut_off_frees_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    files: list[SpooledTemporaryFile[bytes]] = []

    class Noted(SpooledTemporaryFile[bytes]):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            files.append(self)

    monkeypatch.setattr("gateway.demo.submitted_form.SpooledTemporaryFile", Noted)
    form = DemoForm()
    form.parser(b"b").write(b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"x" * 999)
    (part,) = files
    assert not part.closed
    form.close()
    assert part.closed


async def test_usage_has_five_sections(client: Client) -> None:
    await convert(client, sample_pdf())
    await convert(client, b"junk")
    async with client.get("/api/v1/usage") as response:
        usage = await response.json()
    assert list(usage) == ["period", "summary", "by_request_type", "performance", "system_status"]
    summary = usage["summary"]
    assert (summary["total_requests"], summary["failed_requests"], summary["success_rate"]) == (2, 1, 0.5)
    assert summary["successful_pages_processed"] == 3
    assert (
        usage["by_request_type"]["marker"]["total_requests"],
        usage["by_request_type"]["ocr"]["total_requests"],
    ) == (
        2,
        0,
    )


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"start_date": "2026-11-01", "end_date": "2026-11-08"}, 200),
        ({"start_date": "2026-11-01T00:00:00Z", "end_date": "2026-11-08T00:00:01+00:00"}, 400),
        ({"start_date": "2026-11-08", "end_date": "2026-11-01"}, 400),
        ({"start_date": "yesterday"}, 422),
    ],
)
async def test_the_period_of_usage_is_bounded(client: Client, query: dict[str, str], status: int) -> None:
    async with client.get("/api/v1/usage", params=query) as response:
        assert response.status == status


def test_usage_ends_at_its_period() -> None:
    jobs = JobTable(10, 100, now=lambda: NOON)
    jobs.finish(jobs.open("ocr", 0), Outcome(b"{}", True, 4, 0.5))
    assert jobs.usage(NOON, NOON)["summary"]["successful_pages_processed"] == 4
    assert jobs.usage(NOON.replace(hour=13), NOON.replace(hour=14))["summary"]["total_requests"] == 0


@pytest.mark.parametrize(("keep_jobs", "keep_bytes", "left"), [(2, 1000, 2), (10, 25, 2), (10, 1, 1)])
def test_the_oldest_results_are_dropped(keep_jobs: int, keep_bytes: int, left: int) -> None:
    jobs = JobTable(keep_jobs, keep_bytes, clock=lambda: 0.0)
    opened = [jobs.open("marker", 0) for _ in range(4)]
    for job in opened:
        jobs.finish(job, Outcome(b"x" * 10, True, 1, 0.0))
    for job in opened[-left:]:
        assert jobs.answer("marker", job.request_id) == b"x" * 10
    for job in opened[:-left]:
        with pytest.raises(UnknownJobError):
            jobs.answer("marker", job.request_id)


async def start(*arguments: str) -> asyncio.subprocess.Process:
    command = ("-W", "error", "-m", "gateway.demo.container", *arguments)
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT, stdout=pipe, stderr=pipe)


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    started = await start("--port", "0", *arguments)
    try:
        assert started.stdout is not None
        line = (await started.stdout.readline()).decode()
        assert line.startswith("container ready on http://127.0.0.1:")
        yield started, int(line.rsplit(":", 1)[1])
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_process_serves_and_ends_cleanly(number: signal.Signals) -> None:
    async with process("--processing-time", "0") as (started, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health_check HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        started.send_signal(number)
        started.send_signal(number)
        out, err = await started.communicate()
        assert (started.returncode, out, err) == (0, b"", b"")
        writer.close()
        await writer.wait_closed()


async def test_a_port_that_is_taken_is_one_line_and_exit_1() -> None:
    async with process() as (_, port):
        second = await start("--port", str(port))
        out, err = await second.communicate()
        assert (second.returncode, out) == (1, b"")
        assert err.decode() == f"container: cannot listen on 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize("arguments", [("--port", "65536"), ("--processing-time", "-1"), ("--check-url", "other")])
async def test_wrong_usage_is_exit_2(arguments: tuple[str, str]) -> None:
    wrong = await start(*arguments)
    out, err = await wrong.communicate()
    assert (wrong.returncode, out) == (2, b"")
    assert b"error: argument" in err
    assert b"Traceback" not in err


async def test_a_client_that_leaves_midway_is_no_news() -> None:
    async with process() as (started, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        kind = b"Content-Type: multipart/form-data; boundary=b\r\n"
        writer.write(b"POST /api/v1/marker HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n" + kind + b"\r\n")
        writer.write(b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc')
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/health_check") as response:
            assert response.status == 200
        started.terminate()
        assert await started.communicate() == (b"", b"")


async def test_a_checkpoint_is_kept_where_it_is_asked_for(client: Client) -> None:
    asked = await finished(client, await submit(client, upload(sample_pdf(1), ("save_checkpoint", "true"))))
    again = await finished(client, await submit(client, upload(sample_pdf(1), ("save_checkpoint", "true"))))
    plain = await finished(client, await submit(client, upload(sample_pdf(1))))
    broken = await finished(client, await submit(client, upload(b"x", ("save_checkpoint", "true"))))
    assert len({asked["checkpoint_id"], again["checkpoint_id"]} - {None}) == 2
    assert (plain["checkpoint_id"], broken["checkpoint_id"]) == (None, None)
