from gateway.limits.concurrency import downloads, plain_requests
from gateway.model.identity import Profile
from gateway.model.reasons import Reason

PROFILE = Profile("default", body_limit=1, concurrent_requests=2)


def test_an_account_has_so_many_places_and_others_have_their_own() -> None:
    places = plain_requests()
    assert [places.take("a", PROFILE), places.take("a", PROFILE)] == [None, None]
    denial = places.take("a", PROFILE)
    assert denial is not None
    assert (denial.reason, denial.retry_after) == (Reason.TOO_MANY_REQUESTS_IN_FLIGHT, 5)
    assert places.take("b", PROFILE) is None
    places.give_back("a")
    assert places.take("a", PROFILE) is None


def test_an_account_without_a_request_is_not_remembered() -> None:
    places = plain_requests()
    for account in ("a", "b"):
        places.take(account, PROFILE)
        places.give_back(account)
    assert len(places) == 0


def test_downloads_have_a_bound_of_their_own_which_may_be_asked_first() -> None:
    places, profile = downloads(), Profile("default", body_limit=1, concurrent_downloads=1)
    assert places.check("a", profile) is None
    assert len(places) == 0
    assert places.take("a", profile) is None
    denial = places.check("a", profile)
    assert denial is not None
    assert denial.detail == "1 results are being read by this account (concurrent_downloads)."
