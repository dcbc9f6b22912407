"""What the tests of the pure rooms share: strategies for what HTTP allows, makers of nouns, and h11 as a judge."""

import os
import string
from collections.abc import Callable, Coroutine, Iterable
from functools import reduce
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import normalize
from urllib.parse import quote

import h11
import pytest
import yaml
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from gateway.config.load import load
from gateway.config.settings import Settings
from gateway.errors import Refused
from gateway.http.headers import origin_form, read_headers, read_target
from gateway.model.identity import Identity, Profile
from gateway.model.networks import unmapped
from gateway.model.reasons import Denial, Reason
from gateway.model.request import BodyLimit, Exchange, Headers, Permit
from gateway.model.routes import Access, Kind, Route

Pairs = tuple[tuple[bytes, bytes], ...]


class Line(NamedTuple):
    """A request line: method, target and (major, minor)."""

    method: str
    target: str
    version: tuple[int, int]


class Head(NamedTuple):
    """A head, read whole: the gateway keeps the two halves apart, because headers repeat and targets don't."""

    method: str
    path: str
    query: str
    headers: Headers


def read_head(line: Line, pairs: Pairs) -> Head:
    """Checks one head whole, headers first, as the handler does."""
    headers = read_headers(line.version, pairs)
    return Head(line.method, *read_target(line.method, origin_form(line.target)[1]), headers)


Address = IPv4Address | IPv6Address

# Two shared cores: nothing here may fail because it was slow.
WHOLE = bool(os.environ.get("GATEWAY_TEST_WHOLE"))
PROPERTY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def examples(count: int) -> int:
    """So many in CI, a quarter of them else."""
    return count if WHOLE else count // 4


TOKEN_CHARACTERS = string.ascii_letters + string.digits + "!#$%&'*+.^_`|~-"
PATH_CHARACTERS = string.ascii_letters + string.digits + "-._~!$&'()*+,=:@"

tokens = st.text(TOKEN_CHARACTERS, min_size=1, max_size=20).map(str.encode)
_visible = bytes([*range(0x21, 0x7F), *range(0x80, 0x100)])
header_values = st.lists(st.sampled_from([*_visible, 0x20, 0x09]), max_size=30).map(lambda v: bytes(v).strip(b" \t"))
addresses = st.ip_addresses().map(unmapped)

_encoded = [byte for byte in range(0x20, 0x7F) if not chr(byte).isalnum() and byte not in b"-._~/\\;%"]
_letters = st.characters(min_codepoint=0x80, categories=("L", "N", "S")).filter(
    lambda letter: not set("./\\;%").intersection(normalize("NFKC", letter))
)
_escapes = st.sampled_from(_encoded).map("%{:02X}".format) | _letters.map(quote)
segments = (
    st.lists(st.one_of(st.sampled_from(PATH_CHARACTERS), _escapes, _escapes.map(str.lower)), max_size=12)
    .map("".join)
    .filter(lambda segment: segment not in {".", ".."})
)
paths = st.lists(segments, min_size=1, max_size=6).map(lambda parts: "/" + "/".join(parts))
queries = st.text([chr(c) for c in range(0x21, 0x7F) if chr(c) != "#"], max_size=20).map("?{}".format) | st.just("")


def recased(text: str) -> st.SearchStrategy[str]:
    """The same letters, each in a case of its own."""
    return st.tuples(*(st.sampled_from([c.lower(), c.upper()]) for c in text)).map("".join)


def ip(text: str) -> Address:
    return ip_address(text)


def denial_of(call: Callable[..., object], *arguments: object, **named: object) -> Denial:
    """Calls what must refuse, and gives the refusal."""
    with pytest.raises(Refused) as caught:
        call(*arguments, **named)
    return caught.value.denial


async def nobody_waits() -> None:
    """What is called to let others have a turn, where there are none."""


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise AssertionError("it waits")


def make_head(
    target: str = "/api/v1/marker", method: str = "POST", pairs: Iterable[tuple[bytes, bytes]] = ()
) -> Head:
    return read_head(Line(method, target, (1, 1)), ((b"Host", b"gateway.test"), *pairs))


def make_identity(**changes: Any) -> Identity:
    return Identity(**{"key_id": "ci", "owner": "key:ci", "profile": Profile("default", 1000), **changes})


def make_permit(path: str = "/api/v1/marker", kind: Kind = Kind.PLAIN, identity: Identity | None = None) -> Permit:
    client = ip("192.0.2.7")
    profile = identity.profile if identity else Profile("default", 1000)
    account = identity.account if identity else "anyone"
    limit = BodyLimit(1000, "profiles.<name>.body_limit")
    return Permit(Route("submit", kind, Access.KEY), path, client, identity, limit, account, profile)


def make_exchange(**changes: Any) -> Exchange:
    exchange = Exchange(request_id="0" * 31 + "1", started=100.0, peer_ip="192.0.2.7", client_ip="192.0.2.8")
    exchange.ended = 100.5
    for name, value in changes.items():
        setattr(exchange, name, value)
    return exchange


def document(directory: Path, **sections: Any) -> dict[str, Any]:
    """A configuration that is right as it stands, sections laid over it. Its certificate is readable, no more."""
    for name in ("server.pem", "server.key"):
        (directory / name).touch()
    tls = {"certificate": str(directory / "server.pem"), "private_key": str(directory / "server.key")}
    return {"network": {"allow": ["10.0.0.0/8"]}, "tls": tls, **sections}


class _WithoutAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


def write(directory: Path, content: object) -> Path:
    path = directory / "gateway.yaml"
    path.write_text(content if isinstance(content, str) else yaml.dump(content, Dumper=_WithoutAliases))
    return path


def make_settings(directory: Path, environ: dict[str, str] | None = None, **sections: Any) -> Settings:
    return load(write(directory, document(directory, **sections)), environ or {})


def look_up(whole: object, path: str) -> Any:
    return reduce(getattr, path.split("."), whole)


def parse_request(head: bytes, body: bytes = b"") -> h11.Request:
    """Reads exactly one request with its body; fails when there is less or more."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(head + body)
    request = server.next_event()
    assert isinstance(request, h11.Request)
    _read_to_end(server)
    return request


def parse_response(
    data: bytes, method: str = "GET", *, ends_with_connection: bool = False
) -> tuple[h11.Response, bytes]:
    """Reads exactly one response; fails when there is less or more."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "gateway.test")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    response = client.next_event()
    assert isinstance(response, h11.Response)
    if ends_with_connection:
        client.receive_data(b"")
    return response, _read_to_end(client)


def _read_to_end(connection: h11.Connection) -> bytes:
    body = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data), event
        body += event.data
    assert connection.trailing_data[0] == b""
    return body


def values_of(message: h11.Request | h11.Response, name: bytes) -> list[bytes]:
    """All values of a header, in order; h11 gives names in lower case."""
    return [value for found, value in message.headers if found == name]


REFUSING_REASONS = [reason for reason in Reason if reason not in {Reason.FORWARDED, Reason.ANSWERED}]
