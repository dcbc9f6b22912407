"""Limits that a key may have of its own, and peers."""

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from gateway.model.identity import ClientCertificate, Peer, is_override


@pytest.mark.parametrize(
    ("name", "value", "is_one"),
    [
        ("pages_per_month", 5, True),
        ("pages_per_month", None, True),
        ("pages_per_month", "5", False),
        ("pages_per_month", True, False),
        ("concurrent_requests", 5, True),
        ("concurrent_requests", None, False),
        ("soft_limit", 0.5, True),
        ("needs_page_range", True, True),
        ("needs_page_range", 1, False),
        ("of_a_newer_release", 5, False),
        ("networks", (), False),
    ],
)
def test_an_override_is_a_limit_that_this_release_knows_with_a_value_of_its_kind(
    name: str, value: Any, is_one: bool
) -> None:
    assert is_override(name, value) is is_one


def test_a_peer_with_another_certificate_is_the_same_otherwise() -> None:
    shown = ClientCertificate(dns=("client.test",))
    peer = Peer(ip_address("192.0.2.1"), 7, shown, speaks_for_itself=True)
    assert peer.with_certificate(None) == replace(peer, certificate=None)
    assert peer.with_certificate(None).with_certificate(shown) == peer
