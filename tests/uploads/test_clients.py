"""The bodies that clients really send: recorded, or made by the client's own code."""

import asyncio
import importlib
import shutil
import subprocess
import warnings
from pathlib import Path

import aiohttp
import pytest

from gateway.uploads.file_kind import FileKind
from gateway.uploads.form import FileFacts, Form, FormRules
from gateway.uploads.multipart.content_type import boundary_of
from gateway.uploads.multipart.inspector import Inspector

PDF = b"%PDF-1.7\n" + bytes(range(256)) * 20
RULES = FormRules(refused=frozenset({"file_url"}), removed=frozenset({"webhook_url"}))
DOCUMENT = FileFacts(FileKind.PDF, len(PDF))


def inspect(content_type: str, body: bytes) -> Form:
    inspector = Inspector(boundary_of({b"content-type": [content_type.encode()]}), RULES)
    out = b"".join(inspector.take(body[start : start + 1000]).upstream for start in range(0, len(body), 1000))
    form = inspector.finish()
    if not form.removed:
        assert out + inspector.tail == body
    return form


class Written:
    """Takes what aiohttp writes."""

    def __init__(self) -> None:
        self.body = b""

    async def write(self, chunk: bytes) -> None:
        self.body += chunk


async def sent_by_aiohttp(data: aiohttp.FormData) -> tuple[str, bytes]:
    payload = data()
    assert isinstance(payload, aiohttp.MultipartWriter)
    written = Written()
    await payload.write(written)  # type: ignore[arg-type]
    return payload.headers["Content-Type"], written.body


async def test_aiohttps_form_is_accepted() -> None:
    data = aiohttp.FormData()
    data.add_field("page_range", "0-4")
    data.add_field("page_schema", '{"a": "ä"}', content_type="application/json")
    data.add_field("file", PDF, filename='naïve "x".pdf', content_type="application/pdf")
    data.add_field("webhook_url", "https://h/")
    assert inspect(*await sent_by_aiohttp(data)) == Form(
        page_range="0-4", removed={"webhook_url": "https://h/"}, file=DOCUMENT
    )


async def test_the_sdks_form_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "x.pdf"
    await asyncio.to_thread(path.write_bytes, PDF)
    with warnings.catch_warnings():  # tenacity's, about the SDK
        warnings.simplefilter("ignore", DeprecationWarning)
        sdk = importlib.import_module("datalab_sdk")
    options = sdk.ConvertOptions(page_range="0-4", max_pages=7, mode="balanced", paginate=True, skip_cache=True)
    async with sdk.AsyncDatalabClient(api_key="k", base_url="http://127.0.0.1:1") as client:
        form = inspect(*await sent_by_aiohttp(client.get_form_params(file_path=str(path), options=options)))
    assert form == Form(page_range="0-4", max_pages="7", mode="balanced", file=DOCUMENT)


def with_boundary(
    boundary: str, *parts: tuple[bytes, bytes], ending: bytes = b"\r\n", quote: str = ""
) -> tuple[str, bytes]:
    delimiter = b"--" + boundary.encode()
    body = b"".join(delimiter + b"\r\n" + head + b"\r\n\r\n" + value + b"\r\n" for head, value in parts)
    return f"multipart/form-data; boundary={quote}{boundary}{quote}", body + delimiter + b"--" + ending


RANGE = b'Content-Disposition: form-data; name="page_range"'
FILE = b'Content-Disposition: form-data; name="file"; filename="x.pdf"'
PDF_TYPE = b"\r\nContent-Type: application/pdf"
NET_FILE = b"\r\nContent-Disposition: form-data; name=file; filename=x.pdf; filename*=utf-8''x.pdf"
NET_RANGE = b"Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=page_range"
LATIN = b"\r\nContent-Type: text/plain; charset=ISO-8859-1\r\nContent-Transfer-Encoding: 8bit"
NON_ASCII = b'Content-Disposition: form-data; name="file"; filename="na\xc3\xafve %22x%22.pdf"'
ESCAPED = (
    b'Content-Disposition: form-data; name="file"; filename="a\\"x.pdf"\r\nContent-Type: application/octet-stream'
)
LENGTH = b"\r\nContent-Length: %d"
RECORDED = {
    "curl": with_boundary("------------------------d74496d66958873e", (FILE + PDF_TYPE, PDF), (RANGE, b"0-4")),
    "requests and urllib3": with_boundary("c5f1a0a0f0ab0dcb2b6b4d2b6f2c2a10", (RANGE, b"0-4"), (NON_ASCII, PDF)),
    "httpx": with_boundary("4b8a1a1e0a9dbf1c6b0e7a0a9d1c2b3f", (RANGE, b"0-4"), (FILE + PDF_TYPE, PDF)),
    "a browser": with_boundary("----WebKitFormBoundary7MA4YWxkTrZu0gW", (FILE + PDF_TYPE, PDF), (RANGE, b"0-4")),
    "undici": with_boundary("----formdata-undici-012345678901", (RANGE, b"0-4"), (FILE + PDF_TYPE, PDF), ending=b""),
    ".NET": with_boundary(
        "b1c9f0c2-7b3e-4f6e-9a57-3c1b8a0d7e11", (PDF_TYPE[2:] + NET_FILE, PDF), (NET_RANGE, b"0-4"), quote='"'
    ),
    "okhttp": with_boundary(
        "3c1b8a0d-7e11-4f6e-9a57-b1c9f0c27b3e",
        (RANGE + LENGTH % 3, b"0-4"),
        (FILE + PDF_TYPE + LENGTH % len(PDF), PDF),
    ),
    "Apache HttpClient": with_boundary(
        "Zk3vH8h4-_0",
        (RANGE + LATIN, b"0-4"),
        (FILE + PDF_TYPE + b"\r\nContent-Transfer-Encoding: binary", PDF),
    ),
    "Go": with_boundary("5f8d8c7e6b5a4f3e2d1c0b9a8f7e6d5c4b3a2f1e0d9c", (ESCAPED, PDF), (RANGE, b"0-4")),
}


@pytest.mark.parametrize("client", RECORDED)
def test_a_recorded_body(client: str) -> None:
    assert inspect(*RECORDED[client]) == Form(page_range="0-4", file=DOCUMENT)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
async def test_curls_form_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / 'x "1".pdf'
    await asyncio.to_thread(path.write_bytes, PDF)
    received = loop_future()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        kind = next(line.partition(": ")[2] for line in head.split("\r\n") if line.lower().startswith("content-type"))
        received.set_result((kind, await reader.readexactly(int(headers["content-length"]))))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        arguments = [
            "-s",
            "-H",
            "Expect:",
            "-F",
            f'file=@"{str(path).replace(chr(34), chr(92) + chr(34))}"',
            "-F",
            "page_range=0-4",
        ]
        process = await asyncio.create_subprocess_exec(
            "curl", *arguments, f"http://127.0.0.1:{port}/", stdout=subprocess.DEVNULL
        )
        assert await process.wait() == 0
    assert inspect(*await received) == Form(page_range="0-4", file=DOCUMENT)


def loop_future() -> "asyncio.Future[tuple[str, bytes]]":
    return asyncio.get_running_loop().create_future()
