"""The PostgreSQL statements for submits, one for each step: a round trip takes longer than all its work.

`admit` and `reserve` read first, decide in Python, and write under a guard: the account's row must still be the one
that was read (by its xmin; every change of an account's counts that could affect another decision changes that row).
If not, nothing is written, and the caller reads again. `accept` decides nothing, so it reads nothing first.

All of them lock the account's row first, and reservations in the order of their ids, as every transaction does.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Connection,
    Integer,
    String,
    TextClause,
    and_,
    bindparam,
    cast,
    exists,
    func,
    literal_column,
    select,
    text,
)

from gateway.ledger.accounts import MICROSECONDS, counts_in
from gateway.ledger.reservations import NO_PAGES, stage_of
from gateway.ledger.schema import DeliveryState, JobState, Stage, accounts, grants, reservations, windows
from gateway.limits.quotas import AccountCounts
from gateway.limits.submit_decisions import Ask
from gateway.limits.windows import periods_at

_TYPES: Final[dict[str, Any]] = {
    "periods": ARRAY(Integer), "stages": ARRAY(Integer),
    "pages": ARRAY(BigInteger), "prices": ARRAY(BigInteger), "untils": ARRAY(BigInteger),
    **dict.fromkeys(
        ("of", "version", "watcher"), String()
    ),
    **dict.fromkeys(
        (
            "ids", "owners", "upstreams", "modes", "names", "shapes", "paths", "urls",
            "hook_ids", "hook_upstreams", "hook_names", "hook_owners", "hook_urls", "destinations", "hook_checks",
        ),
        ARRAY(String),
    ),
}  # fmt: skip
_DEFAULT: Final = BigInteger()


def statement(words: str, types: dict[str, Any] = _TYPES) -> TextClause:
    """A statement whose parameters have these types; the others are numbers. Its words may name states."""
    made = text(words.format(Stage=Stage, JobState=JobState, DeliveryState=DeliveryState))
    names = list(made._bindparams)  # noqa: SLF001 -- the names in the text
    return made.bindparams(*(bindparam(name, type_=types.get(name, _DEFAULT)) for name in names))


_asked: Final = select(bindparam("of", type_=String).label("account")).subquery("asked")
_READ_ACCOUNT: Final = (
    select(
        accounts.c.tat,
        accounts.c.concurrent,
        accounts.c.pages_in_flight,
        cast(literal_column("accounts.xmin"), String).label("version"),
        select(func.coalesce(func.sum(grants.c.pages), 0))
        .where(grants.c.account == _asked.c.account, grants.c.until > bindparam("now"))
        .scalar_subquery()
        .label("granted"),
        exists()
        .where(reservations.c.account == _asked.c.account, reservations.c.expires_at <= bindparam("now"))
        .label("is_overdue"),
        *(windows.c[name] for name in ("period", "requests", "pages", "spend")),
    )
    .select_from(_asked)
    .outerjoin(accounts, accounts.c.account == _asked.c.account)
    .outerjoin(
        windows,
        and_(windows.c.account == _asked.c.account, windows.c.period.in_([bindparam("day"), bindparam("month")])),
    )
)
_ADMIT: Final = statement("""
WITH account AS (
    INSERT INTO accounts (account, tat, concurrent, pages_in_flight, reset_at) VALUES (:of, :tat, :slots, :total, 0)
    ON CONFLICT (account) DO UPDATE
    SET concurrent = accounts.concurrent + :slots, pages_in_flight = accounts.pages_in_flight + :total, tat = :tat
    WHERE CAST(accounts.xmin AS varchar) = :version
    RETURNING account
), counted AS (
    INSERT INTO windows (period, account, requests, pages, spend)
    SELECT period, account, :slots, :total, :spend FROM account, unnest(:periods) AS period
    ON CONFLICT (period, account) DO UPDATE
    SET requests = windows.requests + excluded.requests, pages = windows.pages + excluded.pages,
        spend = windows.spend + excluded.spend
), held AS (
    INSERT INTO reservations
        (id, account, owner, upstream, stage, mode, pages, price, day, month, created_at, expires_at)
    SELECT id, account, owner, upstream, stage, mode, pages, price, :day, :month, :now, :until
    FROM account, unnest(:ids, :owners, :upstreams, :stages, :modes, :pages, :prices) AS
        claim (id, owner, upstream, stage, mode, pages, price)
)
SELECT count(*) FROM account""")
_RESERVE: Final = statement("""
WITH asked AS (
    SELECT * FROM unnest(:ids, :pages, :prices, :modes) AS ask (id, pages, price, mode)
), mine AS (
    SELECT id FROM reservations
    WHERE id = ANY (:ids) AND account = :of AND stage = {Stage.ADMITTED:d} AND day = :day AND month = :month
), account AS (
    UPDATE accounts SET pages_in_flight = pages_in_flight + :total
    WHERE account = :of AND CAST(xmin AS varchar) = :version
        AND (SELECT count(*) FROM mine) = (SELECT count(*) FROM asked)
    RETURNING account
), counted AS (
    INSERT INTO windows (period, account, requests, pages, spend)
    SELECT period, account, 0, :total, :spend FROM account, unnest(:periods) AS period
    ON CONFLICT (period, account) DO UPDATE
    SET pages = windows.pages + excluded.pages, spend = windows.spend + excluded.spend
), held AS (
    SELECT reservations.id FROM reservations, account
    WHERE id = ANY (:ids) ORDER BY reservations.id FOR UPDATE OF reservations
), reserved AS (
    UPDATE reservations
    SET stage = {Stage.RESERVED:d}, pages = asked.pages, price = asked.price, mode = asked.mode, expires_at = :until
    FROM asked, held WHERE reservations.id = asked.id AND asked.id = held.id
)
SELECT count(*) FROM account""")
_ACCEPT: Final = statement("""
WITH given AS (
    SELECT * FROM unnest(:ids, :names, :shapes, :paths, :urls, :untils) AS
        job (id, request_id, shape, path, check_url, until)
), account AS (
    SELECT account FROM accounts WHERE account = :of FOR UPDATE
), mine AS (
    SELECT reservations.id, reservations.upstream, reservations.owner FROM reservations, account
    WHERE reservations.id = ANY (:ids) AND reservations.account = account.account
        AND reservations.stage = {Stage.RESERVED:d}
    ORDER BY reservations.id FOR UPDATE OF reservations
), sure AS (
    SELECT mine.* FROM mine WHERE (SELECT count(*) FROM mine) = (SELECT count(*) FROM given)
), freed AS (
    UPDATE accounts SET concurrent = concurrent - (SELECT count(*) FROM sure)
    WHERE account = :of AND EXISTS (SELECT FROM sure)
), accepted AS (
    UPDATE reservations SET stage = {Stage.ACCEPTED:d}, request_id = given.request_id, expires_at = given.until
    FROM sure, given WHERE reservations.id = sure.id AND sure.id = given.id
), begun AS (
    INSERT INTO jobs
        (upstream, request_id, reservation, account, owner, shape, path, check_url, state, created_at, watcher)
    SELECT upstream, request_id, id, :of, owner, shape, path, check_url, {JobState.RUNNING:d}, :now, :watcher
    FROM sure JOIN given USING (id) WHERE request_id IS NOT NULL
), planned AS (
    INSERT INTO deliveries
        (id, upstream, request_id, owner, url, destination, check_url, state, attempts, created_at)
    SELECT hook.*, {DeliveryState.WAITING:d}, 0, :now
    FROM unnest(:hook_ids, :hook_upstreams, :hook_names, :hook_owners, :hook_urls, :destinations, :hook_checks)
        AS hook (id, upstream, request_id, owner, url, destination, check_url)
    WHERE EXISTS (SELECT FROM sure)
)
SELECT count(*) FROM sure""")
STATEMENTS: Final = (_READ_ACCOUNT, _ADMIT, _RESERVE, _ACCEPT)


class Seen(NamedTuple):
    """An account as read: its counts, the version of its row, and whether any reservation has expired."""

    account: str
    counts: AccountCounts
    version: str
    is_overdue: bool


def read_account(connection: Connection, account: str, now: float) -> Seen:
    """Reads an account; one that does not exist yet has an empty version."""
    day, month = periods_at(now)
    rows = connection.execute(_READ_ACCOUNT, {"of": account, "now": int(now), "day": day, "month": month}).all()
    return Seen(account, counts_in(rows, day, month), rows[0].version or "", bool(rows[0].is_overdue))


def admit(
    connection: Connection, seen: Seen, tat: float, taken: Sequence[tuple[Any, Ask | None]], now: float, until: float
) -> bool:
    """Takes slots for all, and the pages of those that know them; returns False if the account has changed since.

    `taken` are pairs of a reservations.Claim and what it asks for; `tat` is the account's bucket after them.
    """
    claims, asks = [claim for claim, _ in taken], [ask or NO_PAGES for _, ask in taken]
    return any_row(
        connection, _ADMIT, of=seen.account, version=seen.version, tat=int(tat * MICROSECONDS), slots=len(claims),
        total=sum(ask.pages for ask in asks), spend=sum(ask.spend for ask in asks), **_days(now), until=int(until),
        now=int(now), ids=[claim.id for claim in claims], owners=[claim.owner for claim in claims],
        upstreams=[claim.upstream for claim in claims], stages=[int(stage_of(ask)) for _, ask in taken],
        modes=[ask.mode for ask in asks], pages=[ask.pages for ask in asks], prices=[ask.price for ask in asks],
    )  # fmt: skip


def reserve(connection: Connection, seen: Seen, asks: Sequence[tuple[str, Ask]], now: float, until: float) -> bool:
    """Reserves pages for all; returns False if the account has changed, or a slot is missing or not of today.

    `asks` are pairs of a reservation's id and what it asks for.
    """
    what = [ask for _, ask in asks]
    return any_row(
        connection, _RESERVE, of=seen.account, version=seen.version, total=sum(ask.pages for ask in what),
        spend=sum(ask.spend for ask in what), **_days(now), until=int(until),
        ids=[name for name, _ in asks], pages=[ask.pages for ask in what], prices=[ask.price for ask in what],
        modes=[ask.mode for ask in what],
    )  # fmt: skip


def accept(
    connection: Connection,
    account: str,
    jobs: Sequence[tuple[str, Any, float]],
    webhooks: Sequence[Any],
    watcher: str,
    now: float,
) -> bool:
    """Records the jobs of submits that hold pages, and their webhooks; returns False if a submit holds none.

    `jobs` are triples of a reservation's id, a jobs.NewJob (None: the answer was lost), and when its pages expire;
    `webhooks` are deliveries.Planned.

    Raises:
        IntegrityError: a job or a webhook of that name exists.
    """
    new = [job for _, job, _ in jobs]
    return any_row(
        connection, _ACCEPT, of=account, watcher=watcher, now=int(now), ids=[name for name, _, _ in jobs],
        names=[job and job.request_id for job in new], shapes=[job and job.shape for job in new],
        paths=[job and job.path for job in new], urls=[job and job.check_url for job in new],
        untils=[int(until) for _, _, until in jobs],
        hook_ids=[hook.id for hook in webhooks], hook_upstreams=[hook.upstream for hook in webhooks],
        hook_names=[hook.request_id for hook in webhooks], hook_owners=[hook.owner for hook in webhooks],
        hook_urls=[hook.url for hook in webhooks], destinations=[hook.destination for hook in webhooks],
        hook_checks=[hook.check_url for hook in webhooks],
    )  # fmt: skip


def _days(now: float) -> dict[str, Any]:
    day, month = periods_at(now)
    return {"day": day, "month": month, "periods": [day, month]}


def any_row(connection: Connection, statement: TextClause, **values: Any) -> bool:
    """Runs a statement that gives a count of rows; returns whether there is any."""
    names = statement._bindparams  # noqa: SLF001 -- as above
    given = {name: value for name, value in values.items() if name in names}
    return bool(connection.execute(statement, given).scalar_one())
