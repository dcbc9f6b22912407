"""Connects to PostgreSQL, and words its errors, the same way for all callers.

asyncpg reads a whole libpq URL. Of several hosts it would give the first one all of the timeout; here each gets its
share, and the host that answered last is tried first.

A pooler such as PgBouncer lends a server connection for one transaction. So with a pooler, the startup message holds
no setting that it may not know, and no statement is prepared by name: the next transaction uses another connection.
"""

import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit
from weakref import WeakSet

import asyncpg

from gateway.aio.named_files import require_named
from gateway.errors import FileUnusable, LedgerUnavailable
from gateway.ledger.postgres_url import Host, read_postgres_url

_MILLISECONDS: Final = 1000
_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
DEADLINES: Final = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
FAULTS: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg raises of a server that can't be used. Its own kinds of errors have no base in common."""
_WRITABLE: Final = ("read-write", "primary")
_POOLER: Final = "a pooler stands before it: set ledger.pooler"
_WORDS: Final = {
    "InvalidPasswordError": "the password is wrong",
    "InvalidAuthorizationSpecificationError": "this user may not log in, not from here, or not without TLS",
    "InvalidCatalogNameError": "there is no such database",
    "LockNotAvailableError": "it is locked by somebody else",
    "QueryCanceledError": "no answer within ledger.timeout",
    "DiskFullError": "its disk is full",
    "ReadOnlySQLTransactionError": "it is read-only",
    "InsufficientPrivilegeError": "this user may not do that",
    "TooManyConnectionsError": "it has too many connections",
    "InternalClientError": "its connection ended",
    "ConnectionDoesNotExistError": "its connection ended",
    "CannotConnectNowError": "it is starting or stopping",
    "TargetServerAttributeNotMatched": "no host is what target_session_attrs asks for",
    "ClientConfigurationError": "its URL can't be used: a parameter of it has a value that is not known",
    "DuplicatePreparedStatementError": _POOLER,
    "InvalidSQLStatementNameError": _POOLER,
}
_OF_CAS: Final = ("root certificate", "configuration directory")
# PgBouncer has one code for all refusals; its texts are its own, and none of them is shown.
_OF_POOLERS: Final = {
    "unsupported startup parameter": _POOLER,
    "no such database": "there is no such database",
    "authentication failed": "the password is wrong",
    "no such user": "this user may not log in, not from here, or not without TLS",
    "query_wait_timeout": "it has too many connections",
    "no more connections allowed": "it has too many connections",
}


class Connector:
    """Connects to the server that `url` names at the time.

    Each connection must be made within `turn` seconds, None for `timeout`, which is also the server's limit for a
    transaction.
    """

    def __init__(
        self, url: Callable[[], str], timeout: float, turn: float | None = None, *, behind_pooler: bool = False
    ) -> None:
        self._url = url
        self._timeout = timeout
        self._turn = timeout if turn is None else turn
        self._behind_pooler = behind_pooler
        self._answered: Host | None = None
        self._made: WeakSet[asyncpg.Connection] = WeakSet()

    def drop(self) -> None:
        """Drops all remaining connections at once, without a goodbye to the server."""
        for connection in list(self._made):
            if not connection.is_closed():
                connection.terminate()

    def look_for_another(self) -> None:
        """Drops all connections if another host of the URL is wanted: the one in use can't be written any more.

        Where the URL asks for no host that can be written, the next connection would be to the same one.
        """
        asks = dict(parse_qsl(urlsplit(self._url()).query)).get("target_session_attrs") in _WRITABLE
        if asks and len(read_postgres_url(self._url()).hosts) > 1:
            self.drop()

    async def connect(self) -> asyncpg.Connection:
        """Returns a new connection.

        Raises:
            LedgerUnavailable, FAULTS: see `in_words`.
        """
        url = self._url()
        _require_files(url)
        hosts = sorted(read_postgres_url(url).hosts, key=lambda host: host != self._answered)
        if not hosts:
            return await self._connect(url, self._turn)
        failures: list[Exception] = []
        for host in hosts:
            try:
                connection = await self._connect(url, self._turn / len(hosts), host)
            except FAULTS as error:
                failures.append(error)
            else:
                self._answered = host
                return connection
        # A server's own error says more than another host's silence.
        raise next((found for found in failures if not isinstance(found, OSError | TimeoutError)), failures[-1])

    async def _connect(self, url: str, within: float, host: Host | None = None) -> asyncpg.Connection:
        place = {} if host is None else {"host": host.name, "port": host.port}
        kept = {"statement_cache_size": 0} if self._behind_pooler else {}
        told = {"application_name": "document-gateway"}
        if not self._behind_pooler:
            told |= dict.fromkeys(DEADLINES, str(_in_milliseconds(self._timeout)))
        connection = await asyncpg.connect(url, timeout=within, server_settings=told, **place, **kept)
        self._made.add(connection)
        return connection

    @property
    def keeps_statements(self) -> bool:
        """Whether a connection stays the same between statements, so that prepared statements can be kept."""
        return not self._behind_pooler

    @property
    def statements(self) -> dict[str, Any]:
        """How SQLAlchemy prepares statements: by name and cached, or without a name each time."""
        if not self._behind_pooler:
            return {}
        return {"prepared_statement_cache_size": 0, "prepared_statement_name_func": _unnamed}

    @property
    def begin(self) -> str:
        """The statement that begins each transaction; empty where the startup message has set the timeouts."""
        if not self._behind_pooler:
            return ""
        milliseconds = _in_milliseconds(self._timeout)
        return "SELECT " + ", ".join(f"set_config('{name}', '{milliseconds}', true)" for name in DEADLINES)


def _unnamed() -> str:
    return ""


def _in_milliseconds(seconds: float) -> int:
    return max(1, int(seconds * _MILLISECONDS))


def _require_files(url: str) -> None:
    asked = dict(parse_qsl(urlsplit(url).query))
    for name in _FILES:
        try:
            if name in asked:
                require_named(Path(asked[name]))
        except FileUnusable as error:
            raise LedgerUnavailable(f"the file of {name} {error}") from None


def is_read_only(error: BaseException | None) -> bool:
    """Whether the server refused a change because it takes none: it was a primary, and may be a standby now."""
    return error is not None and isinstance(error.__cause__, asyncpg.ReadOnlySQLTransactionError)


def has_waited(error: BaseException | None) -> bool:
    """Whether the server ended a statement because it waited: for a lock, or for too long."""
    cause = None if error is None else error.__cause__
    return isinstance(cause, asyncpg.LockNotAvailableError | asyncpg.QueryCanceledError)


def in_words(error: BaseException | None) -> str:
    """Words for an error, for log and operator; quotes neither the URL nor the server's text."""
    while error is not None and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, LedgerUnavailable):
        return str(error)
    if isinstance(error, OSError):
        return _of_network(error)
    if isinstance(error, asyncpg.ProtocolViolationError):
        said = str(error)
        return next((words for text, words in _OF_POOLERS.items() if text in said), "a pooler refuses it")
    if isinstance(error, asyncpg.exceptions.ClientConfigurationError) and any(text in str(error) for text in _OF_CAS):
        return "its URL can't be used: sslmode=verify-full and verify-ca need sslrootcert"
    name = type(error).__name__
    return _WORDS.get(name, f"PostgreSQL says {name}")


def _of_network(error: OSError) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            words = f"its certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            words = f"TLS with it failed: {error.reason or 'no reason was given'}"
        case socket.gaierror():
            words = "its host has no address"
        case ConnectionError() if "SSL" in str(error):
            words = "it speaks no TLS, which sslmode asks for"
        case TimeoutError():
            words = "no answer within ledger.timeout"
        case _:
            words = "no connection to PostgreSQL"
    return words
