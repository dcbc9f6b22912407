"""Whether a credential is valid now: its end to the second, who is blocked, from where, and with what certificate."""

from collections.abc import Collection
from ipaddress import ip_network

import pytest

from gateway.auth.api_keys import ApiKey
from gateway.auth.validity import (
    check_key_address,
    check_not_blocked,
    check_not_expired,
    check_required_certificate,
)
from gateway.model.identity import ClientCertificate
from gateway.model.networks import Networks
from gateway.model.reasons import Reason, Why
from tests.support.pure import denial_of, ip, make_identity

NOW = 1_795_435_200.0
KEY, TOKEN, CERTIFICATE = ("api_key", "accepted"), ("jwt", "accepted"), ("certificate", "accepted")
KINDS = [KEY, TOKEN, CERTIFICATE]


@pytest.mark.parametrize("label", KINDS)
@pytest.mark.parametrize("expires_at", [None, NOW + 0.001, NOW + 1e9])
def test_what_ends_never_or_later_is_valid(label: tuple[str, str], expires_at: float | None) -> None:
    check_not_expired(make_identity(label=label, expires_at=expires_at), NOW)


@pytest.mark.parametrize(
    ("label", "reason", "words"),
    [
        (KEY, Reason.UNAUTHENTICATED, "API key has expired"),
        (TOKEN, Reason.TOKEN_EXPIRED, "expired"),
        (CERTIFICATE, Reason.UNAUTHENTICATED, "client certificate"),
    ],
)
@pytest.mark.parametrize("ago", [0.0, 0.001, 1e9])
def test_what_has_ended_is_refused_from_that_very_moment_on(
    label: tuple[str, str], reason: Reason, words: str, ago: float
) -> None:
    denial = denial_of(check_not_expired, make_identity(label=label, expires_at=NOW - ago), NOW)
    assert (denial.reason, denial.why) == (reason, Why.EXPIRED)
    assert words in denial.detail


@pytest.mark.parametrize(
    ("replaced_until", "why"), [(NOW + 1, Why.REPLACED), (NOW, Why.EXPIRED), (NOW - 1, Why.EXPIRED)]
)
def test_a_secret_with_a_newer_one_is_told_so_as_long_as_that_one_works(replaced_until: float, why: Why) -> None:
    old = make_identity(expires_at=NOW - 1, replaced_until=replaced_until)
    denial = denial_of(check_not_expired, old, NOW)
    assert (denial.reason, denial.why) == (Reason.UNAUTHENTICATED, why)


@pytest.mark.parametrize("label", KINDS)
@pytest.mark.parametrize("blocked", [(), ("jwt:other",), frozenset({"jwt:ANN"})])
def test_who_is_not_blocked_passes(label: tuple[str, str], blocked: Collection[str]) -> None:
    check_not_blocked(make_identity(label=label, account="jwt:ann"), blocked)


@pytest.mark.parametrize("label", KINDS)
def test_who_is_blocked_is_forbidden(label: tuple[str, str]) -> None:
    denial = denial_of(check_not_blocked, make_identity(label=label, account="jwt:ann"), {"jwt:bob", "jwt:ann"})
    assert (denial.reason, denial.why) == (Reason.FORBIDDEN, Why.BLOCKED)


@pytest.mark.parametrize("label", [TOKEN, CERTIFICATE])
def test_while_nobody_knows_who_is_blocked_only_keys_pass(label: tuple[str, str]) -> None:
    check_not_blocked(make_identity(label=KEY), None)
    denial = denial_of(check_not_blocked, make_identity(label=label), None)
    assert denial.reason is Reason.LEDGER_UNAVAILABLE
    assert denial.retry_after


@pytest.mark.parametrize(
    ("networks", "address", "is_allowed"),
    [
        ((), "203.0.113.9", True),
        (("10.0.0.0/8",), "10.255.255.255", True),
        (("10.0.0.0/8",), "11.0.0.0", False),
        (("10.0.0.0/8", "192.0.2.7/32"), "192.0.2.7", True),
        (("10.0.0.0/8", "192.0.2.7/32"), "192.0.2.8", False),
        (("2001:db8::/32",), "2001:db8::1", True),
        (("2001:db8::/32",), "10.0.0.1", False),
    ],
)
def test_a_key_is_used_from_its_networks_alone(networks: tuple[str, ...], address: str, is_allowed: bool) -> None:
    key = ApiKey(b"", make_identity(), Networks(map(ip_network, networks)))
    if is_allowed:
        check_key_address(key, ip(address))
    else:
        assert denial_of(check_key_address, key, ip(address)).reason is Reason.ADDRESS_DENIED


@pytest.mark.parametrize(
    ("certificate", "why"),
    [
        (None, Why.MISSING),
        (ClientCertificate(not_after=NOW), Why.EXPIRED),
        (ClientCertificate(not_after=NOW - 1), Why.EXPIRED),
        (ClientCertificate(not_after=NOW + 1), None),
        (ClientCertificate(), None),
    ],
)
def test_a_required_certificate_is_there_and_has_not_ended(
    certificate: ClientCertificate | None, why: Why | None
) -> None:
    if why is None:
        check_required_certificate(certificate, NOW)
    else:
        denial = denial_of(check_required_certificate, certificate, NOW)
        assert (denial.reason, denial.why) == (Reason.UNAUTHENTICATED, why)
