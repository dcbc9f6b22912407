"""A dispatcher with all that it stands on, for the tests of outbound webhooks."""

from pathlib import Path
from typing import Any

from gateway.config.settings.webhooks import WebhooksOut
from gateway.ledger.deliveries import Planned, make_due, plan
from gateway.ledger.ledger import Ledger
from gateway.ledger.listings import shown
from gateway.model.times import Times
from gateway.webhooks.egress.destination import ResolveFor
from gateway.webhooks.egress.resolver import NotFound
from gateway.webhooks.egress.rules import Address
from gateway.webhooks.outbound.dispatcher import Chance, Dispatcher
from tests.support.iteration import iteration_now
from tests.support.ledgers import NOON
from tests.support.pure import ip
from tests.support.waiting import eventually
from tests.webhooks.receivers import HOST

SECRET = "canary-secret-0123456789"
NEXT = "canary-secret-of-tomorrow"
PATH = "/hook?token=canary-token"
ENVIRON = {"S": SECRET, "N": NEXT}


def out(directory: Path, **changes: Any) -> WebhooksOut:
    values = {"secret": {"env": "S"}, "allow": [HOST], "ca": str(directory / "ca.pem"), **changes}
    return WebhooksOut.model_validate(values, context={"environ": ENVIRON})


class Set:
    """A dispatcher with all that it stands on."""

    def __init__(self, ledger: Ledger, directory: Path, me: str = "me") -> None:
        self.ledger = ledger
        self.directory = directory
        self.out = out(directory)
        self.now = NOON
        self.addresses: dict[str, list[str]] = {HOST: ["127.0.0.1"]}
        self.relay = Dispatcher(
            ledger, lambda: self.out, self.resolve, me, iteration_now(),
            Chance(Times(lambda: self.now, lambda: self.now), lambda: 0.5),
        )  # fmt: skip
        self.metrics = self.relay.metrics
        self.instead: ResolveFor | None = None

    @property
    def sending(self) -> int:
        return int(repr(self.relay).removeprefix("<Dispatcher sending=").removesuffix(">"))

    async def resolve(self, owner: str, host: str, port: int) -> list[Address]:
        if self.instead is not None:
            return [*await self.instead(owner, host, port)]
        if host not in self.addresses:
            raise NotFound("there is none")
        return [ip(text) for text in self.addresses[host]]

    async def make_due(self, port: int, name: str = "d1", owner: str = "key:ci", host: str = HOST) -> None:
        wanted = Planned(name, "default", f"job-{name}", owner, f"https://{host}:{port}{PATH}", f"{host}:{port}", "c")
        now = self.now
        await self.ledger.write(lambda c: plan(c, wanted, now))
        await self.ledger.write(lambda c: make_due(c, "default", f"job-{name}", "complete", now))

    async def settle(self) -> None:
        """One turn, and all that it began."""
        await self.relay.turn()
        await self.idle()

    async def idle(self) -> None:
        await eventually(lambda: self.sending == 0)

    async def row(self, name: str = "d1") -> dict[str, Any]:
        found = await self.ledger.read(lambda c: shown(c, name))
        assert found is not None
        return found

    def results(self) -> dict[str, float]:
        results, _ = self.metrics.collect()
        return {sample.labels["result"]: sample.value for sample in results.samples if sample.value}


def states_told(parts: Set) -> dict[str, float]:
    _, gauge = parts.metrics.collect()
    return {sample.labels["state"]: sample.value for sample in gauge.samples}
