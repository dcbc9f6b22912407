"""One end of a TLS connection without a socket: OpenSSL on memory buffers, fed in steps of limited cost.

OpenSSL gets one record at a time, so no single call is long. During the handshake it gets the ClientHello only after
a check (client_hello.py), and a limited number of bytes: certificates cost time, too. Once it is open

- no second handshake begins: a renegotiation (up to TLS 1.2) would read certificates without a limit, and answer each
  request for one with an alert. OpenSSL's option against it answers all the same; here no record of one gets there;
- a record that has nothing for the protocol above may have nine hundred messages of TLS 1.3 (session tickets), some
  milliseconds: behind such a record `open` looks at the clock, and the caller counts them.
"""

import contextlib
import ssl
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from gateway.aio.tls.client_hello import HelloError, HelloGate
from gateway.aio.tls.records import HANDSHAKE, Records, has_no_certificates
from gateway.aio.tls.verified_chain import shown_certificates, verified_chain

RECORDS_AT_ONCE: Final = 17
"""One more than a read of 256 KB has whole ones: of a stream of full records each read ends one that had begun."""

MAX_RECORD: Final = 16_384
"""Plaintext bytes."""

_MAX_OF_CLIENT: Final = 12_288
"""Byte limit of a client's handshake after its hello: four certificates of RSA-4096 with long names are 9 KB."""

_MAX_OF_SERVER: Final = 32_768
_ENOUGH: Final = 16  # bytes with which OpenSSL can say what they are
MOST_CERTIFICATES: Final = 32
"""Certificates of a server. Real ones have a kilobyte: of these its handshake has no more. For each session ticket
OpenSSL copies the session, and holds and lets go each of them: with 700 tiny ones, a record of tickets took 14 ms."""

LARGEST_FINISHED: Final = 512  # bytes of its record: 96 by the largest cipher, or some more with padding
_HANDSHAKE_FAILURE: Final = bytes((21, 3, 3, 0, 2, 2, 40))  # an alert, fatal: RFC 8446, section 6


class Clear(NamedTuple):
    """What one step decrypted: bytes in the clear, bytes taken of the wire, and how many records ended in these.

    `idle` counts the records that had nothing for the protocol above, and `idle_bytes` theirs on the wire. The peer's
    close_notify or an error came behind all that.
    """

    size: int
    taken: int
    records: int
    idle: int = 0
    idle_bytes: int = 0
    is_ended: bool = False
    error: ssl.SSLError | None = None


class TlsEngine:
    """The server's end; with `server`, the end of a client that connects to the server of that name."""

    __slots__ = (
        "_alert",
        "_asks",
        "_began",
        "_context",
        "_gate",
        "_handshake_bytes",
        "_hello",
        "_incoming",
        "_may_take_long",
        "_outgoing",
        "_records",
        "_renegotiates",
        "chain",
        "is_open",
        "object",
        "peercert",
    )

    def __init__(self, context: ssl.SSLContext, server: str | None) -> None:
        # By the context of its beginning: OpenSSL keeps that, whatever the name in the hello makes of it.
        self._asks = server is not None or context.verify_mode is not ssl.CERT_NONE
        self._context: ssl.SSLContext | None = context  # held until the handshake is over: see contexts.py
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._records = Records()
        self._gate = HelloGate()
        self._gate.is_open = server is not None
        self._handshake_bytes = 0  # handshake bytes received
        self._hello = 0  # of these, the bytes up to the end of the hello
        self._may_take_long = False  # of what it has been given last
        self._alert = b""
        self._began = 0  # bytes of the record that has begun and is incomplete
        self._renegotiates = False  # by its version, if it were let
        self.object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server is None, server_hostname=server
        )
        self.is_open = False
        self.peercert: Any = None
        """The client's certificate, in the form of ssl.SSLObject.getpeercert, if one was requested."""
        self.chain: frozenset[bytes] = frozenset()
        """Digests of the chain that it was verified by."""

    @property
    def is_server(self) -> bool:
        """Whether this is the server's end."""
        return self.object.server_side

    @property
    def has_output(self) -> bool:
        """Whether there are bytes to send."""
        return bool(self._outgoing.pending or self._alert)

    @property
    def is_heavy(self) -> bool:
        """Whether the next step of the handshake may take so long that it should run in a thread.

        OpenSSL decodes the keys of the peer's certificates as it reads them, before anybody is trusted: one with a
        curve of its own takes half a second, however small it is.
        """
        return self._may_take_long

    def take_output(self) -> bytes:
        """Returns and clears the bytes to send."""
        alert, self._alert = self._alert, b""
        return self._outgoing.read() + alert if alert else self._outgoing.read()

    @property
    def is_within_record(self) -> bool:
        """Whether a record has begun to arrive and is incomplete."""
        return self._records.is_within

    def is_one(self, came: memoryview) -> bool:
        """Whether `came` is exactly one whole record, so that `open_one` will do."""
        return self._records.end_of_whole(came) == len(came)

    def feed(self, came: memoryview) -> tuple[int, bool]:
        """Takes the bytes of one step of the handshake; returns how many it took, and whether a record ended there.

        Raises:
            ssl.SSLError: the handshake is refused; there is an alert to send.
        """
        was_within = self._records.is_within
        size, ended = self._records.advance(came)
        data = bytes(came[:size])
        is_light = not ended or (not was_within and has_no_certificates(data, is_first=not self._handshake_bytes))
        self._feed_handshake(data)
        self._may_take_long = self._reads_certificates and self._handshake_bytes > self._hello and not is_light
        return size, ended

    @property
    def _reads_certificates(self) -> bool:
        return self._asks or self.object.context.verify_mode is not ssl.CERT_NONE

    def advance_handshake(self) -> bool:
        """Continues the handshake; returns whether it is complete.

        Raises:
            ssl.SSLError: it failed; there may be an alert to send.
            UnicodeError: the client's certificate has a name that can't be decoded.
        """
        try:
            self.object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        if not self.is_server and shown_certificates(self.object) > MOST_CERTIFICATES:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, f"the server shows more than {MOST_CERTIFICATES} certificates")
        if self.is_server and self._reads_certificates:
            self.peercert = self.object.getpeercert()
            self.chain = verified_chain(self.object)
        self._context = None
        self._renegotiates = self.object.version() != "TLSv1.3"
        if self._renegotiates and (self._records.after_change or 0) > LARGEST_FINISHED:
            # OpenSSL would answer thousands of requests to renegotiate at once.
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, "something follows the handshake in its last record")
        self.is_open = True
        return True

    def open(self, came: memoryview, clear: memoryview, is_over: Callable[[], bool]) -> Clear:
        """Decrypts up to RECORDS_AT_ONCE records into a buffer that has room for all that came and one record more.

        Stops sooner behind a record without data, once `is_over` says so.
        """
        taken = filled = records = idle = idle_bytes = 0
        is_ended, error = False, None
        try:
            while True:
                taken, ended = self._give_one(came, taken)
                records += ended
                got = self._read_into(clear[filled:])
                filled += got or 0
                is_idle = got is None and ended
                if is_idle:
                    idle, idle_bytes = idle + 1, idle_bytes + self._began
                self._began = 0 if ended else self._began
                is_ended = got == 0
                if is_ended or taken == len(came) or records == RECORDS_AT_ONCE or (is_idle and is_over()):
                    break
        except ssl.SSLZeroReturnError:
            is_ended = True
        except ssl.SSLError as failure:
            error = failure
        return Clear(filled, taken, records, idle, idle_bytes, is_ended, error)

    def open_one(self, record: memoryview) -> bytes:
        """Decrypts one record; returns nothing for the peer's close_notify.

        Raises:
            ssl.SSLWantReadError: it was a message of TLS itself.
            ssl.SSLError: it is not a valid record of the peer's.
        """
        self._incoming.write(record)
        return self.object.read(len(record))

    def seal(self, data: bytes) -> list[bytes]:
        """Encrypts data; returns what is to be sent, in pieces, after what was ready to send before.

        Raises:
            ssl.SSLError: encryption failed.
        """
        if 0 < len(data) <= MAX_RECORD:  # as most answers: one record
            self.object.write(data)  # all of it: a memory buffer is never full
            return [self._outgoing.read()]
        sent, view, sealed = 0, memoryview(data), list[bytes]()
        while sent < len(data):
            sent += self.object.write(view[sent : sent + MAX_RECORD])
            sealed.append(self._outgoing.read())
        return sealed

    def end(self) -> None:
        """Sends close_notify: no more data will be sent."""
        with contextlib.suppress(ssl.SSLError):  # the peer's close_notify has not come; we do not wait for it
            self.object.unwrap()

    def _give_one(self, came: memoryview, place: int) -> tuple[int, bool]:
        """Gives OpenSSL what came from there to the next end of a record: where that is, and whether one ended.

        Raises:
            ssl.SSLError: it begins another handshake.
        """
        records = self._records
        end = records.end_of_whole(came, place)
        ended = end > 0
        if not ended:
            handshakes = records.handshakes
            end, ended = records.advance(came, place)
            if self._renegotiates and records.handshakes != handshakes:
                raise ssl.SSLError(ssl.SSL_ERROR_SSL, "the peer wants to renegotiate")
        self._incoming.write(came[place:end])
        self._began += end - place
        return end, ended

    def _read_into(self, clear: memoryview) -> int | None:
        """Decrypts a record; nothing for close_notify, None if there is none, or none for the protocol above."""
        try:
            return self.object.read(len(clear), clear)  # type: ignore[return-value] # into a buffer: a number
        except ssl.SSLWantReadError:
            return None

    def _feed_handshake(self, data: bytes) -> None:
        self._handshake_bytes += len(data)
        try:
            if self._records.is_foreign:
                raise HelloError("it is in the format of SSL 2")
            if self._handshake_bytes - self._hello > (_MAX_OF_CLIENT if self.is_server else _MAX_OF_SERVER):
                raise HelloError("the handshake is too long")
            if self._gate.is_open:
                self._incoming.write(data)
            else:
                self._hello = self._handshake_bytes
                self._incoming.write(self._gate.take(data))
        except HelloError as error:
            if data[0] != HANDSHAKE and not self._records.is_foreign:
                self._incoming.write(data[:_ENOUGH])
                self.advance_handshake()  # for bytes that are not TLS at all OpenSSL has the better message and alert
            self._alert = _HANDSHAKE_FAILURE
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, f"the ClientHello is refused: {error}") from None
