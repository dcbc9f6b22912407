"""What a key may be: every refusal is one sentence, and what is stored is in the units of Profile."""

from pathlib import Path
from typing import Any

import pytest

from gateway.config.settings import Settings
from gateway.keys.validation import Wanted, changed_values, new_key
from gateway.ledger.keys import KeyProblem
from gateway.model.keys import KeyRecord
from gateway.units import LATEST
from tests.support.pure import make_settings

NOW = 1_795_435_200.0
PROFILES = {"small": {"pages_per_request": 10, "pages_in_flight": 20}, "premium": {"pages_per_month": 5}}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    keys = [{"id": "ci", "secret": {"sha256": "0" * 64}}]
    return make_settings(tmp_path, profiles=PROFILES, keys=keys)


def record(**values: Any) -> KeyRecord:
    return KeyRecord(**{"id": "a", "profile": "default", "owner": "a", "created_at": 1, "revision": 1, **values})


NONE = "is not a network, such as 10.0.0.0/8 or ::1/128"


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"id": "A"}, "an id has 1 to 63 characters of a-z, 0-9 and -"),
        ({"id": "a" * 64}, "an id has 1 to 63 characters of a-z, 0-9 and -"),
        ({"id": "a\n"}, "an id has 1 to 63 characters of a-z, 0-9 and -"),
        ({"id": "ci"}, "ci is a key of the configuration: change it there"),
        ({"profile": "premum"}, "there is no profile premum; did you mean premium?"),
        ({"profile": "x"}, "there is no profile x; there are: default, premium, small"),
        ({"owner": "a b"}, "an owner has 1 to 128 characters of A-Z, a-z, 0-9 and ._@-"),
        ({"scopes": ("a b",)}, "a scope has 1 to 64 characters of A-Z, a-z, 0-9 and :._-"),
        ({"networks": ("192.168.3.4/16",)},
         f"192.168.3.4/16 {NONE}: 192.168.3.4 is within one, so write 192.168.0.0/16, or 192.168.3.4 alone"),
        ({"networks": ("host.example",)},
         f"host.example {NONE}: names are not looked up, so write addresses"),
        ({"networks": ("\x1b[2J",)}, f"that {NONE}: Expected 4 octets in '\\x1b[2J'"),
        ({"expires_at": NOW}, "the expiry is in the past"),
        ({"expires_at": float("nan")}, "the expiry is in the past"),
        ({"expires_at": LATEST + 1.0}, "the expiry is too far away"),
        ({"limits": {"page_per_day": 1}}, "there is no limit page_per_day; did you mean pages_per_day?"),
        ({"limits": {"page_per_day": "default"}}, "there is no limit page_per_day; did you mean pages_per_day?"),
        ({"limits": {"pages_per_day": -1}}, "pages_per_day: must be at least 0"),
        ({"limits": {"pages_per_day": "3x"}}, "pages_per_day: must be a whole number"),
        ({"limits": {"pages_per_day": "${PAGES}"}}, "pages_per_day: must be a whole number"),
        ({"limits": {"pages_per_day": "9" * 5000}}, "pages_per_day: must be a whole number"),
        ({"limits": {"pages_per_day": "1e3"}}, "pages_per_day: must be a whole number: write 1000"),
        ({"limits": {"spend_per_month": "abc"}}, "spend_per_month: must be a number"),
        ({"limits": {"page_range": "maybe"}}, "page_range: must be optional or required"),
        ({"limits": {"body_limit": 5}},
         "body_limit: write a size with its unit, such as 200MB or 1KB (units: B, KB, MB, GB)"),
        ({"limits": {"polls_per_minute": None}},
         "polls_per_minute can't be none (null), as budgets of a day or a month can: leave it out"),
        ({"profile": "small", "limits": {"pages_per_request": 21}},
         "pages_in_flight is less than pages_per_request: such a job could never run"),
    ],
)  # fmt: skip
def test_what_a_new_key_can_not_be(settings: Settings, wanted: dict[str, Any], told: str) -> None:
    with pytest.raises(KeyProblem) as caught:
        new_key(Wanted(**{"id": "a", **wanted}), settings, NOW)
    assert str(caught.value) == told
    assert caught.value.kind == ("conflict" if wanted.get("id") == "ci" else "invalid")


def test_a_new_key_is_stored_in_the_units_of_profiles(settings: Settings) -> None:
    limits = {"spend_per_month": "12.5", "page_range": "required", "body_limit": "1KB", "pages_per_day": None,
              "polls_per_minute": "default"}  # fmt: skip
    wanted = Wanted("a", "small", None, ("x", "admin", "x"), ("10.0.0.0/8", "::1"), limits, NOW + 1.9)
    new = new_key(wanted, settings, NOW)
    assert (new.owner, new.scopes, new.networks) == ("a", ("x", "admin"), ("10.0.0.0/8", "::1/128"))
    assert new.limits == {
        "spend_per_month": 12_500_000, "needs_page_range": True, "body_limit": 1024, "pages_per_day": None,
    }  # fmt: skip
    assert new.expires_at == int(NOW) + 1


def test_of_limits_those_change_that_are_named(settings: Settings) -> None:
    before = record(limits={"needs_page_range": True, "pages_per_day": 5, "body_limit": 7})
    limits = {"page_range": "default", "pages_per_day": None, "pages_per_month": 9}
    assert changed_values(before, {"limits": limits}, settings, NOW) == {
        "limits": {"pages_per_day": None, "pages_per_month": 9, "body_limit": 7}
    }


def test_a_change_leaves_out_what_is_not_named(settings: Settings) -> None:
    assert changed_values(record(), {}, settings, NOW) == {}
    values = {"owner": None, "expires_at": None, "scopes": (), "networks": ()}
    assert changed_values(record(), values, settings, NOW) == {**values, "owner": "a"}


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        ({"profile": "small"}, {"limits": {"pages_per_request": 100}}),
        ({"limits": {"pages_per_request": 100}}, {"profile": "small"}),
        ({"profile": "small", "limits": {"pages_in_flight": 100, "pages_per_request": 100}},
         {"limits": {"pages_in_flight": "default"}}),
    ],
)  # fmt: skip
def test_no_change_makes_a_key_whose_jobs_could_never_run(
    settings: Settings, before: dict[str, Any], wanted: dict[str, Any]
) -> None:
    with pytest.raises(KeyProblem, match="could never run"):
        changed_values(record(**before), wanted, settings, NOW)


def test_a_key_whose_profile_is_gone_can_be_changed(settings: Settings) -> None:
    gone = record(profile="gone")
    assert changed_values(gone, {"limits": {"pages_per_day": 1}}, settings, NOW) == {"limits": {"pages_per_day": 1}}
    assert changed_values(gone, {"profile": "small"}, settings, NOW) == {"profile": "small"}


def test_limits_that_can_not_be_read_are_not_lost_by_a_change(settings: Settings) -> None:
    found = record(unreadable=("limits",))
    with pytest.raises(KeyProblem, match="the limits of a can't be read by this release"):
        changed_values(found, {"limits": {"pages_per_day": 1}}, settings, NOW)
    assert changed_values(found, {"profile": "small"}, settings, NOW) == {"profile": "small"}
