"""What the readers of hostile bytes cost for what each is given at once: counted in calls, not in seconds.

A call of Python or of C costs a tenth of a microsecond or a few: so many of them are milliseconds of the loop.
Input is a few atoms of the reader's own syntax, again and again, which is where parsers are slow.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admin.parsing import MAX_BYTES
from gateway.aio.turn import SLICE
from gateway.auth.jwt.jws import read_token
from gateway.errors import Refused
from gateway.http.headers import read_headers
from gateway.http.strict_json import member_twice, read_object
from gateway.listener.proxy_protocol import ProxyHeaderError, header_end, read_header
from gateway.uploads.form import FormRules
from gateway.uploads.multipart.inspector import Inspector
from gateway.upstream.json_scanner import JsonScanner
from tests.support.pure import examples

MAX_CALLS: Final = 60_000


class Reader(NamedTuple):
    """A reader, how many bytes it is given at once, what stands in front, and what it may be made of."""

    name: str
    read: Callable[[bytes], Any]
    most: int
    start: bytes
    atoms: tuple[bytes, ...]


def read_form(data: bytes) -> None:
    Inspector(b"b0undary-ABC", FormRules()).take(data)


def read_answer(data: bytes) -> None:
    JsonScanner(("status",)).take(data)


def read_proxy(data: bytes) -> None:
    try:
        end = header_end(data)
        if end is not None:
            read_header(data[:end])
    except ProxyHeaderError:
        return


def read_head(data: bytes) -> None:
    pairs = [line.partition(b": ") for line in data.split(b"\r\n")][:100]
    read_headers((1, 1), tuple((name, value[:8190]) for name, _, value in pairs))


PART: Final = b'--b0undary-ABC\r\nContent-Disposition: form-data; name="a"\r\n\r\n'
JSON_ATOMS: Final = (
    b'"',
    b'""',
    b":",
    b",",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\\",
    b'"a":',
    b"{}",
    b"[]",
    b"0",
    b" ",
    b"1e9",
)
READERS: Final = [
    Reader("form", read_form, 65_536, PART, (
        b"\r\n", b"\r", b"-", b"--", b"b0undary-AB", b"\r\n" + PART, b"ABC", b"-b0undary-ABC", b"x" * 9,
        b"\r\n--b0",
    )),
    Reader("answer", read_answer, 65_536, b"{", JSON_ATOMS),
    Reader("admin", member_twice, MAX_BYTES, b"", JSON_ATOMS),
    Reader("claims", read_object, 8192, b"{", JSON_ATOMS),
    Reader("token", read_token, 8192, b"", (b".", b"e30", b"eyJ", b"=", b"A", b"-_", b"e30.e30.")),
    Reader("proxy", read_proxy, 2100, b"", (
        b"PROXY ", b"TCP4 ", b"1.1.1.1 ", b"1 ", b"\r\n\r\n\x00\r\nQUIT\n", b"\x21\x11\x08\x00", b"\r\n",
        b"\x00", b"\r",
    )),
    Reader("head", read_head, SLICE * 8, b"Host: a\r\n", (
        b"a: b\r\n", b"Connection: ", b"a,", b",", b"Transfer-Encoding: chunked\r\n", b"X-Forwarded-For: ",
        b"\r\n", b"_",
    )),
]  # fmt: skip


class Calls:
    """Counts the calls of functions, Python's and C's, in this thread."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, _: Any, event: str, __: Any) -> None:
        self.count += event in {"call", "c_call"}


def counted(reader: Reader, data: bytes) -> int:
    calls = Calls()
    before = sys.getprofile()
    sys.setprofile(calls)
    try:
        reader.read(data)
    except Refused:
        pass
    finally:
        sys.setprofile(before)
    return calls.count


def filled(reader: Reader, atoms: list[bytes]) -> bytes:
    unit = b"".join(atoms)
    return (reader.start + unit * (reader.most // len(unit) + 1))[: reader.most]


def pairs_of(atoms: tuple[bytes, ...]) -> Iterator[list[bytes]]:
    for first in atoms:
        yield [first]
        for second in atoms:
            yield [first, second]


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_no_one_or_two_atoms_again_and_again_hold_the_loop(reader: Reader) -> None:
    worst = max((counted(reader, filled(reader, atoms)), atoms) for atoms in pairs_of(reader.atoms))
    assert worst[0] <= MAX_CALLS, worst


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
@settings(max_examples=examples(30), deadline=None)
@given(data=st.data())
def test_nothing_holds_the_loop(reader: Reader, data: st.DataObject) -> None:
    atoms = data.draw(st.lists(st.sampled_from(reader.atoms), min_size=1, max_size=8))
    assert counted(reader, filled(reader, atoms)) <= MAX_CALLS
