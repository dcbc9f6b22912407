from gateway.observe.key_labels import OTHER, KeyLabels


def test_the_first_keys_have_their_ids_and_keep_them() -> None:
    labels = KeyLabels(most=2)
    assert [labels.of(key) for key in ("a", "b", "c", "a", "b", "d")] == ["a", "b", OTHER, "a", "b", OTHER]


def test_who_has_no_key_is_other_and_takes_no_place() -> None:
    labels = KeyLabels(most=1)
    assert [labels.of(key) for key in (None, "jwt:https://id.example#ann", "cert:host.example")] == [OTHER] * 3
    assert labels.of("a") == "a"
