"""What each word of a refused credential means: for the page as for the commands."""

import pytest

from gateway.model.meanings import MEANINGS, meaning_of
from gateway.model.reasons import Why


@pytest.mark.parametrize("why", list(Why))
def test_each_word_means_the_same_on_the_page_and_to_commands(why: Why) -> None:
    assert meaning_of(why) == MEANINGS[why]


def test_a_word_of_another_version_has_no_meaning() -> None:
    assert meaning_of("of_another_version") is meaning_of(None) is None
