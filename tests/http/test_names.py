"""names.py: which names some reader takes for another."""

import pytest

from gateway.http.names import folded, taken_for

ALIKE = [
    "file_id", "File_Id", " file_id", "file_id ", "+file_id", "file+id", "file.id", "file id", "file_id[]",
    "file_id[0]", "file_id [0]", "[file_id]", "file[id", "file_id[", "file_id\0", "file_id\0x", "\ufefffile_id",
    "\tfile_id\n", "file\x80id", "file\ufffdid", "file_id" + " " * 999,
    "+" * 999 + "file_id", "\u2003file_id\u2003",
]  # fmt: skip
OTHERS = ["", "\0", "[]", "fileid", "file", "file[id]", "file_ids", "my_file_id", "file-id", "file\0_id", "file_id.x"]


@pytest.mark.parametrize("name", ALIKE)
def test_a_name_is_folded_as_the_oddest_reader_does(name: str) -> None:
    assert folded(name) == "file_id"
    assert taken_for("file_id", ["x", name]) == [name]
    assert taken_for(name, ["file_id"]) == ["file_id"]


@pytest.mark.parametrize("name", OTHERS)
def test_no_reader_takes_these_for_it(name: str) -> None:
    assert taken_for("file_id", [name]) == []


def test_letters_that_have_two_small_forms_are_one() -> None:
    assert folded("\u017fubmit_\u212aey") == "submit_key"


def test_a_name_of_any_length_is_folded_in_no_time() -> None:
    assert len(folded("a" * 1_000_000)) == len(folded("\u00e4." * 500_000)) == 64
