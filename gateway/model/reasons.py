"""The closed vocabulary of refusals, each with its status, its title, and whose fault it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from gateway.model.printable import printable
from gateway.model.statuses import FIRST_ERROR

RETRY_SOON: Final = 5
"""Seconds after which there may be room again, or an answer: the Retry-After of what is short for a moment."""


class Source(StrEnum):
    """Who is to blame for an outcome; it determines the log level and who has to act."""

    CLIENT = "client"
    GATEWAY = "gateway"
    UPSTREAM = "upstream"


class Reason(StrEnum):
    """The closed vocabulary of outcomes, for answers, logs, metrics and tests."""

    FORWARDED = "forwarded"
    ANSWERED = "answered"
    TRAILING_SLASH = "trailing_slash"
    BAD_REQUEST = "bad_request"
    BODY_MALFORMED = "body_malformed"
    BAD_PAGE_RANGE = "bad_page_range"
    UNAUTHENTICATED = "unauthenticated"
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 -- a reason
    TOKEN_INVALID = "token_invalid"  # noqa: S105 -- a reason
    ADDRESS_DENIED = "address_denied"
    FORBIDDEN = "forbidden"
    BUDGET_EXHAUSTED = "budget_exhausted"
    ROUTE_NOT_FOUND = "route_not_found"
    JOB_NOT_FOUND = "job_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    HEAD_TOO_SLOW = "head_too_slow"
    BODY_TOO_SLOW = "body_too_slow"
    BODY_TOO_LARGE = "body_too_large"
    TOO_MANY_PAGES = "too_many_pages"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    EXPECTATION_FAILED = "expectation_failed"
    FIELD_REFUSED = "field_refused"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_REQUESTS_IN_FLIGHT = "too_many_requests_in_flight"
    TOO_MANY_PAGES_IN_FLIGHT = "too_many_pages_in_flight"
    TOO_MANY_BAD_LOGINS = "too_many_bad_logins"
    MISDIRECTED = "misdirected"
    HEADERS_TOO_LARGE = "headers_too_large"
    VERSION_NOT_SUPPORTED = "version_not_supported"
    CLIENT_GONE = "client_gone"
    CLIENT_TOO_SLOW = "client_too_slow"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    UPSTREAM_BROKE_OFF = "upstream_broke_off"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    LEDGER_UNAVAILABLE = "ledger_unavailable"
    SPOOL_FULL = "spool_full"
    NO_ROOM = "no_room"
    LOOKUP_UNAVAILABLE = "lookup_unavailable"
    OUT_OF_FILES = "out_of_files"
    INTERNAL = "internal"

    # Enum's own hash is a Python function, and each request looks up a reason several times.
    __hash__ = str.__hash__


@dataclass(frozen=True, slots=True)
class Verdict:
    """A reason's status, its title, and who is to blame."""

    status: int
    title: str
    source: Source


_CLIENT, _GATEWAY, _UPSTREAM = Source.CLIENT, Source.GATEWAY, Source.UPSTREAM

# The title is also the reason phrase of the status line: short ASCII, since the SDK shows its user nothing else.
VERDICTS: Mapping[Reason, Verdict] = {
    Reason.ANSWERED: Verdict(200, "Answered by the gateway", _GATEWAY),
    Reason.TRAILING_SLASH: Verdict(307, "See the path without the slash", _CLIENT),
    Reason.BAD_REQUEST: Verdict(400, "Malformed request", _CLIENT),
    Reason.BODY_MALFORMED: Verdict(400, "Malformed request body", _CLIENT),
    Reason.BAD_PAGE_RANGE: Verdict(400, "Malformed page range", _CLIENT),
    Reason.UNAUTHENTICATED: Verdict(401, "No valid credential", _CLIENT),
    Reason.TOKEN_EXPIRED: Verdict(401, "Token expired", _CLIENT),
    Reason.TOKEN_INVALID: Verdict(401, "Token not valid here", _CLIENT),
    Reason.ADDRESS_DENIED: Verdict(403, "Address not allowed", _CLIENT),
    Reason.FORBIDDEN: Verdict(403, "Not permitted for this key", _CLIENT),
    Reason.BUDGET_EXHAUSTED: Verdict(403, "Budget used up", _CLIENT),
    Reason.ROUTE_NOT_FOUND: Verdict(404, "No such route", _CLIENT),
    Reason.JOB_NOT_FOUND: Verdict(404, "No such job", _CLIENT),
    Reason.METHOD_NOT_ALLOWED: Verdict(405, "Method not allowed", _CLIENT),
    Reason.HEAD_TOO_SLOW: Verdict(408, "Request head too slow", _CLIENT),
    Reason.BODY_TOO_SLOW: Verdict(408, "Request body too slow", _CLIENT),
    Reason.BODY_TOO_LARGE: Verdict(413, "Request body too large", _CLIENT),
    Reason.TOO_MANY_PAGES: Verdict(413, "Too many pages for one request", _CLIENT),
    Reason.UNSUPPORTED_MEDIA_TYPE: Verdict(415, "Unsupported media type", _CLIENT),
    Reason.EXPECTATION_FAILED: Verdict(417, "Expectation failed", _CLIENT),
    Reason.FIELD_REFUSED: Verdict(422, "Form field refused", _CLIENT),
    Reason.MISDIRECTED: Verdict(421, "Misdirected request", _CLIENT),
    Reason.RATE_LIMITED: Verdict(429, "Too many requests", _CLIENT),
    Reason.TOO_MANY_REQUESTS_IN_FLIGHT: Verdict(429, "Too many requests in flight", _CLIENT),
    Reason.TOO_MANY_PAGES_IN_FLIGHT: Verdict(429, "Too many pages in flight", _CLIENT),
    Reason.TOO_MANY_BAD_LOGINS: Verdict(429, "Too many bad logins", _CLIENT),
    Reason.HEADERS_TOO_LARGE: Verdict(431, "Request headers too large", _CLIENT),
    Reason.CLIENT_GONE: Verdict(499, "Client gone", _CLIENT),
    Reason.CLIENT_TOO_SLOW: Verdict(499, "Client reads too slowly", _CLIENT),
    Reason.INTERNAL: Verdict(500, "Internal error of the gateway", _GATEWAY),
    Reason.UPSTREAM_UNREACHABLE: Verdict(502, "Upstream unreachable", _UPSTREAM),
    Reason.UPSTREAM_BROKE_OFF: Verdict(502, "Upstream broke off", _UPSTREAM),
    Reason.LEDGER_UNAVAILABLE: Verdict(503, "Ledger unavailable", _GATEWAY),
    Reason.SPOOL_FULL: Verdict(503, "No room to count pages", _GATEWAY),
    Reason.NO_ROOM: Verdict(503, "No room for this body", _GATEWAY),
    Reason.LOOKUP_UNAVAILABLE: Verdict(503, "Host lookup unavailable", _GATEWAY),
    Reason.OUT_OF_FILES: Verdict(503, "No file descriptors left", _GATEWAY),
    Reason.UPSTREAM_TIMEOUT: Verdict(504, "Upstream timed out", _UPSTREAM),
    Reason.VERSION_NOT_SUPPORTED: Verdict(505, "HTTP version not supported", _CLIENT),
}


class Why(StrEnum):
    """Why a credential was refused, for log, metric and `gateway explain`: the client gets the reason alone."""

    MALFORMED = "malformed"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    SIGNATURE = "signature"
    UNKNOWN_KEY = "unknown_key"
    ALGORITHM = "algorithm"
    CLAIM = "claim"
    SCOPE = "scope"
    PROFILE = "profile"
    KEYS_NOT_THERE = "keys_not_there"
    NOT_WHOLE = "not_whole"
    REPLACED = "replaced"
    CLOSED = "closed"
    NOT_KNOWN = "not_known"
    MISSING = "missing"
    AMBIGUOUS = "ambiguous"
    NAME = "name"
    BLOCKED = "blocked"

    __hash__ = str.__hash__


class Bearer(NamedTuple):
    """Whose token was refused although its issuer signed it. `owner` is as of a good one, and no caller whom we know.

    `audience` is what its `aud` was, shortened, if it was not made for us.
    """

    owner: str
    audience: str | None = None


@dataclass(frozen=True, slots=True)
class Denial:
    """A refusal as a value: the reason, a sentence for the caller, and the headers that belong to it.

    `retry_after` is in whole seconds; `allow` holds the methods of a 405. `title` replaces the reason's own if it can
    say more ("Page budget used up until 2026-12-01"): short ASCII. `lines` are whole header lines. `why` says more of
    a refused credential to the operator, and nothing to the caller; `bearer` says whose it was.

    Whatever made the detail, it is printable: it goes into an answer, the log and the ledger.
    """

    reason: Reason
    detail: str
    retry_after: int | None = None
    allow: tuple[str, ...] = ()
    title: str | None = None
    lines: tuple[bytes, ...] = ()
    why: Why | None = field(default=None, compare=False)
    bearer: Bearer | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", printable(self.detail))

    @property
    def heading(self) -> str:
        """The title that the caller is told."""
        return self.title or VERDICTS[self.reason].title


def title_of(reason: str, told: str | None) -> str | None:
    """What a caller was told as the title: `told`, or that of the reason; None if it is one of another version."""
    if told is not None or reason not in set(Reason):
        return told
    verdict = VERDICTS.get(Reason(reason))
    return None if verdict is None else verdict.title


_NO_REFUSAL: Final = frozenset({Reason.CLIENT_GONE, Reason.CLIENT_TOO_SLOW, Reason.INTERNAL})
# What the gateway refused; neither the container's failures nor the gateway's own.
REFUSALS: Final = frozenset(
    reason
    for reason, verdict in VERDICTS.items()
    if verdict.status >= FIRST_ERROR and verdict.source is not Source.UPSTREAM and reason not in _NO_REFUSAL
)
