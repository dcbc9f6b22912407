"""Keys through the admin API: what it does, what it tells, and what it never tells."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.admin.api import SECRET, Api
from tests.support.forms import FORM_TYPE, form
from tests.support.gateway import SUBMIT, Running, Start, request
from tests.support.jobs import ME

KEYS = "/admin/v1/keys"
LIMITS = {"pages_per_day": 500, "body_limit": "3MB", "spend_per_month": 12.5, "page_range": "required"}
SHOWN = {**LIMITS, "body_limit": "3145728B"}


@pytest.fixture
def api(gateway: Running) -> Api:
    return Api(gateway)


def later(**span: float) -> str:
    return f"{datetime.now(UTC) + timedelta(**span):%Y-%m-%dT%H:%M:%SZ}"


async def opens(gateway: Running, secret: str) -> int:
    return (await gateway.ask(request("GET", ME, key=secret))).status


async def test_a_key_is_made_and_opens_at_once(api: Api) -> None:
    answer = await api(
        "POST", KEYS, {"id": "acme", "owner": "acme.co", "limits": LIMITS, "expires_at": later(days=1)}
    )
    assert answer.status == 201
    assert SECRET.fullmatch(answer.json["secret"])
    assert answer.json == {**answer.json, "id": "acme", "generation": 1, "previous_ends_at": None}
    assert await opens(api.gateway, answer.json["secret"]) == 200
    shown = (await api("GET", f"{KEYS}/acme")).json
    assert (shown["owner"], shown["limits"], shown["state"]) == ("acme.co", SHOWN, "live")
    assert shown["standing"]["pages_per_day"] == {
        "limit": 500, "used": 0, "remaining": 500, "soft_limit_crossed": False,
        "resets_at": shown["standing"]["pages_per_day"]["resets_at"],
    }  # fmt: skip
    assert [key["id"] for key in (await api("GET", KEYS)).json["keys"]] == ["acme"]
    assert api.secrets == [answer.json["secret"]]


async def test_an_id_that_is_taken_is_a_conflict(api: Api) -> None:
    await api.make("acme")
    for taken in ("acme", "ci"):
        problem = (await api("POST", KEYS, {"id": taken})).is_problem(409, "conflict")
        assert [fault["path"] for fault in problem["errors"]] == ["id"]


@pytest.mark.parametrize(
    ("values", "paths"),
    [
        ({"id": "A"}, ["id"]),
        ({}, ["id"]),
        ({"id": "a", "profile": "gone"}, ["profile"]),
        ({"id": "a", "expires_at": "2020-01-01T00:00:00Z"}, ["expires_at"]),
        ({"id": "a", "limits": {"pages_in_flight": 1}}, ["limits.pages_in_flight"]),
        ({"id": "a", "expires_at": "2999-01-01T00:00:00"}, ["expires_at"]),
        ({"id": "a", "networks": ["10.0.0.1/8", 5]}, ["networks.0", "networks.1"]),
        ({"id": "a", "limits": {"pages_per_day": -1, "x": 1}, "y": 2}, ["limits.pages_per_day", "limits.x", "y"]),
        ({"id": "a", "limits": {"requests_per_minute": 10**300}}, ["limits.requests_per_minute"]),
        ({"id": "a", "limits": {"body_limit": "999999999999999GB"}}, ["limits.body_limit"]),
        ({"id": "a", "scopes": "admin", "limits": {"pages_per_day": "7x"}}, ["scopes", "limits.pages_per_day"]),
        ([], [""]),
    ],
)
async def test_all_faults_are_told_at_once(values: object, paths: list[str], api: Api) -> None:
    problem = (await api("POST", KEYS, values)).is_problem(422, "invalid")
    assert [fault["path"] for fault in problem["errors"]] == paths
    assert not any("nput" in fault["message"] for fault in problem["errors"])
    assert (await api("GET", KEYS)).json["keys"] == []


async def test_what_is_named_changes_and_nothing_else(api: Api) -> None:
    secret = await api.make("acme", scopes=["admin"], limits=LIMITS)
    key = (await api("PATCH", f"{KEYS}/acme", {"owner": "new", "networks": ["127.0.0.0/8"]})).json
    assert (key["owner"], key["networks"], key["scopes"], key["limits"]) == ("new", ["127.0.0.0/8"], ["admin"], SHOWN)
    key = (await api("PATCH", f"{KEYS}/acme", {"limits": {"pages_per_day": None, "page_range": "default"}})).json
    assert key["limits"] == {"pages_per_day": None, "body_limit": "3145728B", "spend_per_month": 12.5}
    key = (
        await api("PATCH", f"{KEYS}/acme", {"owner": None, "limits": {**key["limits"], "page_range": "optional"}})
    ).json
    assert (key["owner"], key["limits"]["page_range"]) == ("acme", "optional")
    assert await opens(api.gateway, secret) == 200
    (await api("PATCH", f"{KEYS}/acme", {})).is_problem(422, "invalid")
    for name in ("profile", "scopes", "networks", "limits", "disabled"):
        problem = (await api("PATCH", f"{KEYS}/acme", {name: None})).is_problem(422, "invalid")
        assert [fault["path"] for fault in problem["errors"]] == [name]


async def test_a_key_is_disabled_and_enabled_at_once(api: Api) -> None:
    secret = await api.make("acme")
    assert (await api("PATCH", f"{KEYS}/acme", {"disabled": True, "owner": "x"})).json["state"] == "disabled"
    assert await opens(api.gateway, secret) == 401
    assert (await api("PATCH", f"{KEYS}/acme", {"disabled": False})).json["state"] == "live"
    assert await opens(api.gateway, secret) == 200


async def test_a_rotation_overlaps_and_is_done_once(api: Api) -> None:
    first = await api.make("acme")
    turn = {"overlap": "1h", "operation": "june"}
    second = (await api("POST", f"{KEYS}/acme/rotate", turn)).json
    assert (second["generation"], second["previous_ends_at"] > later(minutes=59)) == (2, True)
    again = (await api("POST", f"{KEYS}/acme/rotate", {}, headers={"Idempotency-Key": "june"})).json
    assert again == {**second, "secret": None}
    assert [await opens(api.gateway, secret) for secret in (first, second["secret"])] == [200, 200]
    headers = {"Idempotency-Key": "july"}
    (await api("POST", f"{KEYS}/acme/rotate", turn, headers=headers)).is_problem(422, "invalid")
    (await api("POST", f"{KEYS}/acme/rotate", {}, headers={"Idempotency-Key": "a b"})).is_problem(422, "invalid")
    for overlap in ("-1h", "367d", "24", 5, None):
        (await api("POST", f"{KEYS}/acme/rotate", {"overlap": overlap})).is_problem(422, "invalid")
    assert len(api.secrets) == 2


async def test_the_last_secret_is_revoked_by_force_alone(api: Api) -> None:
    first = await api.make("acme")
    second = (await api("POST", f"{KEYS}/acme/rotate", {})).json["secret"]
    assert (await api("POST", f"{KEYS}/acme/revoke", {"generation": 1})).json == {"id": "acme", "generations": [1]}
    assert (await api("POST", f"{KEYS}/acme/revoke", {"generation": 1})).json == {"id": "acme", "generations": [1]}
    assert [await opens(api.gateway, secret) for secret in (first, second)] == [401, 200]
    (await api("POST", f"{KEYS}/acme/revoke", {})).is_problem(409, "conflict")
    (await api("POST", f"{KEYS}/acme/revoke", {"generation": 7})).is_problem(404, "key_not_found")
    assert (await api("POST", f"{KEYS}/acme/revoke", {"force": True})).json["generations"] == [2]
    assert await opens(api.gateway, second) == 401


async def test_a_grant_adds_pages_and_a_reset_forgets(api: Api) -> None:
    secret = await api.make("acme", limits={"pages_per_day": 10})
    granted = (await api("POST", f"{KEYS}/acme/grants", {"pages": 7, "until": later(hours=1)})).json
    assert granted["pages"] == 7
    submit = request("POST", SUBMIT, f"Content-Type: {FORM_TYPE}", key=secret, body=form())
    assert (await api.gateway.ask(submit, b"POST")).status == 200
    shown = (await api("GET", f"{KEYS}/acme")).json
    assert shown["grants"] == [{"id": 1, "pages": 7, "until": granted["until"]}]
    standing = shown["standing"]
    assert (standing["pages_per_day"]["limit"], standing["concurrent_requests"]["resets_at"]) == (17, None)
    for wrong in ({"pages": 0, "until": later(hours=1)}, {"pages": 1, "until": "2020-01-01T00:00:00Z"}, {"pages": 1}):
        (await api("POST", f"{KEYS}/acme/grants", wrong)).is_problem(422, "invalid")
    forgotten = (await api("POST", f"{KEYS}/acme/reset", {})).json
    assert forgotten == {"id": "acme", "requests": 0, "pages": 0, "spend": 0}  # what is in flight stays
    assert (await api("POST", f"{KEYS}/ci/grants", {"pages": 1, "until": later(hours=1)})).status == 200


@pytest.mark.parametrize("key_id", ["none", "a" * 63, "A", "%00", "%ff", "..%2f", "a" * 64, "%ED%A0%80", "ci"])
async def test_a_key_that_is_not_there(key_id: str, api: Api) -> None:
    paths = [("GET", ""), ("PATCH", ""), ("POST", "/rotate"), ("POST", "/revoke"), ("POST", "/reset")]
    for method, path in paths:
        body = None if method == "GET" else {"owner": "x"} if method == "PATCH" else {}
        answer = await api(method, f"{KEYS}/{key_id}{path}", body)
        if (key_id, path) != ("ci", "/reset"):
            assert answer.status == {"ci": 409, "none": 404, "a" * 63: 404}.get(key_id, 422), (path, answer.text)


async def test_keys_are_listed_page_by_page(api: Api) -> None:
    for key_id in ("a", "b", "c"):
        await api.make(key_id)
    first = (await api("GET", f"{KEYS}?limit=2")).json
    assert ([key["id"] for key in first["keys"]], first["next"]) == (["a", "b"], "b")
    second = (await api("GET", f"{KEYS}?limit=2&after=b")).json
    assert ([key["id"] for key in second["keys"]], second["next"]) == (["c"], None)
    for wrong in ("limit=0", "limit=1001", "limit=a", "limit=1&limit=2", "x=1", "after=A", "after=%ff"):
        (await api("GET", f"{KEYS}?{wrong}")).is_problem(422, "invalid")


async def test_every_change_is_in_the_audit_and_the_log_without_a_secret(start: Start) -> None:
    gateway = await start(log={"level": "debug"})
    api = Api(gateway)
    await api.make("acme")
    for method, path, body in [
        ("PATCH", "", {"owner": "x", "disabled": True}), ("PATCH", "", {"disabled": False}),
        ("POST", "/rotate", {"operation": "1"}), ("POST", "/rotate", {"operation": "1"}),
        ("POST", "/grants", {"pages": 5, "until": later(days=1)}), ("POST", "/reset", {}),
        ("POST", "/revoke", {"force": True}),
    ]:  # fmt: skip
        assert (await api(method, f"{KEYS}/acme{path}", body)).status == 200
    (await api("POST", f"{KEYS}/acme/revoke", {"generation": 9})).is_problem(404, "key_not_found")
    made = [
        "key.create", "key.change", "key.disable", "key.enable", "key.rotate", "key.grant", "key.reset", "key.revoke",
    ]  # fmt: skip
    changes = (await api("GET", "/admin/v1/audit?key=acme")).json["changes"]
    assert [change["action"] for change in reversed(changes)] == made
    assert {change["actor"] for change in changes} == {"admin:loopback@127.0.0.1"}
    assert {change["subject"] for change in changes} == {"acme"}
    assert [c["action"] for c in (await api("GET", "/admin/v1/audit?limit=1")).json["changes"]] == ["key.revoke"]
    assert (await api("GET", "/admin/v1/audit?key=other")).json == {"changes": [], "next": None}
    await gateway.facts.until(lambda: any(event.get("action") == "key.revoke" for event in gateway.events))
    events = [event for event in gateway.events if event["event"] == "audit" and event["action"] != "secret.set"]
    assert [event["action"] for event in events] == made
    assert {(event["subject"], event["actor"]) for event in events} == {("acme", "admin:loopback@127.0.0.1")}
    told = json.dumps([gateway.events, changes], default=str)
    assert len(api.secrets) == 2
    assert not any(secret[8:30] in told for secret in api.secrets)


async def test_usage_is_reported_by_day_and_key(api: Api) -> None:
    assert (await api("GET", "/admin/v1/usage")).json["rows"] == []
    answer = (await api("GET", "/admin/v1/usage?key=acme&since=1d")).json
    assert (answer["since"], answer["is_complete"]) == (f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}", True)
    for wrong in ("since=30", "since=-1d", "since=367d", "key=", "since=999999999999999d"):
        (await api("GET", f"/admin/v1/usage?{wrong}")).is_problem(422, "invalid")


def _put_a_directory_in_its_place(ledger: Path) -> None:
    """Again and again: the gateway's own questions make the file anew at any moment."""
    while not ledger.is_dir():
        for file in ledger.parent.glob("ledger.db*"):
            file.unlink(missing_ok=True)
        with suppress(FileExistsError):
            ledger.mkdir()


async def test_a_ledger_that_is_away_is_a_503(api: Api) -> None:
    await api.make("acme")
    _put_a_directory_in_its_place(api.gateway.path.parent / "ledger.db")
    for method, path, body in [("POST", "", {"id": "b"}), ("GET", "", None), ("PATCH", "/acme", {"owner": "x"})]:
        told = (await api(method, KEYS + path, body)).is_problem(503, "ledger_unavailable")
        assert ("may have been made" in told["detail"]) is (method != "GET")
    (api.gateway.path.parent / "ledger.db").rmdir()
