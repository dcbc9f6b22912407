"""Finds a request's route, and decides whether its caller may use it: pure decisions on values.

A pattern matches by segment: `text`, `{name}` (one segment), `{name:a|b}` (one of these), and `{name*}` (one or more
segments, last). The first matching route wins. A path without a match is a 404; one that only matches with other
methods is a 405 that lists them. Nothing is decoded: the matched bytes are the forwarded bytes.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from gateway.errors import Refused, refuse
from gateway.model.identity import ClientAddress, Identity
from gateway.model.networks import Networks
from gateway.model.reasons import Denial, Reason
from gateway.model.routes import Access, Route

_WHOLE: Final = re.compile(r"\{(?P<name>[a-z][a-z0-9_]*)(?:(?P<rest>\*)|:(?P<choice>[A-Za-z0-9_.|-]+))?\}\Z")
_SLASH: Final = "This path has no slash at its end: see Location."
_LITERAL: Final = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,=:@%]+\Z")

_BODILESS: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})  # RFC 9110 9.3: their bodies have no meaning


@dataclass(frozen=True, slots=True)
class Rule:
    """A route with its methods, pattern, host (None: any) and allowed networks (empty: any)."""

    route: Route
    methods: frozenset[str]
    pattern: re.Pattern[str]
    host: str | None
    networks: Networks

    def is_at(self, path: str, host: str) -> bool:
        """Whether it covers this path and host, with any method."""
        return bool(self.pattern.fullmatch(path)) and (self.host is None or self.host == _name_of(host))


def compile_pattern(path: str) -> re.Pattern[str]:
    """Compiles a route's path to a regular expression.

    Raises:
        ValueError: with what is wrong, in words for the configuration's author.
    """
    if not path.startswith("/"):
        raise ValueError("a path begins with /")
    segments = path[1:].split("/")
    names = [match["name"] for match in map(_WHOLE.match, segments) if match]
    if len(set(names)) < len(names):
        raise ValueError("a name may stand only once in a path")
    return re.compile("".join("/" + _segment(text, last=i == len(segments) - 1) for i, text in enumerate(segments)))


def _segment(text: str, *, last: bool) -> str:
    match = _WHOLE.match(text)
    if match is None:
        if not _LITERAL.match(text) or text in {".", ".."}:
            raise ValueError(f"{text!r} is neither plain text nor {{name}}, {{name:a|b}} or a last {{name*}}")
        return re.escape(text)
    if match["rest"]:
        if not last:
            raise ValueError(f"{text} may only be the last segment")
        return f"(?P<{match['name']}>[^/]+(?:/[^/]+)*)"
    if match["choice"]:
        if not all(match["choice"].split("|")):
            raise ValueError(f"{text} has an empty choice")
        return f"(?P<{match['name']}>{'|'.join(re.escape(word) for word in match['choice'].split('|'))})"
    return f"(?P<{match['name']}>[^/]+)"


class Routes:
    """The default-deny table of routes, and the aliases that are resolved before it is searched."""

    __slots__ = ("_aliases", "_rules")

    def __init__(self, rules: Iterable[Rule], aliases: Mapping[str, str]) -> None:
        self._rules = tuple(rules)
        self._aliases = tuple((alias, alias + "/", path) for alias, path in aliases.items())

    def unaliased(self, path: str) -> str:
        """Resolves an alias at the beginning of the path; by whole segments, once."""
        for alias, prefix, target in self._aliases:
            if path == alias or path.startswith(prefix):
                return target + path[len(alias) :]
        return path

    def match(self, method: str, path: str, host: str, *, asked: str = "") -> Rule:
        """Finds the rule for a request; `asked` is its target as received, with the query.

        Raises:
            Refused: route_not_found or method_not_allowed; or trailing_slash, which redirects to the path without the
                slash, as FastAPI does. The redirect names no host, so it can't lead to another one.
        """
        allowed: set[str] = set()
        for rule in self._rules:
            if rule.is_at(path, host):
                if method in rule.methods:
                    return rule
                allowed |= rule.methods
        if allowed:
            detail = "This path takes other methods: see Allow."
            raise Refused(Denial(Reason.METHOD_NOT_ALLOWED, detail, allow=tuple(sorted(allowed))))
        if path.endswith("/") and any(rule.is_at(path[:-1], host) for rule in self._rules):
            there = _without_slash(asked or path).encode("ascii")
            raise Refused(Denial(Reason.TRAILING_SLASH, _SLASH, lines=(b"Location: " + there,)))
        raise refuse(Reason.ROUTE_NOT_FOUND, "The gateway has no route for this path.")


def may_begin(path: str, beginning: str) -> bool:
    """Whether a configured route path can match paths that begin with these whole segments."""
    segments, wanted = path[1:].split("/"), beginning[1:].split("/")
    for text, want in zip(segments, wanted, strict=False):
        match = _WHOLE.match(text)
        if match and match["rest"]:
            return True
        if not re.fullmatch(_segment(text, last=False), want):
            return False
    return len(segments) >= len(wanted)


def _without_slash(target: str) -> str:
    path, mark, query = target.partition("?")
    return path.removesuffix("/") + mark + query


def _name_of(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


def check_address(client: ClientAddress, is_allowed: bool, rule: Rule) -> None:
    """Applies the network rule, whose verdict is `is_allowed`, and the route's own.

    Raises:
        Refused: address_denied.
    """
    if not is_allowed or (rule.networks and client.ip not in rule.networks):
        raise refuse(Reason.ADDRESS_DENIED, "This address may not use this service.")


def check_access(route: Route, identity: Identity, address: IPv4Address | IPv6Address) -> None:
    """Applies the route's access rule, and the networks and routes that the caller's profile allows.

    Raises:
        Refused: forbidden, or address_denied.
    """
    profile = identity.profile
    if profile.networks and not any(address in network for network in profile.networks):
        raise refuse(Reason.ADDRESS_DENIED, "Keys of this profile may not be used from this address.")
    if profile.routes and route.label not in profile.routes and not route.is_ours:
        raise refuse(Reason.FORBIDDEN, "Keys of this profile may not use this route (profiles.<name>.routes).")
    if route.access is Access.ADMIN and "admin" not in identity.scopes:
        raise refuse(Reason.FORBIDDEN, "This route needs a key with the scope admin.")


def check_takes_body(route: Route, method: str) -> None:
    """Refuses a useless body of an unauthenticated client: it would be read and sent upstream for nothing.

    Raises:
        Refused: bad_request.
    """
    if method in _BODILESS and route.id_in != "body":
        raise refuse(Reason.BAD_REQUEST, f"{method} takes no body here.")


def body_allowance(limit: int) -> int:
    """The size limit of a body for a profile's body_limit: multipart framing may add 0.1 %, at most 8 KB."""
    return limit + min(limit // 1000, 8192)


def check_length(content_length: int | None, limit: int) -> None:
    """Refuses a body that is too large before any of it is sent; sizes are in bytes.

    Raises:
        Refused: body_too_large, naming the limit, the size and the setting.
    """
    if content_length is not None and content_length > limit:
        raise body_too_large(content_length, limit)


def body_too_large(size: int, limit: int) -> Refused:
    """The refusal that names the size, the limit, and the setting of the limit; sizes are in bytes."""
    detail = f"The body has {size} bytes or more; this key's limit is {limit} (profiles.<name>.body_limit)."
    return refuse(Reason.BODY_TOO_LARGE, detail)
