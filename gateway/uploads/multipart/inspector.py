"""A form's bytes, inspected as they come: what may go upstream now, which of them are the file's, what it says. Pure.

What is given out never holds the closing delimiter or anything behind it, so a body that is cut off can't look whole
to the upstream. What was given out and the `tail` are the body, byte for byte, without the parts that are removed.
"""

from gateway.uploads.file_kind import FileKind
from gateway.uploads.form import Form, FormRules, Passed
from gateway.uploads.multipart.framing import MultipartFraming
from gateway.uploads.multipart.parts import FormParts


class Inspector:
    """Inspects one body. `tail` is what is held back: complete once `finish` has returned, and empty before."""

    __slots__ = ("_framing", "_parts", "tail")

    def __init__(self, boundary: bytes, rules: FormRules) -> None:
        self._parts = FormParts(boundary, rules)
        self._framing = MultipartFraming(boundary, self._parts)
        self.tail = b""

    @property
    def kind(self) -> FileKind | None:
        """What the file seems to be; None until that is decided, by its first 2 KB or its end."""
        return self._parts.kind

    def take(self, data: bytes) -> Passed:
        """Goes on with the next bytes of the body. After a refusal it is of no more use.

        Raises:
            Refused: unsupported_media_type, field_refused or body_too_large.
        """
        self._framing.take(data)
        return self._parts.drain()

    def finish(self) -> Form:
        """Called after the last byte.

        Raises:
            Refused: body_malformed, for a body that ends too early; or for what its options say.
        """
        ending = self._framing.finish()
        self.tail = self._parts.closing() + ending
        return self._parts.form()
