"""What the admin API says of this replica: its state, and its last hour. Pure."""

from typing import Literal

from gateway.admin.answer import Answer, Moment


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
    url: str | None
    """Where it is."""
    up: bool
    trouble: str | None
    """What is wrong with it."""
    since: Moment
    """Since when it is up, or down; its first look is that after this replica's start."""
    last_trouble: str | None
    """What was wrong with it last, since this replica's start."""
    last_trouble_at: Moment | None
    """When that was seen last."""


class LedgerState(Answer):
    """The ledger."""

    engine: Literal["sqlite", "postgresql"]
    name: str
    """Its URL without user, password and parameters."""
    up: bool
    """Whether submits can be counted."""
    trouble: str | None


class CertificateState(Answer):
    """One certificate in force."""

    listener: Literal["public", "admin"]
    names: list[str]
    not_after: Moment


class CertificateFile(Answer):
    """One file of certificates or CAs in force."""

    setting: str
    """What names it, such as `tls.client_ca`."""
    file: str
    not_after: Moment
    """When the first certificate in it ends."""


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
    source: str
    """Where they are: a URL, a file, the discovery document, or `a shared secret`."""
    trouble: str | None
    """Why the last fetch failed; null: it did not, or they are never fetched."""
    next_fetch_at: Moment | None
    """When they are fetched again; null: they are never fetched."""


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
    is_counted: bool
    """False: jobs and webhooks were not counted yet since the start, so both are 0."""
    polls_held: int
    """Polls that wait for the end of their job."""
    webhooks: dict[str, int]
    """Webhooks that are not delivered, by state; likewise."""


class NearLimit(Answer):
    """An account, and one limit of which it has used 80 percent or more."""

    account: str
    key: str | None
    """The id of the key that has the account."""
    profile: str
    name: str
    """Of the limit, as in the configuration."""
    used: int | float
    limit: int | float
    """With what grants add to it."""
    share: float
    """Used of the limit: 1 is all, and more than 1 after it was lowered."""
    resets_at: Moment | None
    """When it resets; null: it has no window."""


class NearLimits(Answer):
    """Who is near a limit, the nearest first."""

    near: list[NearLimit]
    total: int
    """How many there are, also beyond those that were asked for."""
    unknown: int
    """Accounts whose profile is not known: a caller that this replica has not seen yet, or a key that is gone."""
    is_complete: bool
    """False: more accounts were in use than are looked at."""


class Overview(Answer):
    """The state of this replica."""

    at: Moment
    version: str
    started_at: Moment
    status: Literal["ready", "not ready", "draining"]
    missing: list[str]
    """What is missing to be ready, as in /readyz."""
    issuers_without_keys: list[str]
    """Their tokens are refused; as in /readyz."""
    upstreams: list[UpstreamState]
    """Empty: nothing was looked at yet."""
    ledger: LedgerState
    certificates: list[CertificateState]
    certificate_files: list[CertificateFile]
    issuers: list[IssuerState]
    configuration: ConfigurationState
    standing: Standing
