"""Writes converted pages in the API's formats: markdown, html, json, chunks, and the pages of ocr."""

from typing import Any

from gateway.demo.conversion import Options, Page

_RULE = "-" * 48


def render(pages: list[Page], options: Options) -> dict[str, Any]:
    """Writes pages in the requested formats.

    Returns:
        The fields `markdown`, `html`, `json` and `chunks` of an answer, None where not requested, and `images`.
    """
    writers = {
        "markdown": _paginated if options.paginate else _markdown,
        "html": _html,
        "json": _json,
        "chunks": _chunks,
    }
    asked = {name: write(pages) if name in options.output_format else None for name, write in writers.items()}
    return {**asked, "images": {name: data for page in pages for name, data in page.images.items()}}


def render_ocr(pages: list[Page]) -> list[dict[str, Any]]:
    """Writes the lines of text page by page, as the field `pages` of an answer to ocr."""
    return [
        {
            "page": page.number,
            "image_bbox": (0, 0, page.width, page.height),
            "text_lines": [
                {"text": line.text, "bbox": line.box, "confidence": 1.0}
                for block in page.blocks
                for line in block.lines
            ],
        }
        for page in pages
    ]


def _markdown(pages: list[Page]) -> str:
    parts = []
    for page in pages:
        parts.append(f"# Page {page.number + 1}")
        parts += [f"![]({block.image})" if block.image else block.text() for block in page.blocks]
    return "\n\n".join(parts) + "\n"


def _paginated(pages: list[Page]) -> str:
    """Each page after a line with its number, as Marker separates them."""
    return "".join(f"\n\n{{{page.number}}}{_RULE}\n\n{_markdown([page])}" for page in pages)


def _html(pages: list[Page]) -> str:
    return "\n".join(
        "\n".join([f"<h1>Page {page.number + 1}</h1>", *(block.html() for block in page.blocks)]) for page in pages
    )


def _json(pages: list[Page]) -> dict[str, Any]:
    children = [
        {
            "id": f"/page/{page.number}/Page/0",
            "block_type": "Page",
            "bbox": (0, 0, page.width, page.height),
            "children": _chunks([page]),
        }
        for page in pages
    ]
    return {"block_type": "Document", "children": children}


def _chunks(pages: list[Page]) -> list[dict[str, Any]]:
    return [
        {
            "id": f"/page/{page.number}/{kind}/{place}",
            "block_type": kind,
            "html": block.html(),
            "page": page.number,
            "bbox": block.box,
        }
        for page in pages
        for place, block in enumerate(page.blocks)
        for kind in ("Picture" if block.image else "Text",)
    ]
