"""Text that every sink takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.printable import printable
from gateway.model.reasons import Denial, Reason


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("page_range", "page_range"),
        ("Überlänge 長い", "Überlänge 長い"),
        ("\ud800_dir", "\ufffd_dir"),
        ("a\0b\nc\x7f", "a\ufffdb\ufffdc\ufffd"),
        ("", ""),
    ],
)
def test_what_no_sink_takes_is_replaced(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters(codec=None)))
def test_the_detail_of_a_denial_can_be_sent_and_stored_whatever_made_it(text: str) -> None:
    detail = Denial(Reason.FIELD_REFUSED, text).detail
    assert detail.encode().decode() == detail
    assert detail.isprintable()
    assert len(detail) == len(text)
