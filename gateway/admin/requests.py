"""What may be asked of the admin API: bodies and queries, strict and bounded. Pure."""

from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from gateway.admin.cursors import MAX_LENGTH, audit_mark, job_mark, refusal_mark, webhook_mark
from gateway.config.settings import LimitOverrides
from gateway.config.settings.access import KeyId, Owner, Scope
from gateway.config.settings.fields import CIDR, DURATION_SCHEMA, Name, default
from gateway.keys.validation import DEFAULT
from gateway.ledger.audit import AuditMark
from gateway.ledger.listings import JobMark, WebhookMark
from gateway.ledger.refusals import RefusalMark
from gateway.model import patterns
from gateway.units import DAY, MOST_COUNTED, seconds

_YEAR: Final = 366
MOST_OF_TOKEN: Final = 16 * 1024  # characters: twice what is judged


def _limit_changes(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Limits as they are written; `default` gives the profile's back."""
    if not isinstance(value, dict):
        return check(value)
    back = {
        name: DEFAULT for name, given in value.items() if given == DEFAULT and name in LimitOverrides.model_fields
    }
    return as_written(check({name: given for name, given in value.items() if name not in back})) | back


class _OrDefault:
    """Says in the JSON schema of limits that each may be `default`, too."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found = handler.resolve_ref_schema(handler(schema))
        either = {name: {"anyOf": [known, {"const": DEFAULT}]} for name, known in found["properties"].items()}
        return {"type": "object", "additionalProperties": False, "properties": either}


def _at_most_a_year(value: float) -> float:
    if value > _YEAR * DAY:
        raise ValueError(f"is more than {_YEAR}d")
    return value


_WORD: Final = WithJsonSchema({"type": "string", "maxLength": MAX_LENGTH})
BehindJob = Annotated[JobMark, PlainValidator(job_mark), _WORD]
BehindRecord = Annotated[AuditMark, PlainValidator(audit_mark), _WORD]
BehindRefusal = Annotated[RefusalMark, PlainValidator(refusal_mark), _WORD]
BehindWebhook = Annotated[WebhookMark, PlainValidator(webhook_mark), _WORD]
Span = Annotated[float, BeforeValidator(seconds), AfterValidator(_at_most_a_year), WithJsonSchema(DURATION_SCHEMA)]
# Its values are mappings as _limit_changes makes them; the type named here is the one in the schema.
LimitChanges = Annotated[LimitOverrides, _OrDefault(), WrapValidator(_limit_changes)]
ProfileName = Name
OperationId = Annotated[str, Field(pattern=patterns.OPERATION)]
Scopes = Annotated[list[Scope], Field(max_length=64)]
CIDRs = Annotated[list[CIDR], Field(max_length=256)]


def _absent() -> Any:
    """What may be left out, and can't be null: model_fields_set tells whether it was there."""
    return Field(default=None, json_schema_extra=_without_default)


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]


class Body(BaseModel):
    """What all bodies have in common."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Query(BaseModel):
    """What all queries have in common: they are texts, so numbers are read from texts."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)


class NewKey(Body):
    """A key to be made."""

    id: KeyId
    """What metrics, logs and reports call it; it never changes."""
    profile: ProfileName = "default"
    """The profile whose limits it has."""
    owner: Owner | None = None
    """Whom its jobs belong to; null: its own id."""
    scopes: Scopes = []
    """`admin` opens the routes with access: admin."""
    networks: CIDRs = []
    """Networks it may be used from, within network.allow; empty: all of these."""
    limits: LimitOverrides = LimitOverrides()
    """Limits that differ from its profile's."""
    expires_at: AwareDatetime | None = None
    """When it ends; null: never."""


class KeyChange(Body):
    """What is to be changed of a key; what is left out stays."""

    profile: ProfileName = _absent()
    """The profile whose limits it has."""
    owner: Owner | None = None
    """Whom its jobs belong to from now on; null: its own id."""
    scopes: Scopes = _absent()
    """All of its scopes."""
    networks: CIDRs = _absent()
    """All networks that it may be used from."""
    limits: LimitChanges = _absent()
    """Limits that are to differ from its profile's; those that are not named stay."""
    expires_at: AwareDatetime | None = None
    """When it ends; null: never."""
    disabled: bool = _absent()
    """Whether it is refused for now."""

    @model_validator(mode="after")
    def _changes_something(self) -> "KeyChange":
        if not self.model_fields_set:
            raise ValueError("names nothing to change")
        return self


class Rotation(Body):
    """How a key gets another secret."""

    overlap: Span = Field(default="24h", validate_default=True)
    """How long the secret before it lasts."""
    operation: OperationId | None = None
    """A name of this rotation: under the same name it is done once. The header Idempotency-Key says the same."""


class Revocation(Body):
    """Which secret is to end."""

    generation: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """The number of the secret; null: all."""
    force: bool = False
    """Whether the last live one may end, too."""


class Grant(Body):
    """Pages on top of a key's budgets of pages."""

    pages: Annotated[int, Field(ge=1, le=MOST_COUNTED)]
    """How many, a day and a month."""
    until: AwareDatetime
    """When they are gone."""


class GrantEnd(Body):
    """Which grant is to end now."""

    grant: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """Its `id`; null: all that there are now."""


class ShownToken(Body):
    """A token to be judged."""

    token: Annotated[str, Field(min_length=1, max_length=MOST_OF_TOKEN)] = Field(repr=False)
    """As its bearer sends it, without `Bearer`; it is neither kept nor logged."""


class Nothing(Body):
    """An empty object."""


SearchText = Annotated[str, Field(min_length=1, max_length=200)]


class KeysQuery(Query):
    """Which keys are listed."""

    q: SearchText | None = None
    """Those that have this text in their id, owner or profile, in upper or lower case."""
    standing: bool = False
    """Whether to give each with its account's usage."""
    near: bool = False
    """Only those that have used 80 percent or more of a limit; the thousand nearest."""

    after: KeyId | None = None
    """The id after which the list begins: `next` of the answer before."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 1000
    """How many at the most."""


class UsageQuery(Query):
    """Which usage is reported."""

    key: KeyId | None = None
    """Of one key; of all accounts by default."""
    by_mode: bool = False
    """Whether rows are split by mode."""
    since: Span = default("30d")
    """How far back, in whole days of UTC."""


ActionName = Annotated[str, Field(pattern=r"^[a-z_]{1,63}\.[a-z_-]{0,63}$")]


class AuditQuery(Query):
    """Which records are reported."""

    key: KeyId | None = None
    """What concerns one key: its changes, its first reads of jobs, its refusals; all by default."""
    since: Span | None = None
    """How far back; to the first one by default."""
    q: SearchText | None = None
    """Those that have this text in their actor, action, subject or detail, in upper or lower case."""
    action: ActionName | None = None
    """Those of one action, such as `key.grant`, or of all of a kind, such as `key.`."""
    changes: bool = False
    """Only what somebody changed: without first reads of jobs and refused requests."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    """How many at the most, the newest first."""
    after: BehindRecord | None = None
    """`next` of the answer before."""


def as_written(limits: LimitOverrides) -> dict[str, Any]:
    """Limits as the configuration writes them, with the unit of a size."""
    given = limits.given()
    if "body_limit" in given:
        given["body_limit"] = f"{given['body_limit']}B"
    return given


PageSize = Annotated[int, Field(ge=1, le=1000)]
OwnerName = Annotated[str, Field(pattern=patterns.ANY_OWNER)]
UpstreamName = Name


class JobsQuery(Query):
    """Which jobs are listed."""

    q: SearchText | None = None
    """Those that have this text in their id, owner or upstream, in upper or lower case."""

    owner: OwnerName | None = None
    """Of one owner: `key:acme`, or `acme` for short."""
    state: Literal["running", "complete", "failed", "gone"] | None = None
    """In one state; by default in any but gone."""
    limit: PageSize = 100
    """How many at the most."""
    after: BehindJob | None = None
    """`next` of the answer before."""


class JobQuery(Query):
    """Which job is shown."""

    upstream: UpstreamName | None = None
    """Where it runs; needed when two upstreams have jobs of this id."""


class WebhooksQuery(Query):
    """Which webhooks are listed."""

    q: SearchText | None = None
    """Those that have this text in their id, job, owner or destination, in upper or lower case."""

    state: Literal["waiting", "due", "delivered", "dead"] | None = None
    """In one state; in any by default."""
    limit: PageSize = 100
    """How many at the most."""
    after: BehindWebhook | None = None
    """`next` of the answer before."""


class CallersQuery(Query):
    """Which callers by token and certificate are listed."""

    q: SearchText | None = None
    """Those that have this text in their name, in upper or lower case."""
    blocked: bool = False
    """Only those that are blocked."""
    near: bool = False
    """Only those that have used 80 percent or more of a limit; the thousand nearest."""
    limit: PageSize = 100
    """How many at the most."""
    after: OwnerName | None = None
    """The caller after whom the list begins: `next` of the answer before."""


class RefusalsQuery(Query):
    """Which refusals are listed."""

    q: SearchText | None = None
    """Those that have this text in who was refused, in the reason, its sentence, the route or the address."""
    limit: PageSize = 500
    """How many at the most, the latest first."""


class RefusedQuery(Query):
    """Which refused and failed requests are listed."""

    q: SearchText | None = None
    """Those that have this text in their id, caller, address, route, method, status, reason, `why` or detail."""
    failed: bool = False
    """Only those that failed with a 5xx."""
    limit: PageSize = 100
    """How many at the most, the latest first."""
    after: BehindRefusal | None = None
    """`next` of the answer before."""


class NearQuery(Query):
    """How many of those that are near a limit are listed."""

    limit: PageSize = 20
    """How many at the most, the nearest first."""


class HistoryQuery(Query):
    """How much of the last hour is returned."""

    since: Span = default("1h")
    """How far back."""
