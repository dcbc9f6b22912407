"""request_check_url, written to the public origin: pure.

The SDK polls whatever URL it is given, with the key in every request. The upstream's own would lead it around the
gateway, in the clear. So whatever stands there (absolute, relative, null), what goes out is our origin with the
upstream's path, and when that path is none of ours, with the path that the result is read at. All else in the answer
stays as it is, byte for byte.
"""

import json
import re
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.errors import UpstreamBrokeOff

_SAFE: Final = re.compile(r"/[A-Za-z0-9\-._~/=,:@!$&'()*+]*\Z")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9\-._~]{1,256}\Z")
_SPACE: Final = re.compile(r"[ \t\r\n]*")
# Numbers are kept as they are written, in a tuple: Python refuses some that JSON allows.
_DECODER: Final = json.JSONDecoder(parse_int=lambda text: (text,), parse_float=lambda text: (text,))


def rewrite_check_url(answer: bytes, origin: str, submit_path: str) -> bytes:
    """Rewrites the check URL in a submit's answer; an answer that is no JSON object is returned as it is.

    Raises:
        UpstreamBrokeOff: when the answer can't be read but a client might manage to.
    """
    if json.detect_encoding(answer) != "utf-8":
        raise UpstreamBrokeOff("The upstream's answer to a submit is not in UTF-8.", arrived=True)
    text = answer.decode("utf-8", "surrogateescape")
    try:
        members = _members(text)
    except (ValueError, IndexError, StopIteration):
        return answer
    except RecursionError:
        raise UpstreamBrokeOff("The upstream's answer to a submit can't be read.", arrived=True) from None
    places = [(url, start, end) for key, url, start, end in members if key == "request_check_url"]
    if not places:
        return answer
    if len(places) > 1:
        raise UpstreamBrokeOff("The upstream's answer to a submit names two check URLs.", arrived=True)
    ((url, start, end),) = places
    request_id = next((value for key, value, _, _ in reversed(members) if key == "request_id"), None)
    path = _path_of(url) or _result_path(request_id, submit_path)
    written = json.dumps(None if path is None else origin + path)
    return f"{text[:start]}{written}{text[end:]}".encode("utf-8", "surrogateescape")


def _members(text: str) -> list[tuple[str, Any, int, int]]:
    """The members of a JSON object: key, value, and where the value begins and ends."""
    members: list[tuple[str, Any, int, int]] = []
    place = _expect(text, _skip(text, 0), "{")
    if text[place] == "}":
        return members
    while True:
        key, place = _DECODER.raw_decode(text, place)
        if not isinstance(key, str):
            raise ValueError(place)  # noqa: TRY004 -- no JSON, like the decoder's own
        start = _expect(text, _skip(text, place), ":")
        value, end = _DECODER.raw_decode(text, start)
        members.append((key, value, start, end))
        place = _skip(text, end)
        if text[place] == "}":
            _end(text, place + 1)
            return members
        place = _expect(text, place, ",")


def _skip(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    return match.end() if match else place


def _expect(text: str, place: int, mark: str) -> int:
    if text[place] != mark:
        raise ValueError(mark)
    return _skip(text, place + 1)


def _end(text: str, place: int) -> None:
    if _skip(text, place) != len(text):
        raise ValueError(place)


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
    if isinstance(request_id, tuple):
        (request_id,) = request_id
    usable = isinstance(request_id, str) and _SEGMENT.match(request_id) and request_id not in {".", ".."}
    return f"{submit_path}/{request_id}" if usable else None
