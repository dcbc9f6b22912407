"""Keys of the ledger, made and ended beside a running gateway as the command line does it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from unittest.mock import patch

import pytest

from gateway.auth.key_secrets import make_secret
from gateway.keys.key_changes import KeyService
from gateway.keys.validation import Wanted
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.pool import Pool
from tests.support.backend import Backend
from tests.support.client import Client, Response
from tests.support.gateway import KEY, PLAIN, RESULT, Running, Start, request, submit
from tests.support.jobs import ME, Jobs, Used, administering, comes_true, known, me, poll, used
from tests.support.waiting import eventually

IN_TIME = 2.0  # seconds, as chapter 9 of the design promises


@pytest.fixture
async def admin(gateway: Running) -> AsyncIterator[KeyService]:
    async with administering(gateway) as found:
        yield found


async def made(gateway: Running, admin: KeyService, key_id: str = "led", **members: object) -> str:
    """A new key's secret, once the gateway knows it; job-1 is its owner's."""
    gateway.own("job-1", f"key:{members.get('owner', key_id)}")
    return await known(gateway, (await admin.create("tests", Wanted(key_id, **members))).secret)  # type: ignore[arg-type]


async def until_refused(client: Client, sent: bytes, within: float = IN_TIME) -> Response:
    """Polls on one connection until that is refused."""
    answers: list[Response] = []

    async def is_refused() -> bool:
        answers.append(await client.ask(sent))
        return answers[-1].status != 200

    await comes_true(is_refused, within)
    return answers[-1]


async def test_a_key_works_within_two_seconds_of_its_making(
    gateway: Running, admin: KeyService, backend: Backend
) -> None:
    secret = (await admin.create("tests", Wanted("led"))).secret
    gateway.own("job-1", "key:led")
    client = await gateway.connect()

    async def is_known() -> bool:
        return (await client.ask(request(key=secret))).status == 200

    await comes_true(is_known, IN_TIME)
    (arrived,) = backend.requests
    assert arrived.value(b"x-gateway-key-id") == b"led"
    assert (await client.ask(request("GET", RESULT, f"Authorization: Bearer {secret}", key=None))).status == 200
    assert gateway.requests[-1]["key"] == "led"
    assert gateway.metric("gateway_authentications_total", method="api_key", result="accepted") >= 1
    assert secret is not None
    assert secret not in str(gateway.events)


Ending = Callable[[KeyService], Awaitable[object]]
ENDINGS: dict[str, Ending] = {
    "revoked": lambda admin: admin.revoke("tests", "led", None, force=True),
    "generation-revoked": lambda admin: admin.revoke("tests", "led", 1, force=True),
    "disabled": lambda admin: admin.set_disabled("tests", "led", disabled=True),
    "rotated-without-overlap": lambda admin: admin.rotate("tests", "led", 0.0, None),
    "elsewhere": lambda admin: admin.change("tests", "led", networks=("10.0.0.0/8",)),
}


@pytest.mark.parametrize("name", ENDINGS)
async def test_a_key_that_ends_is_refused_on_a_kept_connection_within_two_seconds(
    name: str, gateway: Running, admin: KeyService
) -> None:
    client = await gateway.connect()
    sent = request(key=await made(gateway, admin))
    assert (await client.ask(sent)).status == 200
    await ENDINGS[name](admin)
    response = await until_refused(client, sent)
    response.is_refusal(*((403, "address_denied") if name == "elsewhere" else (401, "unauthenticated")))


async def test_a_key_that_expires_is_refused_on_a_kept_connection(gateway: Running, admin: KeyService) -> None:
    ends = int(time.time()) + 3
    sent = request(key=await made(gateway, admin, expires_at=float(ends)))
    client = await gateway.connect()
    assert (await client.ask(sent)).status == 200
    response = await until_refused(client, sent, within=5.0)
    assert ends <= time.time() < ends + 1
    assert response.is_refusal(401, "unauthenticated")["detail"] == "This API key has expired."
    (await client.ask(sent)).is_refusal(401, "unauthenticated")  # the one before may have been let in, and ended then
    await eventually(lambda: gateway.metric("gateway_authentications_total", method="api_key", result="expired") >= 1)


async def test_a_disabled_key_comes_back_as_it_was(gateway: Running, admin: KeyService) -> None:
    secret = await made(gateway, admin, owner="team")
    client = await gateway.connect()
    await admin.set_disabled("tests", "led", disabled=True)
    (await until_refused(client, request(key=secret))).is_refusal(401, "unauthenticated")
    await admin.set_disabled("tests", "led", disabled=False)
    await known(gateway, secret)
    assert (await me(gateway, secret))["owner"] == "key:team"


async def test_both_secrets_work_through_an_overlap(gateway: Running, admin: KeyService, backend: Backend) -> None:
    backend.script = Jobs()
    old = await made(gateway, admin)
    assert (await gateway.ask(submit(key=old), b"POST")).status == 200
    new = await known(gateway, (await admin.rotate("tests", "led", 3.0, "once")).secret)
    again = await admin.rotate("tests", "led", 3.0, "once")
    assert (again.generation, again.secret) == (2, None)
    for secret in (old, new):
        assert (await gateway.ask(poll(key=secret))).status == 200
    assert await used(gateway, new) == Used(0, 1, 1, 1)  # one account
    client = await gateway.connect()
    refused = (await until_refused(client, request(key=old), 3.0 + IN_TIME)).is_refusal(401, "unauthenticated")
    assert refused["detail"] == "This secret was replaced and has ended; use the key's newer one."
    assert gateway.requests[-1]["why"] == "replaced"
    assert (await gateway.ask(request(key=new))).status == 200


async def test_changed_limits_hold_from_the_next_submit_on(gateway: Running, admin: KeyService) -> None:
    secret = await made(gateway, admin, limits={"requests_per_minute": 100})
    assert (await me(gateway, secret))["limits"]["requests_per_minute"]["limit"] == 100
    await admin.change("tests", "led", limits={"requests_per_minute": 1, "page_range": "required"})

    async def has_changed() -> bool:
        limit: int = (await me(gateway, secret))["limits"]["requests_per_minute"]["limit"]
        return limit == 1

    await comes_true(has_changed, IN_TIME)
    (await gateway.ask(submit(key=secret), b"POST")).is_refusal(422, "field_refused")
    (await gateway.ask(submit(key=secret), b"POST")).is_refusal(429, "rate_limited")


async def test_when_a_secret_was_used_is_noted(gateway: Running, admin: KeyService) -> None:
    began = int(time.time())
    secret = await made(gateway, admin)
    assert (await gateway.ask(request(key=secret))).status == 200

    async def is_noted() -> bool:
        record, _, _ = await admin.show("led")
        used_at = record.generations[0].last_used_at
        assert used_at is None or began - 1 <= used_at <= time.time()
        return used_at is not None

    await comes_true(is_noted, within=20)


async def test_an_unknown_secret_of_our_form_is_unknown(gateway: Running, backend: Backend) -> None:
    for secret in (make_secret("led", bytes(32)), "dgw_led_" + "a" * 49, "dgw_", "dgw_ci_x"):
        problem = (await gateway.ask(request(key=secret))).is_refusal(401, "unauthenticated")
        assert secret not in str(problem)
    await backend.got_nothing()
    assert gateway.metric("gateway_authentications_total", method="api_key", result="rejected") == 4


@pytest.mark.parametrize("second", ["the-same", "another"])
async def test_two_credentials_are_one_too_many(
    second: str, gateway: Running, admin: KeyService, backend: Backend
) -> None:
    secret = await made(gateway, admin)
    bearer = f"Authorization: Bearer {secret if second == 'the-same' else KEY}"
    (await gateway.ask(request("GET", RESULT, bearer, key=secret))).is_refusal(400, "bad_request")
    (await gateway.ask(request("GET", RESULT, f"X-API-Key: {KEY}", key=secret))).is_refusal(400, "bad_request")
    (await gateway.ask(request("GET", ME, bearer, key=secret))).is_refusal(400, "bad_request")
    await backend.got_nothing()


async def test_keys_of_one_owner_have_limits_each(gateway: Running, admin: KeyService, backend: Backend) -> None:
    backend.script = Jobs()
    one, two = [await made(gateway, admin, name, owner="team") for name in ("one", "two")]
    assert (await gateway.ask(submit(key=one), b"POST")).status == 200
    assert [await used(gateway, key) for key in (one, two)] == [Used(0, 1, 1, 1), Used()]


async def test_an_id_in_both_places_is_a_fault_of_the_reload(
    gateway: Running, admin: KeyService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.app.reload.INTERVAL", 60.0)
    secret = await made(gateway, admin)
    gateway.rewrite(lambda document: document["keys"].append({"id": "led", "secret": {"sha256": "ab" * 32}}))
    gateway.gateway.reloader.force()
    event = await gateway.says("reload refused, the old configuration stays in force")
    assert event["faults"] == ["keys[3].id: led is in the ledger, too; take one of them away"]
    assert (await gateway.ask(request(key=secret))).status == 200


async def test_an_id_of_the_configuration_is_ignored_in_the_ledger(start: Start) -> None:
    """Another replica's configuration may lack a key that ours has."""
    first = await start()
    url = {"url": f"sqlite:///{first.path.parent}/ledger.db"}
    keys = [{"id": "ci", "secret": {"env": "KEY_CI"}}, {"id": "led", "secret": {"env": "KEY_AWAY"}}]
    second = await start(ledger=url, keys=keys)
    async with administering(first) as admin:
        secret = await made(first, admin)
    event = await second.says("keys of the ledger are ignored, for the configuration has their ids")
    assert event["keys"] == ["led"]
    (await second.ask(request(key=secret))).is_refusal(401, "unauthenticated")
    assert (await first.ask(request(key=secret))).status == 200


async def test_keys_survive_a_reload(gateway: Running, admin: KeyService) -> None:
    secret = await made(gateway, admin)
    client = await gateway.connect()
    assert (await client.ask(request(key=secret))).status == 200
    gateway.rewrite(lambda document: document.update(public_url="https://docs.test"))
    gateway.gateway.reloader.force()
    await gateway.says("configuration reloaded")
    assert (await client.ask(request(key=secret))).status == 200


async def test_a_key_whose_profile_is_gone_opens_nothing(start: Start) -> None:
    gateway = await start(profiles={"gold": {"requests_per_minute": 7}})
    async with administering(gateway) as admin:
        secret = await made(gateway, admin, profile="gold")
    assert (await me(gateway, secret))["profile"] == "gold"
    gateway.rewrite(lambda document: document.pop("profiles"))
    gateway.gateway.reloader.force()
    await gateway.says("configuration reloaded")
    (await gateway.ask(request(key=secret))).is_refusal(401, "unauthenticated")
    await eventually(lambda: not gateway.gateway.live.state.ring.live_keys())


async def test_a_key_that_ends_while_a_connection_is_made_has_nothing_sent(
    gateway: Running, admin: KeyService, backend: Backend
) -> None:
    secret = await made(gateway, admin)
    begun, may_connect, connect = asyncio.Event(), asyncio.Event(), Pool.connect

    async def late(pool: Pool, peer: Hashable = None) -> UpstreamConnection:
        begun.set()
        await may_connect.wait()
        return await connect(pool, peer)

    with patch.object(Pool, "connect", late):
        async with await gateway.connect() as waiting, await gateway.connect() as client:
            waiting.send(request("POST", PLAIN, "Content-Length: 0", key=secret))
            await begun.wait()
            await admin.set_disabled("tests", "led", disabled=True)
            await until_refused(client, request("GET", ME, key=secret))
            now = time.monotonic()
            await eventually(lambda: time.monotonic() > now + 1.0)  # so long is good what was found of a request
            may_connect.set()
            (await waiting.response(b"POST")).is_refusal(401, "unauthenticated")
    await backend.got_nothing()
