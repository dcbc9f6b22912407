"""Client certificates as a way in: an identity of their own, or a condition beside a key."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.backend import Backend
from tests.support.client import Response
from tests.support.gateway import ADMIN_KEY, KEY, RESULT, Running, Start, client_context, request, submit
from tests.support.jobs import ME, Jobs, poll

Context = Callable[..., ssl.SSLContext]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def context(certificates: Path, authority: trustme.CA) -> Context:
    """What a client uses whose certificate has this common name, and these other names."""

    def made(common_name: str | None, *names: str) -> ssl.SSLContext:
        found = client_context(certificates)
        if common_name is not None:
            authority.issue_cert(*(names or ("any.test",)), common_name=common_name).configure_cert(found)
        return found

    return made


async def asking(
    start: Start, authority: trustme.CA, tmp_path: Path, mode: str = "optional", **certificates: Any
) -> Running:
    """A gateway that asks for certificates."""
    authority.cert_pem.write_to_path(tmp_path / "clients.pem")
    authentication = {"certificates": certificates} if certificates else {}
    tls = {"client_ca": str(tmp_path / "clients.pem"), "client_certificates": mode}
    return await start(tls=tls, authentication=authentication, profiles={"default": {}, "gold": {"pages_per_day": 1}})


async def ask(gateway: Running, context: ssl.SSLContext, sent: bytes, method: bytes = b"GET") -> Response:
    async with await gateway.connect(context=context) as client:
        return await client.ask(sent, method)


async def test_a_certificate_is_an_identity(
    start: Start, authority: trustme.CA, tmp_path: Path, context: Context, backend: Backend
) -> None:
    backend.script = Jobs()
    names = {"robot": {"profile": "gold", "scopes": ["admin"]}}
    gateway = await asking(start, authority, tmp_path, identity="cn", names=names)
    gateway.own("job-1", "cert:robot")
    robot = context("robot")
    assert (await ask(gateway, robot, request(key=None))).status == 200
    assert (await ask(gateway, robot, request("GET", "/api/v1/usage", key=None))).status == 200
    assert (await ask(gateway, robot, submit(key=None), b"POST")).status == 200
    (await ask(gateway, robot, submit(key=None), b"POST")).is_refusal(403, "budget_exhausted")
    report = (await ask(gateway, robot, request("GET", ME, key=None))).body
    assert b'"owner":"cert:robot"' in report
    assert b'"authentication":"certificate"' in report
    assert b'"pages":1' in report
    assert {arrived.value(b"x-gateway-key-id") for arrived in backend.requests} == {b"cert:robot"}
    assert gateway.metric("gateway_authentications_total", method="certificate", result="accepted") >= 4


async def test_a_certificate_that_is_not_listed_is_refused(
    start: Start, authority: trustme.CA, tmp_path: Path, context: Context, backend: Backend
) -> None:
    gateway = await asking(start, authority, tmp_path, identity="cn", names={"robot": {}})
    response = await ask(gateway, context("canary"), request(key=None))
    problem = response.is_refusal(401, "unauthenticated")
    assert "canary" not in str(problem)
    await backend.got_nothing()
    (await ask(gateway, context(None), request(key=None))).is_refusal(401, "unauthenticated")
    assert gateway.metric("gateway_authentications_total", method="certificate", result="rejected") == 1


async def test_two_names_are_no_identity(
    start: Start, authority: trustme.CA, tmp_path: Path, context: Context
) -> None:
    gateway = await asking(start, authority, tmp_path, identity="dns")
    gateway.own("job-1", "cert:one.test")
    assert (await ask(gateway, context("any", "one.test"), request(key=None))).status == 200
    both = await ask(gateway, context("any", "one.test", "two.test"), request(key=None))
    assert "several" in both.is_refusal(401, "unauthenticated")["detail"]


@pytest.mark.parametrize("mapped", [False, True], ids=["unmapped", "mapped"])
async def test_a_required_certificate_is_asked_for_before_all_else(
    mapped: bool, start: Start, authority: trustme.CA, tmp_path: Path, context: Context, backend: Backend
) -> None:
    mapping = {"identity": "cn"} if mapped else {}
    gateway = await asking(start, authority, tmp_path, "required", **mapping)
    for sent in (request(), request(key="wrong"), request("GET", "/health_check", key=None), request("GET", ME)):
        problem = (await ask(gateway, context(None), sent)).is_refusal(401, "unauthenticated")
        assert problem["detail"] == "This service asks for a client certificate, and the connection has none."
    await backend.got_nothing()
    assert gateway.metric("gateway_authentications_total", method="api_key", result="rejected") == 0
    assert (await ask(gateway, context("robot"), request())).status == 200
    assert (await ask(gateway, context("robot"), request("GET", "/health_check", key=None))).status == 200
    gateway.own("job-1", "cert:robot")
    bare = await ask(gateway, context("robot"), request(key=None))
    assert (bare.status == 200) is mapped


async def test_a_certificate_beside_a_credential_is_a_condition_and_no_identity(
    start: Start, authority: trustme.CA, tmp_path: Path, context: Context, backend: Backend
) -> None:
    gateway = await asking(
        start, authority, tmp_path, "required", identity="cn", names={"robot": {"scopes": ["admin"]}}
    )
    robot, stranger = context("robot"), context("stranger")
    assert (await ask(gateway, robot, request(key=KEY))).status == 200
    assert (await ask(gateway, stranger, request(key=KEY))).status == 200  # known by the key, not by its name
    assert [arrived.value(b"x-gateway-key-id") for arrived in backend.requests] == [b"ci", b"ci"]
    (await ask(gateway, robot, request("GET", "/api/v1/usage", key=KEY))).is_refusal(403, "forbidden")
    assert (await ask(gateway, stranger, request("GET", "/api/v1/usage", key=ADMIN_KEY))).status == 200
    (await ask(gateway, robot, request(key="wrong"))).is_refusal(401, "unauthenticated")
    two = request("GET", RESULT, f"Authorization: Bearer {KEY}")
    (await ask(gateway, robot, two)).is_refusal(400, "bad_request")


async def test_one_connection_may_be_both_in_turn(
    start: Start, authority: trustme.CA, tmp_path: Path, context: Context, backend: Backend
) -> None:
    gateway = await asking(start, authority, tmp_path, identity="cn")
    for number, owner in enumerate(("key:ci", "cert:robot", "key:root")):
        gateway.own(f"job-{number}", owner)
    client = await gateway.connect(context=context("robot"))
    for job, key in (("job-0", KEY), ("job-1", None), ("job-2", ADMIN_KEY), ("job-1", None), ("job-0", KEY)):
        assert (await client.ask(poll(job, key))).status == 200
    found = [arrived.value(b"x-gateway-key-id") for arrived in backend.requests]
    assert found == [b"ci", b"cert:robot", b"root", b"cert:robot", b"ci"]
