"""A ledger that failed a moment ago is not well because a small write went through."""

import pytest
from sqlalchemy import Connection

from gateway.errors import LedgerUnavailable, OwnerWaited
from gateway.ledger.engine import Engine
from gateway.ledger.ledger import Ledger
from tests.support.ledgers import Faulty, beat


async def test_a_problem_ends_only_when_nothing_has_failed_for_a_while(engine: Engine) -> None:
    now = 100.0
    faulty = Faulty(engine)
    ledger = Ledger(faulty, 2.0, lambda: now)
    await ledger.write(beat)
    problems = [ledger.problem]
    faulty.faults = ["before"]
    with pytest.raises(LedgerUnavailable):
        await ledger.write(beat)
    for later in (1.9, 0.1):
        now += later
        await ledger.write(beat)
        problems.append(ledger.problem)
    assert problems == [None, "as it was told", None]


async def test_an_owner_that_waited_in_vain_makes_the_ledger_doubtful_only(engine: Engine) -> None:
    """One account's lock took the whole gateway out of service."""
    faulty = Faulty(engine)
    ledger = Ledger(faulty)
    await ledger.write(beat)
    waited = OwnerWaited("no answer within ledger.timeout")

    def waits(_: Connection) -> None:
        raise waited

    for ask in (ledger.write, ledger.guarded, ledger.read):
        ledger.is_in_doubt = False
        with pytest.raises(OwnerWaited):
            await ask(waits, in_turn_of="key:ci")
        assert (ledger.problem, ledger.is_in_doubt) == (None, True)
