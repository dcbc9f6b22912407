"""Rewrites the check URL in a submit's answer (Datalab's request_check_url) to the public origin: pure.

The SDK polls any URL it is given, and sends the key in every request. The upstream's own URL would bypass the
gateway, unencrypted. So whatever the upstream sent (absolute, relative, null), the client gets our origin with the
upstream's path, or, if that path is not usable, with the path at which the result is read. All else in the answer
stays as it is, byte for byte.

Clients read JSON in other ways: Go and .NET ignore the case of a member's name (Go takes U+017F for an s, and U+212A
for a k), some read the first of two values, or what this decoder refuses. So the member is found in any case, and an
answer that is not read here passes only if it can't have the member.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from gateway.errors import UpstreamBrokeOff
from gateway.http.strict_json import count_of
from gateway.upstream.job_api import JobShape, is_id, status_target

_MAX_URL: Final = 2048
_SAFE: Final = re.compile(r"/[A-Za-z0-9\-._~/=,:@!$&'()*+]*\Z")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9\-._~]{1,256}\Z")
_MARKS: Final = b",[{"
_MOST_BYTES_OF_A_LETTER: Final = 3  # that some reader takes for one of ASCII
_MAX_MARKS: Final = 10_000  # each value costs up to a microsecond; a long text may have thousands of commas
_MAX_MEMBERS: Final = 500  # each costs some microseconds; real answers have about five
_EACH_BYTE: Final = "latin-1"  # what is looked for is ASCII; texts that are not UTF-8 cost no more than others
_LONG_S: Final = "\u017f".encode()
_KELVIN: Final = "\u212a".encode()
_ESCAPES: Final = (b"\\u", b"\\x")
_SPACES: Final = " \t\r\n"
_SPACE: Final = re.compile(f"[{_SPACES}]*")
# Numbers are kept as text, in a tuple: Python refuses some that JSON allows.
DECODER: Final = json.JSONDecoder(parse_int=lambda text: (text,), parse_float=lambda text: (text,))


Member = tuple[str, Any, int, int]


class PublicAnswer(NamedTuple):
    """A submit's answer for the client, and the URL at which its job can be read; None when it names no job."""

    answer: bytes
    check_url: str | None


def public_answer(answer: bytes, origin: str, submit_path: str, shape: JobShape) -> PublicAnswer:
    """Rewrites the check URL in a submit's answer; an answer that is not a JSON object and has none stays as it is.

    Raises:
        UpstreamBrokeOff: when the answer can't be read here, but a client might manage to read it.
    """
    text = answer.decode(_EACH_BYTE)
    members = _read(answer, text, shape.check_url_member)
    if members is None:
        return PublicAnswer(answer, None)
    places = [(url, start, end) for key, url, start, end in members if _is_taken_for(shape.check_url_member, key)]
    target = _read_at(members, submit_path, shape)
    if not places:
        return PublicAnswer(answer, None if target is None else origin + target)
    if len(places) > 1:
        raise UpstreamBrokeOff("The upstream's answer to a submit names two check URLs.", arrived=True)
    ((url, start, end),) = places
    target = (None if "?" in shape.read else _path_of(url)) or target
    check_url = None if target is None else origin + target
    written = f"{text[:start]}{json.dumps(check_url)}{text[end:]}"
    return PublicAnswer(written.encode(_EACH_BYTE), check_url)


def _read(answer: bytes, text: str, member: str | None) -> list[Member] | None:
    """The members of an answer, `text` its bytes; None: it is no JSON object, and no reader finds this member in it.

    Raises:
        UpstreamBrokeOff: as `public_answer`.
    """
    if json.detect_encoding(answer) != "utf-8":
        raise UpstreamBrokeOff("The upstream's answer to a submit is not in UTF-8.", arrived=True)
    if count_of(answer, _MARKS) > _MAX_MARKS:
        raise _unreadable()
    try:
        return _members(text)
    except (ValueError, IndexError, StopIteration):
        if _may_name(answer, member):
            raise _unreadable() from None
        return None
    except RecursionError:
        raise _unreadable() from None


def _may_name(answer: bytes, member: str | None) -> bool:
    """Whether some reader may find this member in what is no JSON object; an escape may stand for anything."""
    if member is None:
        return False
    plain = answer.replace(_LONG_S, b"s").replace(_KELVIN, b"k").lower()
    return member.encode().lower() in plain or any(escape in plain for escape in _ESCAPES)


def _is_taken_for(member: str | None, key: str) -> bool:
    """Whether some reader takes this key, whose bytes are its characters, for the member."""
    if member is None or len(key) > _MOST_BYTES_OF_A_LETTER * len(member):
        return False
    if key.isascii():
        return key.lower() == member.casefold()  # of ASCII, `lower` folds all that any reader does
    plain = key.replace(_LONG_S.decode(_EACH_BYTE), "s").replace(_KELVIN.decode(_EACH_BYTE), "k")
    return plain.casefold() == member.casefold()


def _members(text: str) -> list[Member]:
    """The members of a JSON object: key, value, and where the value starts and ends.

    Raises:
        UpstreamBrokeOff: there are too many.
    """
    members: list[Member] = []
    place = _expect(text, _skip(text, 0), "{")
    if text[place] == "}":
        _end(text, place + 1)
        return members
    while True:
        key, place = DECODER.raw_decode(text, place)
        if not isinstance(key, str):
            raise ValueError(place)  # noqa: TRY004 -- not JSON; the decoder raises the same
        start = _expect(text, _skip(text, place), ":")
        value, end = DECODER.raw_decode(text, start)
        members.append((key, value, start, end))
        place = _skip(text, end)
        if text[place] == "}":
            _end(text, place + 1)
            return members
        if len(members) >= _MAX_MEMBERS:
            raise _unreadable()
        place = _expect(text, place, ",")


def _unreadable() -> UpstreamBrokeOff:
    return UpstreamBrokeOff("The upstream's answer to a submit can't be read.", arrived=True)


def _skip(text: str, place: int) -> int:
    if text[place : place + 1] not in _SPACES:
        return place
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
    # A host that is not ASCII would be normalized, in quadratic time; and a URL is kept with its job.
    if not isinstance(url, str) or len(url) > _MAX_URL or not url.isascii():
        return None
    if url.startswith("/") and not url.startswith("//"):
        found = url if _SAFE.match(url) else _path_in(url)  # most are a mere path, which no parser has to find
    else:
        found = _path_in(url)
    path = found if found.startswith("/") else "/" + found
    usable = found and _SAFE.match(path) and not {"", ".", ".."} & set(path.split("/")[1:])
    return path if usable else None


def _path_in(url: str) -> str:
    """The path of a URL; empty if it has none, or is none."""
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def _read_at(members: Sequence[Member], submit_path: str, shape: JobShape) -> str | None:
    """The target at which the answer's job is read; of duplicate ids the last counts, as for JSON readers."""
    named = next((value for key, value, _, _ in reversed(members) if key == shape.id_member), None)
    if isinstance(named, tuple):
        (named,) = named
    if not isinstance(named, str) or not _SEGMENT.match(named) or not is_id(shape, named):
        return None
    return status_target(shape, submit_path, named)
