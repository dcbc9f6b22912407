"""What aiohttp does not promise: when a new version breaks one of these, read the file's head, then its changes."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import client_proto, connector, http_parser, streams, web_protocol
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError

from gateway.aio import aiohttp_internals as internals
from gateway.aio.aiohttp_internals import Unpaused, chunks_of, new_parser
from tests.test_imports import MODULES, imported_by

CHANGED = f"aiohttp {aiohttp.__version__} differs from what gateway/aio/aiohttp_internals.py stands on"
THERE = "aio.aiohttp_internals"
HEAD = b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def parser() -> Any:
    loop: Any = object()  # nothing here waits
    return new_parser(loop)


def test_the_parser_is_made_as_before() -> None:
    assert http_parser.HttpRequestParser.__module__ == "aiohttp._http_parser", f"{CHANGED}: the C parser is not there"
    signature = inspect.signature(http_parser.HttpRequestParserPy.__init__)
    wanted = {"max_line_size", "max_field_size", "max_headers", "payload_exception", "auto_decompress"}
    missing = (wanted | {"max_msg_queue_size"}) - set(signature.parameters)
    assert not missing, f"{CHANGED}: the parser takes no {missing}"


def test_the_parser_answers_as_before(parser: Any) -> None:
    ((request, body),), is_upgraded, tail = parser.feed_data(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
    assert isinstance(request, RawRequestMessage), f"{CHANGED}: a request is a {type(request)}"
    assert request.raw_headers == ((b"Host", b"h"),), f"{CHANGED}: raw_headers"
    assert body is streams.EMPTY_PAYLOAD, f"{CHANGED}: a request without a body has one"
    assert (is_upgraded, tail) == (False, b""), f"{CHANGED}: what feed_data returns beside the requests"


def test_the_parser_is_told_when_a_request_is_complete() -> None:
    methods = set(dir(http_parser.HttpRequestParser))
    missing = {"message_consumed", "set_upgraded", "feed_data"} - methods
    assert not missing, f"{CHANGED}: the parser has no {missing}"


def test_a_malformed_body_is_a_fault_of_http(parser: Any) -> None:
    parser.feed_data(HEAD)
    with pytest.raises(HttpProcessingError):
        parser.feed_data(b"zz\r\n")


def test_a_connection_keeps_what_it_has_not_begun_as_before() -> None:
    assert "_messages" in web_protocol.RequestHandler.__slots__, f"{CHANGED}: what a connection has not begun"


def test_a_body_asks_its_protocol_for_no_more_than_before() -> None:
    asked = set(re.findall(r"self\._protocol\.(\w+)", inspect.getsource(streams.StreamReader)))
    unknown = asked - set(dir(Unpaused))
    assert not unknown, f"{CHANGED}: a body asks its protocol for {unknown}"


def test_the_chunks_of_a_body_are_counted_as_before(parser: Any) -> None:
    ((_, body),), *_ = parser.feed_data(HEAD + b"3\r\nabc\r\n2\r\nde\r\n")
    assert chunks_of(body) == 2, f"{CHANGED}: _http_chunk_splits"


def test_a_connector_makes_its_connections_as_before() -> None:
    source = inspect.getsource(connector.TCPConnector) + inspect.getsource(connector.BaseConnector)
    assert "self._factory = functools.partial(ResponseHandler, loop=loop)" in source, f"{CHANGED}: _factory"
    called = re.findall(r"self\._wrap_create_connection\(\s*self\._factory,", source)
    assert len(called) == 1, f"{CHANGED}: who calls _wrap_create_connection"
    signature = inspect.signature(connector.TCPConnector._wrap_create_connection)
    assert {"addr_infos", "req", "timeout", "args", "kwargs"} <= set(signature.parameters), f"{CHANGED}: {signature}"
    for name in ("ssl=sslcontext", "server_hostname="):
        assert name in source, f"{CHANGED}: a connection is opened without {name}"
    assert hasattr(client_proto.ResponseHandler, "exception"), f"{CHANGED}: a handler tells no exception"


# Private names of aiohttp's stand in that one file only


def private_names() -> set[str]:
    """Those that aiohttp's own classes have."""
    sources = "".join(path.read_text() for path in Path(aiohttp.__file__).parent.glob("*.py"))
    return set(re.findall(r"\bself\.(_[a-z]\w*)", sources))


PRIVATE = private_names()


def touched_by(name: str) -> Iterator[str]:
    """Private names of aiohttp's that a module's text reads, writes, overrides or imports."""
    tree, names = ast.parse(MODULES[name].read_text()), PRIVATE
    heirs = {made: set(of) for made, of in heirs_in(name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aiohttp"):
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from (part for part in parts if part.startswith("_"))
        if isinstance(node, ast.Attribute) and node.attr in names and not is_self(node.value):
            yield node.attr
        if isinstance(node, ast.ClassDef) and node.name in heirs:
            inner = [*ast.walk(node)]
            used = {each.attr for each in inner if isinstance(each, ast.Attribute)}
            made = {each.name for each in inner if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
            yield from ((used | made) & heirs[node.name])


def is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def heirs_in(name: str) -> Iterator[tuple[str, set[str]]]:
    """Classes of a module that inherit from one of aiohttp's, and the private names that they inherit with it."""
    module = importlib.import_module(f"gateway.{name}")
    for made, of in vars(module).items():
        if isinstance(of, type) and of.__module__ == module.__name__:
            parents = [parent for parent in of.__mro__ if parent.__module__.startswith("aiohttp")]
            text = "".join(inspect.getsource(parent) for parent in parents)
            slots = " ".join(str(getattr(parent, "__slots__", "")) for parent in parents)
            found = set(re.findall(r"(?<!\w)(_[a-z]\w*)", text + slots)) if parents else set()
            yield made, found


USERS = [name for name in MODULES if any(other.partition(".")[0] == "aiohttp" for other in imported_by(name))]
NEAR = [*USERS, "aio.bounded_connector", "listener.request_reader", "listener.parser_bypass"]


@pytest.mark.parametrize("name", sorted({*NEAR} - {THERE}))
def test_no_other_file_touches_a_private_name_of_aiohttps(name: str) -> None:
    assert [*touched_by(name)] == []


def test_this_test_sees_those_that_are_touched() -> None:
    assert {"_http_chunk_splits", "_messages", "_factory", "_wrap_create_connection"} <= set(touched_by(THERE))
    assert "admin.connection" in USERS
    heirs = {made for made, names in heirs_in("aio.bounded_connector") if names}
    assert heirs == {"BoundedHandler", "BoundedConnector"}
    assert internals.__name__ == f"gateway.{THERE}"


def test_no_other_file_makes_its_parser() -> None:
    assert [name for name in USERS if "HttpRequestParser(" in MODULES[name].read_text()] == [THERE]
