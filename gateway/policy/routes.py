"""Finds a request's route: pure.

A pattern matches by segment: `text`, `{name}` (one segment), `{name:a|b}` (one of these), and `{name*}` (one or more
segments, last). The first matching route wins. A path without a match is a 404; one that only matches with other
methods is a 405 that lists them. Nothing is decoded: the matched bytes are the forwarded bytes.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.errors import Refused, refuse
from gateway.model.networks import Networks
from gateway.model.reasons import Denial, Reason
from gateway.model.routes import Route

_WHOLE: Final = re.compile(r"\{(?P<name>[a-z][a-z0-9_]*)(?:(?P<rest>\*)|:(?P<choice>[A-Za-z0-9_.|-]+))?\}\Z")
_SLASH: Final = "This path has no slash at its end: see Location."
_LITERAL: Final = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,=:@%]+\Z")


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
