"""The work of `gateway callers`: calls CallerService, prints the result.

The ledger does not know whose profile a caller has: the token or certificate says it, so no limits are shown here.
"""

from functools import partial
from pathlib import Path
from typing import Any, Final

from gateway.cli.ended_grants import as_written, told_ended, told_granted
from gateway.cli.followers import FOLLOWS_SOON
from gateway.cli.output import answer, print_lines
from gateway.cli.session import Session, change, read_ledger
from gateway.cli.table import show_facts, show_table, shown
from gateway.cli.words import at, pages_of, spend
from gateway.config.salvage import LEDGER
from gateway.keys.callers import CallerService, ShownCaller
from gateway.ledger import callers
from gateway.ledger.callers import CallerRow
from gateway.ledger.usage import GrantRow, read_counts_of_many
from gateway.limits.quotas import AccountCounts, Used
from gateway.limits.report import used_report
from gateway.model.account_names import CERTIFICATE
from gateway.units import maybe_moment, moment

_IDENTITY: Final = "authentication.certificates.identity"  # whether names of certificates have a case
_NUMBERS: Final = ("pages today", "pages this month", "in flight", "granted")

_NONE: Final = "No such callers: by token or certificate one is listed who has submitted, or is blocked."


def list_callers(config: Path, text: str | None, limit: int, *, blocked: bool) -> None:
    """Prints callers by name."""

    async def work(session: Session) -> list[tuple[CallerRow, AccountCounts]]:
        rows = await session.ledger.report(partial(callers.callers, most=limit, text=text, blocked=blocked))
        names, now = [row.account for row in rows], session.wall()
        counts = await session.ledger.report(lambda c: read_counts_of_many(c, names, now)) if names else {}
        return [(row, counts.get(row.account, AccountCounts())) for row in rows]

    found = read_ledger(config, work)
    cells = [
        [row.account, at(maybe_moment(row.blocked_at)), counts.day.pages, counts.month.pages, counts.concurrent,
         counts.granted]
        for row, counts in found
    ]  # fmt: skip
    document = [_fields(row, counts) for row, counts in found]
    answer(document, lambda: show_table(("caller", "blocked", *_NUMBERS), cells, frozenset(_NUMBERS), none=_NONE))


def show_caller(config: Path, account: str) -> None:
    """Prints one caller."""
    found, currency = read_ledger(config, partial(_shown, account=account))
    answer(_in_full(found), lambda: show_facts(_described(found, currency)))


def block(config: Path, account: str) -> None:
    """Blocks a caller."""

    async def work(session: Session) -> ShownCaller:
        service = _service(session)
        await service.block(session.actor, account)
        return await service.show(service.name_of(account))

    _tell("blocked", *change(config, work, needs=_needs(account)))


def unblock(config: Path, account: str) -> None:
    """Lets a caller in again."""

    async def work(session: Session) -> ShownCaller:
        await _service(session).unblock(session.actor, account)
        return await _service(session).show(account)

    _tell("not blocked", *change(config, work, needs=LEDGER))


def _tell(standing: str, found: ShownCaller, is_followed: bool) -> None:
    text = f"{shown(found.row.account)} is {standing}.{f' {FOLLOWS_SOON}' if is_followed else ''}"
    answer(_in_full(found), lambda: print_lines(text))


def grant(config: Path, account: str, pages: int, until: float) -> None:
    """Adds pages to a caller's budgets for a while."""

    async def work(session: Session) -> str:
        await _service(session).grant(session.actor, account, pages, until)
        return _service(session).name_of(account)

    name, _ = change(config, work, needs=_needs(account))
    ends = moment(until)
    text = told_granted(shown(name), pages, shown(at(ends)), None)
    answer({"account": name, "pages": pages, "until": ends}, lambda: print_lines(text))


def end_grants(config: Path, account: str) -> None:
    """Ends all grants of a caller now."""

    async def work(session: Session) -> tuple[str, list[GrantRow]]:
        service = _service(session)
        return service.name_of(account), await service.end_grants(session.actor, account, None)

    (name, ended), _ = change(config, work, needs=_needs(account))
    answer({"account": name, "grants": as_written(ended)}, lambda: print_lines(told_ended(shown(name), ended)))


def reset(config: Path, account: str) -> None:
    """Resets a caller's windows."""

    async def work(session: Session) -> tuple[str, Used, str | None]:
        used = await _service(session).reset(session.actor, account)
        return _service(session).name_of(account), used, session.settings.prices.currency

    (name, used, currency), _ = change(config, work, needs=_needs(account))
    text = (
        f"The windows of {shown(name)} are reset; forgotten of this month: {used.requests} requests, "
        f"{pages_of(used.pages)}, spend {shown(spend(used.spend, currency))}. What is in flight stays."
    )
    answer({"account": name, **used_report(used)}, lambda: print_lines(text))


async def _shown(session: Session, account: str) -> tuple[ShownCaller, str | None]:
    return await _service(session).show(account), session.settings.prices.currency


def _needs(account: str) -> frozenset[str]:
    """Of what the configuration says, so much has to be right: a name is found as a gateway writes it."""
    return LEDGER | {_IDENTITY} if account.startswith(CERTIFICATE) else LEDGER


def _service(session: Session) -> CallerService:
    certificates = session.settings.authentication.certificates
    return CallerService(session.ledger, session.wall, lambda: certificates.identity == "dns")


def _fields(row: CallerRow, counts: AccountCounts) -> dict[str, Any]:
    return {
        "account": row.account,
        "method": row.account.partition(":")[0],
        "blocked_at": maybe_moment(row.blocked_at),
        "was_seen": row.is_known,
        "used_today": used_report(counts.day),
        "used_this_month": used_report(counts.month),
        "concurrent": counts.concurrent,
        "pages_in_flight": counts.pages_in_flight,
        "granted": counts.granted,
    }


def _in_full(found: ShownCaller) -> dict[str, Any]:
    return {**_fields(found.row, found.counts), "grants": as_written(found.grants)}


def _described(found: ShownCaller, currency: str | None) -> dict[str, object]:
    row, counts = found.row, found.counts
    grants = [f"{pages_of(grant.pages)} until {shown(at(moment(grant.until)))}" for grant in found.grants]
    return {
        "caller": row.account,
        "blocked": at(maybe_moment(row.blocked_at)) or "no",
        "seen": "yes" if row.is_known else "never submitted here: is the name right?",
        "used today": _amount(counts.day, currency),
        "used this month": _amount(counts.month, currency),
        "in flight": f"{counts.concurrent} submits, {counts.pages_in_flight} pages",
        "grants": ", ".join(grants) or "none",
    }


def _amount(used: Used, currency: str | None) -> str:
    return f"{used.requests} requests, {pages_of(used.pages)}, spend {shown(spend(used.spend, currency))}"
