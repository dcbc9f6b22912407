from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.bad_logins import BadLogins
from gateway.limits.buckets import per_minute
from tests.support.pure import PROPERTY, ip

RATE = per_minute(3)
A, B, C = ip("192.0.2.1"), ip("192.0.2.2"), ip("192.0.2.3")


def test_a_burst_of_failures_is_free_and_then_there_is_a_wait() -> None:
    logins = BadLogins()
    assert [logins.count_failure(A, 50.0, RATE) for _ in range(5)] == [None, None, None, 20, 20]


def test_refused_failures_do_not_lengthen_the_wait() -> None:
    logins = BadLogins()
    for _ in range(100):
        logins.count_failure(A, 50.0, RATE)
    assert logins.count_failure(A, 69.5, RATE) == 1
    assert logins.count_failure(A, 70.0, RATE) is None
    assert logins.count_failure(A, 70.0, RATE) == 20


def test_one_address_does_not_spend_what_another_has() -> None:
    logins = BadLogins()
    for _ in range(4):
        logins.count_failure(A, 50.0, RATE)
    assert logins.count_failure(B, 50.0, RATE) is None


@pytest.mark.parametrize(
    ("other", "is_shared"), [("2001:db8::ffff:ffff:ffff:ffff", True), ("2001:db8:0:1::1", False)]
)
def test_an_ipv6_client_has_the_bucket_of_its_network(other: str, is_shared: bool) -> None:
    logins = BadLogins()
    for _ in range(3):
        assert logins.count_failure(ip("2001:db8::1"), 50.0, RATE) is None
    assert (logins.count_failure(ip(other), 50.0, RATE) is not None) == is_shared


@PROPERTY
@given(st.ip_addresses(v=4))
def test_an_ipv4_address_never_shares_a_bucket_with_a_network_of_its_bytes(address: IPv4Address) -> None:
    logins, network = BadLogins(), IPv6Address(address.packed + bytes(12))
    for _ in range(3):
        logins.count_failure(network, 50.0, RATE)
    assert logins.count_failure(address, 50.0, RATE) is None


def test_what_is_remembered_is_bounded_and_the_oldest_failure_goes_first() -> None:
    logins = BadLogins(most=2)
    for address in (A, A, A, B, A):  # A failed last, so B is the one to forget
        logins.count_failure(address, 50.0, RATE)
    logins.count_failure(C, 50.0, RATE)
    assert logins.count_failure(A, 50.0, RATE) == 20
    assert len(logins) == 2


def test_a_forgotten_address_starts_anew() -> None:
    logins = BadLogins(most=1)
    for _ in range(4):
        logins.count_failure(A, 50.0, RATE)
    logins.count_failure(B, 50.0, RATE)
    assert logins.count_failure(A, 50.0, RATE) is None


@PROPERTY
@given(st.floats(0, 1e7), st.integers(1, 100))
def test_exactly_as_many_failures_as_configured_are_free(now: float, count: int) -> None:
    logins = BadLogins()
    told = [logins.count_failure(A, now, per_minute(count)) for _ in range(count + 1)]
    assert told[:-1] == [None] * count
    assert told[-1] is not None
    assert told[-1] >= 1
