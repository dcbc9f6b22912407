"""A new configuration without a restart: whole or not at all, seen by new requests, felt by no old one."""

import asyncio
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.tls.dev_certificates import make_development_certificates
from tests.support.backend import OK, Backend, Connection, obliging
from tests.support.forms import form, image, pdf
from tests.support.gateway import ADMIN_KEY, KEY, PLAIN, RESULT, Running, Start, client_context, request, submit
from tests.support.jobs import Jobs, Used, comes_to
from tests.support.ledgers import Postgres
from tests.support.waiting import eventually

DONE = "configuration reloaded"
REFUSED = "reload refused, the old configuration stays in force"


async def reloaded(gateway: Running, count: int = 1) -> None:
    gateway.gateway.reloader.force()
    await gateway.says(DONE, count)
    assert gateway.metric("gateway_config_last_reload_successful") == 1
    assert gateway.metric("gateway_config_reloads_total", result="success") == count


async def not_reloaded(gateway: Running, fault: str) -> None:
    gateway.gateway.reloader.force()
    event = await gateway.says(REFUSED)
    assert fault in " ".join(event["faults"])
    assert gateway.metric("gateway_config_last_reload_successful") == 0
    assert gateway.metric("gateway_config_reloads_total", result="failure") == 1


async def test_nothing_is_reloaded_when_nothing_changed(gateway: Running) -> None:
    assert gateway.metric("gateway_config_last_reload_successful") == 1
    assert gateway.metric("gateway_config_last_reload_success_timestamp_seconds") > 1_700_000_000
    assert gateway.metric("gateway_config_reloads_total", result="success") == 0


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text("first-secret\n")
    return path


def write(path: Path, text: str) -> None:
    path.write_text(text)


async def test_a_changed_key_file_is_noticed(key_file: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.app.reload.INTERVAL", 0.05)
    gateway = await start(keys=[{"id": "filed", "secret": {"file": str(key_file)}}])
    gateway.own("job-1", "key:filed")
    client = await gateway.connect()
    assert (await client.ask(request(key="first-secret"))).status == 200
    write(key_file, "second-secret\n")
    await gateway.says(DONE)
    (await client.ask(request(key="first-secret"))).is_refusal(401, "unauthenticated")
    assert (await client.ask(request(key="second-secret"))).status == 200
    assert gateway.metric("gateway_config_reloads_total", result="success") == 1


async def test_a_key_swapped_by_symlink_is_noticed(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Kubernetes does it."""
    monkeypatch.setattr("gateway.app.reload.INTERVAL", 0.05)
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").write_text(f"{name}-secret")
    data = tmp_path / "..data"
    data.symlink_to("old")
    gateway = await start(keys=[{"id": "filed", "secret": {"file": str(data / "key")}}])
    gateway.own("job-1", "key:filed")
    assert (await gateway.ask(request(key="old-secret"))).status == 200
    (tmp_path / "..tmp").symlink_to("new")
    (tmp_path / "..tmp").rename(data)
    await gateway.says(DONE)
    assert (await gateway.ask(request(key="new-secret"))).status == 200
    (await gateway.ask(request(key="old-secret"))).is_refusal(401, "unauthenticated")


async def test_a_key_that_is_gone_fails_the_reload_not_the_gateway(key_file: Path, start: Start) -> None:
    gateway = await start(keys=[{"id": "filed", "secret": {"file": str(key_file)}}])
    gateway.own("job-1", "key:filed")
    write(key_file, "")
    await not_reloaded(gateway, "is empty or not there")
    assert (await gateway.ask(request(key="first-secret"))).status == 200
    write(key_file, "third-secret")
    await reloaded(gateway)
    assert (await gateway.ask(request(key="third-secret"))).status == 200


async def test_changed_keys_routes_networks_and_limits_hold_from_the_next_request_on(
    gateway: Running, backend: Backend
) -> None:
    client = await gateway.connect()
    assert (await client.ask(request())).status == 200

    def change(document: dict[str, Any]) -> None:
        document["profiles"] = {"default": {"body_limit": "1KB"}}
        document["routes"] = [{"name": "other", "methods": ["POST"], "path": "/other", "kind": "plain"}]

    gateway.rewrite(change)
    await reloaded(gateway)
    (await client.ask(request())).is_refusal(404, "route_not_found")
    assert (await client.ask(request("POST", "/other", body=b"hello"), b"POST")).status == 200
    (await gateway.ask(request("POST", "/other", "Expect: 100-continue", "Content-Length: 5000"))).is_refusal(
        413, "body_too_large"
    )
    gateway.rewrite(lambda document: document.update(network={"allow": ["10.0.0.0/8"]}))
    await reloaded(gateway, 2)
    (await client.ask(request("POST", "/other", body=b"hello"))).is_refusal(403, "address_denied")
    assert len(backend.requests) == 2


CHANGES: dict[str, tuple[dict[str, Any], int, str]] = {
    "address": ({"network": {"allow": ["10.0.0.0/8"]}}, 403, "address_denied"),
    "key": ({"keys": [{"id": "root", "secret": {"env": "KEY_ADMIN"}}]}, 401, "unauthenticated"),
    "pages": ({"profiles": {"default": {"pages_per_request": 2}}}, 413, "too_many_pages"),
    "budget": ({"profiles": {"default": {"pages_per_day": 2}}}, 403, "budget_exhausted"),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_a_submit_is_judged_once_more_before_its_end_goes_up(
    name: str, gateway: Running, backend: Backend
) -> None:
    changes, status, reason = CHANGES[name]
    sent = submit(form(pdf(3)), key=KEY)
    client = await gateway.connect()
    client.send(sent[:-10])
    await backend.connected()
    gateway.rewrite(lambda document: document.update(changes))
    await reloaded(gateway)
    client.send(sent[-10:])
    (await client.response(b"POST")).is_refusal(status, reason)
    await backend.all_closed()
    assert backend.requests == []
    if name != "address":
        await comes_to(gateway, Used(), ADMIN_KEY if name == "key" else KEY)


async def test_a_request_under_way_keeps_its_configuration(gateway: Running, backend: Backend) -> None:
    answers = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await answers.wait()
        connection.send(OK)
        await obliging(connection)

    backend.script = script
    client = await gateway.connect()
    client.send(request("POST", PLAIN, "Content-Length: 10") + b"hello")
    await backend.connected()

    def change(document: dict[str, Any]) -> None:
        document["keys"] = []
        document["profiles"] = {"default": {"body_limit": "1B"}}
        document["network"] = {"allow": ["10.0.0.0/8"]}

    gateway.rewrite(change)
    await reloaded(gateway)
    client.send(b"world")
    await backend.got(1)
    answers.set()
    assert (await client.response(b"POST")).status == 200
    (await client.ask(request())).is_refusal(403, "address_denied")


async def test_a_field_that_is_refused_meanwhile_does_not_end_its_way(
    start: Start, backend: Backend, jobs: Jobs
) -> None:
    """An upload may take hours: it was judged by the rules of its head."""
    gateway = await start(body={"allow_file_url": True})
    sent = [submit(form(None, file_url="http://10.0.0.1/x")), submit(form(image(b"x"), mode="fast"))]
    clients = [await gateway.connect() for _ in sent]
    for client, whole in zip(clients, sent, strict=True):
        client.send(whole[:-10])
    await backend.connected(2)
    gateway.rewrite(lambda document: document["body"].update(allow_file_url=False))
    await reloaded(gateway)
    for client, whole in zip(clients, sent, strict=True):
        client.send(whole[-10:])
    (await clients[0].response(b"POST")).is_refusal(422, "field_refused")
    assert (await clients[1].response(b"POST")).status == 200
    assert jobs.started == 1


async def test_another_upstream_is_used_from_the_next_request_on(gateway: Running, backend: Backend) -> None:
    client = await gateway.connect()
    assert (await client.ask(request())).status == 200
    async with Backend() as other:
        gateway.rewrite(lambda document: document["upstream"].update(url=f"http://127.0.0.1:{other.port}"))
        await reloaded(gateway)
        await backend.connections[0].end()
        assert (await client.ask(request())).status == 200
        assert (len(backend.requests), len(other.requests)) == (1, 1)
        assert other.requests[0].value(b"host") == f"127.0.0.1:{other.port}".encode()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda document: document["network"].pop("allow"), "network.allow"),
        (lambda document: document.update(netwrok={}), "did you mean network"),
        (lambda document: document["listen"].update(proxy_protocol=True), "listen.proxy_protocol"),
        (lambda document: document["keys"].append({"id": "x", "secret": {"env": "NOWHERE"}}), "NOWHERE"),
    ],
)
async def test_a_faulty_configuration_changes_nothing(change: Any, fault: str, gateway: Running) -> None:
    before = gateway.path.read_text()
    gateway.rewrite(change)
    await not_reloaded(gateway, fault)
    assert (await gateway.ask(request())).status == 200
    gateway.path.write_text(before)
    await reloaded(gateway)


async def test_a_file_that_is_no_yaml_changes_nothing(gateway: Running) -> None:
    gateway.path.write_text("network: [")
    await not_reloaded(gateway, "gateway.yaml")
    assert (await gateway.ask(request())).status == 200


# What waits for a restart


async def test_what_waits_for_a_restart_holds_no_removed_key_in_force_and_is_told(gateway: Running) -> None:
    assert (await gateway.ask(request())).status == 200

    def change(document: dict[str, Any]) -> None:
        document["keys"] = []
        document["listen"]["port"] = 1234
        document["ledger"]["timeout"] = "7s"

    gateway.rewrite(change)
    await reloaded(gateway)
    (await gateway.ask(request())).is_refusal(401, "unauthenticated")
    assert (await gateway.says("settings wait for a restart"))["settings"] == ["listen.port", "ledger.timeout"]
    await eventually(lambda: gateway.metric("gateway_ledger_up") == 1, 30.0)  # where a machine is busy it may be late
    status, text = await gateway.admin("/readyz")
    assert (status, json.loads(text)["waits_for_restart"]) == (200, ["listen.port", "ledger.timeout"])
    assert gateway.metric("gateway_config_waits_for_restart", setting="ledger.timeout") == 1


async def test_no_route_is_open_while_the_certificates_that_it_leans_on_wait(
    gateway: Running, backend: Backend, certificates: Path
) -> None:
    def change(document: dict[str, Any]) -> None:
        document["tls"].update(client_ca=str(certificates / "ca.pem"), client_certificates="required")
        document["routes"] = [{"name": "other", "methods": ["POST"], "path": PLAIN, "access": "anyone"}]

    gateway.rewrite(change)
    await reloaded(gateway)
    (await gateway.ask(request("POST", PLAIN, key=None, body=b"x"))).is_refusal(401, "unauthenticated")
    assert backend.requests == []
    waiting = ["tls.client_ca", "tls.client_certificates", "routes"]
    assert (await gateway.says("settings wait for a restart"))["settings"] == waiting
    assert json.loads((await gateway.admin("/readyz"))[1])["waits_for_restart"] == waiting


async def test_nobody_names_his_own_address_while_the_proxy_protocol_waits(
    gateway: Running, backend: Backend
) -> None:
    def change(document: dict[str, Any]) -> None:
        document["listen"]["proxy_protocol"] = True
        document["network"] = {"allow": ["10.9.0.0/16"], "trusted_proxies": ["127.0.0.0/8", "::1"]}

    gateway.rewrite(lambda document: document.update(network={"allow": ["10.9.0.0/16"]}))
    await reloaded(gateway)
    gateway.rewrite(change)
    await reloaded(gateway, 2)
    spoofed = request("POST", PLAIN, "X-Forwarded-For: 10.9.1.1", key=KEY, body=b"x")
    (await gateway.ask(spoofed)).is_refusal(403, "address_denied")
    assert backend.requests == []


@pytest.fixture
def guarded(postgres: Postgres, migrated: str) -> Iterator[str]:
    """A URL without a password, of a role that needs one."""
    rules = postgres.data / "pg_hba.conf"
    trusting = rules.read_text()
    name = postgres.database(migrated)
    postgres.sql(f"CREATE ROLE warden LOGIN SUPERUSER PASSWORD 'first'; GRANT ALL ON DATABASE {name} TO warden")
    rules.write_text("local all warden scram-sha-256\n" + trusting)
    postgres.sql("SELECT pg_reload_conf()")
    yield postgres.url_of(name).replace("postgres:@", "warden:PASSWORD@")
    rules.write_text(trusting)
    postgres.sql("SELECT pg_reload_conf()")
    postgres.drop(name)
    postgres.sql("DROP ROLE warden")


async def test_a_database_password_that_rotates_is_used_and_holds_nothing_back(
    guarded: str, postgres: Postgres, tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.app.reload.INTERVAL", 0.05)
    secret = tmp_path / "url"
    secret.write_text(guarded.replace("PASSWORD", "first") + "\n")
    gateway = await start(ledger={"url": {"file": str(secret)}, "timeout": "20s"})
    assert (await gateway.ask(submit(form(pdf(1))), b"POST")).status == 200
    await asyncio.to_thread(postgres.sql, "ALTER ROLE warden PASSWORD 'second'")
    secret.write_text(guarded.replace("PASSWORD", "second") + "\n")
    await gateway.says(DONE)
    ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'warden'"
    await asyncio.to_thread(postgres.sql, ends)
    async with asyncio.timeout(30):  # a step whose connection was just ended may have been done: a 503
        while (await gateway.ask(submit(form(pdf(1))), b"POST")).status != 200:
            await eventually(lambda: gateway.metric("gateway_ledger_up") == 1)
    gateway.rewrite(lambda document: document.update(keys=[]))
    await gateway.says(DONE, 2)
    (await gateway.ask(request())).is_refusal(401, "unauthenticated")
    assert gateway.gateway.reloader.waiting == ()


# Certificates


@pytest.fixture
def pair(tmp_path: Path, certificates: Path) -> Path:
    """A directory with a certificate that a test may exchange."""
    directory = tmp_path / "pair"
    directory.mkdir()
    for name in ("ca.pem", "server.pem", "server.key"):
        (directory / name).write_bytes((certificates / name).read_bytes())
    return directory


async def with_pair(start: Start, pair: Path) -> Running:
    return await start(tls={"certificate": f"{pair}/server.pem", "private_key": f"{pair}/server.key"})


async def test_a_new_certificate_is_for_new_handshakes_and_old_connections_go_on(pair: Path, start: Start) -> None:
    gateway = await with_pair(start, pair)
    old = await gateway.connect()
    assert (await old.ask(request())).status == 200
    ends = gateway.metric("gateway_tls_certificate_not_after_seconds")
    assert ends > 1_700_000_000
    make_development_certificates(pair, ["localhost"])
    await reloaded(gateway)
    with pytest.raises(ssl.SSLCertVerificationError):
        await gateway.connect()
    new = await gateway.connect(context=client_context(pair))
    assert (await new.ask(request())).status == 200
    assert (await old.ask(request())).status == 200
    assert gateway.metric("gateway_tls_certificate_not_after_seconds") >= ends


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("server.key", None, "is not the key of"),
        ("server.key", b"no key", "can't be used"),
        ("server.pem", b"no certificate", "holds no PEM certificate"),
        ("server.pem", b"", "holds no PEM certificate"),
    ],
)
async def test_a_bad_pair_is_refused_and_the_old_one_stays(
    name: str, content: bytes | None, fault: str, pair: Path, tmp_path: Path, start: Start
) -> None:
    gateway = await with_pair(start, pair)
    if content is None:
        make_development_certificates(tmp_path / "foreign", ["localhost"])
        content = (tmp_path / "foreign" / "server.key").read_bytes()
    good = (pair / name).read_bytes()
    (pair / name).write_bytes(content)
    await not_reloaded(gateway, fault)
    assert (await gateway.ask(request())).status == 200
    (pair / name).write_bytes(good)
    await reloaded(gateway)
    assert (await gateway.ask(request())).status == 200


async def test_reloads_under_load_fail_no_request(gateway: Running) -> None:
    async def poll() -> int:
        client = await gateway.connect()
        for _ in range(30):
            assert (await client.ask(request("GET", RESULT, key=KEY))).status == 200
        return 30

    async def reload() -> None:
        for i in range(5):
            await reloaded(gateway, i + 1)

    polled = await asyncio.gather(reload(), *(poll() for _ in range(4)))
    assert sum(count for count in polled if count) == 120
    await gateway.finished(120)
