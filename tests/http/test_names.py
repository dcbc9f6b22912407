"""names.py: which names some reader takes for another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Refused
from gateway.http.names import folded, readings, taken_for
from gateway.uploads.field_rules import FieldRules
from gateway.uploads.form import FormRules
from gateway.uploads.multipart.part_head import PartHead
from gateway.uploads.name_patterns import compile_patterns
from tests.support.pure import PROPERTY

ALIKE = [
    "file_id", "File_Id", " file_id", "file_id ", "+file_id", "file+id", "file.id", "file id", "file_id[]",
    "file_id[0]", "file_id [0]", "[file_id]", "file[id", "file_id[", "file_id\0", "file_id\0x", "\ufefffile_id",
    "\tfile_id\n", "file\x80id", "file\ufffdid", "file_id" + " " * 999,
    "file_id[0", "file_id[[", "file_id[" + "a" * 70 + "]", "file_id[" + "\u00e4" * 170 + "]", "file_id[x\0]",
    "+" * 999 + "file_id", "\u2003file_id\u2003",
]  # fmt: skip
OTHERS = ["", "\0", "[]", "fileid", "file", "file[id]", "file_ids", "my_file_id", "file-id", "file\0_id", "file_id.x"]


@pytest.mark.parametrize("name", ALIKE)
def test_a_name_is_folded_as_the_oddest_reader_does(name: str) -> None:
    assert "file_id" in readings(name)
    assert taken_for("file_id", ["x", name]) == [name]


@pytest.mark.parametrize("name", OTHERS)
def test_no_reader_takes_these_for_it(name: str) -> None:
    assert taken_for("file_id", [name]) == []


def test_letters_that_have_two_small_forms_are_one() -> None:
    assert folded("\u017fubmit_\u212aey") == "submit_key"


def test_of_a_long_name_that_is_not_ascii_both_ends_are_folded() -> None:
    assert len(folded("\u00e4." * 500_000)) == 128
    assert folded("\u00e4" * 200 + "_Base.URL").endswith("_base_url")
    assert folded("x" * 60 + "_Base_URL") == "x" * 60 + "_base_url"


@PROPERTY
@given(st.text("page_rngPAGE []\0.+x\u00e4", max_size=90))
def test_what_was_caught_before_names_were_folded_for_all_readers_is_caught(name: str) -> None:
    once = name.strip(" []").partition("[")[0].strip().lower()
    assert once != "page_range" or "page_range" in readings(name)


@pytest.mark.parametrize("name", ["page_range", "file_url", "webhook_url", "my_base_url"])
@pytest.mark.parametrize("form", ["{}[0", "{}[" + "a" * 70 + "]", "{}[" + "\u00e4" * 200 + "]", " {}[", "{}[\0]"])
def test_a_bracket_hides_no_field(name: str, form: str) -> None:
    rules = FormRules(refused=frozenset({"file_url", "webhook_url"}), refused_like=compile_patterns(["*_base_url"]))
    with pytest.raises(Refused):
        FieldRules(rules).admit(PartHead(form.format(name), has_filename=False))
