"""What may be asked of the admin API about jobs and webhooks: queries, strict and bounded. Pure."""

from typing import Annotated, Final, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from gateway.admin.asked import Query
from gateway.admin.marks import LONGEST, job_mark, webhook_mark
from gateway.ledger.joblist import JobMark, WebhookMark

_WORD: Final = WithJsonSchema({"type": "string", "maxLength": LONGEST})
BehindJob = Annotated[JobMark, PlainValidator(job_mark), _WORD]
BehindWebhook = Annotated[WebhookMark, PlainValidator(webhook_mark), _WORD]
Limit = Annotated[int, Field(ge=1, le=1000)]
OwnerName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,600}$")]
UpstreamName = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,63}$")]


class JobsQuery(Query):
    """Which jobs are listed."""

    owner: OwnerName | None = None
    """Of one owner: `key:acme`, or `acme` for short."""
    state: Literal["running", "complete", "failed", "gone"] | None = None
    """In one state; by default in any but gone."""
    limit: Limit = 100
    """How many at the most."""
    after: BehindJob | None = None
    """`next` of the answer before."""


class JobQuery(Query):
    """Which job is shown."""

    upstream: UpstreamName | None = None
    """Where it runs; needed when two upstreams have jobs of this id."""


class WebhooksQuery(Query):
    """Which webhooks are listed."""

    state: Literal["waiting", "due", "delivered", "dead"] | None = None
    """In one state; in any by default."""
    limit: Limit = 100
    """How many at the most."""
    after: BehindWebhook | None = None
    """`next` of the answer before."""
