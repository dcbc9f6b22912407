"""Where a job's webhook goes is decided when the job is submitted: by the form, else by the default, or nowhere."""

from collections.abc import Sequence
from typing import Any

import pytest

from gateway.config.settings.webhooks import WebhooksOut
from gateway.ledger.deliveries import Planned
from gateway.model.reasons import Reason
from gateway.webhooks.egress.destination import Destination
from gateway.webhooks.egress.resolver import NotFound
from gateway.webhooks.egress.rules import Address
from gateway.webhooks.outbound.planning import Planning
from tests.support.pure import at_once, denial_of, ip

NOW = 1_795_435_200.0
ANN, BOB = "key:ann", "key:bob"
SECRET = {"env": "S"}
OUTER = "203.0.113.7"


class Planner:
    """Planning with settings that tests replace, and a name service of one table."""

    def __init__(self, **settings: Any) -> None:
        self.out = settings_of(**settings)
        self.addresses = {"hooks.test": [OUTER], "default.test": [OUTER]}
        self.asked: list[tuple[str, str, int]] = []
        self.planning = Planning(lambda: self.out, self._resolve, lambda: NOW, lambda: "w1")

    async def _resolve(self, owner: str, host: str, port: int) -> Sequence[Address]:
        self.asked.append((owner, host, port))
        if host not in self.addresses:
            raise NotFound
        return [ip(text) for text in self.addresses[host]]

    def destination(self, url: str | None, owner: str = ANN) -> str | None:
        found: Destination | None = at_once(self.planning.destination(url, owner))
        return None if found is None else found.name

    def refusal(self, url: str, owner: str = ANN) -> Reason:
        return denial_of(self.destination, url, owner).reason


def settings_of(**changes: Any) -> WebhooksOut:
    values = {"allow": ["hooks.test", "lost.test", "default.test"], **changes}
    return WebhooksOut.model_validate(values, context={"environ": {"S": "x" * 32}})


ON: dict[str, Any] = {"secret": SECRET}
DEFAULT: dict[str, Any] = {**ON, "default_url": "https://default.test/in"}


@pytest.mark.parametrize("url", [None, "", "  ", "\t\n"])
def test_who_names_no_url_gets_the_default_or_none(url: str | None) -> None:
    assert Planner(**ON).destination(url) is None
    planner = Planner(**DEFAULT)
    assert planner.destination(url) == "default.test:443"
    assert planner.asked == []  # it is looked at when it is sent: it is no fault of who submits


def test_the_form_s_url_goes_before_the_default_and_is_looked_up_for_its_owner() -> None:
    planner = Planner(**DEFAULT)
    assert planner.destination(" https://hooks.test:8443/in ", BOB) == "hooks.test:8443"
    assert planner.asked == [(BOB, "hooks.test", 8443)]


@pytest.mark.parametrize(
    "url",
    [
        "https://other.test/in",
        "https://lost.test/in",
        "http://hooks.test/in",
        "https://10.0.0.7/in",
        "no url",
    ],
)
def test_a_url_that_is_not_allowed_is_refused_and_not_replaced_by_the_default(url: str) -> None:
    planner = Planner(**DEFAULT)
    assert planner.refusal(url) is Reason.FIELD_REFUSED


def test_without_any_secret_nothing_is_sent_and_no_url_is_refused() -> None:
    """Whether a form may name one is then a matter of body.allow_webhook_url alone."""
    planner = Planner()
    assert planner.destination(None) is None
    assert planner.destination("https://hooks.test/in") is None
    assert planner.asked == []


def test_an_owner_without_a_secret_of_his_own_has_no_default_and_no_url() -> None:
    planner = Planner(secrets=[{"owner": ANN, **ON}], default_url="https://default.test/in")
    assert planner.destination(None, ANN) == "default.test:443"
    assert planner.destination("https://hooks.test/in", ANN) == "hooks.test:443"
    assert planner.destination(None, BOB) is None
    assert planner.refusal("https://hooks.test/in", BOB) is Reason.FIELD_REFUSED
    assert [asked[0] for asked in planner.asked] == [ANN]


def test_another_configuration_counts_from_the_next_submit_on() -> None:
    planner = Planner(**ON)
    assert planner.destination("https://hooks.test/in") == "hooks.test:443"
    planner.out = settings_of(**{**ON, "allow": ["default.test"]})
    assert planner.refusal("https://hooks.test/in") is Reason.FIELD_REFUSED
    planner.out = settings_of(**ON)
    assert planner.destination("https://hooks.test/in") == "hooks.test:443"


def test_a_webhook_has_its_job_its_owner_and_what_its_client_was_told() -> None:
    planner = Planner(**ON)
    where = at_once(planner.planning.destination("https://hooks.test/in?token=t", ANN))
    planned = planner.planning.planned(where, ("default", "job-1"), ANN, "https://g/c")
    assert planned == Planned("w1", "default", "job-1", ANN, where.target.url, "hooks.test:443", "https://g/c")
    assert planned.url.endswith("/in?token=t")
