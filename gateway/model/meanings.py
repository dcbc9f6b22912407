"""What each `why` of a refused credential means, in the words of docs/log.md, and what each reason does. Pure."""

from collections.abc import Mapping
from typing import Final

from gateway.model.reasons import Reason, Why

MEANINGS: Final[Mapping[Why, str]] = {
    Why.MALFORMED: "It is not a signed JWT in canonical form, or is larger than 8 KB.",
    Why.ISSUER: "Its iss matches no issuer in authentication.jwt, byte for byte.",
    Why.ALGORITHM: "Its alg is not among the issuer's algorithms.",
    Why.KEYS_NOT_THERE: "The issuer's keys were never fetched, or were dropped: see gateway_jwks_keys.",
    Why.UNKNOWN_KEY: "The issuer has no key of its kid for its alg, as its keys were last read.",
    Why.SIGNATURE: "The key did not make its signature.",
    Why.AUDIENCE: "Its aud matches none of the issuer's audiences.",
    Why.CLAIM: (
        "A claim is missing, of the wrong form, or not as required_claims wants: owner_claim, exp, nbf, iat, scopes."
    ),
    Why.NOT_YET_VALID: "Its nbf or iat is in the future: look at the clocks.",
    Why.EXPIRED: "It has expired.",
    Why.SCOPE: "It lacks one of required_scopes (403).",
    Why.PROFILE: "It names a profile that does not exist (403).",
    Why.MISSING: "tls.client_certificates is required, and the connection has none.",
    Why.AMBIGUOUS: "It has several names of the kind that identity takes.",
    Why.NAME: "Its name is not listed in names.",
    Why.BLOCKED: "An administrator has blocked its owner: see /admin/v1/callers (403).",
    Why.NOT_WHOLE: "Its checksum does not fit: it was cut off.",
    Why.CLOSED: "It is revoked or disabled, or its profile is gone.",
    Why.REPLACED: (
        "The key is valid, but this secret was rotated out and its overlap is over: use the newer secret."
    ),
    Why.NOT_KNOWN: "The key does not exist, or no longer exists.",
}


OF_REASONS: Final[Mapping[Reason, str]] = {
    Reason.FORWARDED: "The container itself answered so; the gateway passed that on and keeps none of its words.",
    Reason.BAD_REQUEST: "The head is malformed or ambiguous: the detail says in what.",
    Reason.BODY_MALFORMED: "The body or its form is broken, ends early, or is no JSON that is taken.",
    Reason.BAD_PAGE_RANGE: "page_range or max_pages of the form can't be read.",
    Reason.UNAUTHENTICATED: "There was no credential, or none that is valid here.",
    Reason.TOKEN_EXPIRED: "The token is good but for its age.",
    Reason.TOKEN_INVALID: "The token is not one that this gateway takes.",
    Reason.ADDRESS_DENIED: "The client's address is not allowed for the gateway, the route, the key or its profile.",
    Reason.FORBIDDEN: "The caller is known, and may not use this route, or is blocked.",
    Reason.BUDGET_EXHAUSTED: (
        "A budget of the account is used up, or what is left of it is too small for this job: the detail names it."
    ),
    Reason.ROUTE_NOT_FOUND: "No route has this path and Host.",
    Reason.JOB_NOT_FOUND: "The caller has no such job: it is another's, was deleted, or its time is over.",
    Reason.METHOD_NOT_ALLOWED: "The path has routes, but none for this method.",
    Reason.HEAD_TOO_SLOW: "The head did not end within listen.head_timeout.",
    Reason.BODY_TOO_SLOW: "The body fell silent, or came more slowly than listen.body_min_rate.",
    Reason.BODY_TOO_LARGE: "The body, or a field of its form, is larger than a limit: the detail names it.",
    Reason.TOO_MANY_PAGES: "The job may cost more pages than pages_per_request.",
    Reason.UNSUPPORTED_MEDIA_TYPE: "The submit is no unambiguous form.",
    Reason.EXPECTATION_FAILED: "Expect says something other than 100-continue.",
    Reason.FIELD_REFUSED: "The form has a field that is refused here, or lacks a page_range: the detail says which.",
    Reason.RATE_LIMITED: "More requests a minute than a limit allows: the detail names it.",
    Reason.TOO_MANY_REQUESTS_IN_FLIGHT: "As many requests as a limit allows have no answer yet: the detail names it.",
    Reason.TOO_MANY_PAGES_IN_FLIGHT: "Jobs that are not settled yet have as many pages as pages_in_flight allows.",
    Reason.TOO_MANY_BAD_LOGINS: "Too many credentials from this address failed within a minute.",
    Reason.MISDIRECTED: "The Host is not a name of this service: see public_url.",
    Reason.HEADERS_TOO_LARGE: "The head is larger than any that is taken.",
    Reason.VERSION_NOT_SUPPORTED: "The request speaks another HTTP than 1.0 and 1.1.",
    Reason.CLIENT_GONE: "The client closed before its answer was whole.",
    Reason.CLIENT_TOO_SLOW: "The client took too little of its answer for too long.",
    Reason.UPSTREAM_UNREACHABLE: (
        "No connection came about within upstream.connect_timeout: what was called is not there, or not trusted."
    ),
    Reason.UPSTREAM_BROKE_OFF: (
        "The container ended the connection, or sent what can't be read, before its answer was whole."
    ),
    Reason.UPSTREAM_TIMEOUT: "The container did not answer within upstream.read_timeout, or fell silent for as long.",
    Reason.LEDGER_UNAVAILABLE: "The ledger did not answer within ledger.timeout, or can't be written.",
    Reason.SPOOL_FULL: "There was no room, or no time, to count the document's pages.",
    Reason.NO_ROOM: "There was no room for a body that nobody has vouched for, or no slot to ask the container.",
    Reason.LOOKUP_UNAVAILABLE: "The host of a webhook_url could not be looked up in time.",
    Reason.OUT_OF_FILES: "The gateway had no file descriptor left.",
    Reason.INTERNAL: "A fault of the gateway: its log has an event `internal error` with the place.",
}


def meaning_of(why: str | None, reason: str | None = None) -> str | None:
    """What a word means, or without one what the reason does; None for those that are not of this version."""
    if why in set(Why):
        return MEANINGS[Why(why)]
    return OF_REASONS.get(Reason(reason)) if why is None and reason in set(Reason) else None
