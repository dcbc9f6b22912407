"""The names of accounts."""

from gateway.model.account_names import key_account, key_id_of, qualified, unqualified


def test_a_keys_account_is_no_others() -> None:
    assert key_account("ci") == qualified("ci") == "key:ci"
    assert qualified("jwt:https://idp.test#ann") == "jwt:https://idp.test#ann"
    assert (key_id_of("key:ci"), key_id_of("cert:ci")) == ("ci", None)
    assert (unqualified("key:ci"), unqualified("cert:ci")) == ("ci", "cert:ci")
