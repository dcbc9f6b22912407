"""Finds the id of the job that a request names: only in its path or its query, as the route says. Pure."""

import re
from typing import Final
from urllib.parse import parse_qsl, unquote, unquote_plus

from gateway.config.state import State
from gateway.errors import refuse
from gateway.http.names import taken_for
from gateway.jobs.job import job_not_found
from gateway.model.reasons import Reason
from gateway.policy.routes import Rule
from gateway.upstream.job_api import is_id

_MAX_FIELDS: Final = 50
_SEPARATOR: Final = re.compile("[?&;]")


def job_id_of(state: State, rule: Rule, path: str, query: str) -> str:
    """A job's id as the upstream knows it; clients may have percent-encoded it."""
    found = _in_path(rule, path) if rule.route.id_in == "path" else _in_query(rule.route.id_name, query)
    if found is None or not is_id(state.shapes[rule.route.job], found):
        raise job_not_found()
    return found


def _in_path(rule: Rule, path: str) -> str | None:
    match = rule.pattern.fullmatch(path)
    segment = match.groupdict().get(rule.route.id_name) if match else None
    try:
        return None if segment is None else unquote(segment, errors="strict")
    except UnicodeDecodeError:
        return None


def refuse_in_query(name: str, query: str) -> None:
    """Refuses a query that names a job when the route reads it elsewhere: an upstream might read the query's."""
    if taken_for(name, names_in_query(query)):
        raise refuse(Reason.BAD_REQUEST, f"The job is named elsewhere: the query may have no {name}.")


def names_in_query(query: str) -> list[str]:
    """The names of the parameters, no matter how they are separated: old parsers split at `;`, some at a second `?`.

    Raises:
        Refused: bad_request, for more than fifty parameters.
    """
    pairs = _SEPARATOR.split(query.removeprefix("?"), maxsplit=_MAX_FIELDS)
    if len(pairs) > _MAX_FIELDS:
        raise refuse(Reason.BAD_REQUEST, f"The query has more than {_MAX_FIELDS} parameters.")
    return [unquote_plus(pair.partition("=")[0]) for pair in pairs]


def _in_query(wanted: str, query: str) -> str | None:
    try:
        pairs = parse_qsl(query[1:], keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        return None
    if taken_for(wanted, names_in_query(query)) not in ([], [wanted]):
        raise refuse(Reason.BAD_REQUEST, f"The query names {wanted} more than once, or in another spelling.")
    return next((value for name, value in pairs if name == wanted), None)
