"""What administrators do to callers by token and certificate, who are known by their account's name alone.

As with keys, a change and its audit record are one transaction.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection

from gateway.keys.grants import check_pages, detail_of, ended_grants
from gateway.keys.validation import future
from gateway.ledger import audit, callers, usage
from gateway.ledger.callers import CallerRow
from gateway.ledger.keys import KeyProblem
from gateway.ledger.ledger import Ledger
from gateway.ledger.matching import can_be_stored
from gateway.limits.quotas import AccountCounts, Used
from gateway.model.account_names import CERTIFICATE, OF_CALLERS

_MAX_NAME: Final = 600
_NAMED: Final = "a caller is named jwt:<issuer>#<owner> or cert:<name>, as in the log"
_POSSIBLE: Final = re.compile(r"jwt:[!-~]+#[!-~]+|cert:[!-~]+")


class ShownCaller(NamedTuple):
    """A caller, what his account counts, and its grants."""

    row: CallerRow
    counts: AccountCounts
    grants: Sequence[usage.GrantRow]


class CallerService:
    """Changes callers in the name of `actor`. `wall` is in seconds since the epoch.

    `names_are_dns`: whether certificates stand for their bearers by a DNS name, which has no case.
    """

    def __init__(self, ledger: Ledger, wall: Callable[[], float], names_are_dns: Callable[[], bool]) -> None:
        self._ledger = ledger
        self._wall = wall
        self._names_are_dns = names_are_dns

    def name_of(self, account: str) -> str:
        """The name as the log has it.

        Raises:
            KeyProblem: no caller can have it.
        """
        return possible_account(account, names_are_dns=self._names_are_dns())

    async def show(self, account: str) -> ShownCaller:
        """Shows one; one who has not submitted yet has used nothing.

        Raises:
            KeyProblem: it can't be the name of one.
            LedgerUnavailable: the ledger does not answer.
        """
        name, now = plain_account(account), self._wall()

        def work(connection: Connection) -> ShownCaller:
            row = callers.caller(connection, name) or CallerRow(name, None, is_known=False)
            counts = usage.read_counts_of_many(connection, [name], now).get(name, AccountCounts())
            return ShownCaller(row, counts, usage.grants_of(connection, name, now))

        return await self._ledger.read(work)

    async def block(self, actor: str, account: str) -> None:
        """Blocks a caller.

        Raises:
            KeyProblem: it can't be the name of one, or too many are blocked.
            LedgerUnavailable: it may have been done.
        """
        name, now = self.name_of(account), self._wall()

        def work(connection: Connection) -> None:
            if callers.block(connection, name, now):
                audit.record(connection, now, actor, "caller.block", name, {})

        await self._ledger.write(work, durable=True)

    async def unblock(self, actor: str, account: str) -> None:
        """Lets a caller in again, by any name: an earlier version may have blocked it.

        Raises:
            KeyProblem: it can't be the name of one.
            LedgerUnavailable: it may have been done.
        """
        name, now = plain_account(account), self._wall()

        def work(connection: Connection) -> None:
            if callers.unblock(connection, name):
                audit.record(connection, now, actor, "caller.unblock", name, {})

        await self._ledger.write(work, durable=True)

    async def grant(self, actor: str, account: str, pages: int, until: float) -> None:
        """Adds pages to a caller's page budgets until a moment.

        Raises:
            KeyProblem: it can't be the name of one, or a value is wrong.
            LedgerUnavailable: it may have been done.
        """
        name, now = self.name_of(account), self._wall()
        check_pages(pages)
        end = future(until, now, "the end of the grant", "until")

        def work(connection: Connection) -> None:
            usage.grant(connection, name, pages, end, now)
            audit.record(connection, now, actor, "caller.grant", name, {"pages": pages, "until": end})

        await self._ledger.write(work, durable=True)

    async def end_grants(self, actor: str, account: str, grant_id: int | None) -> list[usage.GrantRow]:
        """Ends one grant of a caller at once, or all; returns which ended.

        Raises:
            KeyProblem: it can't be the name of one, or the grant does not exist.
            LedgerUnavailable: it may have been done.
        """
        name, now = self.name_of(account), self._wall()

        def work(connection: Connection) -> list[usage.GrantRow]:
            ended = ended_grants(connection, name, grant_id, now)
            audit.record(connection, now, actor, "caller.end_grant", name, *map(detail_of, ended))
            return ended

        return await self._ledger.write(work, durable=True)

    async def reset(self, actor: str, account: str) -> Used:
        """Resets a caller's windows; returns what was cleared of this month.

        Raises:
            KeyProblem: it can't be the name of one.
            LedgerUnavailable: it may have been done.
        """
        name, now = self.name_of(account), self._wall()

        def work(connection: Connection) -> Used:
            forgotten = usage.reset(connection, name, now)
            audit.record(connection, now, actor, "caller.reset", name, forgotten._asdict())
            return forgotten

        return await self._ledger.write(work, durable=True)


def plain_account(account: str) -> str:
    """Checks that the name of an account is a token's or certificate's.

    Raises:
        KeyProblem: it is not.
    """
    if not account.startswith(OF_CALLERS) or len(account) > _MAX_NAME or not can_be_stored(account):
        raise KeyProblem(_NAMED, "invalid")
    return account


def possible_account(account: str, *, names_are_dns: bool) -> str:
    """The name of a caller's account as tokens and certificates are read: visible ASCII, DNS names in lower case.

    Raises:
        KeyProblem: nobody can have that name.
    """
    if not _POSSIBLE.fullmatch(plain_account(account)):
        raise KeyProblem(f"{_NAMED}: visible characters of ASCII, no space", "invalid")
    return account.lower() if names_are_dns and account.startswith(CERTIFICATE) else account
