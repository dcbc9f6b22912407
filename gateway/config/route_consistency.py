"""Faults between routes, the shapes of their jobs, and their containers.

A job's id exists only in the container that made it, so requests that read or delete a job, or belong to it, must go
where its submit went. Routes that would balance load over several containers are refused: their licence forbids it.
As consistency.py, this works on the raw document, and leaves values of the wrong shape to the settings. Pure.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.config.settings import JobPlace, RouteSettings, ShapeSettings, Upstream
from gateway.errors import Fault
from gateway.policy.routes import compile_pattern

Document = dict[str, Any]
_OF_JOBS: Final = frozenset({"result", "asset", "delete"})
_CHANGES: Final = {"submit": "start", "delete": "end"}
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_URL: Final = Upstream.model_fields["url"].default
_READ: Final = ShapeSettings.model_fields["read"].default
_PLACE: Final = JobPlace.model_fields["place"].default
_ID: Final = JobPlace.model_fields["name"].default
_ID_DEFAULT: Final = {"in": _PLACE, "name": _ID}
_DEFAULTS: Final = {name: RouteSettings.model_fields[name].default for name in ("kind", "upstream", "job")}
_PORTS: Final = {"http": 80, "https": 443}
_CHOICE: Final = re.compile(r"\{[a-z][a-z0-9_]*(?::([^}]*)|\*)?\}")
_MAX_SAMPLES: Final = 64
_ONE_CONTAINER: Final = "the container's licence forbids balancing load, and a job lives in the one that made it"


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A route as written, with defaults filled in. `place` is its path in the configuration."""

    place: str
    name: str
    methods: frozenset[str]
    path: str
    pattern: re.Pattern[str]
    host: str | None
    kind: str
    upstream: str
    job: str
    written: Document


def job_disagreements(document: Document) -> Iterator[Fault]:
    """Finds all of them, except references to names that don't exist."""
    yield from _same_container(document)
    lines = _lines(document)
    for line in lines:
        yield from _job_named(line)
        yield from _changed_by_head(line)
    yield from _balanced(lines)
    yield from _read_elsewhere(lines, document)
    yield from _result_unread(lines, document)


def unread(document: Document) -> Iterator[tuple[str, str, str]]:
    """Submits whose jobs no route of kind result reads: place, name, and an example path of such a read."""
    lines = _lines(document)
    for submit in lines:
        if submit.kind == "submit" and not any(line.kind == "result" for line in _readers(submit, lines, document)):
            yield submit.place, submit.name, next(_read_at(submit, document))


def _lines(document: Document) -> list[_Numbered]:
    routes = document.get("routes")
    entries = enumerate(routes if isinstance(routes, list) else [])
    return [line for i, entry in entries if (line := _line(f"routes[{i}]", entry))]


def _line(place: str, entry: Any) -> _Numbered | None:
    """None where something has the wrong shape."""
    if not isinstance(entry, dict):
        return None
    texts = {
        name: str(entry[name]) if isinstance(entry.get(name), str) else None for name in ("path", "host", "name")
    }
    kind, upstream, job = (entry.get(name, default) for name, default in _DEFAULTS.items())
    methods, path = entry.get("methods"), texts["path"]
    if path is None or not isinstance(methods, list) or not all(isinstance(x, str) for x in (kind, upstream, job)):
        return None
    try:
        pattern = compile_pattern(path)
    except ValueError:
        return None
    host, name = texts["host"], texts["name"] or ""
    named = frozenset(map(str, methods))
    return _Numbered(place, name, named, path, pattern, host and host.lower(), kind, upstream, job, entry)


def _same_container(document: Document) -> Iterator[Fault]:
    upstreams = {"upstream": document.get("upstream", {}), **_named_upstreams(document)}
    seen: dict[object, str] = {}
    for place, upstream in upstreams.items():
        if place == "upstreams.default":
            yield Fault(place, "is the section upstream; what is here needs another name")
        is_one = isinstance(upstream, dict) and set(upstream) <= set(Upstream.model_fields)
        origin = _origin(upstream.get("url", _URL)) if is_one else None
        if origin is not None and origin in seen:
            yield Fault(
                f"{place}.url", f"is that of {seen[origin]}, too: a container has one name, or its jobs have two"
            )
        seen.setdefault(origin, place)


def _named_upstreams(document: Document) -> dict[str, Any]:
    upstreams = document.get("upstreams")
    return {f"upstreams.{name}": value for name, value in upstreams.items()} if isinstance(upstreams, dict) else {}


def _origin(url: object) -> object:
    """Scheme, host and port, in one spelling; None for an invalid URL."""
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        return parts and parts.hostname and (parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme))
    except ValueError:
        return None


def _job_named(line: _Numbered) -> Iterator[Fault]:
    """Whether a route of a job says where requests name the job, and no other route does."""
    if line.kind not in _OF_JOBS:
        if line.written.get("id", {}) not in ({}, _ID_DEFAULT):
            yield Fault(f"{line.place}.id", "is for routes of kind result, asset and delete")
        if line.job != "default" and line.kind == "plain":
            yield Fault(f"{line.place}.job", "is for routes that have to do with jobs, and plain ones have not")
        return
    written = line.written.get("id", {})
    if not isinstance(written, dict):
        return
    where, name = written.get("in", _PLACE), written.get("name", _ID)
    if where == "path" and not (f"/{{{name}}}" in line.path or f"/{{{name}:" in line.path):
        yield Fault(f"{line.place}.path", f"has no segment {{{name}}} that names the job, and id says no other place")
    if where == "body" and line.methods - _WITH_BODY:
        bodiless = ", ".join(sorted(line.methods - _WITH_BODY))
        yield Fault(f"{line.place}.methods", f"{bodiless} has no body, but id says that the job is named there")


def _changed_by_head(line: _Numbered) -> Iterator[Fault]:
    """Whether a HEAD would do what a safe request does not, and its client see nothing of the answer."""
    does = _CHANGES.get(line.kind)
    if does is not None and "HEAD" in line.methods:
        yield Fault(f"{line.place}.methods", f"HEAD is safe (RFC 9110 9.2.1), but here it would {does} a job")


def _balanced(lines: Sequence[_Numbered]) -> Iterator[Fault]:
    """Routes that match the same requests but go to different upstreams."""
    for i, line in enumerate(lines):
        for other in lines[:i]:
            same = _unnamed(line.pattern) == _unnamed(other.pattern) and line.host == other.host
            if same and line.methods & other.methods and line.upstream != other.upstream:
                words = f"{other.name} takes the same requests to {other.upstream}: {_ONE_CONTAINER}"
                yield Fault(f"{line.place}.upstream", words)
                break


def _unnamed(pattern: re.Pattern[str]) -> str:
    return re.sub(r"\?P<[a-z0-9_]+>", "", pattern.pattern)


def _read_elsewhere(lines: Sequence[_Numbered], document: Document) -> Iterator[Fault]:
    """Routes for a job that go to another container than the one that made it."""
    told: set[str] = set()
    submits = [line for line in lines if line.kind == "submit"]
    for submit in submits:
        for reader in _readers(submit, lines, document):
            fault = _wrong_reader(submit, reader)
            if fault is not None and fault.path not in told:
                told.add(fault.path)
                yield fault
    for line in lines:
        makers = {submit.upstream for submit in submits if submit.job == line.job}
        if line.kind in _OF_JOBS and makers and line.upstream not in makers and f"{line.place}.upstream" not in told:
            where = ", ".join(sorted(makers))
            yield Fault(
                f"{line.place}.upstream", f"is {line.upstream}, but its jobs are made by {where} and live there"
            )


def _wrong_reader(submit: _Numbered, reader: _Numbered) -> Fault | None:
    if reader.kind == "plain":
        return Fault(f"{reader.place}.kind", f"is plain, but jobs of {submit.name} are read there: it must be result")
    if reader.kind not in _OF_JOBS:
        return None
    if reader.upstream != submit.upstream:
        words = f"is {reader.upstream}, but jobs of {submit.name} are read there, and live in {submit.upstream}"
        return Fault(f"{reader.place}.upstream", words)
    if reader.job != submit.job:
        return Fault(
            f"{reader.place}.job", f"is {reader.job}, but jobs of {submit.name}, read there, are {submit.job}"
        )
    return None


def _readers(submit: _Numbered, lines: Sequence[_Numbered], document: Document) -> Iterator[_Numbered]:
    """The routes that would match reads of a submit's jobs, found with sample paths."""
    for target in _read_at(submit, document):
        found = (
            line
            for line in lines
            if line.host in {None, submit.host} and "GET" in line.methods and line.pattern.fullmatch(target)
        )
        yield from islice(found, 1)


def _read_at(submit: _Numbered, document: Document) -> Iterator[str]:
    """Sample paths at which jobs of a submit are read."""
    template = _read_template(submit.job, document).replace("{id}", "x").partition("?")[0]
    return (template.replace("{path}", path) for path in _samples(submit.path))


def _read_template(job: str, document: Document) -> str:
    place: Any = document
    for name in ("jobs", "shapes", job, "read"):
        place = place.get(name) if isinstance(place, dict) else None
    return place if isinstance(place, str) else _READ


def _result_unread(lines: Sequence[_Numbered], document: Document) -> Iterator[Fault]:
    """With jobs.delete_after_read: results that no route of kind result reads."""
    jobs = document.get("jobs")
    if not isinstance(jobs, dict) or jobs.get("delete_after_read") is not True:
        return
    for job in sorted({line.job for line in lines if line.kind == "submit"}):
        shape = jobs.get("shapes", {}).get(job) if isinstance(jobs.get("shapes"), dict) else None
        template = shape.get("result") if isinstance(shape, dict) else None
        paths = [line.path for line in lines if line.kind == "submit" and line.job == job]
        if isinstance(template, str) and not any(_is_result(template, path, lines) for path in paths):
            words = "is served by no route of kind result, so that jobs.delete_after_read would delete nothing"
            yield Fault(f"jobs.shapes.{job}.result", words)


def _is_result(template: str, submit_path: str, lines: Sequence[_Numbered]) -> bool:
    """Whether the first route that matches the request for a result is of kind result."""
    target = template.replace("{id}", "x").partition("?")[0]
    for path in _samples(submit_path):
        asked = target.replace("{path}", path)
        found = next((line for line in lines if "GET" in line.methods and line.pattern.fullmatch(asked)), None)
        if found is not None and found.kind == "result":
            return True
    return False


def _samples(path: str) -> Iterator[str]:
    """Sample paths that a pattern matches: all its choices, `x` for free segments; at most 64."""
    segments = path.split("/")
    choices = [
        (match[1].split("|") if match[1] else ["x"]) if (match := _CHOICE.fullmatch(segment)) else [segment]
        for segment in segments
    ]
    return islice(map("/".join, product(*choices)), _MAX_SAMPLES)
