import tracemalloc
from urllib.parse import parse_qs, urlencode

import pytest
from aiohttp import FormData
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Refused
from gateway.model.reasons import Reason
from gateway.uploads.form import Form, FormRules
from gateway.uploads.name_patterns import compile_patterns
from gateway.uploads.urlencoded import UrlEncoded
from gateway.uploads.work import BYTE, CODED, MOST
from tests.support.pure import PROPERTY
from tests.uploads.test_clients import Written

URL = FormRules(refused=frozenset({"webhook_url"}))
CHECKPOINT = FormRules(
    refused=frozenset({"file_url"}), removed=frozenset({"webhook_url"}), checkpoint="checkpoint_id"
)


def read(body: bytes, rules: FormRules = URL, step: int = 1 << 20) -> tuple[Form, bytes]:
    inspector = UrlEncoded(rules)
    for start in range(0, len(body), step):
        assert inspector.take(body[start : start + step]) == (b"", [])
    return inspector.finish(), inspector.tail


def reason(body: bytes, rules: FormRules = URL) -> Reason:
    with pytest.raises(Refused) as caught:
        read(body, rules)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value.denial.reason


@pytest.mark.parametrize("step", [1, 1 << 20])
def test_it_is_read_and_goes_on_as_it_came(step: int) -> None:
    body = b"page_range=0-4%2C7&file_url=https://h/a%20b&mode=fast&max_pages=3&x[]=%C3%A4+1=2&x[]="
    assert read(body, step=step) == (Form(page_range="0-4,7", mode="fast", max_pages="3"), body)


def test_what_is_removed_is_kept_here_and_an_empty_refused_field_is_none() -> None:
    body = b"checkpoint_id=ab&webhook_url=https%3A%2F%2Fh%2F&file_url=&mode=fast"
    form, tail = read(body, CHECKPOINT)
    assert (form.removed, form.checkpoint, tail) == (
        {"webhook_url": "https://h/"}, "ab", b"checkpoint_id=ab&mode=fast"
    )  # fmt: skip


async def test_aiohttp_sends_such_forms() -> None:
    data = FormData({"file_url": "https://h/ä b", "page_range": "0-4"})
    payload, written = data(), Written()
    assert payload.content_type == "application/x-www-form-urlencoded"
    await payload.write(written)  # type: ignore[arg-type] # it only writes
    assert read(written.body) == (Form(page_range="0-4"), written.body)


@pytest.mark.parametrize(
    "more",
    [b"&", b"&&a=1", b"&a", b"&=1", b";a=1", b"&a=1;b=2", b"&a=%", b"&a=%zz", b"&a=%ff", b"&a= ", b"&a=\xc3\xa4",
     b"&a=\r\n",
     b"&a=\x00", b'&a="', b"&%ff=1", b"&%C3%A4=1", b"&%22=1",
     b"&" + b"n" * 129 + b"=1", b"&file_url=", b"&File_Url=x",
     b"&page_range=1&page%5Frange=2", b"&PAGE_RANGE=1", b"&page_range[]=1", b"&file=x", b"&+page_range=1"],
)  # fmt: skip
def test_what_has_no_one_meaning_is_refused(more: bytes) -> None:
    assert reason(b"file_url=https://h" + more) is Reason.UNSUPPORTED_MEDIA_TYPE


@pytest.mark.parametrize("body", [b"", b"mode=fast", b"file_url=", b"file_url=&mode=fast"])
def test_it_names_what_stands_in_the_documents_place(body: bytes) -> None:
    assert reason(body) is Reason.UNSUPPORTED_MEDIA_TYPE


def test_it_is_for_nobody_where_nothing_may_stand_there() -> None:
    nothing = FormRules(refused=frozenset({"file_url"}))
    for body in (b"", b"file_url=https://h"):
        assert reason(body, nothing) is Reason.UNSUPPORTED_MEDIA_TYPE


def test_its_fields_and_all_of_it_are_bounded() -> None:
    assert reason(b"file_url=https://h&webhook_url=x") is Reason.FIELD_REFUSED
    assert reason(b"file_url=https://h", CHECKPOINT) is Reason.FIELD_REFUSED
    assert reason(b"file_url=" + b"x" * 4097) is Reason.BODY_TOO_LARGE
    assert read(b"file_url=https://h&a=" + b"x" * (262_144 - 21))[0] == Form()
    assert reason(b"file_url=https://h&a=" + b"x" * (262_144 - 20)) is Reason.BODY_TOO_LARGE
    most = (MOST - 21 * BYTE - 2 * CODED) // (3 * BYTE + CODED)
    assert most > 54_000  # of a text in Chinese that are 18,000 characters
    assert read(b"file_url=https://h&a=" + b"%41" * most)[0] == Form()
    assert reason(b"file_url=https://h&a=" + b"%41" * (most + 1)) is Reason.UNSUPPORTED_MEDIA_TYPE


@pytest.mark.parametrize("character", ["\u4e2d", "\u042f", "\U0001f600", '"'])
def test_a_text_of_any_script_may_be_as_long_as_one_has_it(character: str) -> None:
    """A schema of an extraction, say: percent-encoding makes nine bytes of a Chinese character."""
    text = character * 12_000 if character < "\U00010000" else character * 4_000
    body = urlencode({"checkpoint_id": "c", "page_schema": text}).encode()
    form, tail = read(body, CHECKPOINT)
    assert (form.checkpoint, tail) == ("c", body)
    assert parse_qs(tail.decode(), strict_parsing=True)["page_schema"] == [text]


CODES = [f"%{number:02X}".encode() for number in range(256)] + [b"%c3%a4", b"%e4%B8%aD"]
PIECES = [bytes([one]) for one in range(33, 127) if one not in b"%&"] + [b"%", b"%4", b"==", b"=3D", b"%3D%0A", b"+ "]


@PROPERTY
@given(st.lists(st.sampled_from(CODES + PIECES), max_size=12).map(b"".join))
def test_a_value_is_what_others_read(text: bytes) -> None:
    rules = FormRules(checkpoint="checkpoint_id", options="config", removed=frozenset({"webhook_url"}))
    try:
        form, _ = read(b"checkpoint_id=c&webhook_url=" + text, rules)
    except Refused:
        return
    others = parse_qs("webhook_url=" + text.decode("ascii"), keep_blank_values=True, errors="strict")
    assert form.removed["webhook_url"] == others["webhook_url"][0]


OPTIONS = FormRules(
    checkpoint="checkpoint_id", options="config", refused_like=compile_patterns(["*_base_url", "*_x"])
)
DEAR = {
    "coded": b"a=" + b"%41" * 36_000,
    "bytes": b"b=" + b"+" * 150_000,
}
DEAR_OPTIONS = {
    "names": b"config=%7B" + b",".join(b"%%22%03d%s%%22:1" % (n, b"_" * 980) for n in range(50)) + b"%7D",
    "marks": b"config=%7B%22a%22:[" + b"1e-320," * 4_500 + b"1]%7D",
}
END = b"&checkpoint_id=c"


@pytest.mark.parametrize("dear", [*DEAR.values(), *DEAR_OPTIONS.values()], ids=[*DEAR, *DEAR_OPTIONS])
def test_what_is_dear_may_be_there_alone(dear: bytes) -> None:
    assert read(dear + END, OPTIONS)[0].checkpoint == "c"


@pytest.mark.parametrize("options", DEAR_OPTIONS.values(), ids=DEAR_OPTIONS)
@pytest.mark.parametrize("other", DEAR.values(), ids=DEAR)
def test_what_is_dear_has_one_bound_for_all_of_it(other: bytes, options: bytes) -> None:
    """Bounds of each alone would add up."""
    assert reason(b"&".join([other, options]) + END, OPTIONS) is Reason.UNSUPPORTED_MEDIA_TYPE
    assert reason(b"&".join(DEAR.values()) + END, OPTIONS) is Reason.UNSUPPORTED_MEDIA_TYPE


def test_no_more_of_it_is_split_than_may_be_there() -> None:
    """262,144 ampersands held everybody for 18 ms: as many fields were made before the first was refused."""
    assert reason(b"x=1&" * 3_000) is Reason.UNSUPPORTED_MEDIA_TYPE
    tracemalloc.start()
    assert reason(b"&" * 262_000) is Reason.UNSUPPORTED_MEDIA_TYPE
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1_500_000  # a list of all would be 2 MB more
