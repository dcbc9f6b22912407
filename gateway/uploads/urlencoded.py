"""A form without a document, as aiohttp, requests and the SDK send it: application/x-www-form-urlencoded. Pure.

Only a form that all servers read alike is accepted (tests/uploads/test_fastapis.py): older releases of
python-multipart also split at `;`, and drop a name without `=`; invalid percent-encoding, invalid UTF-8 and empty
names may be read differently. Each field is judged by the same rules as in multipart. The whole form is held until it
is complete, for it is small and has no end mark.
"""

import re
import string
from binascii import a2b_qp
from typing import Final

from gateway.errors import refuse
from gateway.model.reasons import Reason
from gateway.uploads.field_rules import FILE_URL, MAX_PARTS, FieldRules, field_refused
from gateway.uploads.file_kind import FileKind
from gateway.uploads.file_url import check_file_url
from gateway.uploads.form import Form, FormRules, GivenNames, Passed
from gateway.uploads.form_options import check_options
from gateway.uploads.multipart.part_head import MAX_NAME, PartHead, ambiguous
from gateway.uploads.work import BYTE, CODED, Work

_MAX_BYTES: Final = 262_144
_PLAIN: Final = (string.ascii_letters + string.digits + "._*~[]+-%").encode()
_PLAIN_VALUE: Final = _PLAIN + b"!$'(),/:?@="
_NEVER_UTF8: Final = b"\xff"
_AS_QUOTED: Final = bytes.maketrans(b"+=%", b" " + _NEVER_UTF8 + b"=")
_NOT_UTF8: Final = "A field of the form is not in UTF-8."
_BROKEN: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NAME: Final = re.compile(r"[ !#$&-\[\]-~]+")
_NO_DOCUMENT: Final = "Send the document as multipart/form-data; a form without one has to name {0}."
_NEVER: Final = "Send the document as multipart/form-data: forms without one are not for this service."


class UrlEncoded:
    """Inspects one body; has the interface of Inspector."""

    __slots__ = ("_body", "_fields", "_given", "_rules", "_values", "tail")

    def __init__(self, rules: FormRules) -> None:
        self._rules = rules
        self._fields = FieldRules(rules)
        self._body = bytearray()
        self._values: dict[str, str] = {}
        self._given = GivenNames()
        self.tail = b""

    @property
    def kind(self) -> FileKind | None:
        """Always None: the form has no file."""
        return None

    def take(self, data: bytes) -> Passed:
        """Takes the next bytes; nothing goes upstream before the form is complete.

        Raises:
            Refused: body_too_large; or unsupported_media_type, if submits must have a document.
        """
        if not self._sources:
            raise ambiguous(_NEVER)
        if len(self._body) + len(data) > _MAX_BYTES:
            detail = f"A form without a document has at most {_MAX_BYTES} bytes: send it as multipart/form-data."
            raise refuse(Reason.BODY_TOO_LARGE, detail)
        self._body += data
        return Passed(b"", [])

    def finish(self) -> Form:
        """Called after the last byte.

        Raises:
            Refused: unsupported_media_type, field_refused, bad_page_range or body_too_large.
        """
        work = Work()
        work.spend(BYTE, len(self._body))
        work.spend(CODED, self._body.count(b"%") + self._body.count(b"="))
        # The first too many is refused, and what follows is not split.
        fields = bytes(self._body).split(b"&", MAX_PARTS + 1)
        self.tail = b"&".join([field for field in fields if self._is_forwarded(field)])
        values = self._values
        check_file_url(values.get(FILE_URL))
        check_options(self._rules, values.get(self._rules.options or ""), work)
        if not any(values.get(name) for name in self._sources):
            raise ambiguous(_NO_DOCUMENT.format(" or ".join(self._sources)) if self._sources else _NEVER)
        return Form(
            page_range=values.get("page_range"),
            max_pages=values.get("max_pages"),
            mode=values.get("mode"),
            checkpoint=None if self._rules.checkpoint is None else values.get(self._rules.checkpoint),
            removed={name: value for name, value in values.items() if name in self._rules.removed},
            given=self._given,
            options=values.get(self._rules.options or ""),
        )

    @property
    def _sources(self) -> list[str]:
        """The fields that may replace a document."""
        named = [] if FILE_URL in self._rules.refused else [FILE_URL]
        return named if self._rules.checkpoint is None else [*named, self._rules.checkpoint]

    def _is_forwarded(self, field: bytes) -> bool:
        coded, mark, told = field.partition(b"=")
        if not mark or not _is_plain(coded, told) or _BROKEN.search(field):
            raise ambiguous("A field of the form is not plainly url-encoded: name=value, with UTF-8 as %XX.")
        name, value = _decoded(coded), _decoded(told)
        if len(name) > MAX_NAME or not _NAME.fullmatch(name):
            raise ambiguous("The name of a field is too long or not plain ASCII.")
        treatment = self._fields.admit(PartHead(name, has_filename=False))
        if treatment.refused and value:
            raise field_refused(name)
        if treatment.most is not None and len(value.encode()) > treatment.most:
            raise refuse(Reason.BODY_TOO_LARGE, f"A field of the form has more than {treatment.most} bytes.")
        if value and treatment.forwarded:
            self._given.add(name)
        if treatment.kept or name in self._sources:
            self._values[name] = value
        return treatment.forwarded


def _is_plain(name: bytes, value: bytes) -> bool:
    return bool(name) and not name.translate(None, _PLAIN) and not value.translate(None, _PLAIN_VALUE)


def _decoded(text: bytes) -> str:
    """What a text says whose marks `%` have two digits each: then quoted-printable differs in its mark alone.

    That is decoded thirty times as fast as urllib does it. A `=` stands aside as a byte that UTF-8 never has.
    """
    found = a2b_qp(text.translate(_AS_QUOTED))
    if found.count(_NEVER_UTF8) != text.count(b"="):
        raise ambiguous(_NOT_UTF8)
    try:
        return found.replace(_NEVER_UTF8, b"=").decode("utf-8")
    except UnicodeDecodeError:
        raise ambiguous(_NOT_UTF8) from None
