"""Whose process listens on a port, as the kernel tells it."""

import os
import socket
import sys

import pytest

from gateway.cli.listener_owner import listening_users, users_in

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2382 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 1 1 0 100 0 0 10 0
   1: 0100007F:2382 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1002        0 1 1 0 100 0 0 10 0
   2: 00000000:2383 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1003        0 1 1 0 100 0 0 10 0
   3: 0000000000000000FFFF00000100007F:2384 00000000000000000000000000000000:0000 0A 0:0 0:0 0  1004 0 1
   4: 00000000000000000000000000000000:2385 00000000000000000000000000000000:0000 0A 0:0 0:0 0  1005 0 1
   5: 00000000000000000000000001000000:2386 00000000000000000000000000000000:0000 0A 0:0 0:0 0  1006 0 1
"""


@pytest.mark.skipif(sys.byteorder != "little", reason="the table is of a machine with that order")
@pytest.mark.parametrize(
    ("host", "port", "users"),
    [
        ("127.0.0.1", 0x2382, {1001}),
        ("127.0.0.2", 0x2382, set()),
        ("127.0.0.1", 0x2383, {1003}),
        ("127.0.0.1", 0x2384, {1004}),
        ("127.0.0.1", 0x2385, {1005}),
        ("::1", 0x2386, {1006}),
        ("127.0.0.1", 1, set()),
    ],
)
def test_the_one_that_a_connection_reaches_is_found(host: str, port: int, users: set[int]) -> None:
    assert users_in(TABLE, host, port) == users


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_kernel_is_asked(family: socket.AddressFamily, host: str) -> None:
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        listener.listen()
        assert listening_users(host, listener.getsockname()[1]) == {os.geteuid()}
