"""What is kept of refused and failed requests, on both engines."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, event, text

from gateway.audit.refusal_log import RefusalLog
from gateway.cli.main import cli
from gateway.errors import LedgerUnavailable, ValueNotKept
from gateway.ledger.ledger import Ledger
from gateway.ledger.refusals import AT_ONCE, RefusalMark, RefusalRow, find_refusal, latest, listed, note, purge
from gateway.model.reasons import Bearer, Reason, Why
from gateway.model.request import Exchange
from gateway.observe.refusal_sampling import Sum
from gateway.units import DAY
from tests.support.pure import document, make_identity, make_permit, write

pytestmark = pytest.mark.usefixtures("restored_log")

NOW = 1_800_000_000.0


def exchange(request_id: str, **members: Any) -> Exchange:
    made = Exchange(request_id, 0.0, "127.0.0.1", "127.0.0.2", method="POST", route="submit")
    for name, value in members.items():
        setattr(made, name, value)
    return made


def kept(most: int = 10) -> RefusalLog:
    ids = iter(range(100))
    return RefusalLog(lambda: NOW, lambda: f"{next(ids)}", most)


def row(request_id: str, at: float = NOW) -> RefusalRow:
    return RefusalRow(request_id, int(at), 1, 401, "token_invalid", "issuer", "submit", "POST", None, "::1", "x")


async def test_they_are_listed_page_by_page_and_found_by_words_with_or_without_spaces(ledger: Ledger) -> None:
    rows = [row("a", NOW), row("c", NOW), row("b", NOW), row("d", NOW - 9)._replace(status=502, why="keys_not_there")]
    await ledger.write(lambda c: note(c, rows))

    async def found(**asked: Any) -> str:
        return "".join(one.request_id for one in await ledger.read(lambda c: listed(c, **{"most": 9} | asked)))

    assert await found() == "abcd"
    assert await found(most=2, after=RefusalMark(int(NOW), "a")) == "bc"
    assert await found(failed=True) == await found(text="502") == "d"
    for words in ("keys_not_there", "Keys not there", "token invalid: keys not"):
        assert await found(text=words) == "d", words
    assert await found(text="token_invalid") == await found(text="SUBMIT") == "abcd"
    assert await found(text="%") == await found(text="a\0") == ""


async def test_the_title_that_was_told_is_kept(ledger: Ledger) -> None:
    log = kept()
    log.note(
        exchange("own", status=403, reason=Reason.BUDGET_EXHAUSTED, title="Page budget used up until 2026-12-01")
    )
    log.note(exchange("plain", status=403, reason=Reason.FORBIDDEN))
    await log.turn(ledger, 1)
    titles = {one.request_id: one.title for one in await ledger.read(lambda c: latest(c, 9))}
    assert titles == {"own": "Page budget used up until 2026-12-01", "plain": None}


async def test_a_refusal_is_found_by_its_id_and_a_sum_is_a_row(ledger: Ledger) -> None:
    log = kept()
    log.note(exchange("a", status=401, reason=Reason.TOKEN_INVALID, why=Why.ISSUER, detail="no"))
    log.note(exchange("b", status=502, reason=Reason.FORWARDED))
    log.sum_up(Sum("others", 7, {"unauthenticated": 7}))
    await log.turn(ledger, 0)
    found = await ledger.read(lambda c: find_refusal(c, "a"))
    assert found is not None
    assert (found.status, found.reason, found.why, found.client) == (401, "token_invalid", "issuer", "127.0.0.2")
    forwarded = await ledger.read(lambda c: find_refusal(c, "b"))
    assert forwarded is not None
    assert forwarded.detail == "the container answered so"
    rows = await ledger.read(lambda c: latest(c, 10))
    assert {(one.request_id, one.requests) for one in rows} == {("a", 1), ("b", 1), ("sum-0", 7)}


async def test_it_is_bounded_in_memory_and_in_time_and_in_number(ledger: Ledger) -> None:
    log = kept(2)
    for name in "abc":
        log.note(exchange(name, status=401, reason=Reason.UNAUTHENTICATED))
    await log.close(ledger, 5)
    assert [one.request_id for one in await ledger.read(lambda c: latest(c, 10))] == ["b", "c"]
    assert log.dropped == 1
    await ledger.write(
        lambda c: note(c, [row("old", NOW - DAY - 1), row("new", NOW + 1), row("new", NOW + 1), row("b")])
    )
    await log.turn(ledger, 0)
    assert [one.request_id for one in await ledger.read(lambda c: latest(c, 10))] == ["new", "b", "c"]
    assert await ledger.write(lambda c: purge(c, 0, most=1)) == 2
    assert [one.request_id for one in await ledger.read(lambda c: latest(c, 10))] == ["new"]


async def test_requests_with_an_id_that_is_there_are_counted_as_dropped(ledger: Ledger) -> None:
    """Behind a proxy that passes X-Request-Id on, a client could hide ten guesses of a password behind one row."""
    log = kept()
    for _ in range(3):
        for _ in range(2):
            log.note(exchange("same", status=401, reason=Reason.UNAUTHENTICATED))
        await log.turn(ledger, 1)
    assert [one.request_id for one in await ledger.read(lambda c: latest(c, 10))] == ["same"]
    assert log.dropped == 5


async def test_the_bearer_of_a_refused_token_is_named_and_bounded(ledger: Ledger) -> None:
    log = kept(1000)
    for number in range(30):
        bearer = Bearer("jwt:https://id.example#alice", "other")
        made = exchange(f"a{number}", status=401, reason=Reason.TOKEN_INVALID, why=Why.AUDIENCE, bearer=bearer)
        log.note(made)
    assert log.dropped == 10
    await log.turn(ledger, 1)
    rows = await ledger.read(lambda c: latest(c, 1000, key_id="jwt:https://id.example#alice"))
    assert len(rows) == 20


async def test_one_key_has_some_rows_a_second_and_all_together_have_some(ledger: Ledger) -> None:
    log = kept(1000)

    def refuse_each(count: int, key_id: str | None) -> None:
        for number in range(count):
            log.note(exchange(f"{key_id}-{number}-{log.dropped}", status=403, reason=Reason.FORBIDDEN, key_id=key_id))

    refuse_each(50, "ci")
    assert log.dropped == 30
    for number in range(20):
        refuse_each(10, f"key{number}")
    assert log.dropped == 30 + 20
    await log.turn(ledger, 1)
    assert len(await ledger.read(lambda c: latest(c, 1000))) == 200
    refuse_each(50, "ci")
    assert log.dropped == 30 + 20 + 30


async def test_an_owner_has_so_many_rows_with_all_its_keys() -> None:
    log = kept(1000)
    for number in range(30):
        made = exchange(f"a{number}", status=429, reason=Reason.RATE_LIMITED)
        made.note_permit(make_permit(identity=make_identity(key_id=f"key{number}", owner="key:team")))
        log.note(made)
    assert log.dropped == 10


async def test_many_are_forgotten_in_one_statement_each_and_before_more_is_written(ledger: Ledger) -> None:
    """Row by row, they took longer than a transaction may: none was ever forgotten again."""
    await ledger.write(lambda c: note(c, [row(f"old{number}", NOW - DAY - 1) for number in range(AT_ONCE + 1)]))

    def counted(connection: Connection) -> int:
        statements = list[str]()
        event.listen(connection, "before_cursor_execute", lambda *told: statements.append(told[2]))
        assert purge(connection, NOW - DAY) == AT_ONCE
        return len(statements)

    assert await ledger.write(counted) == 2
    log = kept()
    log.note(exchange("a", status=401, reason=Reason.UNAUTHENTICATED))
    await log.turn(ledger, 0)
    assert [one.request_id for one in await ledger.read(lambda c: latest(c, 10))] == ["a"]


async def test_it_waits_for_the_ledger_but_not_for_what_it_never_takes() -> None:
    class Away:
        error: Exception = LedgerUnavailable("away")

        async def write(self, work: object) -> None:
            del work
            raise self.error

    away: Any = Away()
    log = kept()
    log.note(exchange("a", status=401, reason=Reason.UNAUTHENTICATED))
    with pytest.raises(LedgerUnavailable):
        await log.turn(away, 1)
    away.error = ValueNotKept("never")
    await log.turn(away, 1)
    assert log.dropped == 1
    away.error = LedgerUnavailable("not asked any more")
    await log.turn(away, 1)


async def test_a_row_that_the_ledger_cant_keep_stops_no_other(ledger: Ledger) -> None:
    log = kept()
    for request_id in ("a", "\ud800", "b"):
        log.note(exchange(request_id, status=401, reason=Reason.UNAUTHENTICATED))
    await log.turn(ledger, 1)
    assert log.dropped == 1
    assert [row.request_id for row in await ledger.read(lambda c: listed(c, most=9))] == ["a", "b"]


def test_the_command_tells_what_is_known(tmp_path: Path) -> None:
    path = write(tmp_path, document(tmp_path, ledger={"url": f"sqlite:///{tmp_path}/ledger.db"}))

    def told(request_id: str, code: int, *more: str) -> str:
        command = ["explain", "--config", str(path), "--request-id", request_id, *more]
        result = CliRunner().invoke(cli, command)
        assert result.exit_code == code, result.output
        return result.output

    assert "no refused or failed request x is known" in told("x", 1)
    assert "--request-id stands alone" in told("x", 2, "GET", "/x")


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
async def test_no_more_than_the_surplus_goes_however_postgresql_plans_it(ledger: Ledger) -> None:
    """A sub-select that locks and skips finds other rows each time it is run, and some plans run it for each row."""

    def work(connection: Connection) -> int:
        for plan in ("hashagg", "hashjoin", "mergejoin", "sort", "material", "bitmapscan", "indexscan"):
            connection.execute(text(f"SET LOCAL enable_{plan} = off"))
        return purge(connection, 0, most=45)

    await ledger.write(lambda c: note(c, [row(f"r{number:02}", NOW + number) for number in range(50)]))
    assert await ledger.write(work) == 5
    assert [one.request_id for one in await ledger.read(lambda c: latest(c, 100))][-1] == "r05"


async def test_the_audience_of_a_refused_token_is_noted(ledger: Ledger) -> None:
    log = kept()
    told: dict[str, Any] = {"status": 401, "reason": Reason.TOKEN_INVALID, "why": Why.AUDIENCE, "detail": "No."}
    log.note(exchange("a", **told, bearer=Bearer("jwt:i#a", "elsewhere")))
    log.note(exchange("b", **told, bearer=Bearer("jwt:i#a", "")))
    log.note(exchange("c", **told, bearer=Bearer("jwt:i#a", None)))
    await log.turn(ledger, 0)
    assert {one.request_id: one.detail for one in await ledger.read(lambda c: latest(c, 10))} == {
        "a": "No. Its aud is elsewhere.",
        "b": "No. Its aud is empty.",
        "c": "No.",
    }
