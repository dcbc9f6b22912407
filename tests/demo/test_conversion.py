import base64
import io
import json
import tracemalloc

import pytest
from PIL import Image
from pydantic import ValidationError

from gateway.demo.conversion import Block, ConversionError, Options, Page, TextLine, convert, select_pages
from gateway.demo.jobs import work
from gateway.demo.render import render, render_ocr
from gateway.demo.sample import sample_pdf

ENCRYPTION = b"/Encrypt << /Filter /Standard /V 1 /R 2 /O <%s> /U <%s> /P -4 >> /ID [<00><00>]" % (
    b"41" * 32,
    b"42" * 32,
)
ENCRYPTED = sample_pdf().replace(b"/Root 1 0 R", b"/Root 1 0 R " + ENCRYPTION)


def read(data: bytes, **fields: object) -> list[Page]:
    return convert(io.BytesIO(data), Options.model_validate(fields))


def picture(kind: str, mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, (20, 10)).save(out, kind)
    return out.getvalue()


def test_markdown_has_a_heading_per_page_and_the_paragraphs() -> None:
    options = Options()
    markdown = render(convert(io.BytesIO(sample_pdf(2)), options), options)["markdown"]
    assert markdown.startswith(
        "# Page 1\n\nSample document, page 1\n\n"
        "The gateway stands in front of the container. It asks every caller who they are.\n\n"
        "A page is counted before it is converted. What fails is given back.\n\n"
        "# Page 2\n\n"
    )
    assert markdown.endswith("\n\n![](_page_1_Picture_3.png)\n")


def test_an_embedded_image_keeps_its_pixels() -> None:
    (name,) = read(sample_pdf(2))[1].images
    png = base64.b64decode(read(sample_pdf(2))[1].images[name])
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.size, image.getpixel((47, 0))) == ("PNG", (48, 48), (235, 0, 128))


@pytest.mark.parametrize("word", ["True", "true", "1", "TRUE"])
def test_images_stay_out_when_disabled(word: str) -> None:
    pages = read(sample_pdf(2), disable_image_extraction=word)
    assert [page.images for page in pages] == [{}, {}]


@pytest.mark.parametrize("word", ["False", "false", "0"])
def test_images_come_when_not_disabled(word: str) -> None:
    assert read(sample_pdf(2), disable_image_extraction=word)[1].images


def test_only_the_formats_asked_for_are_written() -> None:
    options = Options.model_validate({"output_format": "html, chunks"})
    fields = render(read(sample_pdf(1)), options)
    assert (fields["markdown"], fields["json"]) == (None, None)
    assert fields["html"].startswith("<h1>Page 1</h1>\n<p>Sample document, page 1</p>")
    assert [chunk["block_type"] for chunk in fields["chunks"]] == ["Text"] * 3


def test_paginate_separates_the_pages_by_their_numbers() -> None:
    options = Options.model_validate({"paginate": "true", "page_range": "1-2"})
    pages = convert(io.BytesIO(sample_pdf(3)), options)
    paginated, plain = render(pages, options)["markdown"], render(pages, Options())["markdown"]
    assert [line for line in paginated.splitlines() if line.startswith("{")] == ["{1}" + "-" * 48, "{2}" + "-" * 48]
    assert [line for line in paginated.splitlines() if line.startswith("#")] == ["# Page 2", "# Page 3"]
    assert "{" not in plain


def test_json_is_a_tree_of_pages_and_blocks() -> None:
    options = Options.model_validate({"output_format": "json"})
    tree = json.loads(json.dumps(render(read(sample_pdf(2)), options)["json"]))
    assert [child["block_type"] for child in tree["children"]] == ["Page", "Page"]
    assert [block["block_type"] for block in tree["children"][1]["children"]] == ["Text"] * 3 + ["Picture"]
    left, top, right, bottom = tree["children"][1]["children"][3]["bbox"]
    assert (left, top, right, bottom) == pytest.approx((72, 278, 216, 422))


def test_html_is_escaped() -> None:
    line = TextLine("<script>1 & 2</script>", (0, 0, 1, 1))
    page = Page(0, 10, 10, [Block((0, 0, 1, 1), (line,))])
    html = render([page], Options.model_validate({"output_format": "html"}))["html"]
    assert html == "<h1>Page 1</h1>\n<p>&lt;script&gt;1 &amp; 2&lt;/script&gt;</p>"


def test_ocr_gives_lines_from_top_to_bottom() -> None:
    (page,) = render_ocr(read(sample_pdf(1)))
    lines = page["text_lines"]
    assert [line["text"] for line in lines][:2] == [
        "Sample document, page 1",
        "The gateway stands in front of the container.",
    ]
    tops = [line["bbox"][1] for line in lines]
    assert tops == sorted(tops)


@pytest.mark.parametrize(
    ("page_range", "max_pages", "pages"),
    [
        (None, None, [0, 1, 2, 3, 4]),
        (None, 2, [0, 1]),
        (None, 99, [0, 1, 2, 3, 4]),
        ("0-2", None, [0, 1, 2]),
        ("0-2", 1, [0, 1, 2]),
        (" 4 , 0 - 1 ", None, [0, 1, 4]),
        ("1,1,0-1", None, [0, 1]),
    ],
)
def test_pages_are_selected(page_range: str | None, max_pages: int | None, pages: list[int]) -> None:
    assert select_pages(5, page_range, max_pages) == pages


@pytest.mark.parametrize(
    "page_range", ["5", "0-5", "2-1", "", "a", "-1", "1-", "1,,2", "0-999999999", "9" * 5000, "٣", "1.5"]
)
def test_a_range_outside_of_the_document_is_refused(page_range: str) -> None:
    with pytest.raises(ConversionError, match="page_range"):
        select_pages(5, page_range, None)


def test_a_huge_range_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ConversionError):
            select_pages(3, ",".join(["0-2"] * 1000) + ",0-999999999", None)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "The file is empty."),
        (b"%PDF-1.4 and no more", "The PDF is broken."),
        (sample_pdf()[:300], "The PDF is broken."),
        (ENCRYPTED, "The PDF is encrypted."),
        (b"plain text", "The file is neither a PDF nor an image that can be read."),
        (picture("PNG")[:40], "The file is neither a PDF nor an image that can be read."),
    ],
)
def test_what_cannot_be_converted_is_said_in_a_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(ConversionError) as caught:
        read(data)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGBA"), ("JPEG", "CMYK"), ("TIFF", "RGB"), ("GIF", "P")])
def test_an_image_is_one_page(kind: str, mode: str) -> None:
    (page,) = read(picture(kind, mode))
    assert (page.width, page.height, list(page.images)) == (20, 10, ["_page_0_Picture_0.png"])


def test_an_image_has_no_second_page() -> None:
    with pytest.raises(ConversionError, match="page_range"):
        read(picture("PNG"), page_range="1")


def test_an_enormous_image_is_refused_before_it_is_unpacked() -> None:
    header = picture("PNG", "1").replace((20).to_bytes(4, "big"), (8000).to_bytes(4, "big"), 1)
    huge = header.replace((10).to_bytes(4, "big"), (8000).to_bytes(4, "big"), 1)
    with pytest.raises(ConversionError):
        read(huge)


def test_a_stopped_conversion_ends() -> None:
    with pytest.raises(ConversionError, match="stopped"):
        convert(io.BytesIO(sample_pdf()), Options(), stopped=lambda: True)


def test_options_are_checked() -> None:
    with pytest.raises(ValidationError):
        Options.model_validate({"output_format": "markdown,docx"})
    with pytest.raises(ValidationError):
        Options.model_validate({"max_pages": "0"})


def test_a_bug_in_a_library_ends_the_job_too() -> None:
    closed = io.BytesIO()
    closed.close()
    answer = json.loads(work("marker", closed, Options()).body)
    assert (answer["status"], answer["success"], answer["error_in"]) == ("complete", False, "INFERENCE")
    assert answer["error"] == "The conversion failed (ValueError)."
