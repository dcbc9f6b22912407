"""Whether a running gateway follows what a command changes: one that uses the ledger which the command changes."""

from typing import Final, NamedTuple

from gateway.cli.running_gateway import base_of, waiting
from gateway.config.ledger_url import url_of
from gateway.config.salvage import LEDGER_URL
from gateway.config.settings import Settings
from gateway.ledger.ledger import Ledger
from gateway.ledger.url import shown_url
from gateway.ledger.watchers import has_living

FOLLOWS_SOON: Final = "A running gateway follows within 2 seconds."
ELSEWHERE: Final = f"the running gateway uses another ledger: {LEDGER_URL} waits for a restart"


class Following(NamedTuple):
    """Whether one does, and what has to be said if the one that runs here doesn't."""

    is_followed: bool
    warning: str


async def following(settings: Settings, ledger: Ledger, now: float) -> Following:
    """Looks for heartbeats in the ledger, and asks the admin listener of the configuration what waits for a restart.

    Raises:
        LedgerUnavailable: the ledger does not tell.
    """
    lives = await ledger.read(lambda c: has_living(c, now))
    waits = await waiting(settings)
    if waits is not None and LEDGER_URL in waits:
        return Following(is_followed=False, warning=f"{ELSEWHERE}; nothing it serves changes")
    if waits is None or lives:
        return Following(is_followed=lives, warning="")
    silent = (
        f"the gateway at {base_of(settings)} has sent no heartbeat to the ledger {shown_url(url_of(settings))}: "
        "unless it has just begun, it uses another one, and nothing it serves changes"
    )
    return Following(is_followed=False, warning=silent)
