"""How commands and the admin API both show jobs and webhooks: plain values, never any part of a result. Pure.

Of URLs they show little, since the rest may be a secret: the path of a client's poll URL, a webhook's host and port.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.ledger.schema import DeliveryState, JobState, Stage
from gateway.model.account_names import key_id_of
from gateway.units import maybe_moment, moment

_PAGES: Final = {Stage.SETTLED: "settled", Stage.CHARGED: "charged", Stage.REFUNDED: "refunded"}


def job_facts(row: Any) -> dict[str, Any]:
    """All that is shown of a row of ledger.listings."""
    state = JobState(row.state)
    return {
        "request_id": row.request_id,
        "upstream": row.upstream,
        "owner": row.owner,
        "account": row.account,
        "key": key_id_of(row.account),
        "state": state.name.lower(),
        "created_at": moment(row.created_at),
        "ended_at": maybe_moment(row.ended_at),
        # For a deleted job, the column holds when the upstream is next asked to delete it.
        "expires_at": None if state == JobState.GONE else maybe_moment(row.expires_at),
        "pages": row.pages,
        "pages_are": None if row.stage is None else _PAGES.get(Stage(row.stage), "reserved"),
        "check_path": _path_of(row.check_url),
        "webhook": _webhook_of(row),
    }


def webhook_facts(row: Mapping[str, Any]) -> dict[str, Any]:
    """All that is shown of a row of the deliveries table."""
    names = ("owner", "upstream", "request_id", "destination", "status", "attempts", "last_status")
    return {
        "id": row["id"],
        "state": DeliveryState(row["state"]).name.lower(),
        **{name: row[name] for name in names},
        "trouble": row["last_error"],
        "created_at": moment(row["created_at"]),
        "next_at": maybe_moment(row["next_at"]),
        "ended_at": maybe_moment(row["ended_at"]),
    }


def _webhook_of(row: Any) -> dict[str, Any] | None:
    if row.webhook is None:
        return None
    return {
        "id": row.webhook,
        "state": DeliveryState(row.webhook_state).name.lower(),
        "destination": row.destination,
        "attempts": row.attempts,
    }


def _path_of(url: str | None) -> str | None:
    try:
        return urlsplit(url).path or None if url else None
    except ValueError:
        return None
