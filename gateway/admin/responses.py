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


class KeyInFull(Key):
    """A key of the ledger, and how its account stands."""

    standing: dict[str, LimitState]
    """Its limits by name; empty when its profile is gone."""
    grants: list[GrantedUntil]
    """Pages on top of its budgets of pages, those that end first before the others."""


class Keys(Answer):
    """Keys of the ledger, by id."""

    keys: list[Key]
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
