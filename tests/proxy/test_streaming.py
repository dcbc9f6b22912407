"""An answer that streams down to the client: whole or cut off, with back pressure, and against the right deadline."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final, Self

import pytest

from gateway.errors import GatewayError, UpstreamBrokeOff, UpstreamFailed, UpstreamTimeout
from gateway.model.request import Delivery
from gateway.proxy.streaming import Download
from gateway.upstream.url_rewriter import UrlRewriter
from tests.support.pure import at_once

HEAD: Final = b"HTTP/1.1 200 OK\r\n\r\n"
TIMEOUT: Final = 7.0
OLD, NEW = b"http://127.0.0.1:8000/", b"https://gateway.test/"


class Line:
    """Client, upstream and examination of one answer: `told` is what was done to them, in order.

    A client that is slow takes no more once it got something.
    """

    def __init__(self, *pieces: bytes, is_slow: bool = False, is_reading_body: bool = False) -> None:
        self.pieces = pieces
        self.told: list[Any] = []
        self.sent: list[bytes] = []
        self.delivery = Delivery()
        self.failure: UpstreamFailed | None = None
        self.is_slow = is_slow
        self.is_paused = False
        self.is_reading_body = is_reading_body
        self.writable: Callable[[], None] | None = None
        self.late: Callable[[], GatewayError] | None = None

    def download(
        self, rewriter: UrlRewriter | None = None, *, chunked: bool = False, looks: bool = False
    ) -> Download:
        part: Any = self
        order: Any = SimpleNamespace(
            client=self,
            prepared=SimpleNamespace(upstream=SimpleNamespace(read_timeout=TIMEOUT)),
            delivery=self.delivery,
        )
        examination: Any = SimpleNamespace(take=self.see, end=self.seen) if looks else None
        return Download(order, part, examination, rewriter, chunked=chunked)

    def run(self, rewriter: UrlRewriter | None = None, **flags: bool) -> bytes:
        """All that the client gets."""
        at_once(self.download(rewriter, **flags).run(HEAD))
        return b"".join(self.sent)

    # The client, and its way out

    @property
    def out(self) -> Self:
        return self

    def send(self, data: bytes) -> None:
        self.sent.append(data)
        self.told.append("send")
        self.is_paused = self.is_slow

    def on_writable(self, callback: Callable[[], None] | None) -> None:
        self.writable = callback

    def expect(self, within: float, late: Callable[[], GatewayError]) -> None:
        self.late = late
        self.told.append(("expect", within))

    def expect_nothing(self) -> None:
        self.told.append("expect nothing")

    def watch_reader(self) -> None:
        self.told.append("watch reader")

    # The upstream

    async def flow(self, sink: Download, *, looks_inside: bool) -> None:
        self.told.append(("flow", looks_inside))
        for piece in self.pieces:
            sink.take(piece)
        if self.failure is not None:
            raise self.failure

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")

    # The examination

    def see(self, data: bytes) -> Callable[[], bool]:
        self.told.append(("see", data))
        return self.see_more

    def see_more(self) -> bool:
        """What is left of what it saw."""
        return False

    async def seen(self) -> None:
        self.told.append("seen")


def rewriter() -> UrlRewriter:
    return UrlRewriter(OLD, NEW)


# What the client gets


def test_an_answer_of_known_length_passes_as_it_is() -> None:
    assert Line(b"ab", b"cde", b"").run() == HEAD + b"abcde"


def test_pieces_pass_when_they_come_and_the_head_before_them() -> None:
    line = Line(b"ab", b"cde")
    line.run()
    assert line.sent == [HEAD, b"ab", b"cde"]


def test_in_chunks_each_piece_is_one_and_the_end_is_said_once() -> None:
    assert Line(b"ab", b"c" * 26).run(chunked=True) == HEAD + b"2\r\nab\r\n1a\r\n" + b"c" * 26 + b"\r\n0\r\n\r\n"
    assert Line().run(chunked=True) == HEAD + b"0\r\n\r\n"


def test_an_empty_piece_is_no_chunk_for_that_would_be_the_end() -> None:
    line = Line(b"", b"ab", b"")
    assert line.run(chunked=True) == HEAD + b"2\r\nab\r\n0\r\n\r\n"
    assert line.delivery.sent == 2


def test_what_counts_as_sent_is_the_body_alone() -> None:
    line = Line(b"ab", b"cde")
    line.run(chunked=True)
    assert line.delivery.sent == 5


def test_the_upstreams_urls_become_ours_also_where_pieces_cut_them() -> None:
    line = Line(b"<" + OLD[:9], OLD[9:] + b"x>", b"<htt")
    assert line.run(rewriter()) == HEAD + b"<" + NEW + b"x><htt"
    assert line.delivery.sent == len(NEW) + 7


def test_what_was_held_back_is_a_chunk_before_the_end() -> None:
    assert Line(b"htt").run(rewriter(), chunked=True) == HEAD + b"3\r\nhtt\r\n0\r\n\r\n"


# An answer that fails midway


@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_that_fails_midway_gets_no_end_and_says_nothing_of_a_job(chunked: bool) -> None:
    line = Line(b"ab", b"htt")
    line.failure = UpstreamBrokeOff("as it was told", arrived=True)
    with pytest.raises(UpstreamBrokeOff):
        line.run(rewriter(), chunked=chunked, looks=True)
    assert line.sent == [HEAD, b"2\r\nab\r\n" if chunked else b"ab"]
    assert "seen" not in line.told


@pytest.mark.parametrize("failure", [None, UpstreamBrokeOff("as it was told", arrived=True)])
def test_no_deadline_and_no_callback_is_left_behind(failure: UpstreamFailed | None) -> None:
    line = Line(b"ab")
    line.failure = failure
    if failure is None:
        line.run()
    else:
        with pytest.raises(UpstreamBrokeOff):
            line.run()
    assert line.told[-1] == "expect nothing"
    assert line.writable is None


# What looks at it


def test_the_examination_sees_what_the_upstream_said_before_the_client_gets_it() -> None:
    line = Line(OLD + b"x")
    line.run(rewriter(), looks=True)
    assert line.told.index(("see", OLD + b"x")) < line.told.index("send", 1)
    assert ("see", OLD + b"x") in line.told


def test_who_looks_inside_says_what_it_is_behind_with_and_nobody_else_is() -> None:
    line = Line()
    assert line.download(looks=True).take(b"ab") == line.see_more
    assert line.download(rewriter()).take(b"ab") is None


def test_the_examination_ends_when_all_was_written() -> None:
    line = Line(b"htt")
    line.run(rewriter(), chunked=True, looks=True)
    assert line.told[-1] == "seen"
    assert line.told.count("seen") == 1


@pytest.mark.parametrize(
    ("rewrites", "looks", "looks_inside"),
    [(False, False, False), (True, False, True), (False, True, True), (True, True, True)],
)
def test_who_looks_inside_gets_a_little_at_a_time(rewrites: bool, looks: bool, looks_inside: bool) -> None:
    line = Line(b"ab")
    line.run(rewriter() if rewrites else None, looks=looks)
    assert ("flow", looks_inside) in line.told


# Back pressure and deadlines


def test_who_is_waited_for_is_the_upstream_and_anew_with_each_piece() -> None:
    line = Line(b"ab", b"cd")
    line.run()
    wait = ("expect", TIMEOUT)
    assert line.told == ["send", wait, ("flow", False), "send", wait, "send", wait, "expect nothing"]
    assert line.late is not None
    assert isinstance(line.late(), UpstreamTimeout)


def test_a_slow_client_pauses_the_upstream_and_is_waited_for_in_its_place() -> None:
    line = Line(b"ab", is_slow=True)
    line.run()
    assert line.told == ["send", "watch reader", ("flow", False), "send", "pause", "watch reader", "expect nothing"]


def test_once_the_client_takes_more_the_upstream_goes_on_and_is_waited_for_again() -> None:
    line = Line(is_slow=True)
    calls: list[Callable[[], None]] = []

    async def flow(sink: Download, *, looks_inside: bool) -> None:
        del looks_inside
        sink.take(b"ab")
        assert line.writable is not None
        calls.append(line.writable)
        line.told.clear()
        line.is_paused = False
        line.writable()

    line.flow = flow  # type: ignore[method-assign]
    line.run()
    assert line.told == [("expect", TIMEOUT), "resume", "expect nothing"]


@pytest.mark.parametrize("is_slow", [False, True])
def test_while_the_client_still_sends_its_body_the_deadline_is_that_ones(is_slow: bool) -> None:
    line = Line(b"ab", is_slow=is_slow, is_reading_body=True)
    line.run()
    pauses = ["pause"] * is_slow
    assert line.told == ["send", ("flow", False), "send", *pauses, "expect nothing"]
