"""What is written down of a request: who it was, and whose its jobs are."""

from gateway.errors import Fault, OutOfFiles
from gateway.model.reasons import Bearer, Reason, Source
from gateway.model.request import Delivery
from tests.support.pure import make_exchange, make_identity, make_permit


def test_a_permit_tells_who_it_was_and_of_an_open_route_nobody() -> None:
    identity = make_identity(key_id="ci", owner="key:acme")
    known, stranger = make_permit(identity=identity), make_permit()
    exchange = make_exchange()
    exchange.note_permit(stranger)
    assert (exchange.route, exchange.key_id, exchange.name, stranger.owner) == ("submit", None, None, "anyone")
    exchange.note_permit(known)
    assert (exchange.key_id, exchange.profile, exchange.authentication) == ("ci", "default", identity.label)
    assert (exchange.name, exchange.owner, known.owner) == ("ci", "key:acme", "key:acme")


def test_a_refused_bearer_is_shown_by_his_owner() -> None:
    assert make_exchange(bearer=Bearer("jwt:https://idp.test#ann")).name == "jwt:https://idp.test#ann"


def test_an_outcome_keeps_the_status_that_the_client_has_already() -> None:
    refused, begun, unbegun = make_exchange(), make_exchange(), make_exchange()
    begun.delivery, unbegun.delivery = Delivery(), Delivery()
    begun.delivery.status = 200
    for exchange in (refused, begun, unbegun):
        exchange.note_outcome(Reason.UPSTREAM_UNREACHABLE, "no route")
    assert [exchange.status for exchange in (refused, begun, unbegun)] == [502, 200, 502]
    assert (begun.reason, begun.source, begun.detail) == (Reason.UPSTREAM_UNREACHABLE, Source.UPSTREAM, "no route")


def test_a_fault_for_the_log_has_no_value() -> None:
    fault = Fault("a.b", "can't be `canary`", "line 3", "canary", plain="is wrong")
    assert "canary" in str(fault)
    assert "canary" not in fault.for_log
    assert "line 3" in fault.for_log


def test_out_of_files_says_what_to_raise() -> None:
    failed = OutOfFiles()
    assert (failed.reason, failed.retry_after > 0) == (Reason.OUT_OF_FILES, True)
    assert "LimitNOFILE" in str(failed)
