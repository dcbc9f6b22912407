"""What the admin API says of jobs and their webhooks, by its fields. Pure."""

from typing import Literal

from gateway.admin.answer import Answer, Moment


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
    """What it says of the job: complete or failed."""
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
