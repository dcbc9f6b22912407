"""The check URL of a submit's answer (Datalab's request_check_url), written to the public origin: pure.

The SDK polls whatever URL it is given, with the key in every request. The upstream's own would lead it around the
gateway, in the clear. So whatever stands there (absolute, relative, null), what goes out is our origin with the
upstream's path, and when that path is none of ours, with the path that the result is read at. All else in the answer
stays as it is, byte for byte.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from gateway.errors import UpstreamBrokeOff
from gateway.upstream.job_api import JobShape, is_id, read_target

_SAFE: Final = re.compile(r"/[A-Za-z0-9\-._~/=,:@!$&'()*+]*\Z")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9\-._~]{1,256}\Z")
_SPACE: Final = re.compile(r"[ \t\r\n]*")
# Numbers are kept as they are written, in a tuple: Python refuses some that JSON allows.
_DECODER: Final = json.JSONDecoder(parse_int=lambda text: (text,), parse_float=lambda text: (text,))


Member = tuple[str, Any, int, int]


class PublicAnswer(NamedTuple):
    """A submit's answer as the client gets it, and the URL that its job can be read at; None when it names no job."""

    answer: bytes
    check_url: str | None


def public_answer(answer: bytes, origin: str, submit_path: str, shape: JobShape) -> PublicAnswer:
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
        return PublicAnswer(answer, None)
    except RecursionError:
        raise UpstreamBrokeOff("The upstream's answer to a submit can't be read.", arrived=True) from None
    places = [(url, start, end) for key, url, start, end in members if key == shape.check_url_member]
    target = _read_at(members, submit_path, shape)
    if not places:
        return PublicAnswer(answer, None if target is None else origin + target)
    if len(places) > 1:
        raise UpstreamBrokeOff("The upstream's answer to a submit names two check URLs.", arrived=True)
    ((url, start, end),) = places
    target = (None if "?" in shape.read else _path_of(url)) or target
    check_url = None if target is None else origin + target
    written = f"{text[:start]}{json.dumps(check_url)}{text[end:]}"
    return PublicAnswer(written.encode("utf-8", "surrogateescape"), check_url)


def _members(text: str) -> list[Member]:
    """The members of a JSON object: key, value, and where the value begins and ends."""
    members: list[Member] = []
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


def _read_at(members: Sequence[Member], submit_path: str, shape: JobShape) -> str | None:
    """Where the job that an answer names is read: by the last of its ids, as readers of JSON take it."""
    named = next((value for key, value, _, _ in reversed(members) if key == shape.id_member), None)
    if isinstance(named, tuple):
        (named,) = named
    if not isinstance(named, str) or not _SEGMENT.match(named) or not is_id(shape, named):
        return None
    return read_target(shape, submit_path, named)
