"""What is checked when a job is submitted, and again when its webhook is sent."""

import pytest

from gateway.errors import Refused
from gateway.model.reasons import Reason
from gateway.webhooks.egress.destination import check, find
from gateway.webhooks.egress.resolver import LookupLate, NoAnswer, NotFound, Saturated
from gateway.webhooks.egress.rules import Address, Rules
from tests.support.pure import ip

ADDRESSES = {
    "inside.example": ["10.0.0.1"],
    "mixed.example": ["10.0.0.1", "169.254.169.254"],
    "outside.example": ["192.0.2.1"],
}
RULES = Rules.of(["10.0.0.0/8", "named.example", "*.wild.example", "127.0.0.1"])


class Resolve:
    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> list[Address]:
        self.asked.append((host, port))
        if host not in ADDRESSES:
            raise NotFound("there is none")
        return [ip(text) for text in ADDRESSES[host]]


async def denial(url: str, rules: Rules = RULES) -> str:
    with pytest.raises(Refused) as caught:
        await check(url, rules, Resolve())
    assert caught.value.denial.reason is Reason.FIELD_REFUSED
    assert caught.value.__cause__ is None
    assert "canary" not in caught.value.denial.detail
    return caught.value.denial.detail


async def test_no_url_is_no_destination() -> None:
    assert await check(None, Rules(), Resolve()) is None


async def test_a_destination_has_the_addresses_that_were_checked() -> None:
    resolve = Resolve()
    found = await check("https://inside.example:8443/hook?token=canary", RULES, resolve)
    assert found is not None
    assert found.addresses == (ip("10.0.0.1"),)
    assert found.name == "inside.example:8443"
    assert resolve.asked == [("inside.example", 8443)]


async def test_an_address_is_not_looked_up() -> None:
    resolve = Resolve()
    found = await check("https://127.0.0.1/", RULES, resolve)
    assert found is not None
    assert found.addresses == (ip("127.0.0.1"),)
    assert resolve.asked == []


async def test_nothing_of_the_inside_is_told() -> None:
    unknown = await denial("https://unknown.example/?canary")
    assert "webhooks.out.allow" in unknown
    for host in ("outside.example", "mixed.example", "127.0.0.2", "[::1]", "169.254.169.254"):
        assert await denial(f"https://{host}/?canary") == unknown
        assert await denial(f"https://{host}/?canary", Rules()) == unknown


async def test_a_host_that_is_allowed_and_not_found_is_told_as_such() -> None:
    for host in ("named.example", "a.wild.example"):
        assert "just now" in await denial(f"https://{host}/?canary")


async def test_what_is_wrong_with_a_url_is_told_without_it() -> None:
    assert await denial("https://u:canary@named.example/") == "webhook_url: has a user name in it"
    assert await denial("http://named.example/?canary") == "webhook_url: needs the form https://host/path"


async def test_a_host_that_can_not_be_allowed_is_not_looked_up() -> None:
    resolve = Resolve()
    with pytest.raises(Refused):
        await check("https://inside.example/", Rules.of(["named.example"]), resolve)
    assert resolve.asked == []


async def test_who_can_try_later_is_told_to() -> None:
    with pytest.raises(NotFound):
        await find("https://unknown.example/", RULES, Resolve())


@pytest.mark.parametrize("host", ["named.example", "a.wild.example", "unknown.example"])
@pytest.mark.parametrize("error", [Saturated, LookupLate])
async def test_a_host_that_is_not_known_yet_is_no_fault_of_who_names_it(host: str, error: type[Exception]) -> None:
    async def resolve(_: str, __: int) -> list[Address]:
        raise error("canary")

    with pytest.raises(Refused) as caught:
        await check(f"https://{host}/?canary", RULES, resolve)
    denial = caught.value.denial
    assert (denial.reason, denial.retry_after) == (Reason.LOOKUP_UNAVAILABLE, 5)
    assert "canary" not in denial.detail
    with pytest.raises(error):
        await find(f"https://{host}/", RULES, resolve)


async def test_name_servers_that_are_away_are_told_of_to_who_names_what_is_allowed_by_name() -> None:
    async def resolve(_: str, __: int) -> list[Address]:
        raise NoAnswer("away")

    reasons = []
    for host in ("named.example", "a.wild.example", "unknown.example"):
        with pytest.raises(Refused) as caught:
            await check(f"https://{host}/", RULES, resolve)
        reasons.append(caught.value.denial.reason)
    assert reasons == [Reason.LOOKUP_UNAVAILABLE, Reason.LOOKUP_UNAVAILABLE, Reason.FIELD_REFUSED]
