"""Callers by token and certificate in the ledger: on both engines."""

import pytest

from gateway.keys.callers import CallerService, possible_account
from gateway.ledger import callers as steps
from gateway.ledger.audit import recorded
from gateway.ledger.callers import CallerRow, block, blocked_accounts, caller, callers, unblock
from gateway.ledger.engine import Engine
from gateway.ledger.key_revisions import revision_of
from gateway.ledger.keys import KeyProblem
from gateway.ledger.ledger import Ledger
from gateway.ledger.listings import list_jobs
from gateway.ledger.reservations import admit
from gateway.units import MOST_COUNTED
from tests.support.ledgers import NOON, make_claim, make_profile

ANN, BOB, CERT = "jwt:https://idp.test#ann", "jwt:https://idp.test#bob", "cert:scanner.test"
BLOCKED = CallerRow(BOB, int(NOON), is_known=False)


async def submits(engine: Engine, *accounts: str) -> None:
    for account in accounts:
        claim = make_claim(f"of-{account}", account)
        await engine.write(lambda c, claim=claim: admit(c, claim, make_profile(), NOON, NOON + 60))  # type: ignore[misc] # its defaults are the values


async def test_who_has_an_account_or_is_blocked_is_a_caller_and_keys_are_none(engine: Engine) -> None:
    await submits(engine, ANN, CERT, "key:ci", "anyone")
    assert await engine.write(lambda c: block(c, BOB, NOON))
    assert not await engine.write(lambda c: block(c, BOB, NOON + 5))
    found = await engine.read(lambda c: callers(c, 10))
    assert found == [CallerRow(CERT, None, True), CallerRow(ANN, None, True), BLOCKED]
    assert await engine.read(lambda c: callers(c, 10, text="IDP.test#B")) == [BLOCKED]
    assert await engine.read(lambda c: callers(c, 10, blocked=True)) == [BLOCKED]
    assert await engine.read(lambda c: callers(c, 10, text="%")) == []
    assert await engine.read(lambda c: callers(c, 10, text="\0")) == []
    cat = CallerRow("jwt:https://idp.test#cat", None, is_known=False)
    assert await engine.read(lambda c: callers(c, 10, seen=[cat.account, ANN])) == [*found, cat]
    assert await engine.read(lambda c: callers(c, 10, seen=[cat.account], blocked=True)) == [BLOCKED]
    assert await engine.read(lambda c: callers(c, 10, seen=[cat.account], among=[cat.account, CERT])) == [
        found[0],
        cat,
    ]
    assert (
        len(await engine.read(lambda c: callers(c, 5000, seen=[f"cert:{number}" for number in range(2000)]))) == 2003
    )
    many = [f"cert:{number}" for number in range(40_000)]  # an engine takes some 32,000 values: they are one
    assert len(await engine.read(lambda c: callers(c, 50_000, seen=many))) == 40_003
    first = await engine.read(lambda c: callers(c, 1))
    rest = await engine.read(lambda c: callers(c, 10, after=first[-1].account))
    assert first + rest == found
    assert await engine.read(lambda c: caller(c, BOB)) == BLOCKED
    assert await engine.read(lambda c: caller(c, "jwt:nobody")) is None


async def test_a_block_is_a_change_of_keys_that_replicas_follow(engine: Engine) -> None:
    before = await engine.read(revision_of)
    await engine.write(lambda c: block(c, ANN, NOON))
    assert await engine.read(revision_of) == before + 1
    assert await engine.read(blocked_accounts) == {ANN}
    assert await engine.write(lambda c: unblock(c, ANN))
    assert not await engine.write(lambda c: unblock(c, ANN))
    assert await engine.read(blocked_accounts) == frozenset()


async def test_there_is_an_end_of_blocking(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "MAX_BLOCKS", 1)
    await engine.write(lambda c: block(c, ANN, NOON))
    with pytest.raises(KeyProblem):
        await engine.write(lambda c: block(c, BOB, NOON))
    assert not await engine.write(lambda c: block(c, ANN, NOON))


async def test_what_is_done_to_a_caller_is_in_the_audit(ledger: Ledger, engine: Engine) -> None:
    service = CallerService(ledger, lambda: NOON, lambda: False)
    await service.block("cli:op", ANN)
    await service.block("cli:op", ANN)
    await service.grant("cli:op", ANN, 5, NOON + 60)
    await service.reset("cli:op", ANN)
    await service.unblock("cli:op", ANN)
    rows = await engine.read(lambda c: recorded(c, of=ANN))
    acts = ["caller.block", "caller.grant", "caller.reset", "caller.unblock"]
    assert [row.entry.action for row in reversed(rows)] == acts
    shown = await service.show(ANN)
    assert (shown.row.blocked_at, shown.counts.granted, shown.grants[0].pages) == (None, 5, 5)
    for name in ("key:ci", "ci", "jwt:" + "x" * 600, "jwt:\0", "anyone"):
        with pytest.raises(KeyProblem):
            await service.block("cli:op", name)


@pytest.mark.parametrize("pages", [-5, 0, MOST_COUNTED + 1])
async def test_a_grant_to_a_caller_is_of_one_page_or_more(pages: int, ledger: Ledger) -> None:
    service = CallerService(ledger, lambda: NOON, lambda: False)
    with pytest.raises(KeyProblem, match="one page or more"):
        await service.grant("cli:op", ANN, pages, NOON + 60)
    assert (await service.show(ANN)).grants == []


@pytest.mark.parametrize(
    "name", ["jwt:https://idp.test", "jwt:https://idp.test#", "jwt:#ann", "cert:", "cert:a b", "jwt:i#ü", "cert:a\n"]
)
async def test_a_name_that_nobody_can_have_is_not_blocked_but_let_go(name: str, ledger: Ledger) -> None:
    service = CallerService(ledger, lambda: NOON, lambda: False)
    with pytest.raises(KeyProblem, match=r"jwt:<issuer>#<owner> or cert:<name>"):
        await service.block("cli:op", name)
    await ledger.write(lambda c: block(c, name, NOON))  # as an earlier version did
    await service.unblock("cli:op", name)
    assert (await service.show(name)).row.blocked_at is None


def test_a_name_is_as_the_certificate_is_read() -> None:
    assert possible_account("cert:API.Test", names_are_dns=True) == "cert:api.test"
    assert possible_account("cert:API.Test", names_are_dns=False) == "cert:API.Test"  # a common name has case
    assert possible_account("jwt:https://IdP#a#B", names_are_dns=True) == "jwt:https://IdP#a#B"


async def test_the_trail_is_searched(ledger: Ledger, engine: Engine) -> None:
    service = CallerService(ledger, lambda: NOON, lambda: False)
    for name in (ANN, BOB):
        await service.block("cli:op", name)
    found = await engine.read(lambda c: recorded(c, text="#ANN"))
    assert [row.entry.subject for row in found] == [ANN]
    assert await engine.read(lambda c: recorded(c, text="\ud800")) == []
    assert await engine.read(lambda c: list_jobs(c, None, None, 5, text="none")) == []
