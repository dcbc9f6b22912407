"""What is told of a key: the same state whoever tells it, in units that may be sent again, with dates that exist."""

from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from gateway.admin.views import key_fields
from gateway.cli.key_view import configured_view, ledger_view
from gateway.cli.words import money
from gateway.config.settings import Settings
from gateway.keys.view import facts_of, limits_as_written
from gateway.model.account_names import key_id_of
from gateway.model.keys import Generation, KeyRecord
from gateway.units import day, maybe_moment, moment
from tests.support.pure import make_settings

NOW = 1_000_000.0
CREATED, BEFORE, LATER = 900_000, 999_999, 1_000_001
LIVE = Generation(1, b"canary-digest", CREATED)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings(tmp_path, {"K": "secret"}, keys=[{"id": "ci", "secret": {"env": "K"}}])


def record(key_id: str = "a", *generations: Generation, **values: Any) -> KeyRecord:
    return KeyRecord(
        key_id, **{"profile": "default", "owner": "o", "created_at": CREATED, "revision": 1, **values},
        generations=generations or (LIVE,),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (record(), "live"),
        (record(expires_at=LATER), "live"),
        (record(expires_at=int(NOW)), "expired"),
        (record(expires_at=BEFORE, disabled_at=BEFORE), "disabled"),
        (record(profile="gone", disabled_at=BEFORE), "without a profile"),
        (record(profile="gone", unreadable=("limits",)), "unreadable"),
        (record("ci", profile="gone"), "in the file, too"),
        (record("a", Generation(1, b"", CREATED, revoked_at=BEFORE)), "without a secret"),
        (record("a", Generation(1, b"", CREATED, not_after=BEFORE)), "without a secret"),
        (record("a", Generation(1, b"", CREATED, not_after=BEFORE), LIVE), "live"),
    ],
)
def test_the_state_of_a_key(found: KeyRecord, state: str, settings: Settings) -> None:
    assert facts_of(found, settings, NOW, money)["state"] == state


@pytest.mark.parametrize(
    ("generation", "expires_at", "state", "live_until"),
    [
        (LIVE, None, "live", None),
        (LIVE, LATER, "live", LATER),
        (LIVE, BEFORE, "ended", BEFORE),
        (Generation(1, b"", CREATED, not_after=LATER), LATER + 1, "live", LATER),
        (Generation(1, b"", CREATED, not_after=int(NOW)), None, "ended", int(NOW)),
        (Generation(1, b"", CREATED, not_after=BEFORE, revoked_at=BEFORE), None, "revoked", BEFORE),
    ],
)
def test_the_state_of_a_secret(
    generation: Generation, expires_at: int | None, state: str, live_until: int | None, settings: Settings
) -> None:
    (told,) = facts_of(record("a", generation, expires_at=expires_at), settings, NOW, money)["generations"]
    assert (told["state"], told["live_until"]) == (state, maybe_moment(live_until))


def test_commands_and_admin_api_tell_the_same_but_for_money(settings: Settings) -> None:
    limits = {"spend_per_month": 1_250_000, "body_limit": 10, "needs_page_range": True, "pages_per_day": None}
    used = Generation(2, b"canary-digest", CREATED, last_used_at=BEFORE)
    found = record("a", LIVE, used, limits=limits, scopes=("admin",), networks=(ip_network("10.0.0.0/8"),))
    shown, answered = ledger_view(found, settings, NOW), key_fields(found, settings, NOW)
    expected = {"body_limit": "10B", "page_range": "required", "pages_per_day": None}
    assert shown.pop("limits") == {**expected, "spend_per_month": "1.25"}
    assert answered.pop("limits") == {**expected, "spend_per_month": 1.25}
    assert shown == {**answered, "source": "ledger", "last_used_at": moment(BEFORE)}
    assert "canary" not in str(shown)
    assert set(answered) == {field.name for field in fields(KeyRecord)} - {"revision", "limits", "unreadable"} | {
        "state"
    }


def test_keys_of_file_and_ledger_are_shown_in_one_form(settings: Settings) -> None:
    assert list(configured_view(settings.keys[0], NOW)) == list(ledger_view(record(), settings, NOW))


def test_limits_are_written_as_they_may_be_sent_again() -> None:
    assert limits_as_written({}, money) == {}
    assert limits_as_written({"needs_page_range": False, "spend_per_month": None}, money) == {
        "page_range": "optional",
        "spend_per_month": None,
    }


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (-(10**20), "1970-01-01T00:00:00Z"),
        (1_795_455_063.9, "2026-11-23T17:31:03Z"),
        (253_402_300_799, "9999-12-31T23:59:59Z"),
        (10**20, "9999-12-31T23:59:59Z"),
    ],
)
def test_every_number_of_seconds_has_a_date(seconds: float, told: str) -> None:
    assert moment(seconds) == maybe_moment(seconds) == told
    assert maybe_moment(None) is None


def test_days_and_accounts() -> None:
    assert (day(20261103), day(10101)) == ("2026-11-03", "0001-01-01")
    assert [key_id_of(account) for account in ("key:ci", "key:", "jwt:https://idp#key:a", "anyone")] == [
        "ci", "", None, None,
    ]  # fmt: skip
