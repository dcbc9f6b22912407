"""The tables, one schema for both engines. Migrations create them; a test proves that the two agree.

Times are whole seconds since the epoch, spend is in millionths of a currency, `tat` is in microseconds. A window's
`period` is 20261123 for a day and 202611 for a month, in UTC; it leads the key, so that a month is one range. Only
the SHA-256 of a secret is stored.
"""

from enum import IntEnum
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata: Final = MetaData()


class Stage(IntEnum):
    """The stage of a reservation. Those below SETTLED count as in flight, and expire."""

    ADMITTED = 0
    """Its submit holds one of the concurrent slots; no pages yet."""
    RESERVED = 1
    """Its pages are reserved and the end of its body may have been released; no answer yet."""
    ACCEPTED = 2
    """The upstream has answered, or its answer was lost: the slot is free, the pages are still reserved."""
    SETTLED = 3
    """Its cost is known."""
    CHARGED = 4
    """It was not settled in time: charged as reserved. Later facts still correct that."""
    REFUNDED = 5
    """No job came of it."""


class JobState(IntEnum):
    """The state of a job."""

    RUNNING = 0
    COMPLETE = 1
    FAILED = 2
    GONE = 3
    """Expired or deleted: its id has no owner any more."""


class DeliveryState(IntEnum):
    """The state of an outgoing webhook."""

    WAITING = 0
    """Its job still runs."""
    DUE = 1
    """To be sent at `next_at`."""
    DELIVERED = 2
    DEAD = 3
    """Given up; an operator may retry it."""


accounts: Final = Table(
    "accounts",
    metadata,
    Column("account", String(600), primary_key=True),
    Column("tat", BigInteger, nullable=False),
    Column("concurrent", Integer, nullable=False),
    Column("pages_in_flight", BigInteger, nullable=False),
    Column("reset_at", BigInteger, nullable=False),
)

windows: Final = Table(
    "windows",
    metadata,
    Column("period", Integer, primary_key=True),
    Column("account", String(600), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("pages", BigInteger, nullable=False),
    Column("spend", BigInteger, nullable=False),
)

reservations: Final = Table(
    "reservations",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("account", String(600), nullable=False),
    Column("owner", String(600), nullable=False),
    Column("stage", SmallInteger, nullable=False),
    Column("mode", String(16), nullable=False),
    Column("pages", BigInteger, nullable=False),
    Column("price", BigInteger, nullable=False),
    Column("day", Integer, nullable=False),
    Column("month", Integer, nullable=False),
    Column("upstream", String(64), nullable=False),
    Column("request_id", String(256)),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("settled_at", BigInteger),
    Column("given_back", BigInteger),
    UniqueConstraint("upstream", "request_id", name="uq_reservations_request_id"),
)

usage: Final = Table(
    "usage",
    metadata,
    Column("account", String(600), primary_key=True),
    Column("day", Integer, primary_key=True, index=True),
    Column("requests", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("pages", BigInteger, nullable=False),
    Column("refunded", BigInteger, nullable=False),
    Column("spend", BigInteger, nullable=False),
)

# The same by mode, for reports alone; what replicas of earlier versions settle is missing here.
usage_by_mode: Final = Table(
    "usage_by_mode",
    metadata,
    Column("account", String(600), primary_key=True),
    Column("day", Integer, primary_key=True, index=True),
    Column("mode", String(16), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("pages", BigInteger, nullable=False),
    Column("refunded", BigInteger, nullable=False),
    Column("spend", BigInteger, nullable=False),
)

grants: Final = Table(
    "grants",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("account", String(600), nullable=False, index=True),
    Column("pages", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
)

keys: Final = Table(
    "keys",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("profile", String(63), nullable=False),
    Column("owner", String(128), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("networks", Text, nullable=False),
    Column("limits", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("disabled_at", BigInteger),
    Column("revision", BigInteger, nullable=False, index=True),
)

# Accounts of tokens and certificates that an administrator has blocked. A change of these is a change of keys, with
# their next revision.
blocks: Final = Table(
    "blocks",
    metadata,
    Column("account", String(600), primary_key=True),
    Column("created_at", BigInteger, nullable=False),
)

secrets: Final = Table(
    "secrets",
    metadata,
    Column("key_id", String(63), primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("operation", String(128)),
    Column("created_at", BigInteger, nullable=False),
    Column("not_after", BigInteger),
    Column("revoked_at", BigInteger),
    Column("last_used_at", BigInteger),
    UniqueConstraint("key_id", "operation", name="uq_secrets_operation"),
)

# One row each, by name: `keys` counts changes to keys, `beat` is written to test whether writing works, `ledger` is a
# random number that distinguishes this ledger from any other that may replace it.
counters: Final = Table(
    "counters",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

# `untold` is 1 until a gateway has logged a change made by another process, and null for all else.
audit: Final = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False, index=True),
    Column("actor", String(600), nullable=False),
    Column("action", String(32), nullable=False),
    Column("subject", String(600), nullable=False),
    Column("detail", Text, nullable=False),
    Column("untold", SmallInteger),
    Index("ix_audit_action", "action", "id"),
)

# One row for each id that a submit's answer named, from before its client saw it. `path` is the submit's, as it went
# upstream; `check_url` is what the client received. `changed_at`, in milliseconds, is null until a change that other
# replicas must see. `watcher` is the replica that follows the job while it runs. A GONE job has an `expires_at` as
# long as its deletion upstream is due. `known` is all that is known of its end: limits/job_cost.py.
jobs: Final = Table(
    "jobs",
    metadata,
    Column("upstream", String(64), primary_key=True),
    Column("request_id", String(256), primary_key=True),
    Column("reservation", String(64), nullable=False),
    Column("account", String(600), nullable=False),
    Column("owner", String(600), nullable=False),
    Column("shape", String(63), nullable=False),
    Column("path", String(2048), nullable=False),
    Column("check_url", Text),
    Column("state", SmallInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("expires_at", BigInteger),
    Column("changed_at", BigInteger),
    Column("watcher", String(32), nullable=False),
    Column("read_at", BigInteger),
    Column("known", SmallInteger, nullable=False, server_default="0"),
    Index("ix_jobs_owner", "owner", "created_at"),
    Index("ix_jobs_created_at", "created_at"),
)

# The gateway processes that follow jobs: one whose lease has expired is dead, and others take over its jobs.
replicas: Final = Table(
    "replicas",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("alive_until", BigInteger, nullable=False),
)

# Outgoing webhooks, at most one per job. `id` is the message's own, `destination` is host and port. A request id that
# several jobs had, one after the other, has those of all, of which at most the last job's waits.
deliveries: Final = Table(
    "deliveries",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("upstream", String(64), nullable=False),
    Column("request_id", String(256), nullable=False),
    Column("owner", String(600), nullable=False),
    Column("url", Text, nullable=False),
    Column("destination", String(300), nullable=False, index=True),
    Column("check_url", Text),
    Column("state", SmallInteger, nullable=False),
    Column("status", String(16)),
    Column("attempts", Integer, nullable=False),
    Column("next_at", BigInteger),
    Column("leased_by", String(32)),
    Column("last_status", Integer),
    Column("last_error", String(64)),
    Column("created_at", BigInteger, nullable=False, index=True),
    Column("ended_at", BigInteger),
    Index("ix_deliveries_job", "upstream", "request_id"),
)

# Inbound webhooks by receiver name, so that each is forwarded once; inbound_webhooks.py says what `request_id` holds
# beside a job's id, and `handled` beside 0 and 1. `until` is the deadline of the process that is forwarding it, or,
# once it was forwarded, when the row is deleted.
received: Final = Table(
    "received",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("request_id", String(256), primary_key=True),
    Column("handled", SmallInteger, nullable=False),
    Column("until", BigInteger, nullable=False, index=True),
)

# Checkpoints that containers named in answers, by the owner who received them, who may submit one until `expires_at`.
checkpoints: Final = Table(
    "checkpoints",
    metadata,
    Column("upstream", String(64), primary_key=True),
    Column("checkpoint", String(256), primary_key=True),
    Column("owner", String(600), primary_key=True),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

# Requests that were refused or failed, for a day, by the ids that clients got; `requests` is more than 1 for a sum.
refusals: Final = Table(
    "refusals",
    metadata,
    Column("request_id", String(64), primary_key=True),
    Column("at", BigInteger, nullable=False, index=True),
    Column("requests", Integer, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("reason", String(32), nullable=False),
    Column("why", String(16)),
    Column("route", String(64), nullable=False),
    Column("method", String(8), nullable=False),
    Column("key_id", String(600)),
    Column("client", String(64), nullable=False),
    Column("detail", Text),
    Column("title", String(100)),
)
