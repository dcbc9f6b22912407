"""Plans a job's webhook when the job is submitted."""

from collections.abc import Callable
from functools import partial
from typing import Final

from gateway.errors import refuse
from gateway.ledger.deliveries import Planned
from gateway.model.reasons import Reason
from gateway.webhooks.egress.destination import Destination, ResolveFor, check
from gateway.webhooks.egress.rules import Rules
from gateway.webhooks.egress.webhook_url import read_url
from gateway.webhooks.outbound.settings import OutboundSettings

_UNSIGNED: Final = "webhook_url: there is no secret to sign webhooks for this account with (webhooks.out)"


class Planning:
    """Plans webhooks. `settings` returns webhooks.out, `wall` is in seconds since the epoch, `new_id` makes ids."""

    def __init__(
        self,
        settings: Callable[[], OutboundSettings],
        resolve: ResolveFor,
        wall: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._resolve = resolve
        self._wall = wall
        self._new_id = new_id
        self._rules: tuple[OutboundSettings, Rules] | None = None

    async def destination(self, url: str | None, owner: str) -> Destination | None:
        """Returns where a job's webhook goes: to the form's URL, else to the default; None: nowhere. Runs in a Drive.

        Raises:
            Refused: field_refused, lookup_unavailable.
        """
        out = self._settings()
        named = (url or "").strip() or None
        if out.secrets_for(owner, self._wall()) is None:
            if named is not None and out.is_on:
                raise refuse(Reason.FIELD_REFUSED, _UNSIGNED)
            return None
        if named is None and out.default_url is not None:
            return Destination(read_url(out.default_url), ())  # checked when sent: not the submitter's fault
        return await check(named, self._rules_of(out), partial(self._resolve, owner))

    def _rules_of(self, out: OutboundSettings) -> Rules:
        """Those of the configuration in force, made once: a thousand networks take 18 ms."""
        if self._rules is None or self._rules[0] is not out:
            self._rules = out, Rules.of(out.allow)
        return self._rules[1]

    def planned(self, where: Destination, job: tuple[str, str], owner: str, check_url: str | None) -> Planned:
        """The webhook of a job, given by upstream and id."""
        return Planned(self._new_id(), *job, owner, where.target.url, where.name, check_url)
