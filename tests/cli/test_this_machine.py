"""Addresses of this machine."""

import socket
from ipaddress import ip_address
from pathlib import Path

from gateway.cli.this_machine import local_addresses


def test_finds_addresses_of_this_machine_that_others_could_reach() -> None:
    found = local_addresses()
    assert found == sorted(set(found))
    for text in found:
        address = ip_address(text)
        assert not address.is_loopback
        assert not address.is_link_local
        with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6) as bound:
            bound.bind((text, 0))  # only an address of this machine can be bound


def test_without_the_kernels_tables_there_is_no_address(tmp_path: Path) -> None:
    assert local_addresses(tmp_path) == []
