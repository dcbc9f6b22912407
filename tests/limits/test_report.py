"""What a caller is told of its own limits."""

from gateway.limits.quotas import AccountCounts, Used
from gateway.limits.report import account_report, used_report
from gateway.model.identity import Profile
from tests.support.pure import make_identity, make_permit

NOW = 1_800_000_000.0


def test_of_an_open_route_there_is_nobody_but_the_limits_are_told() -> None:
    told = account_report(make_permit(), AccountCounts(), NOW)
    nobody = ("id", "owner", "authentication", "generation", "expires_at")
    assert [told[name] for name in nobody] == [None] * 5
    assert (told["scopes"], told["profile"], told["page_range"]) == ([], "default", "optional")


def test_a_caller_is_told_until_when_and_what_is_used() -> None:
    identity = make_identity(expires_at=NOW + 1, scopes=frozenset({"b", "a"}), generation=2)
    told = account_report(make_permit(identity=identity), AccountCounts(day=Used(requests=2, pages=3)), NOW)
    assert (told["id"], told["owner"], told["generation"]) == ("ci", "key:ci", 2)
    assert (told["expires_at"], told["scopes"]) == ("2027-01-15T08:00:01Z", ["a", "b"])
    assert told["usage"]["day"] == {"requests": 2, "pages": 3, "spend": 0.0}


def test_money_is_told_in_units_of_the_currency_and_a_soft_limit_once_it_is_crossed() -> None:
    profile = Profile("default", 1000, spend_per_month=4_000_000, soft_limit=0.5)
    counts = AccountCounts(month=Used(spend=3_000_000))
    row = account_report(make_permit(identity=make_identity(profile=profile)), counts, NOW)["limits"][
        "spend_per_month"
    ]
    assert (row["limit"], row["used"], row["remaining"]) == (4.0, 3.0, 1.0)
    assert row["soft_limit_crossed"] is True
    assert row["resets_at"].endswith("-01T00:00:00Z")
    assert used_report(Used(spend=500_000))["spend"] == 0.5
