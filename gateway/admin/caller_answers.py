"""What the admin API says of callers: what they used, what was done, and who was refused. Pure."""

from typing import Any, Literal

from gateway.admin.answer import AmountUsed, Answer, Day, GrantedUntil, LimitState, Moment
from gateway.admin.overview_answers import UpstreamState


class UsageOfDay(Answer):
    """What an account used on one day."""

    account: str
    key: str | None
    """The id of the key that has the account."""
    day: Day
    mode: str | None = None
    """Of which mode, if that was asked for; empty: unknown."""
    requests: int
    failed: int
    pages: int
    refunded: int
    spend: float


class Usage(Answer):
    """Settled usage by day and account."""

    since: Day
    is_complete: bool
    """False: there is more, of which this is the latest."""
    rows: list[UsageOfDay]


class Change(Answer):
    """Who did what, and when: a change, a first read of a job, or requests refused in a minute, as of the last."""

    at: Moment
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]


class Audit(Answer):
    """Records, the newest first."""

    changes: list[Change]
    next: str | None
    """`after` of the next request; null: these were the last."""


class Caller(Answer):
    """A caller by token or certificate, who is known by his account alone."""

    account: str
    """`jwt:<issuer>#<owner>` or `cert:<name>`."""
    method: Literal["jwt", "cert"]
    blocked_at: Moment | None
    """Since when he is blocked."""
    was_seen: bool
    """Whether he was ever seen here: he has an account in the ledger, or this replica saw him since its start."""
    profile: str | None
    """The profile that he had when this replica saw him last; null: not since its start, or it is gone."""
    last_seen_at: Moment | None
    """When this replica saw him last; null: not since its start."""
    client: str | None
    """The address he came from then."""
    requests: int
    """His requests to this replica since its start."""
    refusals: int
    """How many of these were refused."""
    used_today: AmountUsed
    used_this_month: AmountUsed
    concurrent: int
    """His submits that have no answer yet."""
    pages_in_flight: int
    granted: int
    """Pages that grants add to his budgets now."""
    granted_until: Moment | None
    """When the first of his grants ends."""
    granted_last_until: Moment | None
    """When the last of his grants ends; the same if all end at once."""
    standing: dict[str, LimitState]
    """His limits by name; empty when his profile is not known."""


class CallerInFull(Caller):
    """A caller, and his grants."""

    grants: list[GrantedUntil]
    """Pages on top of his budgets of pages, those that end first before the others."""


class Callers(Answer):
    """Callers by token and certificate, by name."""

    callers: list[Caller]
    next: str | None
    """`after` of the next request; null: these were the last."""


class GrantedToCaller(Answer):
    """Pages that were added."""

    account: str
    pages: int
    until: Moment
    budgets: list[str] | None
    """The budgets that it adds to; empty: none of pages, so it changes nothing; null: his profile is not known."""


class GrantsOfCallerEnded(Answer):
    """The grants that ended."""

    account: str
    grants: list[GrantedUntil]
    """With the moment until which each would have been."""


class ForgottenOfCaller(Answer):
    """What the windows that were reset had counted this month."""

    account: str
    requests: int
    pages: int
    spend: float


class Refusal(Answer):
    """One caller refused for one reason, and one `why`, by this replica since its start."""

    who: str
    """An account, of a refused token's owner, too, if its issuer signed it; or a stranger's address."""
    is_stranger: bool
    """Whether he had no credential that is known."""
    reason: str
    why: str | None
    """Why his credential was refused, by a word that he is not told; null: it was not for his credential."""
    count: int
    first_at: Moment
    last_at: Moment
    client: str
    """The address of the last one."""
    route: str
    """Its route, or `unmatched`."""
    detail: str
    """What it was told."""
    audience: str | None
    """The `aud` of a refused token that was not made for this service, shortened; else null."""


class Refusals(Answer):
    """Who was refused how often and why, the latest first."""

    since: Moment
    """Since when they are counted."""
    refusals: list[Refusal]
    is_complete: bool
    """False: there are more than were asked for."""
    forgotten: int
    """Rows that had to give way to others."""


class RefusedRequest(Answer):
    """One request of the last day that was refused or failed, or the sum of several of strangers."""

    request_id: str
    """What the client got as X-Request-ID; a sum's begins with `sum-`."""
    at: Moment
    requests: int
    """More than 1: a sum."""
    status: int
    reason: str
    title: str | None
    """What the client was told as the title; null: the reason is one of another release."""
    why: str | None
    """Why a credential was refused, by a word that the client is not told; null: it was not for a credential."""
    means: str | None
    """What `why` means, or without one what the reason does."""
    source: Literal["client", "gateway", "upstream"]
    """Whom to look at."""
    look_at: str
    """The same as a sentence, and the command that helps or tells more."""
    act: Literal["grant", "enable", "unblock"] | None
    """What an administrator may do about it now: grant pages, enable the key, let the caller in again.

    Null: nothing, or such a request would not be refused for it any more.
    """
    pages_left: int | None
    """Where a budget of pages refused it: what its account has left of its page budgets now, of the smallest.

    Null also where it has none any more, or its profile is not known here.
    """
    container: str | None
    """Of a failure of the container: its name, and where it is now."""
    container_now: UpstreamState | None
    """How that container is now, as the replica that answers has seen it; null: it was not looked at."""
    method: str
    route: str
    key: str | None
    """The key or caller; null: nobody who is known."""
    client: str
    """The address."""
    detail: str | None
    """What it was told."""


class RefusedRequests(Answer):
    """Requests of the last day that were refused or failed, of all replicas, the newest first."""

    refusals: list[RefusedRequest]
    next: str | None
    """`after` of the next request; null: these were the last."""
