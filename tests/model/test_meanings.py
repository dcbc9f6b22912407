"""What each word of a refused credential means: for the page as for the commands."""

import pytest

from gateway.model.meanings import MEANINGS, OF_REASONS, meaning_of
from gateway.model.reasons import VERDICTS, Denial, Reason, Why, title_of


@pytest.mark.parametrize("why", list(Why))
def test_each_word_means_the_same_on_the_page_and_to_commands(why: Why) -> None:
    assert meaning_of(why) == MEANINGS[why]


@pytest.mark.parametrize(
    "reason", [reason for reason in Reason if reason not in VERDICTS or VERDICTS[reason].status >= 400]
)
def test_without_a_word_the_reason_has_a_meaning_and_a_title(reason: Reason) -> None:
    assert meaning_of(None, reason) == OF_REASONS[reason]
    assert meaning_of(Why.NAME, reason) == MEANINGS[Why.NAME]
    if reason in VERDICTS:
        assert title_of(reason, None) == Denial(reason, "").heading == VERDICTS[reason].title


def test_a_title_that_was_told_is_the_one_that_is_looked_up() -> None:
    own = Denial(Reason.BUDGET_EXHAUSTED, "", title="Page budget used up until 2026-12-01")
    assert title_of(own.reason, own.title) == own.heading == own.title
    assert title_of("of_another_version", None) is title_of(Reason.FORWARDED, None) is None
    assert title_of("of_another_version", "Told") == "Told"


def test_a_word_of_another_version_has_no_meaning() -> None:
    assert meaning_of("of_another_version", "forbidden") is meaning_of(None, "of_another_version") is None
    assert meaning_of(None) is None
