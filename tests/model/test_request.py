import dataclasses
import json
import re
import string

import pytest

import gateway.errors
from gateway.errors import (
    ClientGone,
    ClientTooSlow,
    ConfigurationError,
    Fault,
    GatewayError,
    Refused,
    UpstreamBrokeOff,
    UpstreamFailed,
    refuse,
    whereabouts,
    without_calls,
)
from gateway.model.networks import parse_address
from gateway.model.reasons import VERDICTS, Denial, Reason, Source
from gateway.model.routes import Access, Kind, Route
from tests.support.pure import REFUSING_REASONS, make_head, make_identity, make_permit

PLACES = ("path", "query", "body")
UPSTREAM = {Reason.UPSTREAM_UNREACHABLE: 502, Reason.UPSTREAM_BROKE_OFF: 502, Reason.UPSTREAM_TIMEOUT: 504}
# Chapter 7 of the design, as far as this version has the reason; `answered` is our own answer that is no problem.
STATUSES = {
    "unauthenticated": 401, "address_denied": 403, "forbidden": 403, "route_not_found": 404,
    "method_not_allowed": 405,
    "bad_request": 400, "body_malformed": 400, "body_too_slow": 408, "unsupported_media_type": 415,
    "body_too_large": 413,
    "headers_too_large": 431, "too_many_bad_logins": 429, "upstream_unreachable": 502, "upstream_broke_off": 502,
    "upstream_timeout": 504, "internal": 500, "client_gone": 499, "expectation_failed": 417,
    "version_not_supported": 505, "token_expired": 401, "token_invalid": 401, "budget_exhausted": 403,
    "bad_page_range": 400, "too_many_pages": 413, "field_refused": 422, "rate_limited": 429,
    "too_many_requests_in_flight": 429, "too_many_pages_in_flight": 429, "ledger_unavailable": 503, "spool_full": 503,
    "out_of_files": 503, "answered": 200, "trailing_slash": 307,
}  # fmt: skip


def test_every_reason_but_forwarded_has_a_verdict() -> None:
    assert set(VERDICTS) == {*REFUSING_REASONS, Reason.ANSWERED}


@pytest.mark.parametrize("reason", REFUSING_REASONS)
def test_a_title_is_short_ascii_that_fits_a_status_line(reason: Reason) -> None:
    title = VERDICTS[reason].title
    assert 5 <= len(title) <= 40
    assert set(title) <= set(string.ascii_letters + string.digits + " -")
    assert title == title.strip()
    assert title[0].isupper()


def test_an_answer_of_our_own_is_no_refusal() -> None:
    assert (VERDICTS[Reason.ANSWERED].status, VERDICTS[Reason.ANSWERED].source) == (200, Source.GATEWAY)


def test_titles_tell_reasons_apart() -> None:
    titles = [verdict.title for verdict in VERDICTS.values()]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("reason", REFUSING_REASONS)
def test_the_status_says_who_is_to_blame(reason: Reason) -> None:
    verdict = VERDICTS[reason]
    if reason in UPSTREAM:
        assert (verdict.source, verdict.status) == (Source.UPSTREAM, UPSTREAM[reason])
    elif verdict.source is Source.GATEWAY:
        assert verdict.status in {500, 503}
    else:
        assert verdict.source is Source.CLIENT
        assert 400 <= verdict.status < 500 or verdict.status in {307, 505}


@pytest.mark.parametrize(("name", "status"), STATUSES.items())
def test_statuses_are_those_of_the_design(name: str, status: int) -> None:
    assert VERDICTS[Reason(name)].status == status


def test_reasons_are_words_that_a_label_may_hold() -> None:
    for reason in Reason:
        assert set(reason.value) <= set(string.ascii_lowercase + "_")
        assert hash(reason) == hash(reason.value)


@pytest.mark.parametrize(
    ("length", "chunked", "has"), [(None, False, False), (0, False, False), (1, False, True), (None, True, True)]
)
def test_a_head_knows_whether_a_body_follows(length: int | None, chunked: bool, has: bool) -> None:
    pairs = [(b"Content-Length", b"%d" % length)] if length is not None else []
    head = make_head(pairs=[*pairs, *([(b"Transfer-Encoding", b"chunked")] if chunked else [])])
    assert head.headers.has_body is has


def test_nouns_can_not_be_changed() -> None:
    for noun, name in (
        (make_identity(), "owner"),
        (make_head().headers, "host"),
        (Denial(Reason.FORBIDDEN, ""), "detail"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(noun, name, "x")
    assert Route("a", Kind.PLAIN, Access.KEY).upstream == "default"


# The tree of errors


def test_every_error_is_in_the_tree() -> None:
    found = [
        value for value in vars(gateway.errors).values() if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert all(issubclass(error, GatewayError) for error in found)
    assert {error.__name__ for error in found} == {
        line.strip(" │├└─").split(" ")[0]
        for line in (gateway.errors.__doc__ or "").split("\n")
        if line.startswith("    ")
    }


def test_errors_know_their_reason() -> None:
    failures: list[type[ClientGone | UpstreamFailed]] = [ClientGone, ClientTooSlow, UpstreamFailed]
    failures += UpstreamFailed.__subclasses__()
    assert {error.__name__: error.reason for error in failures} == {
        "ClientGone": Reason.CLIENT_GONE,
        "ClientTooSlow": Reason.CLIENT_TOO_SLOW,
        "UpstreamFailed": Reason.UPSTREAM_BROKE_OFF,
        "UpstreamUnreachable": Reason.UPSTREAM_UNREACHABLE,
        "OutOfFiles": Reason.OUT_OF_FILES,
        "UpstreamBrokeOff": Reason.UPSTREAM_BROKE_OFF,
        "UpstreamTimeout": Reason.UPSTREAM_TIMEOUT,
    }


@pytest.mark.parametrize("kind", Kind)
def test_a_request_about_one_job_names_it_in_its_body_where_the_route_says_so(kind: Kind) -> None:
    permits = [make_permit(kind=kind)._replace(route=Route("r", kind, Access.KEY, id_in=place)) for place in PLACES]
    is_about_one = kind in {Kind.RESULT, Kind.ASSET, Kind.DELETE}
    assert [permit.names_job_in_body for permit in permits] == [False, False, is_about_one]


def test_errors_carry_what_they_say() -> None:
    refused = refuse(Reason.FORBIDDEN, "No.")
    assert isinstance(refused, Refused)
    assert (refused.denial, str(refused)) == (Denial(Reason.FORBIDDEN, "No."), "No.")
    assert (UpstreamBrokeOff("x", arrived=True).arrived, UpstreamBrokeOff("x", arrived=False).arrived) == (
        True,
        False,
    )
    faults = [Fault("a.b", "is wrong"), Fault("", "all is wrong")]
    assert str(ConfigurationError(faults)) == "a.b: is wrong\nall is wrong"
    assert ConfigurationError(faults).faults == tuple(faults)


def test_an_error_is_where_it_last_was_in_our_code() -> None:
    """Raised in a library, below us, or outside: the place that tells most is ours, by its path."""
    with pytest.raises(ValueError, match="canary") as raised:
        parse_address("canary")
    assert re.fullmatch(r"\w+Error at gateway/model/networks\.py:\d+", whereabouts(raised.value))
    assert whereabouts(KeyError("canary")) == "KeyError"
    with pytest.raises(json.JSONDecodeError) as elsewhere:
        json.loads("canary")
    assert re.fullmatch(r"JSONDecodeError at decoder\.py:\d+", whereabouts(elsewhere.value))


def test_an_error_without_its_calls_still_tells_where_it_was_first() -> None:
    with pytest.raises(ValueError, match="canary") as raised:
        parse_address("canary")
    first = whereabouts(raised.value)
    for _again in range(2):
        bare = without_calls(raised.value)
        assert (bare.__traceback__, bare.__context__, bare.__cause__) == (None, None, None)
        with pytest.raises(ValueError, match="canary"):
            raise bare
        assert whereabouts(bare) == first
    assert whereabouts(without_calls(KeyError("canary"))) == "KeyError"
