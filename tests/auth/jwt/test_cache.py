from dataclasses import replace

from gateway.auth.jwt.cache import TokenCache
from gateway.model.identity import Identity, Profile
from tests.support.held import texts_within


def identity_until(expires_at: float | None, key_id: str = "jwt:i#a") -> Identity:
    return Identity(key_id, key_id, Profile("default", 1), expires_at=expires_at)


def test_a_token_is_known_until_it_expires() -> None:
    cache, identity = TokenCache(), identity_until(100.0)
    assert cache.get(b"token", 0.0) is None
    cache.put(b"token", identity)
    assert cache.get(b"token", 99.9) is identity
    assert cache.get(b"tokem", 0.0) is None
    assert cache.get(b"token", 100.0) is None
    assert len(cache) == 0


def test_what_has_no_end_is_not_kept() -> None:
    cache = TokenCache()
    cache.put(b"token", identity_until(None))
    assert len(cache) == 0


def test_it_is_bounded_and_forgets_what_was_used_longest_ago() -> None:
    cache = TokenCache(most=3)
    for token in (b"a", b"b", b"c"):
        cache.put(token, identity_until(100.0, token.decode()))
    cache.get(b"a", 0.0)
    cache.put(b"d", identity_until(100.0))
    assert [cache.get(token, 0.0) is not None for token in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
    cache.put(b"d", identity_until(200.0))
    assert len(cache) == 3
    assert cache.get(b"d", 150.0) == identity_until(200.0)


def test_the_scopes_of_all_are_bounded_as_well() -> None:
    """A thousand tokens of two thousand each took 180 MB, and 90 ms to free when their issuer changed its keys."""
    many = frozenset(map(str, range(2000)))
    cache, identity = TokenCache(), replace(identity_until(100.0), scopes=many)
    for number in range(1000):
        cache.put(b"%d" % number, identity)
        cache.put(b"%d" % number, identity)  # it counts once
    assert len(cache) == 50
    assert cache.get(b"999", 0.0) is identity
    assert [cache.get(b"%d" % number, 100.0) for number in range(1000)] == [None] * 1000
    for number in range(60):
        cache.put(b"%d" % number, identity)
    assert len(cache) == 50


def test_no_token_lies_in_it() -> None:
    cache = TokenCache()
    cache.put(b"secret-token", identity_until(1.0))
    assert "jwt:i#a" in set(texts_within(cache))
    assert not any("secret-token" in text for text in texts_within(cache))
