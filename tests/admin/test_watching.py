"""What a replica tells of itself, whom it refused, and callers that are blocked: through the admin API."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import trustme

from gateway.admin.cursors import written
from gateway.config.ledger_url import url_of
from gateway.ledger.audit import AuditMark, append
from gateway.model.audit import Entry
from gateway.model.meanings import OF_REASONS
from gateway.model.reasons import Reason
from gateway.observe.history import MOST
from gateway.tls.file_ends import FileEnd
from tests.admin.api import Api
from tests.admin.filling import ledger_of, make_keys, use
from tests.support.console import past_hour
from tests.support.gateway import ENVIRON, KEY, Running, Start, request, submit
from tests.support.jobs import comes_true
from tests.support.tokens import p256_key, pem_of

CALLERS = "/admin/v1/callers"
REFUSED = "/admin/v1/refused-requests"


async def test_the_overview_says_how_it_stands(gateway: Running) -> None:
    async def is_up() -> bool:
        return bool((await Api(gateway)("GET", "/admin/v1/overview")).json["upstreams"])

    await comes_true(is_up)
    told = (await Api(gateway)("GET", "/admin/v1/overview")).json
    assert (told["status"], told["missing"], told["ledger"]["engine"]) == ("ready", [], "sqlite")
    assert told["ledger"]["name"] == url_of(gateway.gateway.live.state.settings).removeprefix("sqlite:///")
    (upstream,) = told["upstreams"]
    assert upstream.pop("url").startswith("http://127.0.0.1:")
    assert told["started_at"] <= upstream.pop("since") <= told["at"]
    never = {"last_trouble": None, "last_trouble_at": None}
    assert upstream == {"name": "default", "up": True, "trouble": None, **never}

    async def is_counted() -> bool:
        return bool((await Api(gateway)("GET", "/admin/v1/overview")).json["standing"]["is_counted"])

    await comes_true(is_counted)
    (certificate,) = told["certificates"]
    assert (certificate["listener"], "gateway.test" in certificate["names"]) == ("public", True)
    (file,) = told["certificate_files"]
    assert file == {
        "setting": "tls.certificate",
        "file": str(gateway.gateway.live.state.settings.tls.certificate),
        "not_after": certificate["not_after"],
    }
    assert gateway.metric("gateway_certificate_file_not_after_seconds", setting="tls.certificate") > 1_700_000_000
    configuration = told["configuration"]
    assert (configuration["file"], configuration["is_latest"]) == (str(gateway.path), True)
    assert (configuration["profiles"], configuration["keys"], configuration["faults"]) == (["default"], 3, [])
    assert told["standing"]["uploads"] == 0


async def test_the_overview_says_why_a_reload_was_refused_and_what_waits(gateway: Running) -> None:
    api = Api(gateway)
    gateway.rewrite(lambda document: document["listen"].update(port=1))
    await gateway.says("settings wait for a restart")
    assert (await api("GET", "/admin/v1/overview")).json["configuration"]["waits_for_restart"] == ["listen.port"]
    gateway.rewrite(lambda document: document["listen"].update(port="x"))
    await gateway.says("reload refused, the old configuration stays in force")
    configuration = (await api("GET", "/admin/v1/overview")).json["configuration"]
    assert configuration["is_latest"] is False
    assert "listen.port" in configuration["faults"][0]


async def test_the_overview_says_what_is_left_of_issuers_keys(start: Start, tmp_path: Any) -> None:
    (tmp_path / "key.pem").write_bytes(pem_of(p256_key()))
    issuer = {"issuer": "https://idp.test", "audience": "gateway", "public_key": str(tmp_path / "key.pem")}
    away = {"issuer": "https://away.test", "audience": "gateway", "jwks": "http://127.0.0.1:1/keys"}
    gateway = await start(authentication={"jwt": [issuer, away]})
    await gateway.says("jwks fetch failed")
    told = (await Api(gateway)("GET", "/admin/v1/overview")).json
    assert (told["missing"], told["issuers_without_keys"]) == (["jwks"], ["https://away.test"])
    issuers = told["issuers"]
    assert [(found["issuer"], found["keys"]) for found in issuers] == [
        ("https://idp.test", 1),
        ("https://away.test", None),
    ]
    assert issuers[1]["failures"] >= 1


async def test_the_history_has_an_hour_or_a_part_of_it(gateway: Running) -> None:
    past_hour(gateway, time.time())
    whole = (await Api(gateway)("GET", "/admin/v1/history")).json
    assert (whole["seconds"], MOST - 2 <= len(whole["points"]) <= MOST) == (10.0, True)
    assert whole["points"][100]["requests"] > 0
    part = (await Api(gateway)("GET", "/admin/v1/history?since=1m")).json["points"]
    assert 5 <= len(part) <= 7
    (await Api(gateway)("GET", "/admin/v1/history?since=1")).is_problem(422, "invalid")


async def test_refusals_are_told_with_who_and_why_and_are_searched(gateway: Running) -> None:
    for _ in range(2):
        (await gateway.ask(request(key="wrong"))).is_refusal(401, "unauthenticated")
    (await gateway.ask(request("GET", "/api/v1/usage"))).is_refusal(403, "forbidden")
    told = (await Api(gateway)("GET", "/admin/v1/refusals")).json
    assert told["is_complete"]
    found = {(row["who"], row["reason"]): row for row in told["refusals"]}
    assert found["127.0.0.1", "unauthenticated"]["count"] == 2
    assert (found["127.0.0.1", "unauthenticated"]["why"], found["key:ci", "forbidden"]["why"]) == ("not_known", None)
    for text in ("not_known", "not%20known", "unauthenticated:%20NOT"):
        assert len((await Api(gateway)("GET", f"/admin/v1/refusals?q={text}")).json["refusals"]) == 1
    assert (found["key:ci", "forbidden"]["route"], found["key:ci", "forbidden"]["is_stranger"]) == ("usage", False)
    only = (await Api(gateway)("GET", "/admin/v1/refusals?q=KEY:c")).json["refusals"]
    assert [row["who"] for row in only] == ["key:ci"]
    first = (await Api(gateway)("GET", "/admin/v1/refusals?limit=1")).json
    assert ([row["who"] for row in first["refusals"]], first["is_complete"]) == (["key:ci"], False)
    assert KEY not in str(told)


async def test_refused_and_failed_requests_are_told_one_by_one_page_by_page_and_searched(start: Start) -> None:
    gateway = await start(environ=ENVIRON, upstream={"url": "http://127.0.0.1:1"})
    api = Api(gateway)
    failed = (await gateway.ask(submit())).is_refusal(502, "upstream_unreachable")["request_id"]
    for _ in range(3):
        (await gateway.ask(request(key="wrong"))).is_refusal(401, "unauthenticated")

    async def found(query: str) -> list[dict[str, Any]]:
        return list((await api("GET", f"{REFUSED}?{query}")).json["refusals"])

    async def are_kept() -> bool:
        return len(await found("")) == 4

    await comes_true(are_kept)
    (row,) = await found("failed=true")
    assert (row["request_id"], row["status"], row["reason"]) == (failed, 502, "upstream_unreachable")
    assert (row["key"], row["route"], row["method"], row["source"], row["requests"]) == (
        "ci", "submit", "POST", "upstream", 1,
    )  # fmt: skip
    assert (row["container"], row["means"]) == (
        "default at http://127.0.0.1:1", OF_REASONS[Reason.UPSTREAM_UNREACHABLE],
    )  # fmt: skip
    assert "gateway check --live" in row["look_at"]

    async def is_looked_at() -> bool:
        return (await found("failed=true"))[0]["container_now"] is not None

    await comes_true(is_looked_at)
    (row,) = await found("failed=true")
    health = row.pop("container_now")  # changes at any time: the container is asked again while this test looks
    assert (health["up"], health["trouble"], health["last_trouble"]) == (False, *["no answer (no connection)"] * 2)
    assert health["since"] <= health["last_trouble_at"]
    assert {one["container_now"] for one in await found("q=not_known")} == {None}
    assert all("`gateway keys list`" in one["look_at"] for one in await found("q=not_known"))
    means = {one["means"] for one in await found("q=not_known")}
    assert means == {"The key does not exist, or no longer exists."}
    alone = (await api("GET", f"/admin/v1/refusals/{failed}")).json
    assert alone == {**row, "container_now": alone["container_now"]}
    (await api("GET", "/admin/v1/refusals/nothing")).is_problem(404, "refusal_not_found")
    (await api("GET", "/admin/v1/refusals/a%00b")).is_problem(404, "refusal_not_found")
    for text in (failed, "UPSTREAM_un", "upstream%20unreach", "502", "CI"):
        (one,) = await found(f"q={text}")
        assert one == {**row, "container_now": one["container_now"]}, text
    for text in ("not_known", "not%20known", "unauthenticated:%20not%20known"):
        assert len(await found(f"q={text}")) == 3, text
    assert await found("q=%25") == await found("q=a%00b") == []
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page = (await api("GET", f"{REFUSED}?limit=3{after and '&after=' + after}")).json
        seen += [one["request_id"] for one in page["refusals"]]
        after = page["next"]
    assert sorted(seen) == sorted(one["request_id"] for one in await found(""))
    (await api("GET", f"{REFUSED}?after=x")).is_problem(422, "invalid")


async def test_a_refusal_that_is_looked_up_has_the_title_that_its_client_saw_and_says_what_would_help(
    gateway: Running,
) -> None:
    api, refused = Api(gateway), dict[str, str]()
    limits = {"paged": {"pages_per_month": 0}, "asked": {"requests_per_day": 0}, "off": {}}
    for name, its in limits.items():
        secret = await api.make(name, limits=its)
        if name == "off":
            assert (await api("PATCH", "/admin/v1/keys/off", {"disabled": True})).status == 200
        problem = json.loads((await gateway.ask(submit(key=secret), b"POST")).body)
        refused[name] = problem["request_id"]
        assert problem["title"].startswith(
            {"paged": "Page budget used up until 2", "asked": "Request budget used up until 2"}.get(name, "No valid")
        )

        async def is_kept(name: str = name) -> bool:
            return (await api("GET", f"/admin/v1/refusals/{refused[name]}")).status == 200

        await comes_true(is_kept)
        told = (await api("GET", f"/admin/v1/refusals/{refused[name]}")).json
        assert told["title"] == problem["title"]
        helps = {
            "paged": ("grant", "`gateway keys grant paged --pages N --until WHEN` adds pages to its budgets."),
            "asked": (None, "See `gateway keys show asked`."),
            "off": ("enable", "See `gateway keys show off`."),
        }[name]
        config = f" Commands take `--config {gateway.path}`."
        assert told["look_at"].endswith(config)
        assert (told["act"], told["look_at"].partition("means. ")[2].removesuffix(config)) == helps


async def test_keys_are_searched_and_told_with_what_they_used(gateway: Running) -> None:
    api = Api(gateway)
    await api.make("acme", limits={"pages_per_month": 10})
    async with ledger_of(gateway) as write:
        await write(lambda connection: make_keys(connection, 30))
        await write(lambda connection: use(connection, "key:acme", 4))
    first = (await api("GET", "/admin/v1/keys?limit=20")).json
    rest = (await api("GET", f"/admin/v1/keys?limit=20&after={first['next']}")).json
    ids = [key["id"] for key in first["keys"] + rest["keys"]]
    assert (len(ids), len(set(ids)), rest["next"]) == (31, 31, None)
    assert first["keys"][0]["standing"] is None
    (key,) = (await api("GET", "/admin/v1/keys?q=ACM&standing=true")).json["keys"]
    assert (key["standing"]["pages_per_month"]["used"], key["granted"], key["granted_until"]) == (4, 0, None)
    for pages, until in ((3, "2099-01-01T00:00:00Z"), (4, "2098-01-01T00:00:00Z")):
        await api("POST", "/admin/v1/keys/acme/grants", {"pages": pages, "until": until})
    (key,) = (await api("GET", "/admin/v1/keys?q=ACM&standing=true")).json["keys"]
    assert (key["granted"], key["granted_until"]) == (7, "2098-01-01T00:00:00Z")
    assert key["granted_last_until"] == "2099-01-01T00:00:00Z"
    (key,) = (await api("GET", "/admin/v1/keys?q=ACM")).json["keys"]
    assert (key["granted"], key["granted_until"]) == (None, None)
    assert [key["id"] for key in (await api("GET", "/admin/v1/keys?q=team-3&limit=2")).json["keys"]] == [
        "k-00003",
        "k-00013",
    ]
    (await api("GET", "/admin/v1/keys?q=")).is_problem(422, "invalid")


async def test_keys_of_the_configuration_are_told_with_what_they_used(gateway: Running) -> None:
    api = Api(gateway)
    assert (await gateway.ask(submit())).status == 200
    assert (
        await api("POST", "/admin/v1/keys/ci/grants", {"pages": 5, "until": "2099-01-01T00:00:00Z"})
    ).status == 200
    keys = (await api("GET", "/admin/v1/configured-keys")).json["keys"]
    assert [(key["id"], key["state"], key["scopes"]) for key in keys] == [
        ("ci", "live", []), ("root", "live", ["admin"]), ("away", "live", []),
    ]  # fmt: skip
    assert keys[0]["standing"]["pages_in_flight"]["used"] == 1
    granted = [(key["granted"], key["granted_until"]) for key in keys[:2]]
    assert granted == [(5, "2099-01-01T00:00:00Z"), (0, None)]
    assert (keys[0]["last_seen_at"] is None, keys[1]["last_seen_at"]) == (False, None)


async def test_usage_is_told_by_mode(gateway: Running) -> None:
    async with ledger_of(gateway) as write:
        for mode, pages in (("fast", 2), ("accurate", 3), ("", 1)):
            await write(lambda connection, m=mode, p=pages: use(connection, "key:ci", p, m))
    rows = (await Api(gateway)("GET", "/admin/v1/usage?by_mode=true")).json["rows"]
    assert [(row["mode"], row["pages"]) for row in rows] == [("", 1), ("accurate", 3), ("fast", 2)]
    (row,) = (await Api(gateway)("GET", "/admin/v1/usage")).json["rows"]
    assert (row["mode"], row["pages"]) == (None, 6)


async def test_the_audit_goes_on_behind_a_page_and_is_searched(gateway: Running) -> None:
    api = Api(gateway)
    for number in range(5):
        await api.make(f"k{number}")
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        answer = (await api("GET", f"/admin/v1/audit?q=key.create&limit=2{after and '&after=' + after}")).json
        seen += [change["subject"] for change in answer["changes"]]
        after = answer["next"]
    assert seen == ["k4", "k3", "k2", "k1", "k0"]
    for wrong in ("x", written(AuditMark(1, 2**31))):  # PostgreSQL has no such number
        (await api("GET", f"/admin/v1/audit?after={wrong}")).is_problem(422, "invalid")
    assert len((await api("GET", "/admin/v1/audit?q=K3")).json["changes"]) == 1


async def test_the_audit_is_narrowed_to_an_action_a_kind_or_to_changes(gateway: Running) -> None:
    api = Api(gateway)
    await api.make("acme")
    await api("POST", "/admin/v1/keys/acme/reset", {})
    await api("POST", f"{CALLERS}/cert%3Aann/block", {})
    noted = [Entry(int(time.time()), "key:acme", action, "a", {}) for action in ("job.read", "request.refused")]
    async with ledger_of(gateway) as write:
        await write(lambda connection: append(connection, noted))

    async def found(query: str) -> set[str]:
        return {change["action"] for change in (await api("GET", f"/admin/v1/audit?{query}")).json["changes"]}

    assert await found("action=key.reset") == {"key.reset"}
    assert await found("action=key.") == {"key.create", "key.reset"}
    assert await found("action=job.read") == {"job.read"}
    assert await found("action=ke_.") == await found("action=key.r") == set()
    changes = {"key.create", "key.reset", "caller.block", "secret.set"}
    assert (await found("changes=true"), await found("")) == (changes, changes | {"job.read", "request.refused"})
    for wrong in ("key", "key.%25", ""):
        (await api("GET", f"/admin/v1/audit?action={wrong}")).is_problem(422, "invalid")


async def test_a_callers_name_may_hold_anything_that_is_visible(gateway: Running) -> None:
    api = Api(gateway)
    names = ["jwt:https://idp.test/a?b#ann", "cert:%2F", "jwt:<b>#{x}", "cert:a~b", "jwt:i#a#b"]
    for name in names:
        path = f"{CALLERS}/{quoted(name)}"
        answer = (await api("POST", f"{path}/block", {})).json
        assert (answer["account"], answer["was_seen"]) == (name, False)
        assert (await api("GET", path)).json["blocked_at"] is not None
        assert (await api("POST", f"{path}/grants", {"pages": 2, "until": "2099-01-01T00:00:00Z"})).json["pages"] == 2
        assert (await api("POST", f"{path}/reset", {})).json["pages"] == 0
    told = (await api("GET", f"{CALLERS}?blocked=true")).json["callers"]
    assert sorted(caller["account"] for caller in told) == sorted(names)
    assert {(caller["granted"], caller["granted_until"]) for caller in told} == {(2, "2099-01-01T00:00:00Z")}
    shown = (await api("GET", f"{CALLERS}/{quoted(names[0])}")).json
    for caller in (shown, *told):
        assert caller["granted_until"] == caller["granted_last_until"] == "2099-01-01T00:00:00Z"
    page = (await api("GET", f"{CALLERS}?limit=2")).json
    rest = (await api("GET", f"{CALLERS}?limit=9&after={quoted(page['next'])}")).json
    assert len(page["callers"]) + len(rest["callers"]) == len(names)
    for name in ("key:ci", "anyone", "jwt", "jwt:i", "cert:a b", "jwt:ü#😀"):
        (await api("POST", f"{CALLERS}/{quoted(name)}/block", {})).is_problem(422, "invalid")
    assert (await api("POST", f"{CALLERS}/{quoted(names[0])}/unblock", {})).status == 200
    assert gateway.gateway.live.state.blocked == frozenset(names[1:])


async def test_a_dns_name_is_blocked_as_certificates_are_read(start: Start, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "clients.pem")
    tls = {"client_ca": str(tmp_path / "clients.pem"), "client_certificates": "optional"}
    gateway = await start(environ=ENVIRON, tls=tls, authentication={"certificates": {"identity": "dns"}})
    answer = await Api(gateway)("POST", f"{CALLERS}/cert%3AScanner.Test/block", {})
    assert answer.json["account"] == "cert:scanner.test"
    assert gateway.gateway.live.state.blocked == frozenset({"cert:scanner.test"})


async def test_a_block_outlives_a_reload_and_a_restart(start: Start) -> None:
    gateway = await start(environ=ENVIRON)
    await Api(gateway)("POST", f"{CALLERS}/cert%3Aann/block", {})
    gateway.rewrite(lambda document: document["log"].update(level="info"))
    await gateway.says("configuration reloaded")
    assert gateway.gateway.live.state.blocked == frozenset({"cert:ann"})
    url = f"sqlite:///{gateway.path.parent}/ledger.db"
    await gateway.end()
    again = await start(ledger={"url": url})
    assert again.gateway.live.state.blocked == frozenset({"cert:ann"})


def quoted(name: str) -> str:
    return quote(name, safe="")


async def test_a_ca_that_has_ended_beside_another_one_is_not_told_any_more(start: Start, tmp_path: Path) -> None:
    gateway = await start()
    ends = datetime(2020, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)
    gateway.gateway.reloader.ends = (FileEnd("tls.client_ca", tmp_path / "ca.pem", ends),)
    (file,) = (await Api(gateway)("GET", "/admin/v1/overview")).json["certificate_files"]
    assert file["not_after"] == "2040-01-01T00:00:00Z"
    metric = gateway.metric("gateway_certificate_file_not_after_seconds", setting="tls.client_ca")
    assert metric == ends[1].timestamp()
