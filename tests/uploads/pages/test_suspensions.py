from gateway.uploads.pages.suspensions import MAX, Suspensions


def test_each_document_in_a_row_makes_the_while_longer() -> None:
    suspensions = Suspensions(60.0)
    assert not suspensions.holds("a", 100.0)
    suspensions.add("a", 100.0)
    assert suspensions.holds("a", 159.0)
    assert not suspensions.holds("a", 160.0)
    suspensions.add("a", 200.0)
    assert suspensions.holds("a", 319.0)
    assert not suspensions.holds("a", 320.0)
    assert not suspensions.holds("b", 200.0)


def test_a_document_that_is_counted_ends_the_memory_of_slow_ones() -> None:
    suspensions = Suspensions(60.0)
    for _ in range(2):
        suspensions.add("a", 0.0)
    suspensions.end("a")
    suspensions.end("b")
    assert not suspensions.holds("a", 0.0)
    assert len(suspensions) == 0
    suspensions.add("a", 0.0)
    assert suspensions.holds("a", 59.0)
    assert not suspensions.holds("a", 60.0)


def test_of_very_many_accounts_those_are_forgotten_whose_last_was_longest_ago() -> None:
    suspensions = Suspensions(60.0)
    suspensions.add("first", 0.0)
    for number in range(MAX - 1):
        suspensions.add(f"key:{number}", 0.0)
    suspensions.add("first", 0.0)  # again, so it is not the oldest
    suspensions.add("last", 0.0)
    assert len(suspensions) == MAX
    assert [suspensions.holds(account, 1.0) for account in ("first", "last", "key:0", "key:1")] == [
        True, True, False, True,
    ]  # fmt: skip
