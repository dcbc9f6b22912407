"""The stand-in's other API. What it promises was read off the open-source container's code."""

import io
import json
import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import FormData
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request
from pytest_aiohttp import AiohttpClient

from gateway.demo.api import Config, make_app
from gateway.demo.jobs import JobTable, Outcome
from gateway.demo.sample import sample_pdf

Client = TestClient[Request, Application]
Running = Callable[..., Awaitable[Client]]
NOT_FOUND = {"detail": "Not Found"}


@pytest.fixture
def running(aiohttp_client: AiohttpClient) -> Running:
    """Runs a stand-in of this configuration, until the test is over."""

    async def run(**config: Any) -> Client:
        return await aiohttp_client(make_app(Config(**{"processing_time": 0, **config})))

    return run


@pytest.fixture
async def client(running: Running) -> Client:
    return await running()


def form(data: bytes, **fields: str) -> FormData:
    made = FormData()
    made.add_field("file", io.BytesIO(data), filename="a.pdf")
    for name, value in fields.items():
        made.add_field(name, value)
    return made


async def submit(client: Client, data: bytes = b"", **fields: str) -> str:
    async with client.post("/marker/inference", data=form(data or sample_pdf(), **fields)) as response:
        assert response.status == 200
        answer = await response.json()
    assert list(answer) == ["file_id"]
    assert str(uuid.UUID(answer["file_id"], version=4)) == answer["file_id"]
    file_id: str = answer["file_id"]
    return file_id


async def polled(client: Client, file_id: str, **query: str) -> dict[str, Any]:
    async with client.get("/marker/results", params={"file_id": file_id, **query}) as response:
        assert response.status == 200
        answer: dict[str, Any] = await response.json()
    assert answer["file_id"] == file_id
    return answer


async def ended(client: Client, file_id: str, **query: str) -> dict[str, Any]:
    while (answer := await polled(client, file_id, **query))["status"] == "processing":
        pass
    return answer


async def test_converts_the_sample(client: Client) -> None:
    file_id = await submit(client)
    assert await ended(client, file_id) == {"file_id": file_id, "status": "done"}
    answer = await polled(client, file_id, download="true")
    assert list(answer) == ["file_id", "status", "result", "images", "worker_info"]
    assert "It asks every caller who they are." in answer["result"]
    assert answer["worker_info"]["pages"] == 3
    (url,) = answer["images"]
    assert url == f"http://{client.server.host}:{client.server.port}/static/{file_id}/_page_1_Picture_3.png"
    async with client.session.get(url) as response:
        assert response.content_type == "image/png"
        assert (await response.read()).startswith(b"\x89PNG")


async def test_urls_of_pictures_are_made_of_what_a_proxy_says(client: Client) -> None:
    file_id = await submit(client)
    await ended(client, file_id)
    headers = {"Host": "elsewhere.test:1", "X-Forwarded-Proto": "https"}
    query = {"file_id": file_id, "download": "True"}
    async with client.get("/marker/results", params=query, headers=headers) as response:
        (url,) = (await response.json())["images"]
    assert url.startswith(f"https://elsewhere.test:1/static/{file_id}/")


@pytest.mark.parametrize(("form_of", "pattern"), [("html", "<"), ("json", "children"), ("markdown", "Sample")])
async def test_the_config_steers_the_conversion(client: Client, form_of: str, pattern: str) -> None:
    file_id = await submit(client, config=json.dumps({"output_format": form_of, "page_range": "0", "x": 1}))
    answer = await ended(client, file_id, download="1")
    assert re.search(pattern, json.dumps(answer["result"]))
    assert (answer["worker_info"]["pages"], answer["images"]) == (1, [])


async def test_an_unknown_id_is_processing_for_ever(client: Client) -> None:
    for file_id in (str(uuid.uuid4()), "../../etc"):
        assert (await polled(client, file_id))["status"] == "processing"


async def test_a_job_that_was_cleared_is_unknown(client: Client) -> None:
    file_id = await submit(client)
    (url,) = (await ended(client, file_id, download="true"))["images"]
    for _ in range(2):
        async with client.post("/marker/clear", json={"file_id": file_id}) as response:
            assert await response.json() == {"file_id": file_id, "status": "cleared"}
    assert (await polled(client, file_id))["status"] == "processing"
    async with client.session.get(url) as response:
        assert (response.status, await response.json()) == (404, NOT_FOUND)


async def test_a_file_that_breaks_fails_its_job(client: Client) -> None:
    answer = await ended(client, await submit(client, b"%PDF-1.4 junk"))
    assert (answer["status"], answer["error"]) == ("failed", answer["error"])


async def test_a_form_may_say_how_its_job_goes_where_that_is_allowed(running: Running) -> None:
    client = await running(allow_overrides=True, processing_time=3600)
    answer = await ended(client, await submit(client, fail="true", processing_time="0"))
    assert (answer["status"], answer["error"]) == ("failed", "The conversion was stopped.")
    large = await ended(client, await submit(client, result_bytes="99999", processing_time="0"), download="true")
    assert len(large["result"]) == 99999
    assert (await polled(client, await submit(client)))["status"] == "processing"
    client = await running()
    assert (await ended(client, await submit(client, fail="true")))["status"] == "done"


@pytest.mark.parametrize(
    ("data", "fields", "status", "detail"),
    [
        (b"no PDF", {}, 400, "Invalid PDF file - "),
        (b"%PDF-", {"config": "{"}, 400, "Invalid JSON: "),
        (b"%PDF-", {"config": '{"output_format": "x"}'}, 422, ""),
    ],
)
async def test_what_it_refuses(client: Client, data: bytes, fields: dict[str, str], status: int, detail: str) -> None:
    async with client.post("/marker/inference", data=form(data, **fields)) as response:
        assert response.status == status
        assert str((await response.json())["detail"]).startswith(detail)


async def test_what_is_missing_is_said_as_fastapi_does(client: Client) -> None:
    async with client.post("/marker/inference", data={"file": "text"}) as response:
        assert (response.status, (await response.json())["detail"][0]["loc"]) == (422, ["body", "file"])
    async with client.get("/marker/results") as response:
        assert (response.status, (await response.json())["detail"][0]["loc"]) == (422, ["query", "file_id"])
    for body, place in ((b"{", ["body"]), (b"[]", ["body", "file_id"]), (b"{}", ["body", "file_id"])):
        async with client.post("/marker/clear", data=body) as response:
            assert (response.status, (await response.json())["detail"][0]["loc"]) == (422, place)


@pytest.mark.parametrize(("api", "datalab", "oss"), [("datalab", 422, 404), ("oss", 404, 422), ("both", 422, 422)])
async def test_it_speaks_the_one_the_other_or_both(api: str, datalab: int, oss: int, running: Running) -> None:
    client = await running(api=api)
    for path, status in (("/api/v1/marker", datalab), ("/marker/inference", oss)):
        async with client.post(path) as response:
            assert response.status == status
    async with client.get("/health_check") as response:
        assert response.status == 200


async def test_an_id_of_one_api_is_none_of_the_other(client: Client) -> None:
    file_id = await submit(client)
    await ended(client, file_id)
    async with client.get(f"/api/v1/marker/{file_id}") as response:
        assert response.status == 404


def test_a_job_that_is_forgotten_while_it_runs_can_end() -> None:
    jobs = JobTable(1, 10**6, clock=lambda: 0.0)
    first, second = jobs.open("oss", 0, "one"), jobs.open("oss", 0)
    jobs.forget("one")
    for job in (first, second):
        jobs.finish(job, Outcome(b"{}", True, 1, 0.0))
    assert jobs.answer("oss", second.request_id) == b"{}"
