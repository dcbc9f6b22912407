"""What to look at when a request was refused or failed, for the reader of the page. Pure."""

from shlex import quote
from typing import Final

from gateway.admin.command_for_refusal import help_by
from gateway.config.settings import Settings
from gateway.ledger.refusals import RefusalRow
from gateway.model.reasons import Reason, Source

_LOOK_AT: Final = {
    Source.CLIENT: "The client: docs/errors.md tells what each reason asks of it, docs/log.md what each `why` means.",
    Source.GATEWAY: "The gateway: its log for this id, and /readyz.",
    Source.UPSTREAM: "The container, or the way to it: its own log, and `gateway check --live`.",
}
_OF_LEDGER: Final = "The ledger: the tile Ledger of Now, the gateway's log, and docs/ledger.md, While it is away."


def where_to_look(row: RefusalRow, source: Source, config: str) -> str:
    """Where the cause is found; `config` is the configuration that commands take."""
    if row.reason == Reason.LEDGER_UNAVAILABLE:
        return _OF_LEDGER
    told = help_by(row.why, row.reason, row.key_id, row.detail) if source == Source.CLIENT else None
    looked = f"{_LOOK_AT[source]} {told}" if told else _LOOK_AT[source]
    return f"{looked} Commands take `--config {quote(config)}`." if "`gateway " in looked else looked


def upstream_of(route: str, settings: Settings) -> str | None:
    """The name of the container that a route leads to; None if there is no such route."""
    return next((found.upstream for found in settings.routes if found.name == route), None)


def container_of(route: str, settings: Settings) -> str | None:
    """The same with where it is now."""
    name = upstream_of(route, settings)
    upstream = settings.upstream if name == "default" else settings.upstreams.get(name or "")
    return None if upstream is None else f"{name} at {upstream.url}"
