"""`gateway explain` against the gateway itself: for each case both say the same."""

import asyncio
import os
import time
from typing import Any, NamedTuple

import pytest

from gateway.cli.explain import MODES
from gateway.cli.explanation import ExplainedRequest, Explanation, explain
from gateway.config.settings import Settings
from gateway.config.settings.limits import Prices
from gateway.keys.key_changes import KeyService
from gateway.keys.validation import Wanted
from gateway.ledger.accounts import read_counts
from gateway.ledger.ledger import open_ledger
from gateway.model.networks import parse_address
from tests.support.forms import FORM_TYPE, form, pdf
from tests.support.gateway import ADMIN_KEY, AWAY_KEY, KEY, Running, Start, request
from tests.support.waiting import eventually

SECTIONS: dict[str, Any] = {
    "network": {"allow": ["127.0.0.0/29"]},
    "keys": [
        {"id": "ci", "secret": {"env": "KEY_CI"}},
        {"id": "root", "secret": {"env": "KEY_ADMIN"}, "scopes": ["admin"]},
        {"id": "away", "secret": {"env": "KEY_AWAY"}, "networks": ["127.0.0.7/32"]},
    ],
    "profiles": {
        "reader": {"routes": ["result"]},
        "near": {"networks": ["127.0.0.2/32"]},
        "poor": {"pages_per_day": 5},
        "slow": {"requests_per_minute": 1},
        "small": {"pages_per_request": 2, "pages_in_flight": 2},
        "idle": {"requests_per_month": 0},
        "priced": {"spend_per_month": "0.010"},
    },
    "prices": {"per_1000_pages": {"fast": 1, "balanced": 2, "accurate": 4}, "default_mode": "balanced"},
    "aliases": {"/api/v1/convert": "/api/v1/marker"},
}
LEDGER_KEYS = (
    Wanted("reader", "reader"), Wanted("near", "near"), Wanted("poor", "poor"), Wanted("slow", "slow"),
    Wanted("small", "small"), Wanted("idle", "idle"), Wanted("off"), Wanted("revoked"), Wanted("rotated"),
    Wanted("granted", limits={"pages_per_day": 1}), Wanted("here", networks=("127.0.0.3/32",)), Wanted("ended"),
    Wanted("priced", "priced"),
)  # fmt: skip
SUBMIT, RESULT, USAGE, HEALTH = "/api/v1/marker", "/api/v1/marker/job-1", "/api/v1/usage", "/health_check"


class Case(NamedTuple):
    """A request, and what becomes of it; None when it goes upstream."""

    method: str
    target: str
    key: str | None
    reason: str | None
    pages: int | None = None
    source: str = "127.0.0.1"
    host: str = "gateway.test"
    mode: str | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.target} {self.key} {self.source} {self.pages} {self.mode} -> {self.reason}"


CASES = [
    Case("GET", RESULT, "ci", None),
    Case("GET", "/gateway/v1/me", "poor", None),
    Case("GET", "/api/v1/convert/job-1", "ci", None),
    Case("GET", HEALTH, None, None),
    Case("GET", f"http://gateway.test{RESULT}", "ci", None),
    Case("GET", f"HTTPS://gateway.test{RESULT}", "ci", None, host="evil.example"),
    Case("GET", "http://", "ci", "bad_request"),
    Case("POST", f"http://evil.example{SUBMIT}", "ci", "misdirected", pages=2),
    Case("get", RESULT, "ci", "bad_request"),
    Case("PURGE", RESULT, "ci", "method_not_allowed"),
    Case("GET", RESULT[1:], "ci", "bad_request"),
    Case("GET", RESULT, None, "unauthenticated"),
    Case("GET", "/nope", "ci", "route_not_found"),
    Case("GET", "/api/v1/../x", "ci", "bad_request"),
    Case("DELETE", SUBMIT, "ci", "method_not_allowed"),
    Case("GET", RESULT, "ci", "address_denied", source="127.0.0.9"),
    Case("GET", "/nope", "ci", "route_not_found", source="127.0.0.9"),
    Case("GET", RESULT, "away", "address_denied"),
    Case("GET", RESULT, "away", None, source="127.0.0.7"),
    Case("GET", RESULT, "here", "address_denied"),
    Case("GET", RESULT, "near", "address_denied"),
    Case("GET", RESULT, "near", None, source="127.0.0.2"),
    Case("GET", USAGE, "ci", "forbidden"),
    Case("GET", USAGE, "root", None),
    Case("GET", RESULT, "reader", None),
    Case("POST", SUBMIT, "reader", "forbidden", pages=1),
    Case("GET", RESULT, "off", "unauthenticated"),
    Case("GET", RESULT, "revoked", "unauthenticated"),
    Case("GET", RESULT, "rotated", None),
    Case("GET", RESULT, "ended", "unauthenticated"),
    Case("POST", SUBMIT, "poor", "budget_exhausted", pages=6),
    Case("POST", SUBMIT, "poor", None, pages=5),
    Case("POST", SUBMIT, "poor", "budget_exhausted", pages=1),
    Case("POST", SUBMIT, "granted", None, pages=4),
    Case("POST", SUBMIT, "small", "too_many_pages", pages=3),
    Case("POST", SUBMIT, "small", None, pages=2),
    Case("POST", SUBMIT, "small", "misdirected", pages=2, host="evil.example"),
    Case("GET", RESULT, "ci", None, host="evil.example"),
    Case("POST", SUBMIT, "small", "too_many_pages_in_flight", pages=1),
    Case("POST", SUBMIT, "slow", None, pages=1),
    Case("POST", SUBMIT, "slow", "rate_limited", pages=1),
    Case("POST", SUBMIT, "idle", "budget_exhausted", pages=1),
    Case("GET", RESULT, "idle", None),
    Case("POST", SUBMIT, "priced", "budget_exhausted", pages=3, mode="accurate"),
    Case("POST", SUBMIT, "priced", "budget_exhausted", pages=6),
    Case("POST", SUBMIT, "priced", None, pages=3, mode="balanced"),
    Case("POST", SUBMIT, "priced", None, pages=3, mode="fast"),
    Case("POST", SUBMIT, "priced", "budget_exhausted", pages=1),
    Case("POST", SUBMIT, "priced", None, pages=1, mode="fast"),
]


async def make_keys(settings: Settings, url: str) -> dict[str, str]:
    """Makes the ledger's keys; their latest secrets."""
    ledger = open_ledger(url, 30)
    now = time.time()
    admin = KeyService(ledger, lambda: settings, lambda: now, os.urandom)
    secrets = {wanted.id: (await admin.create("test", wanted)).secret or "" for wanted in LEDGER_KEYS}
    secrets["rotated"] = (await admin.rotate("test", "rotated", 3600, None)).secret or ""
    await admin.set_disabled("test", "off", disabled=True)
    await admin.revoke("test", "revoked", None, force=True)
    await admin.grant("test", "granted", 3, now + 60)
    earlier = KeyService(ledger, lambda: settings, lambda: now - 100, os.urandom)
    await earlier.change("test", "ended", expires_at=now - 10)
    await ledger.close()
    return secrets


@pytest.fixture
async def secrets_and_gateway(start: Start) -> tuple[dict[str, str], Running]:
    running = await start(**SECTIONS)
    live = running.gateway.live
    secrets = await make_keys(live.state.settings, str(live.state.settings.ledger.url))
    await eventually(lambda: len(live.state.ring.records) == len(LEDGER_KEYS) and _is_whole(running))
    return {**secrets, "ci": KEY, "root": ADMIN_KEY, "away": AWAY_KEY}, running


def _is_whole(running: Running) -> bool:
    records = running.gateway.live.state.ring.records
    return records["ended"].expires_at is not None and records["off"].disabled_at is not None


async def explained(running: Running, case: Case) -> Explanation:
    """What explain says, of the ledger as it is."""
    state = running.gateway.live.state
    ledger = open_ledger(str(state.settings.ledger.url), 30)
    account, now = f"key:{case.key}", time.time()
    counts = await ledger.read(lambda c: read_counts(c, account, now))
    await ledger.close()
    address = parse_address(case.source)
    question = ExplainedRequest(case.method, case.target, case.host, address, case.key, case.pages, case.mode)
    return explain(question, state, {account: counts}, now)


async def test_it_says_what_the_gateway_does(secrets_and_gateway: tuple[dict[str, str], Running]) -> None:
    secrets, running = secrets_and_gateway
    wrong = []
    for case in CASES:
        told = await explained(running, case)
        running.own("job-1", f"key:{case.key}")
        key = secrets[case.key] if case.key else None
        headers = [f"Content-Type: {FORM_TYPE}"] if case.method == "POST" else []
        body = (
            form(pdf(case.pages or 1), **({"mode": case.mode} if case.mode else {})) if case.method == "POST" else b""
        )
        head = request(case.method, case.target, *headers, key=key, body=body)
        head = head.replace(b"Host: gateway.test", f"Host: {case.host}".encode())
        answer = await running.ask(head, case.method.encode(), source=case.source)
        said = told.denial.reason if told.denial else None
        if not said == answer.reason == case.reason:
            wrong.append((str(case), said, answer.reason))
        if told.denial is not None:
            assert told.help, case
            assert answer.phrase in {told.denial.title, answer.phrase if told.denial.title is None else None}, case
        await asyncio.sleep(0)
    assert wrong == []


async def test_each_refusal_says_at_which_step_and_what_would_help(
    secrets_and_gateway: tuple[dict[str, str], Running],
) -> None:
    _, running = secrets_and_gateway
    for case, step, help_ in (
        (Case("GET", RESULT, "off", None), "key", "gateway keys enable off"),
        (Case("GET", RESULT, "revoked", None), "key", "gateway keys rotate revoked"),
        (Case("GET", RESULT, "ended", None), "key", "gateway keys change ended --expires 90d"),
        (Case("GET", RESULT, "here", None), "key's networks", "gateway keys change here --network 127.0.0.1"),
        (Case("GET", RESULT, "away", None), "key's networks", "change the key in the file"),
        (Case("GET", USAGE, "reader", None), "access", "gateway keys change reader --scope admin"),
        (Case("POST", SUBMIT, "idle", None), "limits", "gateway keys change idle --limit NAME=VALUE"),
        (Case("POST", SUBMIT, "poor", None, 6), "pages", "gateway keys grant poor --pages N --until WHEN"),
        (Case("GET", RESULT, "ci", None, source="10.0.0.1"), "address", "10.0.0.1 to network.allow"),
        (Case("GET", "/x", "ci", None), "route", "submit: POST /api/v1/{operation:marker|ocr}"),
        (Case("GET", RESULT, "ci", None, host="a b"), "request", "host"),
        (Case("get", RESULT, "ci", None), "request", "did you mean GET?"),
        (Case("GET", RESULT[1:], "ci", None), "request", f"begins with a slash: did you mean {RESULT}?"),
        (Case("GET", "http://", "ci", None), "request", "Write host and path as a client sends them"),
    ):
        told = await explained(running, case)
        assert told.denial is not None
        assert told.steps[-1].name == step
        assert told.steps[-1].text == told.denial.detail
        assert help_ in told.help, case
        assert (told.limits is not None) == (step in {"limits", "pages"})


def test_the_modes_that_may_be_asked_for_are_those_that_have_a_price() -> None:
    assert set(MODES) == set(Prices().per_1000_pages)
