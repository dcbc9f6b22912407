"""What administrators do to keys (creation, key rotation, revocation), by command and by admin API alike.

A change and its audit record are written together, in one transaction. Secrets are made here, shown once to the
caller, and never stored: the ledger gets their SHA-256.
"""

import os
import pwd
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection

from gateway.auth.api_keys import digest_of
from gateway.auth.key_secrets import SECRET_BYTES, make_secret
from gateway.config.settings import Settings
from gateway.keys.grants import check_pages, detail_of, ended_grants
from gateway.keys.validation import Wanted, changed_values, future, new_key, plain_id
from gateway.ledger import audit, key_records, keys, usage
from gateway.ledger.accounts import read_counts
from gateway.ledger.keys import KeyProblem
from gateway.ledger.ledger import Ledger
from gateway.limits.quotas import AccountCounts, Used
from gateway.model import patterns
from gateway.model.account_names import key_account
from gateway.model.keys import KeyRecord
from gateway.units import LATEST

_OPERATION: Final = re.compile(patterns.OPERATION)


@dataclass(frozen=True, slots=True)
class Made:
    """A secret, shown this once; None if the operation was done before: then it is lost."""

    id: str
    generation: int
    secret: str | None = field(repr=False)
    previous_ends_at: int | None = None


class KeysPage(NamedTuple):
    """Some keys; if that was asked for, what the used ones of their accounts count, and when grants end."""

    records: list[KeyRecord]
    counts: dict[str, AccountCounts]
    ends: dict[str, usage.GrantEnds]


def _kept(made: Made) -> None:
    """Does nothing: the caller gets it as the return value."""


class KeyService:
    """Changes keys in the name of `actor`. `wall` is in seconds since the epoch; `random` returns random bytes."""

    def __init__(
        self,
        ledger: Ledger,
        settings: Callable[[], Settings],
        wall: Callable[[], float],
        random: Callable[[int], bytes],
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._wall = wall
        self._random = random

    async def create(self, actor: str, wanted: Wanted, hand_over: Callable[[Made], None] = _kept) -> Made:
        """Creates a key with its first secret.

        `hand_over` gets it before it takes effect, perhaps on a thread: if it raises, no key is created.

        Raises:
            KeyProblem: the id is taken, or a value is wrong.
            LedgerUnavailable: it may have been created: check with `show`; its secret is lost unless handed over.
        """
        now = self._wall()
        new = new_key(wanted, self._settings(), now)
        secret = make_secret(new.id, self._random(SECRET_BYTES))

        def work(connection: Connection) -> Made:
            record = keys.create(connection, new, digest_of(secret.encode("ascii")), now)
            detail = {
                "profile": new.profile, "owner": new.owner, "scopes": list(new.scopes),
                "networks": list(new.networks), "limits": new.limits, "expires_at": new.expires_at,
            }  # fmt: skip
            audit.record(connection, now, actor, "key.create", new.id, detail)
            made = Made(record.id, record.generations[-1].number, secret)
            hand_over(made)
            return made

        return await self._ledger.write(work, durable=True)

    async def rotate(
        self,
        actor: str,
        key_id: str,
        overlap: float,
        operation: str | None,
        hand_over: Callable[[Made], None] = _kept,
    ) -> Made:
        """Gives a key another secret; the previous one lasts `overlap` more seconds. `hand_over`: as in `create`.

        Raises:
            KeyProblem: the key does not exist, or a value is wrong.
            LedgerUnavailable: it may have been done; retry with the same `operation`, which is done only once.
        """
        now = self._wall()
        if not 0 <= overlap <= LATEST - now:
            raise KeyProblem("an overlap is not negative, and ends before the year 10000", "invalid", "overlap")
        if operation is not None and not _OPERATION.fullmatch(operation):
            raise KeyProblem("an operation is named by 1 to 128 visible characters", "invalid")
        secret = make_secret(self._plain(key_id), self._random(SECRET_BYTES))

        def work(connection: Connection) -> Made:
            digest = digest_of(secret.encode("ascii"))
            rotation = keys.rotate(connection, key_id, digest, overlap, now, operation)
            if not rotation.was_done:
                detail = {"generation": rotation.generation, "previous_ends_at": rotation.previous_ends_at or None}
                audit.record(connection, now, actor, "key.rotate", key_id, detail)
            shown = None if rotation.was_done else secret
            made = Made(key_id, rotation.generation, shown, rotation.previous_ends_at)
            hand_over(made)
            return made

        return await self._ledger.write(work, durable=True)

    async def revoke(self, actor: str, key_id: str, generation: int | None, *, force: bool) -> keys.RevokedSecrets:
        """Ends one secret of a key, or all; one that was revoked before changes nothing, and is not recorded again.

        Raises:
            KeyProblem: it does not exist, or it is the last live one and `force` is not given.
            LedgerUnavailable: it may have been done.
        """
        now = self._wall()

        def work(connection: Connection) -> keys.RevokedSecrets:
            ended = keys.revoke(connection, self._plain(key_id), generation, now, force=force)
            if ended.generations and ended.was_at is None:
                detail = {"generations": ended.generations, "force": force}
                audit.record(connection, now, actor, "key.revoke", key_id, detail)
            return ended

        return await self._ledger.write(work, durable=True)

    async def change(self, actor: str, key_id: str, **wanted: Any) -> KeyRecord:
        """Changes the given values of Wanted; others stay. See validation.changed_values for `limits`.

        Raises:
            KeyProblem: the key does not exist, or a value is wrong.
            LedgerUnavailable: it may have been done.
        """
        now = self._wall()

        def work(connection: Connection) -> KeyRecord:
            record = keys.lock_key(connection, self._plain(key_id))
            values = changed_values(record, wanted, self._settings(), now)
            record = keys.change_key(connection, key_id, **values)
            audit.record(connection, now, actor, "key.change", key_id, values)
            return record

        return await self._ledger.write(work, durable=True)

    async def set_disabled(self, actor: str, key_id: str, *, disabled: bool) -> KeyRecord:
        """Disables a key, or enables it again; changes nothing else of it.

        Raises:
            KeyProblem: the key does not exist.
            LedgerUnavailable: it may have been done.
        """
        now = self._wall()

        def work(connection: Connection) -> KeyRecord:
            values = {"disabled_at": int(now) if disabled else None}
            record = keys.change_key(connection, self._plain(key_id), **values)
            audit.record(connection, now, actor, "key.disable" if disabled else "key.enable", key_id, {})
            return record

        return await self._ledger.write(work, durable=True)

    async def grant(self, actor: str, key_id: str, pages: int, until: float) -> None:
        """Adds pages to a key's page budgets until a moment; configured keys may have grants, too.

        Raises:
            KeyProblem: the key does not exist, or a value is wrong.
            LedgerUnavailable: it may have been done.
        """
        now = self._wall()
        check_pages(pages)
        end = future(until, now, "the end of the grant", "until")

        def work(connection: Connection) -> None:
            self._known(connection, key_id)
            usage.grant(connection, key_account(key_id), pages, end, now)
            audit.record(connection, now, actor, "key.grant", key_id, {"pages": pages, "until": end})

        await self._ledger.write(work, durable=True)

    async def end_grants(self, actor: str, key_id: str, grant_id: int | None) -> list[usage.GrantRow]:
        """Ends one grant of a key at once, or all; returns which ended.

        Raises:
            KeyProblem: the key or the grant does not exist.
            LedgerUnavailable: it may have been done.
        """
        now = self._wall()

        def work(connection: Connection) -> list[usage.GrantRow]:
            self._known(connection, key_id)
            ended = ended_grants(connection, key_account(key_id), grant_id, now)
            audit.record(connection, now, actor, "key.end_grant", key_id, *map(detail_of, ended))
            return ended

        return await self._ledger.write(work, durable=True)

    async def reset(self, actor: str, key_id: str) -> Used:
        """Resets a key's windows; returns what was cleared of this month.

        Raises:
            KeyProblem: the key does not exist.
            LedgerUnavailable: it may have been done.
        """
        now = self._wall()

        def work(connection: Connection) -> Used:
            self._known(connection, key_id)
            forgotten = usage.reset(connection, key_account(key_id), now)
            audit.record(connection, now, actor, "key.reset", key_id, forgotten._asdict())
            return forgotten

        return await self._ledger.write(work, durable=True)

    async def list(self) -> list[KeyRecord]:
        """Returns all keys of the ledger.

        Raises:
            LedgerUnavailable: the ledger does not answer.
        """
        return await self._ledger.read(key_records.all_keys)

    async def page(
        self, most: int, after: str | None, text: str | None, *, counted: bool, among: Collection[str] | None = None
    ) -> KeysPage:
        """Returns keys of the ledger by id, after one of them, with a text in them; `counted`: with their counts.

        `among`: only keys of these ids.

        Raises:
            LedgerUnavailable: the ledger does not answer.
        """
        now = self._wall()

        def work(connection: Connection) -> KeysPage:
            records = key_records.keys_page(connection, most, after, text, among)
            of = [key_account(record.id) for record in records] if counted else []
            return KeysPage(records, *(usage.with_ends(connection, of, now) if of else ({}, {})))

        return await self._ledger.report(work)

    async def show(self, key_id: str) -> tuple[KeyRecord, AccountCounts, Sequence[usage.GrantRow]]:
        """Returns one key of the ledger, its account's counts, and its grants.

        Raises:
            KeyProblem: the key does not exist.
            LedgerUnavailable: the ledger does not answer.
        """
        account = key_account(self._plain(key_id))
        now = self._wall()
        return await self._ledger.read(
            lambda c: (keys.one_key(c, key_id), read_counts(c, account, now), usage.grants_of(c, account, now))
        )

    def _known(self, connection: Connection, key_id: str) -> None:
        if key_id not in {key.id for key in self._settings().keys}:
            keys.one_key(connection, self._plain(key_id))

    def _plain(self, key_id: str) -> str:
        return plain_id(key_id, self._settings())


def user_name() -> str:
    """Who runs the command, according to the kernel: the environment could claim anything."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
