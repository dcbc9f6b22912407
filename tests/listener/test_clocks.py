"""clocks.py: silence and the least rate, by numbers alone."""

from gateway.errors import ClientGone, ClientTooSlow, GatewayError
from gateway.listener.clocks import Clocks

LEAST = 10.0


def gone() -> GatewayError:
    return ClientGone("left")


def slow() -> GatewayError:
    return ClientTooSlow("slow")


def test_without_a_deadline_nothing_is_overdue() -> None:
    clocks = Clocks(gone)
    assert not clocks.is_overdue(1e12, 0, LEAST)
    clocks.expect(5.0, slow)
    assert not clocks.is_overdue(4.9, 0, LEAST)
    assert clocks.is_overdue(5.0, 0, LEAST)
    assert isinstance(clocks.late(), ClientTooSlow)
    clocks.stop()
    assert not clocks.is_overdue(1e12, 0, LEAST)


def test_what_moves_lets_the_silence_begin_anew() -> None:
    clocks = Clocks(gone)
    clocks.expect(5.0, slow)
    clocks.move(9.0)
    assert not clocks.is_overdue(8.9, 0, LEAST)
    assert clocks.is_overdue(9.0, 0, LEAST)


def test_only_what_moved_since_counts_as_moving() -> None:
    clocks = Clocks(gone)
    clocks.expect(5.0, slow)
    clocks.measure(0.0, 100.0, 7)
    clocks.note(7, 50.0)
    assert clocks.is_overdue(5.0, 7, LEAST)
    clocks.note(8, 50.0)
    assert not clocks.is_overdue(5.0, 8, LEAST)
    assert clocks.is_overdue(50.0, 8, LEAST)


def test_each_window_asks_for_its_bytes() -> None:
    clocks = Clocks(gone)
    clocks.expect(1000.0, slow)
    clocks.measure(0.0, 10.0, 50)
    assert not clocks.is_overdue(9.9, 50, LEAST)
    assert not clocks.is_overdue(10.0, 150, LEAST)  # 100 bytes in 10 s
    assert not clocks.is_overdue(19.9, 150, LEAST)
    assert clocks.is_overdue(20.0, 249, LEAST)
    clocks.expect(1000.0, slow)  # no window any more
    assert not clocks.is_overdue(999.0, 0, LEAST)


def test_what_is_not_the_clients_time_does_not_count() -> None:
    clocks = Clocks(gone)
    clocks.expect(5.0, slow)
    clocks.measure(0.0, 5.0, 0)
    clocks.extend(3.0)
    assert not clocks.is_overdue(7.9, 0, LEAST)
    assert clocks.is_overdue(8.0, 0, LEAST)
