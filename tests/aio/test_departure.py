"""departure.py on sockets of the kernel, of which nobody reads."""

import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

import pytest

from gateway.aio.departure import Departure

RESET = struct.pack("ii", 1, 0)  # linger for no time: the end is a RST


class Ends(NamedTuple):
    """Both of a connection: ours, and the peer's."""

    ours: socket.socket
    peers: socket.socket

    def seen(self, departure: Departure) -> tuple[bool, bool]:
        """Whether the peer has left; and if to say no more is to leave."""
        return tuple(departure.has_happened(or_says_no_more=says) for says in (False, True))  # type: ignore[return-value]


@pytest.fixture
def ends() -> Iterator[Ends]:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        peers = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
    with ours, peers:
        yield Ends(ours, peers)


def test_who_is_there_has_not_left_whatever_he_sent(ends: Ends) -> None:
    departure = Departure(ends.ours)
    assert ends.seen(departure) == (False, False)
    ends.peers.sendall(b"x" * 100_000)
    assert ends.seen(departure) == (False, False)


@pytest.mark.parametrize("sent", [b"", b"sent ahead"])
def test_who_says_no_more_may_still_read(sent: bytes, ends: Ends) -> None:
    departure = Departure(ends.ours)
    ends.peers.sendall(sent)
    ends.peers.shutdown(socket.SHUT_WR)
    assert ends.seen(departure) == (False, True)
    ends.ours.sendall(b"an answer")
    assert ends.peers.recv(99) == b"an answer"
    assert ends.seen(departure) == (False, True)


@pytest.mark.parametrize("sent", [b"", b"sent ahead"])
def test_who_breaks_off_has_left_though_what_he_sent_waits(sent: bytes, ends: Ends) -> None:
    departure = Departure(ends.ours)
    ends.peers.sendall(sent)
    ends.peers.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    ends.peers.close()
    assert ends.seen(departure) == (True, True)


def test_what_happened_before_anybody_asked_is_seen(ends: Ends) -> None:
    ends.peers.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    ends.peers.close()
    assert ends.seen(Departure(ends.ours)) == (True, True)


def test_who_closed_has_left_once_something_was_sent_to_him(ends: Ends) -> None:
    departure = Departure(ends.ours)
    ends.peers.close()
    assert ends.seen(departure) == (False, True)
    ends.ours.sendall(b"nobody is there")
    assert ends.seen(departure) == (True, True)


def test_where_both_said_their_end_nobody_is_there(ends: Ends) -> None:
    departure = Departure(ends.ours)
    for end in ends:
        end.shutdown(socket.SHUT_WR)
    assert ends.seen(departure) == (True, True)
