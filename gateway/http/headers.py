r"""Reads a request's head, and refuses what the parser accepts and we do not.

Facts this file rests on:
- RFC 9112 3.2: a request has exactly one Host; RFC 9110 4.2.4: an authority with userinfo is an attack.
- RFC 9112 6.1: Transfer-Encoding beside Content-Length, or in HTTP/1.0, is a request smuggling vector; the only
  coding that a request may have here is `chunked`, alone.
- Paths are compared and forwarded as the bytes that came. So a path whose meaning depends on the decoder (dot
  segments, encoded slashes and backslashes, `;` parameters, control bytes) is refused, not normalized. So is one
  whose encoded bytes are no UTF-8 (a lax decoder takes %c0%ae for a dot), or have a character that Unicode's
  compatibility forms (NFKC) make a separator or a dot of (U+FF0F, U+FF0E).
- CGI-descended servers read `X_API_Key` as `X-API-Key`: such an alias of a header that we rely on is refused.
- RFC 9110 7.6.1: headers that Connection names are for this hop only; so are all in HOP_BY_HOP.
- RFC 9110 7.8: a server may ignore Upgrade, and the most common nginx configuration sends it with every request. By
  then the parser has read all that it takes for HTTP (tried: data after such a request may be lost in it), so a
  request that asks for an upgrade ends its connection.
- RFC 9112 3.2.2: a target in absolute form names the host, whatever Host says. HTTP/1.0 has no Host; without one the
  host is empty, and matches no route that requires a host.
- aiohttp 3.14.5 gives the last trailer of a chunked body to the next request on its connection, as a header (tried:
  tests/flows/test_heads.py). So a chunked request ends its connection.
- Header names are compared in lower case and forwarded as received.
"""

import re
from dataclasses import replace
from typing import Final
from unicodedata import normalize
from urllib.parse import unquote

from gateway.errors import refuse
from gateway.model.reasons import Reason
from gateway.model.request import Headers

MAX_HEAD_BYTES: Final = 65536
HOP_BY_HOP: Final = frozenset({
    b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"proxy-connection",
    b"proxy-authenticate", b"proxy-authorization", b"proxy-authentication-info",
})  # fmt: skip
# Headers in which proxies tell who asks for what, and in which a client may claim it.
OF_PROXIES: Final = frozenset({
    b"forwarded", b"x-real-ip", b"via", b"x-client-ip", b"x-cluster-client-ip", b"true-client-ip",
    b"cf-connecting-ip", b"x-original-forwarded-for", b"x-original-url", b"x-rewrite-url", b"x-original-host",
    b"x-host", b"x-remote-user", b"remote-user", b"x-forwarded", b"forwarded-for", b"x-envoy-external-address",
    b"fly-client-ip", b"fastly-client-ip", b"x-azure-clientip", b"x-appengine-user-ip", b"x-proxyuser-ip",
    b"x-envoy-original-path",
})  # fmt: skip
# Headers in which a client claims who it is or where it comes from. Never forwarded as received: we add our own.
IDENTIFYING: Final = OF_PROXIES | {
    b"x-api-key", b"authorization", b"cookie", b"x-request-id", b"traceparent", b"tracestate",
}  # fmt: skip
# Headers for which some servers take another method than the one that was judged (Rails, Symfony, ASP.NET).
_OVERRIDING: Final = frozenset({b"x-http-method-override", b"x-http-method", b"x-method-override"})
_REFRAMED: Final = frozenset({b"host", b"content-length", b"expect"})
_STRIPPED: Final = HOP_BY_HOP | IDENTIFYING | _OVERRIDING | _REFRAMED
_STRIPPED_PREFIXES: Final = (b"x-forwarded-", b"x-gateway-")
# Headers that some rule reads. An underscore alias of one of these is refused.
RELIED_ON: Final = _STRIPPED | {b"content-type", b"content-encoding", b"accept-encoding", b"prefer"}

_NOT_SERVED: Final = frozenset({"CONNECT", "TRACE"})
# RFC 3986 path characters without `;`. A percent-encoded character that needs no encoding (letters, digits, - . _ ~),
# or a control byte, `/`, `\`, `;` or `%`, makes another path for a server that decodes it: no usual client sends one.
_PATH: Final = re.compile(
    r"(?:/(?!\.{1,2}(?:/|\Z))(?:[A-Za-z0-9\-._~!$&'()*+,=:@]"
    r"|%(?:2[0-46-9A-Ca-c]|3[ACDEFacdef]|40|5[BDEbde]|60|7[B-Db-d]|[89A-Fa-f][0-9A-Fa-f]))*)+\Z"
)
_NOT_ASCII: Final = re.compile("%[89A-Fa-f]")
SEPARATORS: Final = frozenset("/\\%;")
"""Characters that no segment of a path has that is accepted, encoded or not; so no id of a job has one."""
_ABSOLUTE: Final = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)
_QUERY: Final = re.compile(r"[\x21\x22\x24-\x7e]*\Z")
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?\Z")
MAX_CONNECTION: Final = 1024  # bytes: each name between commas costs time
_TOKEN: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
CONTENT_LENGTH: Final = re.compile(rb"[0-9]{1,18}\Z")


def read_headers(version: tuple[int, int], pairs: tuple[tuple[bytes, bytes], ...]) -> Headers:
    """Checks and sorts the headers of a request.

    Raises:
        Refused: with the reason for the client; the detail never contains the client's input.
    """
    http_1_1 = _check_version(version)
    known, kept = _sort_headers(pairs)
    chunked, length = _framing(known, http_1_1)
    return Headers(
        host=_one_host(known, http_1_1),
        known=known,
        kept=kept,
        content_length=length,
        chunked=chunked,
        expects_continue=_expects_continue(known, http_1_1),
        keep_alive=http_1_1 and not chunked and not _ends(known),
        http_1_1=http_1_1,
    )


def read_target(method: str, target: str) -> tuple[str, str]:
    """Checks a request's target; returns the path, and the query with its question mark (or an empty string).

    Raises:
        Refused: with the reason for the client; the detail never contains the client's input.
    """
    if method in _NOT_SERVED:
        raise refuse(Reason.BAD_REQUEST, f"{method} is not for this server.")
    path, mark, query = target.partition("?")
    if not _PATH.match(path) or (_NOT_ASCII.search(path) and not _is_plain_text(path)):
        raise refuse(Reason.BAD_REQUEST, "The request target is not a plain absolute path.")
    if mark and not _QUERY.match(query):
        raise refuse(Reason.BAD_REQUEST, "The query has a character that must be percent-encoded.")
    return path, mark + query


def with_host(headers: Headers, host: str | None) -> Headers:
    """The headers with the host that the target names, which overrides Host; None: the target names no host."""
    return headers if host is None else replace(headers, host=host)


def origin_form(target: str) -> tuple[str | None, str]:
    """Splits a target in absolute form into its authority and the rest; for any other form the authority is None.

    Raises:
        Refused: bad_request, when the authority is not a valid host.
    """
    match = _ABSOLUTE.match(target)
    if match is None:
        return None, target
    if not _HOST.match(match[1].encode("utf-8", "surrogateescape")):
        raise refuse(Reason.BAD_REQUEST, "The request target names no valid host.")
    rest = target[match.end() :]
    return match[1], rest if rest.startswith("/") else "/" + rest


def _is_plain_text(path: str) -> bool:
    """Whether its encoded bytes are UTF-8, without characters that are compatible with separators or dots."""
    try:
        characters = set(unquote(path, errors="strict"))
    except UnicodeDecodeError:
        return False
    forms = (normalize("NFKC", one) for one in characters if not one.isascii())
    return not any(form in (".", "..") or SEPARATORS.intersection(form) for form in forms)


def _check_version(version: tuple[int, int]) -> bool:
    if version == (1, 1):
        return True
    if version == (1, 0):
        return False
    if version == (0, 9):
        raise refuse(Reason.BAD_REQUEST, "The request line has no HTTP version.")
    raise refuse(Reason.VERSION_NOT_SUPPORTED, "This server speaks HTTP/1.1 and HTTP/1.0.")


def _sort_headers(
    pairs: tuple[tuple[bytes, bytes], ...],
) -> tuple[dict[bytes, list[bytes]], list[tuple[bytes, bytes]]]:
    known: dict[bytes, list[bytes]] = {}
    kept: list[tuple[bytes, bytes]] = []
    size = 0
    for pair in pairs:
        name = pair[0].lower()
        size += len(name) + len(pair[1])
        if name in RELIED_ON:
            known.setdefault(name, []).append(pair[1])
            if name in _STRIPPED:
                continue
        elif name.startswith(_STRIPPED_PREFIXES):
            known.setdefault(name, []).append(pair[1])
            continue
        elif b"_" in name:
            _refuse_alias(name)
        kept.append(pair)
    if size > MAX_HEAD_BYTES:
        raise refuse(Reason.HEADERS_TOO_LARGE, "The request's head is too large.")
    if b"connection" in known:
        kept = _without_named(known, kept)
    return known, kept


def _refuse_alias(name: bytes) -> None:
    plain = name.replace(b"_", b"-")
    if plain in RELIED_ON or plain.startswith(_STRIPPED_PREFIXES):
        raise refuse(Reason.BAD_REQUEST, "A header name is written with an underscore for a hyphen.")


def _without_named(known: dict[bytes, list[bytes]], kept: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    values = known[b"connection"]
    if sum(map(len, values)) > MAX_CONNECTION:  # before any authentication
        raise refuse(Reason.BAD_REQUEST, "The Connection header is too long.")
    named = {token.strip().lower() for value in values for token in value.split(b",")} - {b""}
    if any(not _TOKEN.match(token) for token in named):
        raise refuse(Reason.BAD_REQUEST, "The Connection header is malformed.")
    if named & (RELIED_ON - HOP_BY_HOP):
        raise refuse(Reason.BAD_REQUEST, "The Connection header names a header that is not for one hop.")
    return [pair for pair in kept if pair[0].lower() not in named]


def _ends(known: dict[bytes, list[bytes]]) -> bool:
    """Whether the connection must close after this request."""
    if b"connection" not in known:
        return False
    return _named(known, b"close") or (b"upgrade" in known and _named(known, b"upgrade"))


def _named(known: dict[bytes, list[bytes]], token: bytes) -> bool:
    return any(part.strip().lower() == token for value in known[b"connection"] for part in value.split(b","))


def _one_host(known: dict[bytes, list[bytes]], http_1_1: bool) -> str:
    hosts = known.get(b"host")
    if hosts is None and not http_1_1:
        return ""
    if hosts is None or len(hosts) != 1 or not _HOST.match(hosts[0]):
        raise refuse(Reason.BAD_REQUEST, "A request needs exactly one valid Host header.")
    return hosts[0].decode("ascii")


def _framing(known: dict[bytes, list[bytes]], http_1_1: bool) -> tuple[bool, int | None]:
    codings = known.get(b"transfer-encoding")
    lengths = known.get(b"content-length")
    if codings is not None:
        if lengths is not None:
            raise refuse(Reason.BAD_REQUEST, "Content-Length and Transfer-Encoding exclude each other.")
        if not http_1_1 or len(codings) != 1 or codings[0].lower() != b"chunked":
            raise refuse(Reason.BAD_REQUEST, "The only transfer coding of a request is chunked, in HTTP/1.1.")
        return True, None
    if lengths is None:
        return False, None
    if len(lengths) != 1 or not CONTENT_LENGTH.match(lengths[0]):
        raise refuse(Reason.BAD_REQUEST, "The Content-Length is not one decimal number.")
    return False, int(lengths[0])


def _expects_continue(known: dict[bytes, list[bytes]], http_1_1: bool) -> bool:
    expectations = known.get(b"expect")
    if expectations is None or not http_1_1:  # RFC 9110 10.1.1: HTTP/1.0 ignores it
        return False
    if len(expectations) != 1 or expectations[0].lower() != b"100-continue":
        raise refuse(Reason.EXPECTATION_FAILED, "The only expectation that can be met is 100-continue.")
    return True
