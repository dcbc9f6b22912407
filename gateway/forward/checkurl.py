"""request_check_url, written to the public origin: pure.

The SDK polls whatever URL it is given, with the key in every request. The upstream's own would lead it around the
gateway, in the clear. So whatever stands there (absolute, relative, null), what goes out is our origin with the
upstream's path, and when that path is none of ours, with the path that the result is read at.
"""

import json
import re
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.errors import UpstreamBrokeOff

_SAFE: Final = re.compile(r"/[A-Za-z0-9\-._~/=,:@!$&'()*+]*\Z")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9\-._~]{1,256}\Z")


def rewrite_check_url(answer: bytes, origin: str, submit_path: str) -> bytes:
    """Rewrites the check URL in a submit's answer; an answer that is no JSON object is returned as it is.

    Raises:
        UpstreamBrokeOff: when the answer is nested so deeply that it can't be read.
    """
    try:
        document = json.loads(answer)
    except ValueError:
        return answer
    except RecursionError:
        raise UpstreamBrokeOff("The upstream's answer to a submit can't be read.", arrived=True) from None
    if not isinstance(document, dict) or "request_check_url" not in document:
        return answer
    path = _path_of(document["request_check_url"]) or _result_path(document.get("request_id"), submit_path)
    document["request_check_url"] = None if path is None else origin + path
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def _path_of(url: Any) -> str | None:
    if not isinstance(url, str):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    path = parts.path if parts.path.startswith("/") else "/" + parts.path
    usable = parts.path and _SAFE.match(path) and not {"", ".", ".."} & set(path.split("/")[1:])
    return path if usable else None


def _result_path(request_id: Any, submit_path: str) -> str | None:
    usable = isinstance(request_id, str) and _SEGMENT.match(request_id) and request_id not in {".", ".."}
    return f"{submit_path}/{request_id}" if usable else None
