"""Who is near a limit, and callers by token who have not submitted yet: through the admin API."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection

from tests.admin.api import Api
from tests.admin.filling import ledger_of, make_keys, use, use_of_many
from tests.support.gateway import Running, Start, request, submit
from tests.support.jobs import comes_true
from tests.support.tokens import make_token, p256_key, pem_of

NEAR = "/admin/v1/near-limits"
ISSUER = "https://idp.test"


async def with_tokens(start: Start, tmp_path: Path, pages: int) -> Running:
    """A gateway that takes tokens of an issuer, under a profile of few pages."""
    (tmp_path / "key.pem").write_bytes(pem_of(p256_key()))
    issuer = {"issuer": ISSUER, "audience": "gateway", "public_key": str(tmp_path / "key.pem"), "profile": "small"}
    return await start(profiles={"small": {"pages_per_month": pages}}, authentication={"jwt": [issuer]})


def token_of(owner: str, **claims: Any) -> str:
    """The header of a token that is good for some minutes."""
    values: dict[str, Any] = {"iss": ISSUER, "aud": "gateway", "sub": owner, "exp": int(time.time()) + 300, **claims}
    return f"Authorization: Bearer {make_token(key=p256_key(), **values).decode()}"


async def test_keys_and_callers_near_a_limit_are_named_the_nearest_first(start: Start, tmp_path: Path) -> None:
    gateway = await with_tokens(start, tmp_path, 1)
    api = Api(gateway)
    for name, pages in (("acme", 10), ("far", 100)):
        await api.make(name, limits={"pages_per_month": pages})
    assert (await gateway.ask(submit(None, token_of("ann"), key=None))).status == 200
    async with ledger_of(gateway) as write:
        for account in ("key:acme", "key:far", f"jwt:{ISSUER}#unseen", "key:gone"):
            await write(lambda connection, account=account: use(connection, account, 9))
    told = (await api("GET", NEAR)).json
    rows = [
        (row["account"], row["key"], row["name"], row["used"], row["limit"], row["share"]) for row in told["near"]
    ]
    assert rows == [
        (f"jwt:{ISSUER}#ann", None, "pages_per_month", 1, 1, 1),
        ("key:acme", "acme", "pages_per_month", 9, 10, 0.9),
    ]
    assert (told["total"], told["unknown"], told["is_complete"], told["near"][0]["profile"]) == (2, 2, True, "small")
    first = (await api("GET", f"{NEAR}?limit=1")).json
    assert (len(first["near"]), first["total"]) == (1, 2)
    assert [key["id"] for key in (await api("GET", "/admin/v1/keys?near=true")).json["keys"]] == ["acme"]
    callers = (await api("GET", "/admin/v1/callers?near=true")).json["callers"]
    assert [caller["account"] for caller in callers] == [f"jwt:{ISSUER}#ann"]
    await api("POST", "/admin/v1/keys/acme/grants", {"pages": 90, "until": "2099-01-01T00:00:00Z"})
    assert (await api("GET", "/admin/v1/keys?near=true")).json["keys"] == []


async def test_who_is_near_a_limit_is_found_among_ten_thousand_keys(start: Start) -> None:
    gateway = await start(profiles={"default": {"pages_per_month": 10}})

    def fill(connection: Connection) -> None:
        make_keys(connection, 10_000)
        use_of_many(connection, [f"key:k-{number:05}" for number in range(10_000)], 5)
        use_of_many(connection, [f"key:k-{number:05}" for number in range(9_000, 9_003)], 10)

    async with ledger_of(gateway) as write:
        await write(fill)
    api = Api(gateway)
    taken: list[float] = []

    async def all_are_known() -> bool:
        began = time.monotonic()
        told = (await api("GET", NEAR)).json
        taken.append(time.monotonic() - began)
        return bool(told["unknown"] == 0)

    await comes_true(all_are_known, within=60)
    await all_are_known()
    told = (await api("GET", NEAR)).json
    assert ([row["key"] for row in told["near"]], told["total"]) == (["k-09000", "k-09001", "k-09002"], 3)
    keys = (await api("GET", "/admin/v1/keys?near=true&standing=true&limit=2")).json
    assert ([key["id"] for key in keys["keys"]], keys["next"]) == (["k-09000", "k-09001"], "k-09001")
    assert min(taken[-2:]) < 2, taken


async def test_a_caller_is_listed_once_he_was_seen_though_he_never_submitted(start: Start, tmp_path: Path) -> None:
    gateway = await with_tokens(start, tmp_path, 10)
    api = Api(gateway)
    answer = await gateway.ask(request("GET", "/gateway/v1/me", token_of("alice"), key=None))
    assert answer.status == 200
    assert (await gateway.ask(request("GET", "/gateway/v1/me", key="wrong"))).status == 401
    (caller,) = (await api("GET", "/admin/v1/callers")).json["callers"]
    assert (caller["account"], caller["was_seen"], caller["requests"]) == (f"jwt:{ISSUER}#alice", True, 1)
    assert (await api("GET", "/admin/v1/callers?q=alice&limit=1")).json["next"] is None
    assert (await api("GET", "/admin/v1/callers?blocked=true")).json["callers"] == []


async def test_grants_are_ended_early_one_or_all_of_keys_and_callers(start: Start, tmp_path: Path) -> None:
    gateway = await with_tokens(start, tmp_path, 10)
    api, ann = Api(gateway), quote(f"jwt:{ISSUER}#ann", safe="")
    await api.make("acme", limits={"pages_per_month": 10, "pages_per_day": None})
    assert (await gateway.ask(request("GET", "/gateway/v1/me", token_of("ann"), key=None))).status == 200
    for of, actor in (("keys/acme", "key"), (f"callers/{ann}", "caller"), ("keys/ci", "key")):
        is_of_file = of == "keys/ci"
        for pages in (3, 4):
            until = f"209{pages}-01-01T00:00:00Z"
            made = await api("POST", f"/admin/v1/{of}/grants", {"pages": pages, "until": until})
            assert made.json["budgets"] == ([] if is_of_file else ["pages_per_month"])
        if not is_of_file:
            first = (await api("GET", f"/admin/v1/{of}")).json["grants"][0]
            ended = (await api("POST", f"/admin/v1/{of}/grants/end", {"grant": first["id"]})).json["grants"]
            assert ended[0]["pages"] == 3
            gone = await api("POST", f"/admin/v1/{of}/grants/end", {"grant": first["id"]})
            gone.is_problem(404, "key_not_found")
            assert [grant["pages"] for grant in (await api("GET", f"/admin/v1/{of}")).json["grants"]] == [4]
        left = (await api("POST", f"/admin/v1/{of}/grants/end", {})).json["grants"]
        assert [grant["pages"] for grant in left] == ([3, 4] if is_of_file else [4])
        assert (await api("POST", f"/admin/v1/{of}/grants/end", {})).json["grants"] == []
        (change, *_) = (await api("GET", f"/admin/v1/audit?action={actor}.end_grant")).json["changes"]
        assert change["detail"] == {"pages": 4, "until": int(datetime(2094, 1, 1, tzinfo=UTC).timestamp())}
