"""Converts a PDF or an image: reads the pages once, then writes them in each requested format.

PDFium is not thread-safe: call `convert` from one thread only. It closes what it opens, so that the garbage collector
does not do it on another thread (bitmaps, too, which end with their last reference). Images yield no text: there is
no OCR here.
"""

import base64
import contextlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import IO, Annotated, Literal

import pypdfium2 as pdfium
from PIL import Image
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Box = tuple[float, float, float, float]  # left, top, right, bottom in points; the origin is the upper left corner

_RANGE = re.compile(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?")
PDF_HEAD = 1024  # bytes within which readers of PDF look for its signature
_PASSWORD_NEEDED = 4  # FPDF_ERR_PASSWORD
_IMAGE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # formats whose readers start no other program
_PIXELS = 50_000_000  # larger images are decompression bombs, or too large for a demonstration
_PARAGRAPH_GAP = 0.5  # of a line's height


class ConversionError(Exception):
    """The input cannot be converted; the message is a sentence for the caller."""


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


class Options(BaseModel):
    """The form fields that control a conversion, named and parsed as in the API."""

    model_config = ConfigDict(frozen=True)

    output_format: Annotated[tuple[Literal["markdown", "html", "json", "chunks"], ...], BeforeValidator(_split)] = (
        "markdown",
    )
    page_range: str | None = None
    max_pages: int | None = Field(default=None, ge=1)
    disable_image_extraction: bool = False
    paginate: bool = False
    save_checkpoint: bool = False


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line of text."""

    text: str
    box: Box


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph of lines, or an image, which has a name instead."""

    box: Box
    lines: tuple[TextLine, ...] = ()
    image: str = ""

    def text(self) -> str:
        """The lines joined to one."""
        return " ".join(line.text for line in self.lines)

    def html(self) -> str:
        """The block as HTML."""
        return f'<p><img src="{self.image}"></p>' if self.image else f"<p>{escape(self.text())}</p>"


@dataclass(slots=True)
class Page:
    """The content of one page; `number` counts from 0 in the document, sizes are points."""

    number: int
    width: float
    height: float
    blocks: list[Block] = field(default_factory=list)
    images: dict[str, str] = field(default_factory=dict)

    def add_image(self, picture: Image.Image, box: Box) -> None:
        """Keeps a picture under its name as base64 of a PNG."""
        name = f"_page_{self.number}_Picture_{len(self.blocks)}.png"
        png = io.BytesIO()
        shown = picture if picture.mode in {"1", "L", "P", "RGB", "RGBA"} else picture.convert("RGB")
        shown.save(png, "PNG", compress_level=1)
        self.images[name] = base64.b64encode(png.getvalue()).decode()
        self.blocks.append(Block(box, image=name))


def convert(source: IO[bytes], options: Options, stopped: Callable[[], bool] = lambda: False) -> list[Page]:
    """Reads the pages that the options ask for.

    Args:
        source: the file, seekable; it stays open.
        options: which pages, and whether with images.
        stopped: called before each page; true ends the conversion.

    Returns:
        The pages in order, at least one.

    Raises:
        ConversionError: the input is empty, broken or encrypted, lacks a page, or `stopped` returned true.
    """
    source.seek(0)
    head = source.read(PDF_HEAD)
    source.seek(0)
    if not head:
        raise ConversionError("The file is empty.")
    if b"%PDF-" not in head:
        return _read_image(source, options)
    with contextlib.closing(_open(source)) as document:
        pages = []
        for number in select_pages(len(document), options.page_range, options.max_pages):
            if stopped():
                raise ConversionError("The conversion was stopped.")
            pages.append(_read_page(document, number, not options.disable_image_extraction))
    return pages


def select_pages(total: int, page_range: str | None, max_pages: int | None) -> list[int]:
    """Resolves the two ways to select pages; a range overrides a maximum.

    Memory is bounded by the document's size, whatever the range says.

    Raises:
        ConversionError: the text is not a list of pages, or names a page that the document lacks.
    """
    if page_range is None:
        return list(range(min(total, max_pages or total)))
    wanted = bytearray(total)
    for part in page_range.split(","):
        if (match := _RANGE.fullmatch(part)) is None:
            raise ConversionError("page_range is not a list of pages such as 0-2,5.")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last or last >= total:
            raise ConversionError(f"page_range must lie within the document's pages, 0-{total - 1}.")
        wanted[first : last + 1] = b"\x01" * (last - first + 1)
    return [number for number, asked in enumerate(wanted) if asked]


def _open(source: IO[bytes]) -> pdfium.PdfDocument:
    try:
        return pdfium.PdfDocument(source)
    except pdfium.PdfiumError as error:
        encrypted = error.err_code == _PASSWORD_NEEDED
        reason = "The PDF is encrypted." if encrypted else "The PDF is broken."
        raise ConversionError(reason) from error


def _read_page(document: pdfium.PdfDocument, number: int, images: bool) -> Page:
    try:
        with contextlib.closing(document[number]) as raw:
            page = Page(number, *raw.get_size())
            with contextlib.closing(raw.get_textpage()) as text:
                page.blocks += _paragraphs(_lines(text, page.height))
            if images:
                _add_images(raw, page)
    except pdfium.PdfiumError as error:
        raise ConversionError(f"Page {number} of the PDF is broken.") from error
    return page


def _lines(text: pdfium.PdfTextPage, height: float) -> list[TextLine]:
    """Splits text at PDFium's line ends; a line's box spans those of its first and last character."""
    lines, start, last = [], 0, text.count_chars() - 1
    for line in text.get_text_range().split("\r\n") if last >= 0 else ():
        if words := line.strip():
            ends = (start, start + len(line.rstrip()) - 1)
            left, right = (text.get_charbox(min(end, last), loose=True) for end in ends)
            top, bottom = max(left[3], right[3]), min(left[1], right[1])
            lines.append(TextLine(words, (left[0], height - top, right[2], height - bottom)))
        start += len(line) + 2
    return lines


def _paragraphs(lines: list[TextLine]) -> list[Block]:
    """Joins lines of one size that follow closely to a paragraph."""
    groups = [lines[:1]] if lines else []
    for above, below in pairwise(lines):
        tall = above.box[3] - above.box[1]
        close = abs(below.box[1] - above.box[3]) < _PARAGRAPH_GAP * tall
        same = abs(below.box[3] - below.box[1] - tall) < _PARAGRAPH_GAP * tall
        if close and same:
            groups[-1].append(below)
        else:
            groups.append([below])
    return [Block(_around([line.box for line in group]), tuple(group)) for group in groups]


def _around(boxes: list[Box]) -> Box:
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _add_images(raw: pdfium.PdfPage, page: Page) -> None:
    for found in raw.get_objects(filter=[pdfium.raw.FPDF_PAGEOBJ_IMAGE], max_depth=3):
        with contextlib.suppress(pdfium.PdfiumError):  # skip an unreadable image, keep the page
            width, height = found.get_px_size()
            if 0 < width * height <= _PIXELS:
                left, bottom, right, top = found.get_bounds()
                box = (left, page.height - top, right, page.height - bottom)
                page.add_image(found.get_bitmap().to_pil(), box)


def _read_image(source: IO[bytes], options: Options) -> list[Page]:
    """Reads an image as a document of one page; its pixels are its points."""
    select_pages(1, options.page_range, options.max_pages)
    try:
        with Image.open(source, formats=_IMAGE_FORMATS) as picture:
            if picture.width * picture.height > _PIXELS:
                raise ConversionError("The image is too large.")
            page = Page(0, *picture.size)
            picture.load()
            if not options.disable_image_extraction:
                page.add_image(picture, (0, 0, *picture.size))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ConversionError("The file is neither a PDF nor an image that can be read.") from error
    return [page]
