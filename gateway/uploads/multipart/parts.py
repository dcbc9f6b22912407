"""Handles the parts of one form by their rules: passes on, keeps, counts. Pure.

Forwarded parts are passed on byte for byte, each with the delimiter in front of it; of kept values never more than a
few kilobytes are held, and nothing of other fields.
"""

from typing import Final

from gateway.errors import refuse
from gateway.model.reasons import Reason
from gateway.uploads.field_rules import FILE_URL, FieldRules, Treatment, field_refused
from gateway.uploads.file_kind import SNIFFED, FileKind, guess_kind
from gateway.uploads.file_url import check_file_url
from gateway.uploads.form import FileFacts, Form, FormRules, GivenNames, Passed
from gateway.uploads.form_options import check_options
from gateway.uploads.multipart.part_head import PartHead, ambiguous, read_part_head
from gateway.uploads.work import Work

_READ_LATER: Final = frozenset({FILE_URL, "page_range", "max_pages"})  # not judged here, or only accepted as ASCII
_MAX_FIELDS: Final = 4 * 1_048_576  # bytes of all parts but the file


class FormParts:
    """Takes the parts of one form from Framing. `kind` is its file's likely kind, None until it is decided."""

    __slots__ = (
        "_all", "_beginning", "_delimiter", "_fields_size", "_file", "_given", "_head", "_out", "_rules",
        "_size", "_treatment", "_value", "_values", "file_size", "kind",
    )  # fmt: skip

    def __init__(self, boundary: bytes, rules: FormRules) -> None:
        self._rules = FieldRules(rules)
        self._all = rules
        self._delimiter = b"--" + boundary  # after a line end, once anything was passed on
        self._out: list[bytes] = []
        self._file: list[bytes] = []
        self._values: dict[str, str] = {}
        self._given = GivenNames()
        self._value = bytearray()
        self._beginning = bytearray()
        self._fields_size = 0
        self._size = 0
        self.kind: FileKind | None = None
        self.file_size = 0

    def drain(self) -> Passed:
        """Takes out what has collected since the last call."""
        out, self._out = self._out, []
        file, self._file = self._file, []
        return Passed(out[0] if len(out) == 1 else b"".join(out), file)

    def closing(self) -> bytes:
        """The closing delimiter, to follow what was passed on."""
        return self._delimiter + b"--"

    def form(self) -> Form:
        """The form's contents; called once it is complete.

        Raises:
            Refused: because of its options, or of the address that it names.
        """
        values, checkpoint = self._values, self._all.checkpoint
        check_file_url(values.get(FILE_URL))
        check_options(self._all, values.get(self._all.options or ""), Work())
        return Form(
            page_range=values.get("page_range"),
            max_pages=values.get("max_pages"),
            mode=values.get("mode"),
            checkpoint=None if checkpoint is None else values.get(checkpoint),
            removed={name: value for name, value in values.items() if name in self._all.removed},
            given=self._given,
            options=values.get(self._all.options or ""),
            file=None if self.kind is None else FileFacts(self.kind, self.file_size),
            has_two=self.kind is not None and any(values.get(name) for name in (FILE_URL, checkpoint or "")),
        )

    def head(self, block: bytes) -> None:
        """Admits the next part.

        Raises:
            Refused: unsupported_media_type or field_refused.
        """
        self._head: PartHead = read_part_head(block)
        self._treatment: Treatment = self._rules.admit(self._head)
        self._size = 0
        if self._treatment.forwarded:
            self._out += [self._delimiter, b"\r\n", block, b"\r\n\r\n"]
            if self._delimiter.startswith(b"--"):
                self._delimiter = b"\r\n" + self._delimiter

    def data(self, piece: bytes) -> None:
        """Takes bytes of the part.

        Raises:
            Refused: body_too_large, for a field; or field_refused.
        """
        if self._treatment.refused:
            raise field_refused(self._treatment.name)
        self._size += len(piece)
        if self._treatment.forwarded:
            self._out.append(piece)
        if self._treatment.is_file:
            self._file.append(piece)
            if self.kind is None:
                self._sniff(piece)
        else:
            self._check_size(len(piece))
            if self._treatment.kept:
                self._value += piece

    def end(self) -> None:
        """Ends the part, which is complete.

        Raises:
            Refused: unsupported_media_type, for a value that is not in UTF-8 or a wrong Content-Length; or
                body_malformed, for an empty file.
        """
        if self._head.length not in {None, self._size}:
            raise ambiguous("A part has another size than its Content-Length says.")
        if self._treatment.is_file:
            if not self._size:
                raise refuse(Reason.BODY_MALFORMED, "The document is empty: its part has no bytes.")
            self.file_size = self._size
            self._decide()
            return
        if self._size and self._treatment.forwarded:
            self._given.add(self._treatment.name)
        if self._treatment.kept:
            self._values[self._treatment.name] = self._text(self._treatment)

    def _sniff(self, piece: bytes) -> None:
        self._beginning += piece[: SNIFFED - len(self._beginning)]
        if len(self._beginning) == SNIFFED:
            self._decide()

    def _decide(self) -> None:
        if self.kind is None:
            self.kind = guess_kind(bytes(self._beginning), self._head.extension, self._head.media_type)
            self._beginning.clear()

    def _check_size(self, more: int) -> None:
        self._fields_size += more
        most = self._treatment.most
        if most is not None and self._size > most:
            raise refuse(Reason.BODY_TOO_LARGE, f"A field of the form has more than {most} bytes.")
        if self._fields_size > _MAX_FIELDS:
            raise refuse(Reason.BODY_TOO_LARGE, f"The fields of the form have more than {_MAX_FIELDS} bytes in all.")

    def _text(self, treatment: Treatment) -> str:
        value, self._value = self._value, bytearray()
        try:
            text = value.decode("utf-8")
        except UnicodeDecodeError:
            raise ambiguous("A field of the form is not in UTF-8.") from None
        if treatment.forwarded and treatment.name not in {*_READ_LATER, self._all.options} and not text.isascii():
            # Starlette decodes values, too, with the charset of the form's Content-Type.
            raise ambiguous(f"The field {treatment.name} has characters that are not ASCII.")
        return text
