"""Datalab's own SDK, unmodified, as a customer runs it: told by three variables where to go and whom to trust."""

import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support.process import GATEWAY, ROOT, Process

SYNC = """
import json, sys
from datalab_sdk import ConvertOptions, DatalabClient

client = DatalabClient()
result = client.convert(sys.argv[1], options=ConvertOptions(output_format=sys.argv[2]))
print(json.dumps({"success": result.success, "pages": result.page_count, "format": result.output_format,
                  "markdown": result.markdown, "html": result.html, "images": sorted(result.images or {})}))
"""
ASYNC = """
import asyncio, json, sys
from datalab_sdk import AsyncDatalabClient, ConvertOptions

async def main():
    async with AsyncDatalabClient() as client:
        results = await asyncio.gather(*[
            client.convert(sys.argv[1], options=ConvertOptions(page_range=str(page), output_format=sys.argv[2]))
            for page in range(3)
        ])
    print(json.dumps([[result.success, result.page_count, result.markdown] for result in results]))

asyncio.run(main())
"""
STREAMED = """
import json, sys
from datalab_sdk import DatalabClient

result = DatalabClient().convert(sys.argv[1], stream_response_to=sys.argv[1] + ".json")
print(json.dumps({"success": result.success, "status": result.status}))
"""
WRONG = """
import json, sys
from datalab_sdk import DatalabAPIError, DatalabClient

try:
    DatalabClient().convert(sys.argv[1])
except DatalabAPIError as error:
    print(json.dumps({"status": error.status_code, "text": str(error)}))
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A demo's directory, and the URL it listens on."""
    directory = tmp_path_factory.mktemp("sdk")
    ports = ("--port", "0", "--admin-port", "0", "--upstream-port", "0")
    with Process((*GATEWAY, "demo", "--dir", str(directory), *ports)) as process:
        yield directory, process.line(lambda line: line.startswith("ready ")).removeprefix("ready ")


def converted(demo: tuple[Path, str], script: str, output_format: str = "markdown", key: str | None = None) -> object:
    directory, url = demo
    environ = {
        "DATALAB_HOST": url,
        "DATALAB_API_KEY": key or (directory / "key.txt").read_text().strip(),
        "SSL_CERT_FILE": str(directory / "ca.pem"),
    }
    command = (sys.executable, "-c", script, str(directory / "sample.pdf"), output_format)
    with Process(command, directory, environ) as process:
        assert process.exit_code() == 0, process.output
        return json.loads(process.lines[-1])


def test_it_is_the_one_from_the_index() -> None:
    assert version("datalab-python-sdk") == "0.5.0"


def test_the_example_of_the_readme_works(demo: tuple[Path, str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert '".demo/sample.pdf"' in example
    script = example.replace('".demo/sample.pdf"', "sys.argv[1]").replace("print(", "print(json.dumps([")
    script = script.rstrip().removesuffix(")") + "]))"
    result = converted(demo, f"import json, sys\n{script}")
    assert isinstance(result, list)
    assert result[0] == 3
    assert "Sample document, page 1" in result[1]


def test_the_sync_client_converts(demo: tuple[Path, str]) -> None:
    result = converted(demo, SYNC)
    assert isinstance(result, dict)
    assert result["success"] is True
    assert result["pages"] == 3
    assert result["format"] == "markdown"
    assert "Sample document, page 3" in result["markdown"]
    assert result["images"]


def test_it_gets_what_it_asked_for(demo: tuple[Path, str]) -> None:
    result = converted(demo, SYNC, "html")
    assert isinstance(result, dict)
    assert "Sample document, page 1" in result["html"]
    assert result["markdown"] is None


def test_the_async_client_converts_at_once(demo: tuple[Path, str]) -> None:
    results = converted(demo, ASYNC)
    assert isinstance(results, list)
    for page, (success, pages, markdown) in enumerate(results, start=1):
        assert success is True
        assert pages == 1
        assert f"Sample document, page {page}" in markdown


def test_it_streams_a_result_to_a_file(demo: tuple[Path, str]) -> None:
    assert converted(demo, STREAMED) == {"success": True, "status": "complete"}
    result = json.loads((demo[0] / "sample.pdf.json").read_text())
    assert result["page_count"] == 3


def test_a_wrong_key_is_told_in_words(demo: tuple[Path, str]) -> None:
    result = converted(demo, WRONG, key="no-key-of-theirs")
    assert isinstance(result, dict)
    assert result["status"] == 401
    assert "No valid credential" in result["text"]
