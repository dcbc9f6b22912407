"""`python -m bench.reading`: what it costs to find out what an answer about a job says, by what it is made of.

The container's answers pass a reader (gateway/jobs/reading.py) that looks for a few words at the top of a result of
hundreds of megabytes. Printed for each sort of bytes: CPU in ms for a megabyte, and the same as a share of what
json.loads takes for it in the same run, where it can read it. The best of some runs; a busy machine doubles all.
"""

import json
import random
import time
from collections.abc import Iterator
from typing import Any, Final

from gateway.upstream.json_scanner import JsonScanner

_MB: Final = 1_000_000
_SIZE: Final = 4 * _MB
_PIECE: Final = 262_144
_RUNS: Final = 5
_POLYGON: Final = [[102.5, 233.25], [841.0, 233.25], [841.0, 262.75], [102.5, 262.75]]
_END: Final = b'0],"status":"complete"}'
_CRUMBS: Final = {
    "empty objects": b"{},",
    "numbers": b"1,",
    "empty strings": b'"",',
    "strings of brackets": b'"[",',
    "escaped quotes": b'"\\"\\"\\"\\"\\"\\"\\"\\"",',
    "escaped quotes apart": b'"\\"x\\"x\\"x\\"x\\"x\\"x",',
    "escaped backslashes": b'"\\\\\\\\\\"\\\\\\\\\\"",',
    "brackets and strings": b'{},"[",',
    "unlike brackets": b"[[],[[]],[]],",
}


def ocr_result(pages: int) -> bytes:
    """A finished OCR result of so many pages of 45 lines, each with its characters and words."""

    def part(**more: Any) -> dict[str, Any]:
        return {"polygon": _POLYGON, "confidence": 0.9912, **more, "bbox": [102.5, 233.25, 841.0, 262.75]}

    words = [part(text="xxxxx", bbox_valid=True)] * 10
    line = part(text="x" * 60, chars=[part(text="x", bbox_valid=True)] * 60, words=words, original_text_good=False)
    page = json.dumps({"text_lines": [line] * 45, "languages": ["en"], "image_bbox": [0, 0, 816, 1056], "page": 1})
    body = ",".join([page] * pages)
    return f'{{"pages":[{body}],"success":true,"error":"","page_count":{pages},"status":"complete"}}'.encode()


def nested(size: int) -> bytes:
    """Brackets that open and close at random, which no shortcut helps with."""
    walk, depth, out = random.Random(1), 1, bytearray()  # noqa: S311 -- no secret
    while len(out) < size:
        opens = depth == 1 or walk.random() < 1 / 2
        out += b"[" if opens else b"]"
        depth += 1 if opens else -1
    return b'{"a":[' + bytes(out) + b"]" * depth + b',"status":"complete"}'


def sorts() -> Iterator[tuple[str, bytes]]:
    """Names and bytes."""
    for pages in (80, 300):
        yield f"OCR of {pages} pages", ocr_result(pages)
    yield "brackets at random", nested(_SIZE)
    for name, crumb in _CRUMBS.items():
        yield name, b'{"a":[' + crumb * (_SIZE // len(crumb)) + _END


def read(data: bytes) -> float:
    """The CPU seconds that it takes.

    Raises:
        ValueError: it was not read.
    """
    scalars = JsonScanner({"status"})
    begun = time.process_time()
    for place in range(0, len(data), _PIECE):
        scalars.take(data[place : place + _PIECE])
    took = time.process_time() - begun
    if not scalars.is_whole or scalars.values != {"status": "complete"}:
        raise ValueError("it was not read")
    return took


def parse(data: bytes) -> float:
    """The CPU seconds of json.loads."""
    begun = time.process_time()
    json.loads(data)
    return time.process_time() - begun


def main() -> None:
    """Prints the table."""
    print(f"{'answer':24}{'MB':>8}{'ms/MB':>8}{'of json.loads':>16}")
    for name, data in sorts():
        size = len(data) / _MB
        runs = 1 if size > _SIZE / _MB * 2 else _RUNS
        ours, theirs = (min(work(data) for _ in range(runs)) for work in (read, parse))
        print(f"{name:24}{size:8.0f}{ours * 1000 / size:8.2f}{ours / theirs:16.2f}", flush=True)


if __name__ == "__main__":
    main()
