"""An answer's pieces are what pydantic writes at once, and no piece has more than a portion of a list."""

from itertools import pairwise
from typing import Any

import pytest

from gateway.admin.answer import Answer, Document
from gateway.admin.answer_writing import write_in_pieces


class Item(Answer):
    """An item."""

    name: str
    number: float | None = None


class Listing(Answer):
    """A list between other fields."""

    first: int
    items: list[Item]
    words: list[str]
    others: list[Item]
    next: str | None = None


def listing(items: int, others: int, words: int = 2) -> Listing:
    return Listing(
        first=1,
        items=[Item(name=f'é"\\{number}', number=number / 3) for number in range(items)],
        words=[str(number) for number in range(words)],
        others=[Item(name="x") for _ in range(others)],
    )


@pytest.mark.parametrize(
    "answer",
    [
        listing(0, 0),
        listing(10, 10),
        listing(11, 0),
        listing(0, 11),
        listing(1000, 101, 1000),
        Document({"a": [1, {"b": "é"}] * 60}),
    ],
)
def test_pieces_are_what_pydantic_writes(answer: Any) -> None:
    whole = answer.model_dump_json(ensure_ascii=True).encode()
    assert b"".join(write_in_pieces(answer)) == whole


def test_what_is_written_of_a_list_is_let_go() -> None:
    """All rows of a year were let go at once, at the end: five milliseconds."""
    answer = listing(100, 0)
    pieces, held = write_in_pieces(answer), list[int]()
    while next(pieces, b"}") != b"}":
        held.append(len(answer.items))
    assert [before - after for before, after in pairwise(held) if before != after] == [10] * 10


def test_no_piece_has_more_than_a_portion() -> None:
    assert max(piece.count(b'"name"') for piece in write_in_pieces(listing(1000, 120))) == 10
    assert len(list(write_in_pieces(listing(10, 10)))) == 1
