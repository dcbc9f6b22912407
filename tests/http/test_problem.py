import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.problem import own_answer, problem
from gateway.model.printable import printable
from gateway.model.reasons import VERDICTS, Denial, Reason
from tests.support.pure import PROPERTY, REFUSING_REASONS, parse_response, values_of

DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
ID = "0123456789abcdef0123456789abcdef"
CHALLENGES = {  # RFC 6750 3.1
    Reason.UNAUTHENTICATED: b'Bearer realm="gateway"',
    Reason.TOKEN_INVALID: b'Bearer realm="gateway", error="invalid_token"',
    Reason.TOKEN_EXPIRED: b'Bearer realm="gateway", error="invalid_token", error_description="expired"',
}


@pytest.mark.parametrize("reason", REFUSING_REASONS)
@pytest.mark.parametrize("closes", [True, False])
def test_is_one_answer_in_the_shape_that_clients_know(reason: Reason, closes: bool) -> None:
    response, body = parse_response(problem(Denial(reason, "Why."), ID, DATE, closes=closes))
    verdict = VERDICTS[reason]
    assert (response.status_code, response.reason) == (verdict.status, verdict.title.encode())
    assert json.loads(body) == {
        "type": f"urn:document-gateway:problem:{reason.value}",
        "title": verdict.title,
        "status": verdict.status,
        "detail": "Why.",
        "reason": reason.value,
        "request_id": ID,
    }
    headers = dict(response.headers)
    assert headers == {
        b"content-type": b"application/problem+json",
        b"content-length": str(len(body)).encode(),
        b"cache-control": b"no-store",
        b"date": DATE,
        b"x-request-id": ID.encode(),
        b"x-gateway-reason": reason.value.encode(),
        **({b"connection": b"close"} if closes else {}),
        **({b"www-authenticate": CHALLENGES[reason]} if verdict.status == 401 else {}),
    }
    assert len(response.headers) == len(headers)


@pytest.mark.parametrize("reason", REFUSING_REASONS)
def test_an_answer_to_head_states_the_length_of_a_body_that_it_has_not(reason: Reason) -> None:
    denial = Denial(reason, "Why.")
    whole = problem(denial, ID, DATE, closes=False)
    bodiless = problem(denial, ID, DATE, closes=False, bodiless=True)
    assert bodiless == whole[: whole.index(b"\r\n\r\n") + 4]
    response, body = parse_response(bodiless, "HEAD")
    assert body == b""
    assert values_of(response, b"content-length") == [str(len(whole) - len(bodiless)).encode()]


def test_tells_when_to_come_back_and_which_methods_there_are() -> None:
    response, _ = parse_response(
        problem(Denial(Reason.TOO_MANY_BAD_LOGINS, "", retry_after=17), ID, DATE, closes=False)
    )
    assert values_of(response, b"retry-after") == [b"17"]
    response, _ = parse_response(
        problem(Denial(Reason.METHOD_NOT_ALLOWED, "", allow=("GET", "PUT")), ID, DATE, closes=False)
    )
    assert values_of(response, b"allow") == [b"GET, PUT"]
    assert values_of(response, b"retry-after") == []


def test_a_title_of_its_own_is_the_reason_phrase_too() -> None:
    denial = Denial(Reason.BUDGET_EXHAUSTED, "", title="Page budget used up until 2026-12-01")
    response, body = parse_response(problem(denial, ID, DATE, closes=False))
    assert response.reason == b"Page budget used up until 2026-12-01"
    assert json.loads(body)["title"] == "Page budget used up until 2026-12-01"
    assert json.loads(body)["type"] == "urn:document-gateway:problem:budget_exhausted"


def test_lines_of_a_refusal_are_headers() -> None:
    lines = (b"RateLimit: a", b"RateLimit-Policy: b")
    response, _ = parse_response(problem(Denial(Reason.RATE_LIMITED, "", lines=lines), ID, DATE, closes=True))
    assert values_of(response, b"ratelimit") == [b"a"]
    assert values_of(response, b"ratelimit-policy") == [b"b"]


@pytest.mark.parametrize("closes", [True, False])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_answer_of_our_own_that_is_no_problem(method: str, closes: bool) -> None:
    whole = own_answer(b'{"a": 1}', ID.encode(), DATE, closes=closes, bodiless=method == "HEAD")
    response, body = parse_response(whole, method)
    assert (response.status_code, response.reason) == (200, b"OK")
    assert body == (b"" if method == "HEAD" else b'{"a": 1}')
    assert dict(response.headers) == {
        b"content-type": b"application/json",
        b"content-length": b"8",
        b"cache-control": b"no-store",
        b"date": DATE,
        b"x-request-id": ID.encode(),
        **({b"connection": b"close"} if closes else {}),
    }


def test_zero_seconds_are_told_too() -> None:
    response, _ = parse_response(
        problem(Denial(Reason.TOO_MANY_BAD_LOGINS, "", retry_after=0), ID, DATE, closes=False)
    )
    assert values_of(response, b"retry-after") == [b"0"]


@PROPERTY
@given(st.text(st.characters(codec=None)))
def test_any_detail_arrives_as_far_as_it_is_printable_and_breaks_nothing(detail: str) -> None:
    response, body = parse_response(problem(Denial(Reason.BAD_REQUEST, detail), ID, DATE, closes=True))
    assert json.loads(body)["detail"] == printable(detail)
    assert values_of(response, b"x-request-id") == [ID.encode()]
