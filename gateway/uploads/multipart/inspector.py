"""Inspects a form's bytes as they arrive: which may go upstream now, which are the file's, what the form says. Pure.

The closing delimiter and all after it are held back, so that a truncated body can't look complete to the upstream.
The bytes passed on and the `tail` together are the body, byte for byte, without the removed parts.
"""

from gateway.uploads.file_kind import FileKind
from gateway.uploads.form import Form, FormRules, Passed
from gateway.uploads.multipart.framing import MultipartFraming
from gateway.uploads.multipart.parts import FormParts


class Inspector:
    """Inspects one body. `tail` is the part held back: complete once `finish` has returned, and empty before."""

    __slots__ = ("_framing", "_parts", "tail")

    def __init__(self, boundary: bytes, rules: FormRules) -> None:
        self._parts = FormParts(boundary, rules)
        self._framing = MultipartFraming(boundary, self._parts)
        self.tail = b""

    def __repr__(self) -> str:
        return f"<Inspector {self._framing!r} tail={len(self.tail)}>"

    @property
    def kind(self) -> FileKind | None:
        """The file's likely kind; None until its first 2 KB, or its end, have decided it."""
        return self._parts.kind

    def take(self, data: bytes) -> Passed:
        """Processes the next bytes of the body. Must not be called again after a refusal.

        Raises:
            Refused: unsupported_media_type, field_refused or body_too_large.
        """
        self._framing.take(data)
        return self._parts.drain()

    def finish(self) -> Form:
        """Called after the last byte.

        Raises:
            Refused: body_malformed, for a body that ends too early; or because of its options.
        """
        ending = self._framing.finish()
        self.tail = self._parts.closing() + ending
        return self._parts.form()
