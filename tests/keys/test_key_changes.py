"""The operations on keys, on SQLite and on PostgreSQL: each change with its audit record, or neither."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.auth.api_keys import digest_of
from gateway.auth.key_secrets import is_secret
from gateway.config.settings import Settings
from gateway.keys.key_changes import KeyService, Made
from gateway.keys.validation import Wanted
from gateway.ledger import audit
from gateway.ledger.keys import KeyProblem
from gateway.ledger.ledger import Ledger
from gateway.limits.quotas import Used
from tests.support.pure import make_settings

NOW = 1_795_435_200.0
DAY = 86_400.0
ME = "cli:me"


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings(tmp_path, keys=[{"id": "ci", "secret": {"sha256": "0" * 64}}], profiles={"small": {}})


@pytest.fixture
def admin(ledger: Ledger, settings: Settings, clock: Clock) -> KeyService:
    numbers: Iterator[int] = itertools.count(1)
    return KeyService(ledger, lambda: settings, clock, lambda size: bytes([next(numbers)]) * size)


async def audited(ledger: Ledger) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Actor, action, subject and detail of all changes, the first one first."""
    found = [row.entry for row in await ledger.read(audit.recorded)]
    return [(entry.actor, entry.action, entry.subject, dict(entry.detail)) for entry in reversed(found)]


async def test_a_key_is_made_and_its_secret_is_not_kept(admin: KeyService, ledger: Ledger) -> None:
    made = await admin.create(ME, Wanted("a", "small", "team", ("admin",), ("10.0.0.0/8",), {}, NOW + DAY))
    assert made.secret is not None
    assert is_secret(made.secret.encode())
    assert made.secret not in repr(made)
    (record,) = await admin.list()
    (generation,) = record.generations
    assert generation.digest == digest_of(made.secret.encode())
    assert (record.profile, record.owner, record.expires_at) == ("small", "team", int(NOW + DAY))
    ((actor, action, subject, detail),) = await audited(ledger)
    assert (actor, action, subject) == (ME, "key.create", "a")
    assert detail == {
        "profile": "small", "owner": "team", "scopes": ["admin"], "networks": ["10.0.0.0/8"], "limits": {},
        "expires_at": int(NOW + DAY),
    }  # fmt: skip


async def test_what_is_refused_leaves_no_trace(admin: KeyService, ledger: Ledger) -> None:
    await admin.create(ME, Wanted("a"))
    for refused, kind in (
        (admin.create(ME, Wanted("a")), "conflict"),
        (admin.create(ME, Wanted("ci")), "conflict"),
        (admin.rotate(ME, "b", 0, None), "not_found"),
        (admin.rotate(ME, "a", -1, None), "invalid"),
        (admin.rotate(ME, "a", float("nan"), None), "invalid"),
        (admin.rotate(ME, "a", 1e300, None), "invalid"),
        (admin.rotate(ME, "a", 0, "a b"), "invalid"),
        (admin.revoke(ME, "a", None, force=False), "conflict"),
        (admin.revoke(ME, "a", 2, force=True), "not_found"),
        (admin.change(ME, "b", owner="x"), "not_found"),
        (admin.change(ME, "ci", owner="x"), "conflict"),
        (admin.set_disabled(ME, "b", disabled=True), "not_found"),
        (admin.grant(ME, "b", 1, NOW + 1), "not_found"),
        (admin.grant(ME, "a", 0, NOW + 1), "invalid"),
        (admin.grant(ME, "a", 1, NOW), "invalid"),
        (admin.grant(ME, "a", 1, 1e300), "invalid"),
        (admin.reset(ME, "b"), "not_found"),
        (admin.show("b"), "not_found"),
    ):
        with pytest.raises(KeyProblem) as caught:
            await refused
        assert caught.value.kind == kind
    assert [action for _, action, _, _ in await audited(ledger)] == ["key.create"]
    (record,) = await admin.list()
    assert len(record.generations) == 1


async def test_a_rotation_overlaps_and_changes_nothing_else(admin: KeyService, clock: Clock) -> None:
    await admin.create(ME, Wanted("a", "small", "team"))
    (before,) = await admin.list()
    made = await admin.rotate(ME, "a", DAY, None)
    assert (made.generation, made.previous_ends_at) == (2, int(NOW + DAY))
    (after,) = await admin.list()
    assert (after.profile, after.owner, after.created_at) == (before.profile, before.owner, before.created_at)
    for later, live in ((0.0, [1, 2]), (DAY + 1, [2])):
        clock.now = NOW + later
        assert [found.number for found in after.generations if found.is_live(clock.now)] == live


async def test_one_operation_rotates_once_however_many_try(admin: KeyService, ledger: Ledger) -> None:
    await admin.create(ME, Wanted("a"))
    tries = [admin.rotate(ME, "a", DAY, "deploy-7") for _ in range(8)]
    made: list[Made] = await asyncio.gather(*tries)
    assert {found.generation for found in made} == {2}
    assert {found.previous_ends_at for found in made} == {int(NOW + DAY)}
    assert len([found for found in made if found.secret is not None]) == 1
    assert [action for _, action, _, _ in await audited(ledger)] == ["key.create", "key.rotate"]
    again = await admin.rotate(ME, "a", DAY, "deploy-8")
    assert (again.generation, again.secret is None) == (3, False)


async def test_secrets_are_revoked_one_or_all(admin: KeyService, ledger: Ledger) -> None:
    await admin.create(ME, Wanted("a"))
    await admin.rotate(ME, "a", DAY, None)
    assert await admin.revoke(ME, "a", 1, force=False) == ([1], None)
    count = len(await audited(ledger))
    assert await admin.revoke(ME, "a", 1, force=False) == ([1], int(NOW))
    assert len(await audited(ledger)) == count
    with pytest.raises(KeyProblem, match="last live secret"):
        await admin.revoke(ME, "a", 2, force=False)
    assert await admin.revoke(ME, "a", None, force=True) == ([2], None)
    (record,) = await admin.list()
    assert [found.revoked_at for found in record.generations] == [int(NOW)] * 2
    assert (await audited(ledger))[-1] == (ME, "key.revoke", "a", {"generations": [2], "force": True})


async def test_keys_are_changed_disabled_and_enabled(admin: KeyService, ledger: Ledger) -> None:
    await admin.create(ME, Wanted("a", limits={"pages_per_day": 5}))
    changed = await admin.change(ME, "a", profile="small", limits={"pages_per_month": 9}, expires_at=NOW + DAY)
    assert (changed.profile, changed.limits) == ("small", {"pages_per_day": 5, "pages_per_month": 9})
    assert (await admin.change(ME, "a", expires_at=None)).expires_at is None
    assert (await admin.set_disabled(ME, "a", disabled=True)).disabled_at == int(NOW)
    assert (await admin.set_disabled(ME, "a", disabled=False)).disabled_at is None
    actions = [action for _, action, _, _ in await audited(ledger)]
    assert actions == ["key.create", "key.change", "key.change", "key.disable", "key.enable"]


async def test_changes_of_limits_at_once_are_all_kept(admin: KeyService) -> None:
    await admin.create(ME, Wanted("a"))
    names = ("pages_per_day", "pages_per_month", "requests_per_day", "requests_per_month", "polls_per_minute")
    await asyncio.gather(*(admin.change(ME, "a", limits={name: 7}) for name in names))
    record, _, _ = await admin.show("a")
    assert record.limits == dict.fromkeys(names, 7)


async def test_configured_keys_may_have_grants_and_begin_anew(admin: KeyService, ledger: Ledger) -> None:
    await admin.create(ME, Wanted("a"))
    for key_id in ("a", "ci"):
        await admin.grant(ME, key_id, 500, NOW + DAY)
        assert await admin.reset(ME, key_id) == Used()
    _, counts, grants = await admin.show("a")
    assert counts.granted == 500
    assert [(grant.pages, grant.until) for grant in grants] == [(500, int(NOW + DAY))]
    assert (await audited(ledger))[1] == (ME, "key.grant", "a", {"pages": 500, "until": int(NOW + DAY)})
