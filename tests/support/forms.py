"""Submits as Datalab's SDK sends them: multipart/form-data, the file first, then the options."""

from typing import Final, NamedTuple

from gateway.demo.sample import sample_pdf

BOUNDARY: Final = "form-of-the-tests-4b1d"
FORM_TYPE: Final = f"multipart/form-data; boundary={BOUNDARY}"
_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
_END: Final = f"\r\n--{BOUNDARY}--\r\n".encode()


class Document(NamedTuple):
    """A file as a browser would send it."""

    content: bytes
    filename: str
    content_type: str


def image(content: bytes = b"") -> Document:
    """What counts as one page, whatever it holds."""
    return Document(_MAGIC + content, "page.png", "image/png")


def pdf(pages: int) -> Document:
    """A PDF that has so many pages."""
    return Document(sample_pdf(pages), "sample.pdf", "application/pdf")


def unknown(content: bytes = b"PK\x03\x04 a text") -> Document:
    """A document whose pages nobody counts."""
    return Document(content, "text.docx", "application/octet-stream")


IMAGE: Final = image()


def form(document: Document | None = IMAGE, **fields: str) -> bytes:
    """The body of a submit."""
    parts = []
    if document is not None:
        parts.append(_part("file", document.content, document.filename, document.content_type))
    parts += [_part(name, value.encode()) for name, value in fields.items()]
    return b"\r\n".join(parts) + _END


def _part(name: str, content: bytes, filename: str | None = None, content_type: str | None = None) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'
    if filename is not None:
        head += f'; filename="{filename}"\r\nContent-Type: {content_type}'
    return head.encode() + b"\r\n\r\n" + content


class Upload(NamedTuple):
    """A sort of upload: where it goes, what its head says of it, and how its content is sent."""

    route: str
    target: str
    headers: tuple[str, ...]
    is_form: bool

    def body(self, content: bytes) -> bytes:
        """A whole body that holds the content."""
        begin, end = self.frame()
        return begin + content + end

    def frame(self) -> tuple[bytes, bytes]:
        """What stands before the content of a body, and what behind it."""
        if not self.is_form:
            return b"", b""
        begin, mark, end = form(image()).partition(_MAGIC)
        return begin + mark, end

    def __str__(self) -> str:
        return self.route


SUBMITTED: Final = Upload("submit", "/api/v1/marker", (f"Content-Type: {FORM_TYPE}",), is_form=True)
PLAINLY: Final = Upload("plain", "/api/v1/plain/upload", (), is_form=False)
UPLOADS: Final = (PLAINLY, SUBMITTED)
