"""The audit trail in the ledger.

A change and its record are one transaction, so that neither exists alone; such a record is `untold` until a gateway
has logged it. What gateways note themselves is buffered in memory and written later.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, or_, select, update

from gateway.ledger.composite_keys import is_one_of
from gateway.ledger.matching import can_be_stored, holds
from gateway.ledger.paging import behind
from gateway.ledger.row_portions import in_portions, portions_of, read_in_portions
from gateway.ledger.schema import audit, counters, jobs
from gateway.ledger.statement import Statement
from gateway.model.account_names import key_account
from gateway.model.audit import Action, Entry

_AT_ONCE: Final = 500
_INSERT: Final = insert(audit)
_UNTOLD: Final = Statement(select(audit.c.id).where(audit.c.untold.is_not(None)).limit(1))
_BOUNDED: Final = (Action.READ, Action.REFUSED)
_OF_SECRETS: Final = (Action.SECRET_SET, Action.SECRET_REMOVED)
_RECORDED_AT_ONCE: Final = 200


class FirstRead(NamedTuple):
    """A job was read: becomes a record if it was never read before."""

    entry: Entry
    upstream: str
    owner: str


class AuditRecord(NamedTuple):
    """A record as stored in the ledger; `id` rises in the order of writing."""

    id: int
    entry: Entry


class AuditMark(NamedTuple):
    """Where a page of records ended (cursor); `at` is in seconds since the epoch."""

    at: int
    id: int

    @property
    def record(self) -> AuditRecord:
        """What stands for the page's last record, for `recorded`."""
        return AuditRecord(self.id, Entry(self.at, "", "", "", {}))


def record(
    connection: Connection, now: float, actor: str, action: str, subject: str, *details: Mapping[str, Any]
) -> None:
    """Records a change, or several; `details` never hold a secret. `now` is in seconds since the epoch."""
    _insert(connection, [Entry(int(now), actor, action, subject, its) for its in details], untold=1)


def append(connection: Connection, notes: Iterable[Entry | FirstRead]) -> list[Entry]:
    """Writes what a gateway has noted; returns the notes that became records."""
    notes = list(notes)
    reads = [note for note in notes if isinstance(note, FirstRead)]
    firsts = _firsts(connection, {(read.upstream, read.entry.subject, read.owner): read for read in reversed(reads)})
    entries = [_entry_of(note) for note in notes if not isinstance(note, FirstRead) or id(note) in firsts]
    _insert(connection, entries, untold=None)
    return entries


def state_secrets(
    connection: Connection, declared: Mapping[str, str | None], replaced: Collection[str], actor: str, now: float
) -> list[Entry]:
    """Records which secrets differ from the last records, and which are known to be `replaced`.

    `declared` has fingerprints by setting, None for a secret that has none.
    """
    # Replicas that reload together record it once: the second one waits here, and then sees the first one's records.
    connection.execute(select(counters).where(counters.c.name == "ledger").with_for_update())
    last = _last_stated(connection)
    found = [
        Entry(int(now), actor, Action.SECRET_SET, subject, {"fingerprint": fingerprint} if fingerprint else {})
        for subject, fingerprint in in_portions(connection, list(declared.items()))
        if last.get(subject) != (Action.SECRET_SET, fingerprint) or subject in replaced
    ]
    gone = [name for name, (action, _) in last.items() if action == Action.SECRET_SET and name not in declared]
    found += [Entry(int(now), actor, Action.SECRET_REMOVED, subject, {}) for subject in gone]
    append(connection, found)
    return found


def has_untold(connection: Connection) -> bool:
    """Whether there are changes that no gateway has logged yet."""
    return _UNTOLD.first(connection) is not None


def take_untold(connection: Connection) -> list[Entry]:
    """Takes unlogged changes, a batch in order; the caller must log them."""
    query = select(audit).where(audit.c.untold.is_not(None)).order_by(audit.c.id).limit(_AT_ONCE)
    rows = list(connection.execute(query.with_for_update(skip_locked=True)))
    if rows:
        taken = update(audit).where(audit.c.id.in_([row.id for row in rows])).values(untold=None)
        connection.execute(taken)
    return [_recorded(row).entry for row in rows]


def recorded(  # noqa: PLR0913 -- filters, all but the first by name
    connection: Connection,
    *,
    since: float = 0,
    of: str | None = None,
    text: str | None = None,
    most: int = 1000,
    before: AuditRecord | None = None,
    action: str | None = None,
    changes: bool = False,
) -> list[AuditRecord]:
    """Records since a moment, the newest first; of one key or owner, or of all.

    Sorted by when it happened: first reads and refusals are written later than changes are. `text`: only those that
    have it in their actor, action, subject or detail. `action`: of this one, or of all of a kind (`key.`); `changes`:
    without what gateways note, first reads and refusals. `before`: the last record of the page before (pagination).
    """
    if not can_be_stored(text, action):
        return []
    newest_first = select(audit).order_by(audit.c.at.desc(), audit.c.id.desc()).limit(most)
    query = newest_first.where(audit.c.at >= int(since))
    if of is not None:
        query = query.where(_concerns(of))
    if text:
        query = query.where(holds(text, audit.c.actor, audit.c.action, audit.c.subject, audit.c.detail))
    if action is not None:
        of_kind = audit.c.action.startswith(action, autoescape=True)
        query = query.where(of_kind if action.endswith(".") else audit.c.action == action)
    if changes:
        query = query.where(audit.c.action.not_in(_BOUNDED))
    if before is not None:
        query = behind(query, audit.c.at, before.entry.at, audit.c.id < before.id)
    return list(map(_recorded, read_in_portions(connection, query)))


def surplus(connection: Connection, most: int) -> dict[str, int]:
    """The id up to which first reads or refusals exceed `most` of each. A slow query: see Ledger.report."""
    found = {}
    for action in _BOUNDED:
        newest_first = select(audit.c.id).where(audit.c.action == action).order_by(audit.c.id.desc())
        cut = connection.execute(newest_first.offset(most).limit(1)).scalar()
        if cut is not None:
            found[str(action)] = cut
    return found


def purge(connection: Connection, before: float, cuts: Mapping[str, int]) -> int:
    """Deletes what is older than a moment, and what `surplus` found, a batch at a time; returns how many.

    Changes go by age alone: only administrators make them, so a stranger can't push them out.
    """
    old = select(audit.c.id).where(audit.c.at < int(before)).order_by(audit.c.at).limit(_AT_ONCE)
    removed = _remove(connection, connection.execute(old).scalars().all())
    for action, cut in cuts.items():
        too_many = select(audit.c.id).where(audit.c.action == action, audit.c.id <= cut)
        oldest = connection.execute(too_many.order_by(audit.c.id).limit(_AT_ONCE)).scalars().all()
        removed += _remove(connection, oldest)
    return removed


def _remove(connection: Connection, ids: Sequence[int]) -> int:
    return connection.execute(delete(audit).where(audit.c.id.in_(ids))).rowcount if ids else 0


def _insert(connection: Connection, entries: Sequence[Entry], untold: int | None) -> None:
    for some in portions_of(connection, entries, _RECORDED_AT_ONCE):
        connection.execute(_INSERT, [{**_row(entry), "untold": untold} for entry in some])


def _entry_of(note: Entry | FirstRead) -> Entry:
    return note.entry if isinstance(note, FirstRead) else note


def _firsts(connection: Connection, reads: Mapping[tuple[str, str, str], FirstRead]) -> set[int]:
    """Marks jobs as read; returns which of the reads (by id()) were first. A job deleted by now was read before that.

    The rows are locked in one order, since replicas may note the same jobs, and for two statements only, since the
    transaction that ends a job waits for them.
    """
    if not reads:
        return set()
    keys = is_one_of((jobs.c.upstream, jobs.c.request_id), sorted({(upstream, name) for upstream, name, _ in reads}))
    query = select(jobs.c.upstream, jobs.c.request_id, jobs.c.owner, jobs.c.read_at).where(keys)
    rows = connection.execute(query.order_by(jobs.c.upstream, jobs.c.request_id).with_for_update())
    known = {(row.upstream, row.request_id, row.owner): row.read_at for row in rows}
    unread = [(upstream, name) for upstream, name, owner in known if known[upstream, name, owner] is None]
    marked = [key for key in reads if key[:2] in set(unread) and key in known]
    if marked:
        at = max(reads[key].entry.at for key in marked)
        of = is_one_of((jobs.c.upstream, jobs.c.request_id), [key[:2] for key in marked])
        connection.execute(update(jobs).where(of).values(read_at=at))
    return {id(read) for key, read in reads.items() if known.get(key) is None}


def _concerns(key: str) -> ColumnElement[bool]:
    """`key` is the id of a key, or the owner of a token or certificate."""
    is_of_one = or_(audit.c.action.like("key.%"), audit.c.action.like("caller.%"))
    of_key = (audit.c.subject == key) & is_of_one
    return or_(of_key, audit.c.subject == f"keys[{key}].secret", audit.c.actor.in_((key, key_account(key))))


def _last_stated(connection: Connection) -> dict[str, tuple[str, str | None]]:
    latest = select(func.max(audit.c.id)).where(audit.c.action.in_(_OF_SECRETS)).group_by(audit.c.subject)
    rows = read_in_portions(connection, select(audit).where(audit.c.id.in_(latest)))
    return {row.subject: (row.action, json.loads(row.detail).get("fingerprint")) for row in rows}


def _row(entry: Entry) -> dict[str, Any]:
    return {**entry._asdict(), "detail": json.dumps(entry.detail)}


def _recorded(row: Row[Any]) -> AuditRecord:
    return AuditRecord(row.id, Entry(row.at, row.actor, row.action, row.subject, json.loads(row.detail)))
