"""Checks a field that is a JSON object of further fields (in the open-source container) by the same rules. Pure."""

import re
from typing import Final

from gateway.errors import refuse
from gateway.http.names import folded, readings
from gateway.http.strict_json import MAX_MARKS, marks_of, read_texts
from gateway.model.reasons import Reason
from gateway.uploads.field_rules import field_refused, judged_by
from gateway.uploads.form import FormRules
from gateway.uploads.multipart.part_head import ambiguous
from gateway.uploads.pages.bound import check_cap
from gateway.uploads.pages.page_range import parse_page_range
from gateway.uploads.work import MARK, NAME, PATTERN, RANGE, Work

_PAGE_RANGE: Final = "page_range"
_MAX_LENGTH: Final = 64
_MAX_MEMBERS: Final = 256
_MAX_NAME: Final = 1024
_OF_CLASS: Final = re.compile(r"\W*[A-Z][A-Za-z0-9]*[\W_]")


def check_options(rules: FormRules, value: str | None, work: Work) -> None:
    """Checks the field's value; a missing or blank value passes.

    It adds its cost to the work of its form.

    Raises:
        Refused: field_refused, bad_page_range, too_many_pages; unsupported_media_type for a value that is not a JSON
            object that can be read in one way only, or that takes too long to read.
    """
    if value is None or not value.strip():
        return
    text = value.encode()
    work.spend(MARK, marks_of(text))
    members = read_texts(text)
    if members is None:
        detail = f"has each member once and at most {MAX_MARKS:,} quotation marks, commas, backslashes and brackets"
        raise ambiguous(f"The field {rules.options} is one JSON object that {detail}.")
    if len(members) > _MAX_MEMBERS:
        raise ambiguous(f"The field {rules.options} has more than {_MAX_MEMBERS} members.")
    if max(map(len, members), default=0) > _MAX_NAME:
        raise ambiguous(f"A member of the field {rules.options} has a name of more than {_MAX_NAME} characters.")
    work.spend(NAME + PATTERN * rules.refused_like.others, sum(map(len, members)))
    judged = judged_by(rules)
    for name in members:
        is_allowed = name in rules.members if rules.members else not _is_judged(rules, judged, name)
        if not is_allowed:
            raise field_refused(f"{rules.options}.{folded(name)[:_MAX_LENGTH]}")
    _check_page_range(members.get(_PAGE_RANGE), rules.most_pages, work)


def _is_judged(rules: FormRules, judged: frozenset[str], name: str) -> bool:
    """Whether fields are judged by this member, perhaps as a member of a class (marker: `Class_member`)."""
    of_class = _OF_CLASS.match(name)
    names = (*readings(name), *(readings(name[of_class.end() :]) if of_class else ()))
    return any(one in judged or rules.refuses(one) for one in names)


def _check_page_range(value: object, most: int | None, work: Work) -> None:
    """Limits the range: a container makes a list of it, though it limits no pages here."""
    if value is None:
        return
    if not isinstance(value, str):
        raise refuse(Reason.BAD_PAGE_RANGE, "page_range is a text such as 0-4,7.")
    work.spend(RANGE, len(value))
    chosen = parse_page_range(value)
    if chosen is not None and most is not None:
        check_cap(chosen.listed, most, ())
