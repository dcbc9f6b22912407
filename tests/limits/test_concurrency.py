from gateway.limits.concurrency import Concurrency
from gateway.model.identity import Profile
from gateway.model.reasons import Reason

PROFILE = Profile("default", body_limit=1, concurrent_requests=2)


def test_an_account_has_so_many_places_and_others_have_their_own() -> None:
    places = Concurrency()
    assert [places.take("a", PROFILE), places.take("a", PROFILE)] == [None, None]
    denial = places.take("a", PROFILE)
    assert denial is not None
    assert (denial.reason, denial.retry_after) == (Reason.TOO_MANY_REQUESTS_IN_FLIGHT, 5)
    assert places.take("b", PROFILE) is None
    places.give_back("a")
    assert places.take("a", PROFILE) is None


def test_an_account_without_a_request_is_not_remembered() -> None:
    places = Concurrency()
    for account in ("a", "b"):
        places.take(account, PROFILE)
        places.give_back(account)
    assert len(places) == 0
