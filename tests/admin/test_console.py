"""The page in a browser, as an administrator uses it."""

import asyncio
import io
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.async_api import Locator, Route
from sqlalchemy import Connection

from gateway.admin import console_files as page_of_files
from gateway.admin.console_files import FILES
from gateway.cli.health_facts import facts_of
from gateway.cli.samples import Samples
from gateway.ledger.audit import append
from gateway.ledger.keys import note_used
from gateway.model.audit import Entry
from gateway.observe.history import Gauges, Reading
from gateway.tls.file_ends import FileEnd
from gateway.units import moment
from tests.admin.api import TOKEN, Api
from tests.admin.filling import fill, fill_for_pictures, ledger_of, make_key, make_keys, use
from tests.support.console import ConsoleOf, console_of, needs_chromium, past_hour, running_chromium
from tests.support.gateway import ENVIRON, Running, Start, request, submit
from tests.support.jobs import comes_true
from tests.support.tokens import p256_key, pem_of
from tests.support.waiting import eventually

pytestmark = needs_chromium
REFUSED_ONCE = Entry(int(time.time()), "anyone", "request.refused", "forbidden", {"count": 1, "first_at": 1767225600})
# What has to be scrolled sideways to be read.
CUT_OFF = """[...document.querySelectorAll(".scroll, dialog, .limits")]
    .filter((node) => node.scrollWidth > node.clientWidth).map((node) => node.textContent)"""
HOSTILE = "<img src=x onerror=alert(1)>'\"&"
PICTURES = [("light", "now", (1100, 900)), ("light", "keys", (1100, 640)), ("dark", "webhooks", (1100, 420)),
            ("dark", "now", (390, 780))]  # fmt: skip
VIEWS = ["Now", "Keys", "Callers", "Usage", "Jobs", "Webhooks", "Audit", "Refusals"]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_chromium(tmp_path_factory.mktemp("chromium")) as address:
        yield address


@pytest.fixture(name="console_of")
def _console_of(chromium: str) -> ConsoleOf:
    return partial(console_of, chromium)


async def test_signing_in_takes_the_token_and_signing_out_forgets_it(start: Start, console_of: ConsoleOf) -> None:
    gateway = await start(admin={"token": {"env": "TOKEN"}}, environ={**ENVIRON, "TOKEN": TOKEN})
    async with console_of(gateway) as console:
        page = console.page
        await console.open()
        await page.get_by_label("Admin token").fill("wrong")
        await page.keyboard.press("Enter")
        await page.get_by_role("alert").filter(has_text="That is not the admin token.").wait_for()
        await page.get_by_label("Admin token").fill(TOKEN)
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("heading", name="Container").wait_for()
        assert await page.evaluate("Object.keys(localStorage).length + document.cookie.length") == 0
        await page.reload()
        await page.get_by_role("heading", name="Container").wait_for()
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_role("heading", name="Sign in").wait_for()
        assert await page.evaluate("sessionStorage.length") == 0
        assert await page.locator("#status").text_content() == ""
        assert not await page.get_by_role("navigation").is_visible()
        await page.evaluate("location.hash = '#keys'")
        await page.get_by_label("Admin token").fill(TOKEN)
        await page.keyboard.press("Enter")
        await page.get_by_text("No keys.").wait_for()
        assert await page.get_by_role("navigation").is_visible()
        refused = "Failed to load resource: the server responded with a status of 401"
        assert all(error.startswith(refused) for error in console.errors)
        console.errors.clear()
    assert [event for event in gateway.events if event["event"] == "admin login failed"]


async def test_who_is_out_while_he_looks_is_asked_to_sign_in(start: Start, console_of: ConsoleOf) -> None:
    gateway = await start(admin={"token": {"env": "TOKEN"}}, environ={**ENVIRON, "TOKEN": TOKEN})
    async with console_of(gateway) as console:
        await console.open()
        await console.page.get_by_label("Admin token").fill(TOKEN)
        await console.page.keyboard.press("Enter")
        await console.view("Keys")
        await console.page.get_by_text("No keys.").wait_for()
        await console.page.evaluate("sessionStorage.setItem('gateway-admin-token', 'old')")
        await console.page.get_by_label("Search").fill("x")
        await console.page.get_by_role("alert").filter(has_text="The token is not valid any more.").wait_for()
        console.errors.clear()  # the browser itself notes each 401


async def test_refusals_are_shown_with_why(gateway: Running, console_of: ConsoleOf) -> None:
    (await gateway.ask(request(key="wrong"))).is_refusal(401, "unauthenticated")
    (await gateway.ask(request("GET", "/api/v1/usage"))).is_refusal(403, "forbidden")
    async with console_of(gateway) as console:
        await are_kept(gateway, 2)
        await console.open("refusals")
        stranger = console.page.get_by_role("row").filter(has_text="no known credential")
        await stranger.get_by_text("unauthenticated: not known").wait_for()
        each = console.page.get_by_role("table", name=re.compile("^Requests of the last day"))
        assert await each.get_by_role("cell", name="forbidden", exact=True).count() == 1


async def test_who_was_refused_how_often_and_when_last_is_told_and_found(
    gateway: Running, console_of: ConsoleOf
) -> None:
    key = await Api(gateway).make("acme")
    for _ in range(3):
        (await gateway.ask(request("GET", "/api/v1/usage", key=key))).is_refusal(403, "forbidden")
    (await gateway.ask(request(key="wrong"))).is_refusal(401, "unauthenticated")
    async with console_of(gateway) as console:
        page = console.page
        await console.open("refusals")
        sums = page.get_by_role("table", name=re.compile("^Who was refused how often"))
        row = sums.get_by_role("row").filter(has=page.get_by_role("rowheader", name="acme", exact=True))
        for cell in ("forbidden", "3", re.compile(r"^(now|\d+ s ago) from 127\.0\.0\.1$")):
            await row.get_by_role("cell", name=cell, exact=True).wait_for()
        await sums.get_by_role("rowheader", name="127.0.0.1 (stranger)").wait_for()
        await page.get_by_label("Search").fill("acme")
        await sums.get_by_role("rowheader", name="127.0.0.1 (stranger)").wait_for(state="detached")
        assert await row.count() == 1
        await page.get_by_label("Search").fill("nobody at all")
        await sums.wait_for(state="hidden")


async def test_a_failure_is_shown_and_found_by_its_request_id_also_after_a_restart(
    start: Start, console_of: ConsoleOf
) -> None:
    gateway = await start(environ=ENVIRON, upstream={"url": "http://127.0.0.1:1"})
    failed = (await gateway.ask(submit())).is_refusal(502, "upstream_unreachable")["request_id"]
    (await gateway.ask(request(key="wrong"))).is_refusal(401, "unauthenticated")
    await are_kept(gateway, 2)
    url = f"sqlite:///{gateway.path.parent}/ledger.db"
    await gateway.end()
    again = await start(environ=ENVIRON, ledger={"url": url})
    async with console_of(again) as console:
        page = console.page
        await console.open("refusals")
        await page.get_by_text("2 shown", exact=True).wait_for()
        await page.get_by_label("Search").fill(failed)
        await page.get_by_text("1 shown", exact=True).wait_for()
        row = page.get_by_role("row").filter(has_text=failed)
        assert await row.get_by_role("cell", name="502", exact=True).count() == 1
        assert await row.get_by_text("upstream unreachable", exact=True).count() == 1
        await row.get_by_role("button", name=f"Open {failed}").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_text(re.compile("^default at http://127.0.0.1:")).wait_for()
        await dialog.get_by_text(f"gateway explain --request-id {failed}").wait_for()
        await dialog.get_by_role("definition").filter(has_text="No connection came about within").wait_for()
        assert await console.serious_faults() == []
        await console.does("Close")
        await dialog.wait_for(state="detached")  # the focus goes back with that, and would leave the search again
        await page.get_by_label("Search").fill("")
        await page.get_by_text("2 shown", exact=True).wait_for()
        await page.get_by_label("Failures only").check()
        await page.get_by_text("1 shown", exact=True).wait_for()


async def test_what_lets_a_refused_request_in_is_done_where_it_is_looked_up(
    gateway: Running, console_of: ConsoleOf
) -> None:
    api = Api(gateway)
    secret = await api.make("acme", limits={"pages_per_month": 0})
    refused = json.loads((await gateway.ask(submit(key=secret), b"POST")).body)
    blocked = await api.make("off")
    assert (await api("PATCH", "/admin/v1/keys/off", {"disabled": True})).status == 200
    (await gateway.ask(submit(key=blocked), b"POST")).is_refusal(401, "unauthenticated")
    await are_kept(gateway, 2)
    async with console_of(gateway) as console:
        page = console.page
        await console.open("refusals")
        dialog = page.get_by_role("dialog")
        await page.get_by_role("button", name=f"Open {refused['request_id']}").click()
        await dialog.get_by_role("definition").filter(has_text=refused["title"]).wait_for()
        await dialog.get_by_text("gateway keys grant acme --pages N").wait_for()
        await dialog.get_by_role("button", name="Grant acme").click()
        form = dialog.filter(has_text="Grant pages to acme")
        await form.get_by_role("spinbutton", name="Pages").fill("7")
        await form.get_by_role("button", name="Grant", exact=True).click()
        await form.wait_for(state="detached")
        await console.says("7 pages were granted to acme.")
        await console.does("Close")
        await page.get_by_role("row").get_by_role("button", name="Enable off").focus()
        await page.keyboard.press("Enter")
        await console.says("off is enabled.")
        await page.get_by_role("button", name="Enable off").wait_for(state="detached")
        row = page.get_by_role("row").filter(has_text="off from 127.0.0.1")
        is_focused = "nodes => nodes.map((node) => node === document.activeElement)"
        assert await row.get_by_role("button").evaluate_all(is_focused) == [True]  # Open, which is left
    assert (await gateway.ask(submit(key=secret), b"POST")).status == 200
    assert (await gateway.ask(submit(key=blocked), b"POST")).status == 200


async def test_a_grant_is_offered_while_the_account_has_less_left_than_was_asked(
    gateway: Running, console_of: ConsoleOf
) -> None:
    api = Api(gateway)
    secret = await api.make("acme", limits={"pages_per_month": 0, "pages_per_day": 9})
    id_ = json.loads((await gateway.ask(submit(key=secret), b"POST")).body)["request_id"]
    await are_kept(gateway, 1)
    path = f"/admin/v1/refusals/{id_}"
    told = (await api("GET", path)).json
    assert (told["act"], told["pages_left"]) == ("grant", 0)
    async with console_of(gateway, locale="en-GB") as console:
        page = console.page
        await page.clock.install()
        await console.open("refusals")
        await page.get_by_role("button", name=f"Open {id_}").click()
        dialog = page.get_by_role("dialog")
        when = re.compile(r"^\d{1,2} \w{3,4} 20\d\d, \d\d:\d\d:\d\d$")
        await dialog.get_by_role("definition").filter(has_text=when).wait_for()
        await dialog.get_by_role("definition").filter(has_text=re.compile("^0 pages$")).wait_for()
        assert await dialog.get_by_role("button", name="Grant acme").count() == 1
        await console.does("Close")
        assert (await api("PATCH", "/admin/v1/keys/acme", {"limits": {"pages_per_month": 7}})).status == 200
        await page.clock.fast_forward(10_000)
        await page.get_by_role("button", name="Grant acme").wait_for(state="detached")
        await page.get_by_role("button", name=f"Open {id_}").click()
        enough = "7 pages, enough for such a request: nothing has to be granted"
        await dialog.get_by_text(enough, exact=True).wait_for()
        assert await dialog.get_by_role("button", name="Grant acme").count() == 0
    for limits, known in (({"pages_per_month": 1}, 1), ({"pages_per_month": None, "pages_per_day": None}, None)):
        assert (await api("PATCH", "/admin/v1/keys/acme", {"limits": limits})).status == 200
        told = (await api("GET", path)).json
        assert (told["act"], told["pages_left"]) == (None, known)


async def test_of_a_failure_it_is_told_how_the_container_is_now_and_since_when(
    start: Start, console_of: ConsoleOf
) -> None:
    gateway = await start(environ=ENVIRON, upstream={"url": "http://127.0.0.1:1"})
    failed = (await gateway.ask(submit())).is_refusal(502, "upstream_unreachable")["request_id"]
    await are_kept(gateway, 1)
    await eventually(lambda: bool([event for event in gateway.events if event["event"] == "upstream is down"]))
    async with console_of(gateway) as console:
        page = console.page
        await console.open("refusals")
        await page.get_by_role("button", name=f"Open {failed}").click()
        down = re.compile(r"^down since .* \((now|\d+ s ago)\): no answer \(no connection\)$")
        await page.get_by_role("definition").filter(has_text=down).wait_for()
        await console.does("Close")
        await console.view("Now")
        await page.get_by_text("default at http://127.0.0.1:1").filter(has_text=": down since ").wait_for()


async def test_a_key_is_made_rotated_granted_disabled_and_revoked(gateway: Running, console_of: ConsoleOf) -> None:
    api = Api(gateway)
    async with console_of(gateway) as console:
        page = console.page
        await console.open("keys")
        await page.get_by_role("button", name="Create a key").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Id (").fill("acme")
        await dialog.get_by_label("Pages a month").fill("500")
        await console.does("Create")
        secret = str(await page.locator("#secret").text_content())
        assert re.fullmatch(r"dgw_acme_[A-Za-z0-9_-]{49}", secret)
        await console.does("Done")
        row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="acme"))
        await row.get_by_role("meter", name="pages per month of acme: 0 of 500").wait_for()

        await row.get_by_role("button", name="Rotate acme").click()
        await console.does("Rotate")
        assert await page.locator("#secret").text_content() != secret
        await console.does("Done")
        await row.get_by_text("secret 2, live, never used").wait_for()

        await row.get_by_role("button", name="Grant acme").click()
        await dialog.get_by_text("A grant is pages on top of its budgets of pages: until it ends").wait_for()
        await dialog.get_by_text("Now: pages per month 0 of 500 used.").wait_for()
        await dialog.get_by_role("spinbutton", name="Pages").fill("100")
        await dialog.get_by_text("Then: pages per month 0 of 600 used.").wait_for()
        await console.does("Grant")
        await row.get_by_role("meter", name="pages per month of acme: 0 of 600").wait_for()

        await row.get_by_text("100 pages of its budgets are granted until").wait_for()
        await row.get_by_role("button", name="End grants acme").click()
        await console.does("End grants")
        await console.says("100 pages that were granted to acme are gone.")
        await row.get_by_role("meter", name="pages per month of acme: 0 of 500").wait_for()

        await row.get_by_role("button", name="Disable acme").click()
        await console.does("Disable")
        await row.get_by_text("disabled").wait_for()
        await row.get_by_role("button", name="Enable acme").click()
        await row.get_by_text("live", exact=True).wait_for()

        await row.get_by_role("button", name="Revoke acme").click()
        await dialog.get_by_label("Secret").select_option("all")
        await dialog.get_by_text("Then no secret is left that can be used.").wait_for()
        await dialog.get_by_label("Confirm").fill("acme all")
        await console.does("Revoke")
        await page.get_by_role("button", name="Revoke the last secret").click()
        await row.get_by_text("without a secret").wait_for()
    changes = (await api("GET", "/admin/v1/audit?key=acme")).json["changes"]
    done = ["revoke", "enable", "disable", "end_grant", "grant", "rotate", "create"]
    assert [change["action"] for change in changes] == [f"key.{act}" for act in done]
    assert changes[0]["detail"]["force"] is True


async def test_windows_of_keys_and_callers_begin_anew(gateway: Running, console_of: ConsoleOf) -> None:
    await Api(gateway).make("acme", limits={"pages_per_month": 10})
    caller = "jwt:https://idp.test#ann"
    for account, pages in (("key:acme", 4), (caller, 3)):
        await given(gateway, partial(use, account=account, pages=pages))
    async with console_of(gateway) as console:
        page = console.page
        await console.open("keys")
        await page.get_by_role("meter", name="pages per month of acme: 4 of 10").wait_for()
        await page.get_by_role("button", name="Reset acme").click()
        await console.does("Reset")
        await console.says("4 pages and 1 request of acme no longer count.")
        await page.get_by_role("meter", name="pages per month of acme: 0 of 10").wait_for()
        await console.view("Callers")
        await page.get_by_role("cell", name="3 today, 3 this month").wait_for()
        await page.get_by_role("button", name=f"Reset {caller}").click()
        await console.does("Reset")
        await page.get_by_role("cell", name="0 today, 0 this month").wait_for()
    changes = (await Api(gateway)("GET", "/admin/v1/audit")).json["changes"]
    assert {"key.reset", "caller.reset"} <= {change["action"] for change in changes}


async def test_a_secret_in_use_is_shown_whatever_was_rotated_since(gateway: Running, console_of: ConsoleOf) -> None:
    api = Api(gateway)
    await api.make("acme")
    await given(gateway, lambda connection: note_used(connection, {("acme", 1): time.time() - 900}))
    for _ in range(2):
        assert (await api("POST", "/admin/v1/keys/acme/rotate", {})).status == 200
    async with console_of(gateway) as console:
        page = console.page
        await console.open("keys")
        await page.get_by_role("button", name="Rotate acme").click()
        await page.get_by_role("dialog").get_by_label("Overlap").fill("1h")
        await console.does("Rotate")
        await page.get_by_text("The one before ends ").wait_for()
        await console.does("Done")
        shown = page.get_by_role("row").filter(has_text="acme").get_by_role("listitem")
        await shown.filter(has_text="secret 4, live, never used").wait_for()
        words = await shown.all_text_contents()
    assert re.fullmatch(r"secret 1, live until .*, last used 15 min.* ago", words[-1]), words
    assert [text.split(",")[0] for text in words] == ["secret 4", "secret 3", "secret 2", "secret 1"]


async def test_a_keys_limits_profile_and_end_are_changed_and_only_what_differs_is_sent(
    start: Start, console_of: ConsoleOf
) -> None:
    gateway = await start(environ=ENVIRON, profiles={"small": {"pages_per_month": 70}})
    api = Api(gateway)
    await api.make("acme", limits={"pages_per_month": 500, "pages_per_day": None, "requests_per_minute": 7})
    async with console_of(gateway) as console:
        page = console.page
        await console.open("keys")
        dialog = page.get_by_role("dialog")
        await page.get_by_role("button", name="Change acme").click()
        await console.does("Change")
        await dialog.get_by_role("alert").filter(has_text="Nothing is changed yet.").wait_for()
        assert await dialog.get_by_label("Pages a month").input_value() == "500"
        await dialog.get_by_label("Pages a month").fill("")
        await dialog.get_by_label("Requests a minute").fill("9")
        await dialog.get_by_role("combobox", name="Profile").select_option("small")
        await dialog.get_by_label("Ends").fill("2090-05-06")
        await console.does("Change")
        await console.says("acme is changed.")
        await page.get_by_role("meter", name="pages per month of acme: 0 of 70").wait_for()
        key = (await api("GET", "/admin/v1/keys/acme")).json
        assert (key["limits"], key["profile"]) == ({"pages_per_day": None, "requests_per_minute": 9}, "small")
        assert key["expires_at"] == "2090-05-06T00:00:00Z"
        await page.get_by_role("button", name="Change acme").click()
        await dialog.get_by_label("Ends").fill("")
        await console.does("Change")
        await dialog.wait_for(state="detached")
        assert (await api("GET", "/admin/v1/keys/acme")).json["expires_at"] is None


async def test_a_grant_to_a_key_without_a_budget_of_pages_says_that_it_changes_nothing(
    gateway: Running, console_of: ConsoleOf
) -> None:
    await Api(gateway).make("acme", limits={"pages_per_day": None, "pages_per_month": None})
    async with console_of(gateway) as console:
        page = console.page
        await console.open("keys")
        await page.get_by_role("button", name="Grant acme").click()
        told = "It has no budget of pages, a day or a month, so a grant changes nothing."
        await page.get_by_role("dialog").get_by_text(told).wait_for()
        await page.get_by_role("spinbutton", name="Pages").fill("7")
        await console.does("Grant")
        await console.says("It has no budget of pages: they change nothing.")
        row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="acme"))
        idle = re.compile(r"^7 pages are granted until .*, which changes nothing for now: it has no budget of pages$")
        await row.get_by_text(idle).wait_for()


async def test_one_of_something_is_told_as_one(gateway: Running, console_of: ConsoleOf) -> None:
    api = Api(gateway)
    await api.make("acme", limits={"pages_per_month": 10})
    grants = [{"pages": 1, "until": f"209{year}-08-03T12:00:00Z"} for year in (6, 7)]
    await api("POST", "/admin/v1/keys/acme/grants", grants[0])

    async def told(route: Route) -> None:
        overview = await (await route.fetch()).json()
        overview["standing"] |= {"connections": 1, "polls_held": 1, "webhooks": {"dead": 1}}
        await route.fulfill(json=overview)

    async with console_of(gateway, locale="en-GB", timezone_id="UTC") as console:
        page = console.page
        await page.clock.install()
        await page.route("**/admin/v1/overview", told)
        await console.open()
        for text in ("1 connection", "1 poll waits for an end", "1 dead letter"):
            await page.get_by_text(text, exact=True).wait_for()
        await console.view("Keys")
        row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="acme"))
        first = "3 Aug 2096, 12:00:00"
        await row.get_by_text(f"1 page of its budgets is granted until {first}", exact=True).wait_for()
        await api("POST", "/admin/v1/keys/acme/grants", grants[1])
        await page.clock.fast_forward(10_000)
        both = f"2 pages of its budgets are granted, the first until {first}, the last until 3 Aug 2097, 12:00:00"
        await row.get_by_text(both, exact=True).wait_for()
        await api("POST", "/admin/v1/keys/acme/grants/end", {"grant": 1})
        await row.get_by_role("button", name="End grants acme").click()
        await console.does("End grants")
        await console.says("1 page that was granted to acme is gone.")


async def test_all_that_a_key_may_have_is_made_and_changed_on_the_page(
    gateway: Running, console_of: ConsoleOf
) -> None:
    api = Api(gateway)
    async with console_of(gateway) as console:
        page = console.page
        await console.open("keys")
        dialog = page.get_by_role("dialog")
        await page.get_by_role("button", name="Create a key").click()
        await dialog.get_by_label("Id (").fill("acme")
        await dialog.get_by_label("Networks").fill("10.0.0.0/8,192.168.0.0/16")
        await dialog.get_by_label("Scopes").fill("admin")
        await dialog.get_by_text("More limits").click()
        given = {"Pages a request": "5", "Submits at once": "2", "Body limit": "20MB", "Soft limit": "0.5"}
        for label, value in given.items():
            await dialog.get_by_label(label).fill(value)
        await dialog.get_by_label("page_range").select_option("required")
        assert await console.serious_faults() == []
        await console.does("Create")
        await console.does("Done")
        key = (await api("GET", "/admin/v1/keys/acme")).json
        assert (key["networks"], key["scopes"], key["owner"]) == (["10.0.0.0/8", "192.168.0.0/16"], ["admin"], "acme")
        body_limit = key["limits"].pop("body_limit")
        limits = {"pages_per_request": 5, "concurrent_requests": 2, "soft_limit": 0.5, "page_range": "required"}
        assert key["limits"] == limits
        await page.get_by_role("button", name="Change acme").click()
        await console.does("Change")
        await dialog.get_by_role("alert").filter(has_text="Nothing is changed yet.").wait_for()
        await dialog.get_by_label("Owner").fill("team")
        await dialog.get_by_label("Scopes").fill("")
        await dialog.get_by_label("Networks").fill("10.0.0.0/8")
        await dialog.get_by_text("More limits").click()
        assert await dialog.get_by_label("Body limit").input_value() == body_limit
        await dialog.get_by_label("Body limit").fill("")
        await dialog.get_by_label("Pages a request").focus()
        await page.keyboard.press("Control+A")
        await page.keyboard.type("6-")
        await dialog.get_by_text("More limits").click()
        await console.does("Change")
        await dialog.locator(".fault").filter(has_text="Not a number. Nothing is changed.").wait_for()
        await dialog.get_by_label("Pages a request").fill("6")
        await dialog.get_by_label("page_range").select_option("")
        await console.does("Change")
        await console.says("acme is changed.")
    key = (await api("GET", "/admin/v1/keys/acme")).json
    assert (key["networks"], key["scopes"], key["owner"]) == (["10.0.0.0/8"], [], "team")
    assert key["limits"] == {"pages_per_request": 6, "concurrent_requests": 2, "soft_limit": 0.5}


async def test_a_date_means_what_it_means_to_commands_and_is_told_before_it_is_sent(
    gateway: Running, console_of: ConsoleOf
) -> None:
    api = Api(gateway)
    await api.make("acme", expires_at="2090-05-06T12:00:00Z")
    async with console_of(gateway, locale="en-GB", timezone_id="America/New_York") as console:
        page = console.page
        await console.open("keys")
        dialog = page.get_by_role("dialog")
        assert await page.get_by_role("contentinfo").inner_text() == "Times are those of America/New_York."
        await page.get_by_role("button", name="Change acme").click()
        ends = dialog.get_by_label("Ends")
        assert await ends.input_value() == "2090-05-06"
        told = dialog.locator(".note")
        await told.filter(
            has_text=re.compile(r"^Saturday.? 6 May 2090 at 08:00:00 \S+ \(\d+ d .*left\)\.$")
        ).wait_for()
        await ends.fill("2090-07-01")
        words = r"^Friday.? 30 June 2090 at 20:00:00 \S+, as 2090-07-01 begins in UTC \(\d+ d .*left\)\.$"
        await told.filter(has_text=re.compile(words)).wait_for()
        assert await ends.get_attribute("aria-describedby") == await told.get_attribute("id")
        await ends.focus()
        await page.keyboard.press("Backspace")
        await told.filter(has_text="Not a whole date yet.").wait_for()
        await ends.fill("")
        await told.filter(has_text="Never.").wait_for()
        await ends.fill("2090-07-01")
        await console.does("Change")
        await console.says("acme is changed.")
    assert (await api("GET", "/admin/v1/keys/acme")).json["expires_at"] == "2090-07-01T00:00:00Z"


async def test_after_a_rotation_the_old_secret_is_revoked_and_never_all_by_mistake(
    gateway: Running, console_of: ConsoleOf
) -> None:
    api = Api(gateway)
    await api.make("acme")
    assert (await api("POST", "/admin/v1/keys/acme/rotate", {})).status == 200
    await given(gateway, lambda connection: note_used(connection, {("acme", 1): time.time() - 900}))
    async with console_of(gateway) as console:
        page = console.page
        await console.open("keys")
        dialog = page.get_by_role("dialog")
        await page.get_by_role("button", name="Revoke acme").click()
        await console.does("Revoke")
        await dialog.get_by_role("alert").filter(has_text="To be mended: Secret, Confirm.").wait_for()
        assert await console.faults() == {"which": "Secret is needed.", "sure": "Confirm is needed."}
        first, *words = await dialog.get_by_role("option").all_text_contents()
        old = r"secret 1, live until .*, last used 15 min.* ago, made .*"
        wanted = ["choose which", old, "secret 2, live, never used, made .*", "all: nobody can use acme then"]
        assert all(map(re.fullmatch, wanted, [first, *words]))
        await dialog.get_by_label("Secret").select_option("1")
        await dialog.get_by_text("What can be used then: secret 2.").wait_for()
        await dialog.get_by_text("Write acme 1 to confirm.").wait_for()
        await dialog.get_by_label("Confirm").fill("acme 1")
        await dialog.get_by_label("Secret").select_option("all")
        await console.does("Revoke")
        refused = "That is not acme all. Nothing is changed."
        await dialog.locator(".fault").filter(has_text=refused).wait_for()
        await dialog.get_by_label("Secret").select_option("1")
        assert await console.serious_faults() == []
        await console.does("Revoke")
        await console.says("Secrets of acme that ended: 1.")
    states = [found["state"] for found in (await api("GET", "/admin/v1/keys/acme")).json["generations"]]
    assert states == ["revoked", "live"]
    (change,) = (await api("GET", "/admin/v1/audit?action=key.revoke")).json["changes"]
    assert change["detail"] == {"generations": [1], "force": False}


async def test_a_secret_that_became_the_last_one_meanwhile_is_asked_for_again(
    gateway: Running, console_of: ConsoleOf
) -> None:
    api = Api(gateway)
    await api.make("acme")
    assert (await api("POST", "/admin/v1/keys/acme/rotate", {})).status == 200
    async with console_of(gateway) as console:
        page = console.page
        await console.open("keys")
        dialog = page.get_by_role("dialog")
        await page.get_by_role("button", name="Revoke acme").click()
        await dialog.get_by_label("Secret").select_option("all")
        await dialog.get_by_label("Confirm").fill("acme all")
        await console.does("Revoke")
        await page.get_by_role("heading", name="Leave acme without a secret?").wait_for()
        await page.keyboard.press("Escape")
        await dialog.wait_for(state="detached")
        assert (await api("GET", "/admin/v1/keys/acme")).json["state"] == "live"
        await page.get_by_role("button", name="Revoke acme").click()
        assert (await api("POST", "/admin/v1/keys/acme/revoke", {"generation": 2})).status == 200
        await dialog.get_by_label("Secret").select_option("1")
        await dialog.get_by_label("Confirm").fill("acme 1")
        await console.does("Revoke")
        await page.get_by_role("button", name="Revoke the last secret").click()
        await console.says("Secrets of acme that ended: 1.")
        console.errors.clear()  # the browser itself notes the 409
    changes = (await api("GET", "/admin/v1/audit?action=key.revoke")).json["changes"]
    assert [change["detail"]["force"] for change in changes] == [True, False]


async def test_what_the_browser_cannot_read_is_refused_in_words_and_changes_nothing(
    gateway: Running, console_of: ConsoleOf
) -> None:
    api = Api(gateway)
    await api.make("acme", limits={"pages_per_month": 10}, expires_at="2090-05-06T12:00:00Z")
    async with console_of(gateway) as console:
        page = console.page
        await console.open("keys")
        dialog = page.get_by_role("dialog")

        async def is_refused(button: str, field: str, text: str, words: str) -> None:
            await dialog.get_by_label(field).focus()
            await page.keyboard.press("Control+A")
            for key in text if text != "Backspace" else [text]:
                await page.keyboard.press(key)
            assert await dialog.get_by_label(field).input_value() == ""
            await console.does(button)
            await dialog.locator(".fault").filter(has_text=words).wait_for()
            focused = "[document.activeElement.name, document.activeElement.ariaInvalid]"
            name = await dialog.get_by_label(field).get_attribute("name")
            assert await page.evaluate(focused) == [name, "true"]

        await page.get_by_role("button", name="Create a key").click()
        await dialog.get_by_label("Id (").fill("other")
        await is_refused("Create", "Pages a month", "10-", "Not a number. Nothing is changed.")
        await dialog.get_by_label("Pages a month").fill("")
        await is_refused("Create", "Ends", "12/31/", "Not a whole date. Nothing is changed.")
        await page.keyboard.press("Escape")

        await page.get_by_role("button", name="Change acme").click()
        await is_refused("Change", "Pages a month", "20-", "Not a number. Nothing is changed.")
        await dialog.get_by_label("Pages a month").fill("10")
        await is_refused("Change", "Ends", "Backspace", "Not a whole date. Nothing is changed.")
        await page.keyboard.press("Escape")

        await page.get_by_role("button", name="Grant acme").click()
        await is_refused("Grant", "Pages", "5-", "Not a number. Nothing is changed.")
        await dialog.get_by_label("Pages").fill("5")
        await dialog.get_by_label("Until").fill("20300-01-01")
        await console.does("Grant")
        await dialog.locator(".fault").filter(has_text="Not a whole date. Nothing is changed.").wait_for()
    listed = (await api("GET", "/admin/v1/keys?standing=true")).json["keys"]
    key = listed[0]
    assert (key["limits"], key["expires_at"], key["granted"]) == ({"pages_per_month": 10}, "2090-05-06T12:00:00Z", 0)
    changes = (await api("GET", "/admin/v1/audit")).json["changes"]
    done = [change["action"] for change in changes if change["action"].startswith("key.")]
    assert (len(listed), done) == (1, ["key.create"])


async def test_a_fault_of_what_was_typed_is_told_and_nothing_typed_is_lost(
    gateway: Running, console_of: ConsoleOf
) -> None:
    async with console_of(gateway) as console:
        page = console.page
        await console.open("keys")
        await page.get_by_role("button", name="Create a key").click()
        await console.does("Create")
        await page.locator(".fault").filter(has_text="Id is needed.").wait_for()
        await page.get_by_label("Id (").fill("Not An Id")
        await console.does("Create")
        told = page.locator(".fault").filter(has_text="Has to be of 1 to 63 characters: a-z, 0-9 and -.")
        await told.wait_for()
        for pair in await page.locator("dialog .pair").all():
            fields = await pair.locator("[name]:not([type=checkbox])").all()
            boxes = [box for field in fields if (box := await field.bounding_box()) is not None]
            edges = {round(box["y"] + box["height"]) for box in boxes}
            assert len(edges) == math.ceil(len(boxes) / 2)
            assert len({round(box["height"]) for box in boxes}) <= 1
        assert await page.get_by_label("Id (").input_value() == "Not An Id"
        await page.keyboard.press("Escape")
        await page.get_by_role("dialog").wait_for(state="detached")
        assert await page.evaluate("document.activeElement.textContent") == "Create a key"
        console.errors.clear()  # the browser itself notes the 422


async def test_each_fault_of_a_form_stands_beside_its_field_and_the_first_has_the_focus(
    gateway: Running, console_of: ConsoleOf
) -> None:
    await Api(gateway).make("acme")
    async with console_of(gateway) as console:
        page = console.page
        await console.open("keys")
        dialog = page.get_by_role("dialog")
        await page.get_by_role("button", name="Create a key").click()
        given = {"Id (": "acme", "Networks": "10.0.0.0/8, nowhere", "Pages a month": "-5"}
        for label, value in given.items():
            await dialog.get_by_label(label).fill(value)
        await dialog.get_by_text("More limits").click()
        await dialog.get_by_label("Body limit").fill("huge")
        await dialog.get_by_text("More limits").click()
        await console.does("Create")
        told = dialog.get_by_role("alert").filter(has_text="To be mended: Networks, Pages a month, Body limit.")
        await told.wait_for()
        faults = await console.faults()
        assert set(faults) == {"networks", "pages_per_month", "body_limit"}
        assert faults["networks"].startswith("Number 2: ")
        assert await page.evaluate("document.activeElement.name") == "networks"
        assert await dialog.get_by_label("Body limit").is_visible()
        assert await console.serious_faults() == []

        await dialog.get_by_label("Networks").fill("")
        assert set(await console.faults()) == {"pages_per_month", "body_limit"}
        await dialog.get_by_label("Pages a month").fill("")
        await dialog.get_by_label("Body limit").fill("")
        await console.does("Create")
        taken = "There is a key acme already; rotate it, or take another id."
        await dialog.locator(".fault").filter(has_text=taken).wait_for()
        assert await console.faults() == {"id": taken}
        console.errors.clear()  # the browser itself notes the 422 and the 409


async def test_a_fault_that_no_field_has_stands_above_them_all(gateway: Running, console_of: ConsoleOf) -> None:
    api = Api(gateway)
    await api.make("acme")
    async with console_of(gateway) as console:
        page = console.page
        await console.open("keys")
        await page.get_by_role("button", name="Grant acme").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_role("spinbutton", name="Pages").fill("7")
        await dialog.get_by_label("Until").fill("2020-01-01")
        await console.does("Grant")
        past = "The end of the grant is in the past."
        await dialog.locator(".fault").filter(has_text=past).wait_for()
        described = str(await dialog.get_by_label("Until").get_attribute("aria-describedby")).split()
        assert await page.locator(f"#{described[0]}").text_content() == past
        assert len(described) == 2  # and what the date means

        away = {"status": 503, "detail": "The ledger does not answer.", "errors": []}
        await page.route(re.compile("/grants$"), lambda route: route.fulfill(status=503, json=away))
        await console.does("Grant")
        alert = dialog.get_by_role("alert").filter(has_text="The ledger does not answer.")
        await alert.wait_for()
        first = await dialog.get_by_role("spinbutton", name="Pages").bounding_box()
        above = await alert.bounding_box()
        assert first is not None
        assert above is not None
        assert above["y"] < first["y"]
        assert await console.faults() == {}
        console.errors.clear()  # the browser itself notes the 422 and the 503


async def test_an_answer_that_breaks_off_is_told_and_shows_no_secret(gateway: Running, console_of: ConsoleOf) -> None:
    """It was taken for an answer without anything in it: the secret of a new key was `undefined`."""

    async def break_off(route: Route) -> None:
        if route.request.method == "POST":
            await route.fulfill(status=201, body='{"key": {"id": "ac', content_type="application/json")
        else:
            await route.fallback()

    async with console_of(gateway) as console:
        page = console.page
        await console.open("keys")
        await page.get_by_role("button", name="Create a key").click()
        await page.get_by_label("Id (").fill("acme")
        await page.route("**/admin/v1/keys", break_off)
        await console.does("Create")
        await page.get_by_role("alert").filter(has_text="The gateway's answer broke off.").first.wait_for()
        assert "undefined" not in await page.locator("body").inner_text()
        await page.unroute_all()


async def test_the_secret_goes_into_the_clipboard(gateway: Running, console_of: ConsoleOf) -> None:
    async with console_of(gateway, permissions=["clipboard-read", "clipboard-write"]) as console:
        await console.open("keys")
        await console.page.get_by_role("button", name="Create a key").click()
        await console.page.get_by_label("Id (").fill("acme")
        await console.does("Create")
        secret = await console.page.locator("#secret").text_content()
        await console.does("Copy")
        await console.says("The secret is in the clipboard.")
        # Behind an open dialog nothing is read out, and little seen.
        await console.page.locator("dialog #said").filter(has_text="The secret is in the clipboard.").wait_for()
        assert await console.page.evaluate("navigator.clipboard.readText()") == secret
        await console.does("Done")
        await console.page.locator("body > #said").wait_for(state="attached")


async def test_a_dialog_has_nothing_but_its_words_and_a_fault_goes_when_something_is_typed(
    gateway: Running, console_of: ConsoleOf
) -> None:
    limits = {"pages_per_month": 10}
    assert (await Api(gateway)("POST", "/admin/v1/keys", {"id": "acme", "limits": limits})).status == 201
    async with console_of(gateway) as console:
        await console.open("keys")
        dialog = console.page.get_by_role("dialog")
        for act in ("Rotate", "Grant", "Reset", "Disable", "Revoke"):
            await console.page.get_by_role("button", name=f"{act} acme").click()
            assert re.search(r"^0$", await dialog.inner_text(), re.MULTILINE) is None, act
            if act == "Grant":
                await console.does("Grant")
                await dialog.locator(".fault").filter(has_text="Pages is needed.").wait_for()
                await dialog.get_by_role("spinbutton", name="Pages").fill("5")
                assert await console.faults() == {}
            await console.does("Cancel")


async def test_escape_leaves_a_secret_only_once_it_was_copied(gateway: Running, console_of: ConsoleOf) -> None:
    async with console_of(gateway, permissions=["clipboard-read", "clipboard-write"]) as console:
        page = console.page
        await console.open("keys")
        for name, leaves_by in (("acme", "Escape"), ("other", "Done")):
            await page.get_by_role("button", name="Create a key").click()
            await page.get_by_label("Id (").fill(name)
            await console.does("Create")
            await page.locator("#secret").wait_for()
            for _ in range(3):
                await page.keyboard.press("Escape")
            assert await page.locator("#secret").is_visible()
            if leaves_by == "Escape":
                await console.does("Copy")
                await console.says("The secret is in the clipboard.")
                await page.keyboard.press("Escape")
            else:
                await console.does("Done")
            await page.get_by_role("dialog").wait_for(state="detached")


async def test_a_view_renews_itself_and_leaves_focus_dialogs_and_scroll_as_they_are(
    gateway: Running, console_of: ConsoleOf
) -> None:
    for name in ("acme", "other"):
        await Api(gateway).make(name, limits={"pages_per_month": 10})
    async with console_of(gateway, viewport={"width": 700, "height": 200}) as console:
        page = console.page
        await page.clock.install()
        await console.open("keys")
        await page.get_by_role("meter", name="pages per month of acme: 0 of 10").wait_for()
        await page.get_by_role("button", name="Disable other").focus()
        await page.evaluate("scrollBy(0, 5); document.activeElement.mine = '1'")
        before = await page.evaluate("scrollY")
        await given(gateway, lambda connection: use(connection, "key:acme", 4))
        await page.clock.fast_forward(10_000)
        await page.get_by_role("meter", name="pages per month of acme: 4 of 10").wait_for()
        assert await page.evaluate("[document.activeElement.mine, scrollY]") == ["1", before]

        await page.keyboard.press("Enter")
        await page.get_by_role("dialog").wait_for()
        await given(gateway, lambda connection: use(connection, "key:acme", 2, "fast"))
        await page.clock.fast_forward(10_000)
        assert await page.get_by_role("dialog").is_visible()
        await page.keyboard.press("Escape")
        await page.clock.fast_forward(10_000)
        await page.get_by_role("meter", name="pages per month of acme: 6 of 10").wait_for()
        assert await page.evaluate("document.activeElement.mine") == "1"

        await given(gateway, lambda connection: note_used(connection, {("other", 1): time.time()}))
        await page.get_by_role("button", name="Show more").wait_for(state="hidden")
        await page.clock.fast_forward(10_000)
        await page.get_by_text(re.compile(r"secret 1, live, last used (now|\d+ s ago)")).wait_for()
        await Api(gateway).make("another")
        await page.clock.fast_forward(10_000)
        await page.get_by_role("rowheader", name="another").wait_for()
        assert await page.evaluate("document.activeElement.mine") == "1"


async def test_the_focus_of_a_row_that_goes_stays_with_its_table(gateway: Running, console_of: ConsoleOf) -> None:
    api = Api(gateway)
    await api.make("acme", limits={"pages_per_month": 10})
    await given(gateway, lambda connection: use(connection, "key:acme", 9))
    async with console_of(gateway) as console:
        page = console.page
        await console.open("keys")
        await page.get_by_label("Near a limit only").check()
        await page.get_by_text("1 shown", exact=True).wait_for()
        await page.get_by_role("button", name="Reset acme").focus()
        await page.keyboard.press("Enter")
        await console.does("Reset")
        await page.get_by_text("No keys match ").wait_for()
        assert await page.evaluate("document.activeElement.ariaLabel") == "Keys of the ledger"


async def test_a_table_that_the_ledger_does_not_give_says_so_and_is_tried_again(
    gateway: Running, console_of: ConsoleOf
) -> None:
    await Api(gateway).make("acme")
    detail = "The ledger does not answer; ask again in some seconds."
    problem = {"status": 503, "reason": "ledger_unavailable", "detail": detail}

    async def away(route: Route) -> None:
        await route.fulfill(status=503, json=problem)

    async with console_of(gateway) as console:
        page = console.page
        await page.route(re.compile(r"/admin/v1/(keys|configured-keys)"), away)
        await console.open("keys")
        told = page.get_by_role("alert").filter(has_text=detail)
        await told.first.wait_for()
        assert await told.count() == 2
        assert await page.locator("#said").text_content() == ""
        assert not await page.get_by_text("No keys.").is_visible()
        await page.unroute_all()
        for _ in range(2):
            await page.get_by_role("button", name="Retry").first.click()
        await page.get_by_role("rowheader", name="acme").wait_for()
        await page.get_by_role("rowheader", name="root").wait_for()
        await told.wait_for(state="detached")
        console.errors.clear()  # the browser itself notes each 503


async def test_a_gateway_that_is_silent_is_told_once_its_time_is_over(
    gateway: Running, console_of: ConsoleOf
) -> None:
    async with console_of(gateway) as console:
        page = console.page
        await console.open("keys")
        await page.locator("#status").filter(has_text="ready").wait_for()
        await page.evaluate(
            "() => { const real = AbortSignal.timeout; AbortSignal.timeout = () => real.call(AbortSignal, 300); }"
        )
        over = asyncio.Event()

        async def be_silent(route: Route) -> None:
            await over.wait()
            await route.abort()

        await page.route("**/admin/v1/**", be_silent)
        await page.get_by_role("link", name="Jobs").click()
        await page.locator("#status").filter(has_text="does not answer since").wait_for()
        over.set()
        await page.unroute_all(behavior="wait")


async def test_a_gateway_that_does_not_answer_is_told_in_red_and_what_is_shown_is_grey_with_its_moment(
    gateway: Running, console_of: ConsoleOf
) -> None:
    async with console_of(gateway, locale="en-GB") as console:
        page = console.page
        await page.clock.install()
        await console.open()
        head, tile = page.locator("#status"), page.locator(".facts .large").first
        await head.filter(has_text="ready").wait_for()
        looked_good = await tile.evaluate("node => getComputedStyle(node).color")
        await page.route("**/admin/v1/**", no_answer)
        await page.clock.fast_forward(10_000)
        await head.filter(has_text=re.compile(r"^does not answer since \d\d:\d\d$")).wait_for()
        assert await head.get_attribute("class") == "bad"
        told = page.get_by_role("alert").filter(has_text="The gateway does not answer.")
        await told.wait_for()
        await page.get_by_text(re.compile(r"^What is shown is as of \d\d:\d\d:\d\d\.$")).wait_for()
        greyed = await tile.evaluate("node => getComputedStyle(node).color")
        assert greyed != looked_good
        assert await page.locator("#said").text_content() == ""
        assert await console.serious_faults() == []
        await page.unroute_all()
        await page.clock.fast_forward(10_000)
        await head.filter(has_text=re.compile("^ready")).wait_for()
        await told.wait_for(state="detached")
        await page.get_by_text("What is shown is as of").wait_for(state="detached")
        assert await tile.evaluate("node => getComputedStyle(node).color") == looked_good
        console.errors.clear()  # the browser itself notes each request without an answer


async def test_what_was_said_goes_with_the_view(gateway: Running, console_of: ConsoleOf) -> None:
    api = Api(gateway)
    await api.make("acme")
    await api("PATCH", "/admin/v1/keys/acme", {"disabled": True})
    async with console_of(gateway) as console:
        page = console.page
        await page.clock.install()
        await console.open("keys")
        await page.get_by_role("button", name="Enable acme").click()
        await console.says("acme is enabled.")
        await console.view("Jobs")
        assert await page.locator("#said").text_content() == ""


async def test_what_failed_is_said_as_a_failure(gateway: Running, console_of: ConsoleOf) -> None:
    api = Api(gateway)
    await api.make("acme")
    await api("PATCH", "/admin/v1/keys/acme", {"disabled": True})
    async with console_of(gateway) as console:
        page = console.page
        await console.open("keys")
        await page.get_by_role("button", name="Enable acme").wait_for()
        await page.route("**/admin/v1/keys/acme", no_answer)
        await page.get_by_role("button", name="Enable acme").click()
        failure = page.get_by_role("alert").filter(has_text="The gateway does not answer.")
        await failure.wait_for()
        colour = "node => getComputedStyle(node).backgroundColor"
        assert await failure.evaluate(colour) != await page.locator("#said").evaluate(colour)
        assert await page.locator("#said").text_content() == ""
        assert await console.serious_faults() == []
        await page.unroute_all()
        await page.get_by_role("button", name="Enable acme").click()
        await console.says("acme is enabled.")
        await failure.wait_for(state="detached")
        console.errors.clear()  # the browser itself notes each request without an answer


@pytest.mark.parametrize("view", [name for name in VIEWS if name != "Usage"])
async def test_nothing_says_that_the_gateway_is_away_once_it_is_back(
    view: str, gateway: Running, console_of: ConsoleOf
) -> None:
    async with console_of(gateway) as console:
        page = console.page
        await page.clock.install()
        await page.route("**/admin/v1/**", no_answer)
        await console.open(view.lower())
        told = page.get_by_text("The gateway does not answer.")
        await told.first.wait_for()
        await page.locator("#status").filter(has_text="does not answer since ").wait_for()
        await page.unroute_all()
        await page.clock.fast_forward(10_000)
        await page.locator("#status").filter(has_text=re.compile("^ready")).wait_for()
        await comes_true(lambda: is_gone(told))
        console.errors.clear()  # the browser itself notes each request without an answer


async def test_usage_that_did_not_come_is_asked_for_again(gateway: Running, console_of: ConsoleOf) -> None:
    await given(gateway, lambda connection: use(connection, "key:acme", 3))
    async with console_of(gateway) as console:
        page = console.page
        await page.route("**/admin/v1/**", no_answer)
        await console.open("usage")
        told = page.get_by_role("alert").filter(has_text="The gateway does not answer.")
        await told.wait_for()
        await page.unroute_all()
        await page.get_by_role("button", name="Retry").click()
        await page.get_by_role("cell", name="acme", exact=True).wait_for()
        await told.wait_for(state="detached")
        await page.locator("#status").filter(has_text=re.compile("^ready")).wait_for()
        console.errors.clear()  # the browser itself notes each request without an answer


async def test_none_that_a_search_finds_is_told_from_none_at_all(gateway: Running, console_of: ConsoleOf) -> None:
    await Api(gateway).make("acme")
    await given(gateway, lambda connection: use(connection, "key:acme", 3))
    async with console_of(gateway) as console:
        page = console.page
        await console.open("keys")
        await page.get_by_text("1 shown", exact=True).wait_for()
        await page.get_by_label("Search").fill("nobody")
        await page.get_by_text("No keys match what is searched and chosen above.", exact=True).wait_for()
        await page.get_by_label("Search").fill("")
        await page.get_by_text("1 shown", exact=True).wait_for()
        await page.get_by_label("Near a limit only").check()
        await page.get_by_text("No keys match what is searched and chosen above.", exact=True).wait_for()
        await console.view("Refusals")
        await page.get_by_text("No rows.", exact=True).wait_for()
        await page.get_by_label("Search").fill("nobody")
        await page.get_by_text("No rows match what is searched and chosen above.", exact=True).wait_for()
        await console.view("Usage")
        await page.get_by_text("1 row", exact=True).wait_for()
        await page.get_by_label("Search").fill("nobody")
        await page.get_by_text("No rows match the search", exact=True).wait_for()


async def test_a_caller_is_blocked_and_let_in_again(gateway: Running, console_of: ConsoleOf) -> None:
    name = "jwt:https://idp.test/a#ann"
    async with console_of(gateway) as console:
        page = console.page
        await console.open("callers")
        await page.get_by_role("button", name="Block a caller").click()
        await page.get_by_label("Name (").fill(name)
        await console.does("Block")
        await console.says(f"{name} is blocked. It was never seen here: is the name as in the log?")
        await page.get_by_text("never seen here", exact=True).wait_for()
        await page.get_by_role("button", name=f"Grant {name}").click()
        await page.get_by_role("spinbutton", name="Pages").fill("7")
        await console.does("Grant")
        await page.get_by_text("7 pages of its budgets are granted until").wait_for()
        assert gateway.gateway.live.state.blocked == frozenset({name})
        await page.get_by_role("button", name=f"Unblock {name}").click()
        await console.says(f"{name} is let in again.")
    assert gateway.gateway.live.state.blocked == set()


async def test_who_is_near_a_limit_is_on_now_and_keys_can_be_narrowed_to_them(
    gateway: Running, console_of: ConsoleOf
) -> None:
    for name in ("acme", "far"):
        await Api(gateway).make(name, limits={"pages_per_month": 10})
    async with console_of(gateway) as console:
        page = console.page
        await console.open()
        await page.get_by_text("Nobody has used 80 percent or more of a limit.").wait_for()
        await given(gateway, lambda connection: use(connection, "key:acme", 9))
        await given(gateway, lambda connection: use(connection, "jwt:i#unseen", 9))
        await page.reload()
        row = page.get_by_role("region", name="Near a limit").get_by_role("row").filter(has_text="acme")
        await row.get_by_text("9 of 10, 90 %").wait_for()
        await page.get_by_text(
            "accounts left out: 1, of which the profile is not known: not seen since this replica's start, or gone."
        ).wait_for()
        await console.view("Keys")
        await page.get_by_text("2 shown", exact=True).wait_for()
        await page.get_by_label("Near a limit only").check()
        await page.get_by_text("1 shown", exact=True).wait_for()
        await page.get_by_role("meter", name="pages per month of acme: 9 of 10").wait_for()


async def test_a_dead_letter_is_sent_again(gateway: Running, console_of: ConsoleOf) -> None:
    await given(gateway, fill)
    async with console_of(gateway) as console:
        await console.open("webhooks")
        await console.page.get_by_label("State").select_option("dead")
        await console.page.get_by_role("button", name="Retry of-bad").click()
        await console.says("of-bad is sent within two seconds.")
    changes = (await Api(gateway)("GET", "/admin/v1/audit")).json["changes"]
    assert "webhook.retry" in {change["action"] for change in changes}


async def test_an_hour_is_drawn(gateway: Running, console_of: ConsoleOf) -> None:
    past_hour(gateway, time.time())
    async with console_of(gateway) as console:
        await console.open()
        chart = console.page.get_by_role("img", name=re.compile(r"Requests a second\. .*now [0-9.]+, most 26"))
        await chart.wait_for()
        assert len(str(await chart.locator("path").get_attribute("d"))) > 3000
        errors = console.page.get_by_role("img", name=re.compile("Errors a second by reason"))
        assert "rate limited" in str(await errors.get_attribute("aria-label"))
        looks = [await path.get_attribute("class") for path in await errors.locator("path").all()]
        assert looks == ["s1 d1", "s4 d1", "s2 d1"]  # of the reasons, whatever their order is
        assert await console.page.get_by_text("localhost, gateway.test").count() == 1


async def test_a_lone_value_is_a_dot_and_nothing_is_drawn_where_there_is_none(
    gateway: Running, console_of: ConsoleOf
) -> None:
    now, history = time.time(), gateway.gateway.watch.history
    for ago, requests in ((610, 0), (600, 0), (590, 8), (580, 8), (300, 9), (290, 9), (10, 9)):
        durations = (0, 0, 0, requests, *(0,) * 13)
        history.note(Reading(now - ago, requests, {}, durations, 0, Gauges()))
    async with console_of(gateway) as console:
        await console.open()
        latency = console.page.get_by_role(
            "img", name=re.compile(r"^Latency\. p50: last [0-9.]+ ms at .*; p95: last ")
        )
        await latency.wait_for()
        assert (await latency.locator("circle").count(), await latency.locator("path").count()) == (2 * 2, 0)
        requests_drawn = console.page.get_by_role("img", name=re.compile(r"^Requests a second\."))
        path = str(await requests_drawn.locator("path").get_attribute("d"))
        assert (path.count("M"), path.count("L")) == (2, 3)  # 600, 590, 580 and 300, 290
        assert await requests_drawn.locator("circle").count() == 1  # 10
        box = await latency.locator("circle").first.bounding_box()
        assert box is not None
        assert box["width"] > 3


async def test_a_chart_without_data_says_so_in_words(gateway: Running, console_of: ConsoleOf) -> None:
    async with console_of(gateway) as console:
        page = console.page
        await page.clock.install()
        await console.open()
        await page.get_by_role(
            "img", name=re.compile(r"^Latency\. No data yet: the first point is there ten ")
        ).wait_for()
        past_hour(gateway, time.time() - 20, busy=False)
        await page.clock.fast_forward(10_000)
        for chart, words in (("Latency", "No requests since "), ("Errors a second by reason", "No errors since ")):
            await page.get_by_role("img", name=re.compile(rf"^{chart}\. {words}")).wait_for()
            await page.locator("figure").filter(has_text=chart).get_by_text(words).wait_for()


async def test_what_was_missed_while_the_tab_was_hidden_is_asked_for(gateway: Running, console_of: ConsoleOf) -> None:
    now, history = time.time(), gateway.gateway.watch.history
    notes = [Reading(now - 900 + 10 * count, count, {}, (0,) * 17, 0, Gauges()) for count in range(90)]
    for note in notes[:10]:
        history.note(note)
    async with console_of(gateway) as console:
        page = console.page
        await page.clock.install()
        await console.open()
        drawn = page.get_by_role("img", name=re.compile(r"^Requests a second\.")).locator("path")
        assert str(await drawn.get_attribute("d")).count("L") == 8
        for note in notes[10:]:
            history.note(note)
        await page.clock.fast_forward(10_000)

        async def is_whole() -> bool:
            return str(await drawn.get_attribute("d")).count("L") > 80

        await comes_true(is_whole)
        assert str(await drawn.get_attribute("d")).count("M") == 1


async def test_of_more_reasons_than_a_chart_has_lines_none_is_lost(gateway: Running, console_of: ConsoleOf) -> None:
    reasons = [
        "rate_limited", "forwarded_5xx", "unauthenticated", "forbidden", "budget_exhausted", "token_invalid",
        "no_room",
    ]  # fmt: skip
    for at, share in ((20, 0), (10, 1)):
        errors = {reason: share * 10 * (9 - number) for number, reason in enumerate(reasons)}
        gateway.gateway.watch.history.note(Reading(time.time() - at, 0, errors, (0,) * 17, 0, Gauges()))
    async with console_of(gateway) as console:
        await console.open()
        chart = console.page.get_by_role("img", name=re.compile(r"Errors a second by reason\. rate limited: now 9"))
        told = str(await chart.get_attribute("aria-label"))
    assert "2 other reasons: now 7, most 7" in told
    assert "token invalid" not in told


async def test_a_client_ca_is_among_the_certificates(gateway: Running, tmp_path: Path, console_of: ConsoleOf) -> None:
    tomorrow = datetime.now(UTC) + timedelta(1)
    gateway.gateway.reloader.ends = (FileEnd("tls.client_ca", tmp_path / "clients.pem", (tomorrow,)),)
    async with console_of(gateway) as console:
        await console.open()
        row = console.page.get_by_role("row").filter(has_text="tls.client_ca")
        await row.get_by_text(str(tmp_path / "clients.pem")).wait_for()
        assert await row.locator(".bad").count() == 1
        assert await console.page.get_by_role("row").filter(has_text="public").count() == 1


async def test_moments_of_the_audit_trail_are_told_as_such(gateway: Running, console_of: ConsoleOf) -> None:
    api, until = Api(gateway), "2096-08-03T12:00:00Z"
    await api.make("acme", limits={"pages_per_month": 7})
    await api("PATCH", "/admin/v1/keys/acme", {"expires_at": until})
    await api("POST", "/admin/v1/keys/acme/grants", {"pages": 7, "until": until})
    await api("POST", "/admin/v1/keys/acme/rotate", {})
    async with console_of(gateway, locale="en-GB", timezone_id="UTC") as console:
        async with ledger_of(gateway) as write:
            await write(lambda connection: append(connection, [REFUSED_ONCE]))
        await console.open("audit")
        await console.page.get_by_text("first_at: 1 Jan 2026, 00:00:00", exact=True).wait_for()
        for name in ("expires_at", "until"):
            await console.page.get_by_text(f"{name}: 3 Aug 2096, 12:00:00", exact=True).wait_for()
        await console.page.get_by_text(re.compile(r"previous_ends_at: \d+ \w+ 20")).wait_for()
        await console.page.get_by_text("limits: pages per month 7", exact=True).wait_for()
        await console.page.get_by_text(re.compile(r"^scopes: \W$")).wait_for()
        assert await console.page.get_by_text(re.compile(r"\d{9}")).count() == 0


async def test_the_head_tells_what_is_down_and_what_is_missing(
    start: Start, tmp_path: Path, console_of: ConsoleOf
) -> None:
    (tmp_path / "key.pem").write_bytes(pem_of(p256_key()))
    of_file = {"issuer": "https://idp.test", "audience": "gateway", "public_key": str(tmp_path / "key.pem")}
    away = {"issuer": "https://away.test", "audience": "gateway", "jwks": "http://127.0.0.1:1/keys"}
    gateway = await start(
        environ=ENVIRON, upstream={"url": "http://127.0.0.1:1"}, authentication={"jwt": [of_file, away]}
    )
    changed: dict[str, Any] = {}

    async def told(route: Route) -> None:
        answer = await route.fetch()
        await route.fulfill(response=answer, json=await answer.json() | changed)

    async with console_of(gateway) as console:
        page = console.page
        await page.clock.install()
        await page.route("**/admin/v1/overview", told)
        await console.open("now")
        status = page.locator("#status")
        for _ in range(30):
            if "container down" in str(await status.text_content()):
                break
            await page.clock.fast_forward(10_000)
            await page.wait_for_timeout(200)
        await status.filter(has_text="not ready, keys of an issuer missing, container down; version ").wait_for()
        assert await status.get_attribute("class") == "bad"
        row = page.get_by_role("row").filter(has_text="https://away.test")
        assert await row.get_by_role("cell", name="never", exact=True).count() == 1
        row = page.get_by_role("row").filter(has_text="https://idp.test")
        assert await row.get_by_role("cell", name="of a file", exact=True).count() == 1
        for more, text in (
            (
                {"status": "ready", "missing": []},
                "ready, with problems: container down, tokens of https://away.test refused; version ",
            ),
            ({"status": "ready", "issuers_without_keys": []}, "ready, with problems: container down; version "),
            (
                {"status": "not ready", "missing": ["ledger", "x"]},
                "not ready, ledger down, x missing, container down;",
            ),
        ):
            changed |= more
            await page.clock.fast_forward(10_000)
            await status.filter(has_text=re.compile(f"^{text}")).wait_for()
            assert await status.get_attribute("class") == "bad"


async def test_the_head_tells_what_the_command_status_counts_as_a_problem(
    gateway: Running, console_of: ConsoleOf
) -> None:
    gateway.rewrite(lambda document: document["listen"].update(port="x"))
    await gateway.says("reload refused, the old configuration stays in force")
    overview = (await Api(gateway)("GET", "/admin/v1/overview")).json
    now = time.time()

    async def told(route: Route) -> None:
        await route.fulfill(json=overview)

    async with console_of(gateway) as console:
        page, head = console.page, console.page.locator("#status")
        await page.clock.install()
        await page.route("**/admin/v1/overview", told)
        await console.open("keys")
        for is_latest, ends, words in (
            (False, 9, "ready, with problems: the configuration on the disk is refused"),
            (False, -9, "ready, with problems: the configuration on the disk is refused, tls.client_ca has ended"),
            (True, -9, "ready, with problems: tls.client_ca has ended"),
            (True, 9, "ready"),
        ):
            overview["configuration"]["is_latest"] = is_latest
            end = {"setting": "tls.client_ca", "file": "ca.pem", "not_after": moment(now + ends)}
            overview |= {"at": moment(now), "certificate_files": [end]}
            await page.clock.fast_forward(10_000)
            await head.filter(has_text=re.compile(f"^{words}; version ")).wait_for()
            assert await head.get_attribute("class") == ("good" if words == "ready" else "bad")
            metrics = {
                "gateway_config_last_reload_successful": {frozenset[tuple[str, str]](): float(is_latest)},
                "gateway_certificate_file_not_after_seconds": {frozenset({("setting", "tls.client_ca")}): now + ends},
            }
            assert bool(facts_of(Samples({}, metrics, overview), now).problems) is (words != "ready")


async def test_ten_thousand_keys_stay_quick(gateway: Running, console_of: ConsoleOf) -> None:
    few = await quickest(gateway)
    await given(gateway, lambda connection: make_keys(connection, 10_000))
    async with console_of(gateway) as console:
        page = console.page
        await console.open("keys")
        await page.get_by_text("50 shown, there are more").wait_for()
        await page.get_by_role("button", name="Show more").click()
        await page.get_by_text("100 shown, there are more").wait_for()
        await page.get_by_label("Search").fill("k-09999")
        await page.get_by_text("1 shown", exact=True).wait_for()
        assert await page.locator("tbody tr").count() == 1 + 3  # and those of the configuration
    assert await quickest(gateway) < 4 * few + 0.2  # the whole list takes a second


async def test_what_strangers_name_is_text(gateway: Running, console_of: ConsoleOf) -> None:
    api = Api(gateway)
    await given(gateway, lambda connection: make_key(connection, "acme", HOSTILE))
    answer = await api("POST", "/admin/v1/callers/jwt%3A%3Cb%3E%23%3Cscript%3E/block", {})
    assert answer.status == 200
    await gateway.ask(request(key="wrong"))
    await are_kept(gateway, 1)
    async with console_of(gateway) as console:
        for view in VIEWS:
            await console.open(view.lower())
            await console.page.get_by_role("heading", level=1, name=view).wait_for()
        await console.view("Keys")
        await console.page.get_by_text(HOSTILE).wait_for()
        await console.view("Callers")
        await console.page.get_by_text("jwt:<b>#<script>").first.wait_for()
        await console.view("Refusals")
        await console.page.get_by_text("unauthenticated: not known", exact=True).first.wait_for()
        await console.page.get_by_text("127.0.0.1 (no known credential)").wait_for()


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
async def test_axe_finds_nothing_serious(look: str, gateway: Running, console_of: ConsoleOf) -> None:
    past_hour(gateway, time.time())
    await Api(gateway).make("acme", limits={"pages_per_month": 500})
    await Api(gateway)("POST", "/admin/v1/callers/cert%3Aann/block", {})
    await given(gateway, fill)
    (await gateway.ask(request(key="wrong"))).is_refusal(401, "unauthenticated")
    shown: dict[str, Any] = {"color_scheme": "dark" if look == "dark" else "light"}
    if look == "phone":
        shown["viewport"] = {"width": 360, "height": 740}
    async with console_of(gateway, **shown) as console:
        for view in VIEWS:
            await console.open(view.lower())
            await console.page.get_by_role("heading", level=1, name=view).wait_for()
            await console.page.wait_for_load_state("networkidle")
            assert await console.serious_faults() == [], view
            width = await console.page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert width <= 0, view
            if look == "phone":
                assert await console.page.evaluate(CUT_OFF) == [], view
        await console.page.get_by_role("button", name="Open ").first.click()
        await console.page.get_by_role("dialog").wait_for()
        begins = "[document.activeElement.tagName, document.querySelector('dialog').scrollTop]"
        assert await console.page.evaluate(begins) == ["H2", 0]
        assert await console.page.evaluate(CUT_OFF) == []
        assert await console.serious_faults() == []
        await console.does("Close")
        await console.view("Keys")
        await console.page.get_by_role("button", name="Create a key").click()
        assert await console.serious_faults() == []


async def test_all_of_it_can_be_done_by_keyboard(gateway: Running, console_of: ConsoleOf) -> None:
    await Api(gateway).make("acme", scopes=["admin"])
    async with console_of(gateway) as console:
        page = console.page
        await console.open()
        await page.get_by_role("heading", name="Container").wait_for()
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.textContent") == "Skip to the content"
        await page.keyboard.press("Tab")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", level=1, name="Keys").wait_for()
        assert await page.evaluate("document.activeElement.id") == "main"
        await page.get_by_role("button", name="Disable acme").wait_for()
        row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="acme"))
        assert [await row.get_by_role("cell", name=name, exact=True).count() for name in ("default", "admin")] == [
            1,
            1,
        ]
        await page.get_by_role("button", name="Disable acme").focus()
        await page.keyboard.press("Enter")
        await page.get_by_role("dialog").wait_for()
        await page.keyboard.press("Escape")
        assert await page.evaluate("document.activeElement.getAttribute('aria-label')") == "Disable acme"


async def test_usage_is_exported(gateway: Running, tmp_path: Path, console_of: ConsoleOf) -> None:
    await given(gateway, lambda connection: use(connection, "key:acme", 3))
    async with console_of(gateway) as console:
        await console.open("usage")
        await console.page.get_by_label("By mode").check()
        await console.page.get_by_text("accurate").wait_for()
        async with console.page.expect_download() as download:
            await console.page.get_by_role("button", name="Export as CSV").click()
        file = tmp_path / "usage.csv"
        await (await download.value).save_as(file)
    head, row = file.read_bytes().decode().split("\r\n")[:2]
    assert head == "day,key,mode,requests,failed,pages,refunded,spend"
    assert row.split(",")[1:] == ["acme", "accurate", "1", "0", "3", "0", "0"]


async def test_the_pictures_of_the_documents_can_be_taken(
    gateway: Running, tmp_path: Path, console_of: ConsoleOf
) -> None:
    """`make screenshots` names where to."""
    place = Path(os.environ.get("GATEWAY_SCREENSHOTS", tmp_path))
    past_hour(gateway, time.time())
    await given(gateway, fill_for_pictures)
    for _ in range(3):
        await gateway.ask(request(key="wrong"))
    for look, view, viewport in PICTURES:
        size = {"width": viewport[0], "height": viewport[1]}
        async with console_of(gateway, color_scheme=look, viewport=size) as console:
            await console.page.route("**/admin/v1/overview", as_elsewhere)
            await console.open(view)
            await console.page.get_by_role("heading", level=1).wait_for()
            await console.page.wait_for_load_state("networkidle")
            file = place / f"console-{view}-{look}.png"
            picture = Image.open(io.BytesIO(await console.page.screenshot()))
            picture.quantize(64).save(file, optimize=True)
            assert 1000 < file.stat().st_size < 100_000


def test_the_table_names_every_file_that_lies_there() -> None:
    assert {path.name for path in (Path(page_of_files.__file__).parent / "web").iterdir()} == set(FILES.values())


async def are_kept(gateway: Running, count: int) -> None:
    """Waits until so many refused requests are in the ledger."""

    async def holds() -> bool:
        return len((await Api(gateway)("GET", "/admin/v1/refused-requests")).json["refusals"]) == count

    await comes_true(holds)


async def quickest(gateway: Running) -> float:
    """How long a page of keys takes, at best."""
    taken = []
    for _ in range(5):
        began = time.monotonic()
        assert (await gateway.admin("/admin/v1/keys?limit=50&standing=true"))[0] == 200
        taken.append(time.monotonic() - began)
    return min(taken)


async def no_answer(route: Route) -> None:
    """As of a gateway that has ended."""
    await route.abort()


async def is_gone(told: Locator) -> bool:
    """Whether nothing of it is there any more."""
    return await told.count() == 0


async def as_elsewhere(route: Route) -> None:
    """The overview, but for the paths of configuration and ledger: this machine's are nobody's business."""
    answer = await route.fetch()
    told = await answer.json()
    told["configuration"]["file"] = "/etc/gateway/gateway.yaml"
    told["ledger"]["name"] = "/var/lib/gateway/ledger.db"
    await route.fulfill(response=answer, json=told)


async def given(gateway: Running, work: Callable[[Connection], None]) -> None:
    """Writes into the gateway's ledger."""
    async with ledger_of(gateway) as write:
        await write(work)
