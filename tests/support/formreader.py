"""A form as Starlette reads it: a program of its own, so that releases of it can be asked side by side.

Its argument is the directory to import from, if not the present environment. For each question on stdin (the size
of pieces and two lengths, a content type, a body) it writes one line of JSON: the fields as
triples of name, filename or null, and value as text by Latin-1; or null, when the form is refused.
"""

import asyncio
import json
import logging
import sys
import warnings
from typing import Any

if len(sys.argv) > 1 and sys.argv[1]:
    sys.path.insert(0, sys.argv[1])
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

from starlette.datastructures import UploadFile  # noqa: E402 -- from where it was told to
from starlette.requests import Request  # noqa: E402


async def read(content_type: bytes, body: bytes, step: int) -> list[tuple[str, str | None, str]]:
    pieces = [body[start : start + step] for start in range(0, len(body), step)]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": pieces.pop(0) if pieces else b"", "more_body": bool(pieces)}

    request = Request({"type": "http", "method": "POST", "headers": [(b"content-type", content_type)]}, receive)
    form = await request.form()
    found: list[tuple[str, str | None, str]] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            found.append((name, value.filename or "", (await value.read()).decode("latin-1")))
        else:
            found.append((name, None, value.encode("utf-8", "surrogatepass").decode("latin-1")))
    return found


def main() -> None:
    source, loop = sys.stdin.buffer, asyncio.new_event_loop()
    while head := source.readline():
        step, first, second = map(int, head.split())
        content_type, body = source.read(first), source.read(second)
        try:
            answer = loop.run_until_complete(read(content_type, body, step))
        except Exception:  # noqa: BLE001 -- whatever it raises, the form is not read
            answer = None
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
