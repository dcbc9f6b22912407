"""What accounts that a budget of pages refused have left now, and whether that is enough for what was asked."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.admin.command_for_refusal import is_helped_by_grant
from gateway.admin.context import Context
from gateway.admin.near import page_budgets
from gateway.admin.near_accounts import known_profile
from gateway.admin.portions import convert_all
from gateway.ledger.refusals import RefusalRow
from gateway.ledger.usage import read_counts_of_many
from gateway.limits.quotas import AccountCounts, budgets_of
from gateway.model.account_names import key_account
from gateway.model.identity import Profile

_ASKED: Final = re.compile(r" needs (\d{1,18}) \(pages_per_")


async def pages_left(context: Context, rows: Sequence[RefusalRow]) -> Mapping[str, int | None]:
    """By the name in the refusal; None: no budget of pages any more. Missing: its profile is not known here.

    Raises:
        LedgerUnavailable: the ledger does not answer.
    """
    names = {row.key_id or "" for row in rows if is_helped_by_grant(row.reason, row.key_id, row.detail)}
    accounts = {name: name if ":" in name else key_account(name) for name in names}
    known = {name: known_profile(context.live, context.watch.seen, account) for name, account in accounts.items()}
    profiles = [(name, profile) for name, profile in known.items() if profile is not None]
    if not profiles:
        return {}
    now, of = context.wall(), [accounts[name] for name, _ in profiles]
    counts = await context.ledger.report(lambda c: read_counts_of_many(c, of, now))

    def least(found: tuple[str, Profile]) -> tuple[str, int | None]:
        name, profile = found
        return name, _least(profile, counts.get(accounts[name], AccountCounts()), now)

    return dict(await convert_all(profiles, least, context.iteration))


def is_short(row: RefusalRow, left: Mapping[str, int | None]) -> bool:
    """Whether such a request would be refused now, too, as far as is known."""
    name = row.key_id or ""
    if name not in left:
        return True
    most, asked = left[name], _ASKED.search(row.detail or "")
    return most is not None and most < (int(asked[1]) if asked else 1)


def _least(profile: Profile, counts: AccountCounts, now: float) -> int | None:
    of_pages = page_budgets(profile) or []
    return min(
        (limit.remaining for limit in budgets_of(profile, counts, now) if limit.name in of_pages), default=None
    )
