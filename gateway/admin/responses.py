"""What the admin API answers, by its fields: none has room for a digest. Pure."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, WithJsonSchema

Moment = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
Day = Annotated[str, WithJsonSchema({"type": "string", "format": "date"})]


class Answer(BaseModel):
    """What all answers have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Document(RootModel[dict[str, Any]]):
    """The OpenAPI document."""


class Generation(Answer):
    """One secret of a key."""

    generation: int
    state: Literal["live", "ended", "revoked"]
    """Of the secret alone: its key may be disabled."""
    created_at: Moment
    live_until: Moment | None
    """When it ends, by a rotation or with its key."""
    revoked_at: Moment | None
    last_used_at: Moment | None
    """When it was last used, some seconds late."""


class Key(Answer):
    """A key of the ledger."""

    id: str
    state: Literal["live", "disabled", "expired", "without a secret", "without a profile", "in the file, too"]
    profile: str
    owner: str
    scopes: list[str]
    networks: list[str]
    limits: dict[str, int | float | str | None]
    """What differs from its profile, as it may be sent again (LimitOverrides)."""
    created_at: Moment
    expires_at: Moment | None
    disabled_at: Moment | None
    generations: list[Generation]


class LimitState(Answer):
    """One limit of an account, and how much of it is used; null: it is not counted, or has no window."""

    limit: int | float
    used: int | float | None = None
    remaining: int | float | None = None
    resets_at: Moment | None = None
    soft_limit_crossed: bool = False


class GrantedUntil(Answer):
    """Pages that the budgets have on top, and until when."""

    pages: int
    until: Moment


class ListedKey(Key):
    """A key in a list."""

    standing: dict[str, LimitState] | None = None
    """Its limits by name, if that was asked for; empty when its profile is gone."""


class ConfiguredKey(Answer):
    """A key of the configuration: it is changed there, and may have grants and resets."""

    id: str
    state: Literal["live", "disabled", "expired"]
    profile: str
    owner: str
    scopes: list[str]
    networks: list[str]
    expires_at: Moment | None
    last_seen_at: Moment | None
    """When this replica saw it last; null: not since its start."""
    standing: dict[str, LimitState]
    """Its limits by name; empty when it is disabled."""


class ConfiguredKeys(Answer):
    """Keys of the configuration, in its order."""

    keys: list[ConfiguredKey]


class KeyInFull(Key):
    """A key of the ledger, and how its account stands."""

    standing: dict[str, LimitState]
    """Its limits by name; empty when its profile is gone."""
    grants: list[GrantedUntil]
    """Pages on top of its budgets of pages, those that end first before the others."""


class Keys(Answer):
    """Keys of the ledger, by id."""

    keys: list[ListedKey]
    next: str | None
    """`after` of the next request; null: these were the last."""


class NewSecret(Answer):
    """A secret that was made."""

    id: str
    generation: int
    secret: str | None = Field(repr=False)
    """The secret itself, this once; null: the operation had been done before, and nobody knows it any more."""
    previous_ends_at: Moment | None
    """When the secret before it ends."""


class Revoked(Answer):
    """The secrets that ended."""

    id: str
    generations: list[int]


class Granted(Answer):
    """Pages that were added."""

    id: str
    pages: int
    until: Moment


class Forgotten(Answer):
    """What the windows that begin anew had counted this month."""

    id: str
    requests: int
    pages: int
    spend: float


class WebhookOfJob(Answer):
    """How far the webhook of a job has come."""

    id: str
    state: Literal["waiting", "due", "delivered", "dead"]
    destination: str
    """Host and port; the rest of its URL may be a secret."""
    attempts: int


class Job(Answer):
    """A job, without anything of what was sent or of its result."""

    request_id: str
    upstream: str
    owner: str
    account: str
    key: str | None
    """The id of the key that has the account."""
    state: Literal["running", "complete", "failed", "gone"]
    """`gone`: expired or deleted; only this record of it is left."""
    created_at: Moment
    ended_at: Moment | None
    """When its end was seen; of one that was deleted while it ran, when that was."""
    expires_at: Moment | None
    """When it will be gone; null while it runs, and when it is."""
    pages: int | None
    """Its pages; `pages_are` says what of."""
    pages_are: Literal["reserved", "settled", "charged", "refunded"] | None
    """`charged`: as reserved, for nobody settled it in time; null: that record is gone."""
    check_path: str | None
    """The path of the URL that its client polls."""
    webhook: WebhookOfJob | None


class Jobs(Answer):
    """Jobs, the newest first."""

    jobs: list[Job]
    next: str | None
    """`after` of the next request; null: these were the last."""


class Webhook(Answer):
    """A webhook that goes out, without the path and query of its URL."""

    id: str
    """Its `webhook-id`, the same in each attempt."""
    state: Literal["waiting", "due", "delivered", "dead"]
    """`waiting` for the end of its job; `dead`: given up."""
    owner: str
    upstream: str
    request_id: str
    destination: str
    """Host and port."""
    status: str | None
    """What it tells of the job: complete or failed."""
    attempts: int
    last_status: int | None
    """What the receiver answered last."""
    trouble: str | None
    """A word for what went wrong last."""
    created_at: Moment
    next_at: Moment | None
    """When it is sent next; while it is being sent, when that must be over."""
    ended_at: Moment | None
    """When its job ended, or it was retried; in the end, when it was delivered or given up."""


class Webhooks(Answer):
    """Webhooks, the newest first."""

    webhooks: list[Webhook]
    next: str | None
    """`after` of the next request; null: these were the last."""


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
    """Who did what, and when: a change, a first read of a job, requests refused in a minute; never a secret."""

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


class AmountUsed(Answer):
    """What was used in a window."""

    requests: int
    pages: int
    spend: float


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


class ForgottenOfCaller(Answer):
    """What the windows that begin anew had counted this month."""

    account: str
    requests: int
    pages: int
    spend: float


class Refusal(Answer):
    """One caller refused for one reason, and one `why`, by this replica since its start."""

    who: str
    """An account, or a stranger's address."""
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


class Refusals(Answer):
    """Who was refused how often and why, the latest first."""

    since: Moment
    """Since when they are counted."""
    refusals: list[Refusal]
    is_complete: bool
    """False: there are more than were asked for."""
    forgotten: int
    """Rows that had to give way to others."""


class HistoryPoint(Answer):
    """Some seconds: rates a second, durations in seconds, null where there was no request; the rest as it stood."""

    at: Moment
    """Their end."""
    requests: float
    errors: dict[str, float]
    """By reason; bad answers of the container as `forwarded_4xx` and `forwarded_5xx`."""
    p50: float | None
    p95: float | None
    pages_per_minute: float
    in_flight: int
    uploads: int
    connections: int
    jobs_running: int
    polls_held: int
    upstreams_up: bool
    ledger_up: bool


class History(Answer):
    """The last hour of this replica, the oldest first."""

    seconds: float
    """What lies between two points."""
    points: list[HistoryPoint]


class UpstreamState(Answer):
    """One upstream, at the last look."""

    name: str
    up: bool
    trouble: str | None
    """What is wrong with it."""


class LedgerState(Answer):
    """The ledger."""

    engine: Literal["sqlite", "postgresql"]
    up: bool
    """Whether submits can be counted."""
    trouble: str | None


class CertificateState(Answer):
    """One certificate in force."""

    listener: Literal["public", "admin"]
    names: list[str]
    not_after: Moment


class IssuerState(Answer):
    """One issuer of tokens, and its keys."""

    issuer: str
    keys: int | None
    """How many; null: none are there yet, and its tokens are refused."""
    fetched_at: Moment | None
    """Null: they are of a file, or never came."""
    failures: int
    """Fetches that failed since."""
    dropped_at: Moment | None
    """When they are dropped unless a fetch succeeds; null while fetches do."""


class ConfigurationState(Answer):
    """The configuration in force."""

    file: str
    loaded_at: Moment
    """When what is in force was loaded."""
    is_latest: bool
    """False: what the file says now was refused."""
    faults: list[str]
    """Why."""
    waits_for_restart: list[str]
    """Settings that differ from what the file says until the next start."""
    profiles: list[str]
    keys: int
    """Keys that are in the file."""
    routes: int


class Standing(Answer):
    """What stands at this moment."""

    requests_in_flight: int
    connections: int
    uploads: int
    """Submits that have no answer yet."""
    spool_used_bytes: int
    spool_limit_bytes: int
    jobs: dict[str, int]
    """Jobs that can be read, by state; of all replicas, as of some seconds ago."""
    polls_held: int
    """Polls that wait for the end of their job."""
    webhooks: dict[str, int]
    """Webhooks that are not delivered, by state; likewise."""


class Overview(Answer):
    """How this replica stands."""

    at: Moment
    version: str
    started_at: Moment
    status: Literal["ready", "not ready", "draining"]
    missing: list[str]
    """What is missing to be ready, as in /readyz."""
    upstreams: list[UpstreamState]
    """Empty: nothing was looked at yet."""
    ledger: LedgerState
    certificates: list[CertificateState]
    issuers: list[IssuerState]
    configuration: ConfigurationState
    standing: Standing
