"""Decides which parts a form may have, and what happens to each: pure.

FastAPI accepts `page_range` and no similar name; the server that follows it in a year may differ. So a name that our
limits depend on is refused in every other spelling (http/names.py), and so are duplicates: of two fields with one
name the container takes the last, others the first.
"""

import re
from dataclasses import dataclass
from typing import Final

from gateway.errors import Refused, refuse
from gateway.http.names import readings
from gateway.model.reasons import Reason
from gateway.uploads.form import FormRules
from gateway.uploads.multipart.part_head import PartHead, ambiguous

FILE: Final = "file"
FILE_URL: Final = "file_url"
KEPT: Final = frozenset({"page_range", "max_pages", "mode", FILE_URL})
_LIMITED: Final = KEPT | {"webhook_url"}
MAX_PARTS: Final = 128
_MAX_LIMITED: Final = 4096  # bytes
_MAX_OPTIONS: Final = 65_536  # bytes
_MAX_FIELD: Final = 1_048_576  # bytes: more than Starlette takes, too
_PLAIN: Final = re.compile(rb'text/plain(?: *; *charset="?(?:utf-8|us-ascii|iso-8859-1)"?)?\Z', re.IGNORECASE)
_WORD: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_JSON: Final = re.compile(rb'application/json(?: *; *charset="?utf-8"?)?\Z', re.IGNORECASE)
_HELP: Final = {
    "file_url": "send the document itself in the field file",
    "webhook_url": "leave it out and poll the result",
}


@dataclass(frozen=True, slots=True)
class Treatment:
    """What happens to a part: is it sent upstream, is its value kept here; its most bytes (None: no limit).

    A `refused` field is allowed if it is empty: FastAPI treats an empty field as missing.
    """

    name: str
    is_file: bool
    forwarded: bool
    kept: bool
    most: int | None
    refused: bool = False


def judged_by(rules: FormRules) -> frozenset[str]:
    """The fields that submits are judged by, besides the refused ones."""
    named = {name for name in (rules.checkpoint, rules.options) if name is not None}
    return _LIMITED | {"webhook_secret"} | rules.removed | named


class FieldRules:
    """Judges the parts of one form, in order."""

    __slots__ = ("_kept", "_limited", "_parts", "_rules", "_seen")

    def __init__(self, rules: FormRules) -> None:
        self._rules = rules
        self._kept = KEPT | rules.removed | {name for name in (rules.checkpoint, rules.options) if name is not None}
        self._limited = _LIMITED | self._kept
        self._seen: set[str] = set()
        self._parts = 0

    def admit(self, head: PartHead) -> Treatment:
        """Decides what happens to the next part.

        Raises:
            Refused: field_refused, naming the field; or unsupported_media_type.
        """
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise ambiguous(f"The form has more than {MAX_PARTS} parts.")
        name = head.name
        meant = self._meant_by(name)
        if self._rules.refuses(meant):
            if name != meant or head.has_filename:
                raise field_refused(meant)
            return Treatment(name, is_file=False, forwarded=False, kept=False, most=None, refused=True)
        is_limited = meant in self._limited
        if is_limited or meant == FILE:
            self._check_single(name, meant)
        if head.has_filename != (name == FILE):
            raise ambiguous("The document stands in the field file, with a filename; no other field has one.")
        if head.has_filename:
            return Treatment(name, is_file=True, forwarded=True, kept=False, most=None)
        if is_limited and head.content_type is not None and not self._is_plain(meant, head.content_type):
            raise ambiguous(f"The field {meant} is plain text in UTF-8.")
        removed = name in self._rules.removed
        most = _MAX_OPTIONS if meant == self._rules.options else _MAX_LIMITED if is_limited else _MAX_FIELD
        return Treatment(name, is_file=False, forwarded=not removed, kept=name in self._kept, most=most)

    def _meant_by(self, name: str) -> str:
        """What the name might be taken for: of several, what is refused, else what is judged."""
        names = readings(name)
        refused = [one for one in names if self._rules.refuses(one)]
        judged = [one for one in names if one in self._limited or one == FILE]
        return [*refused, *judged, names[0]][0]

    def _is_plain(self, meant: str, content_type: bytes) -> bool:
        is_json = meant == self._rules.options and _JSON.match(content_type)
        return bool(is_json or _PLAIN.match(content_type))

    def _check_single(self, name: str, meant: str) -> None:
        if name != meant:
            raise ambiguous(f"The name of the field {meant} is written in another way.")
        if name in self._seen:
            raise ambiguous(f"The form has the field {meant} twice.")
        self._seen.add(name)


def field_refused(name: str) -> Refused:
    """Makes the refusal of a field, with help for the client; the name is said if it is a word as fields have."""
    help_text = _HELP.get(name, "leave it out")
    which = f"The field {name}" if _WORD.fullmatch(name) else "A field of this form"
    return refuse(Reason.FIELD_REFUSED, f"{which} is not for this service: {help_text}.")
