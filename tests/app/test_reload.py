import asyncio
import base64
import json
import os
import re
import shutil
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import gateway.app.prepare
import gateway.app.reload
from gateway.aio.daemon_threads import DaemonThreads
from gateway.app.file_watch import read_if_changed
from gateway.app.prepare import Prepared, prepare, watched
from gateway.app.reload import Reloader
from gateway.app.systemd import Notifier
from gateway.config.ledger_url import url_of
from gateway.errors import ConfigurationError, SetupError
from gateway.tls.contexts import Certificates, fingerprint
from gateway.tls.dev_certificates import make_development_certificates
from tests.support.pure import make_settings, write
from tests.support.waiting import eventually

SECRET = "long-and-random-secret"
LONG = 60


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made")
    for name in ("one", "two"):
        make_development_certificates(directory / name, [f"{name}.test"])
    return directory


class Site:
    """A configuration on disk, and what a Reloader makes of it."""

    def __init__(self, directory: Path, made: Path) -> None:
        self.path = directory / "gateway.yaml"
        self.directory = directory
        self.made = made
        self.environ = {"K": SECRET}
        self.in_force: list[Prepared] = []
        self.use_pair("one")
        (directory / "secret").write_text("from a file")
        self.write()

    def use_pair(self, certificate: str, key: str | None = None) -> None:
        shutil.copy(self.made / certificate / "server.pem", self.directory / "server.pem")
        shutil.copy(self.made / (key or certificate) / "server.key", self.directory / "server.key")

    def swap_key(self, name: str) -> None:
        """Exchanges the key in one step."""
        shutil.copy(self.made / name / "server.key", self.directory / "new.key")
        (self.directory / "new.key").replace(self.directory / "server.key")

    def write(self, **sections: Any) -> None:
        pair = {"certificate": str(self.directory / "server.pem"), "private_key": str(self.directory / "server.key")}
        whole: dict[str, Any] = {
            "network": {"allow": ["10.0.0.0/8"]},
            "keys": [{"id": "a", "secret": {"env": "K"}}],
            **sections,
        }
        whole["tls"] = {**pair, **sections.get("tls", {})}
        if sections.get("admin", {}).get("tls"):
            whole["admin"] = {**sections["admin"], "tls": pair}
        write(self.directory, whole)

    def prepare(self) -> Prepared:
        return prepare(self.path, self.environ)

    def reloader(self) -> Reloader:
        return Reloader(self.path, self.environ, self.prepare(), self.in_force.append, Notifier({}, list))


@pytest.fixture
def site(tmp_path: Path, made: Path) -> Site:
    return Site(tmp_path, made)


@pytest.fixture(autouse=True)
def events() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


# Preparing


def test_prepares_all_that_a_configuration_means(site: Site, made: Path) -> None:
    two = {"certificate": str(made / "two/server.pem"), "private_key": str(made / "two/server.key")}
    site.write(tls={"certificates": [two]}, admin={"tls": True, "token": {"file": str(site.directory / "secret")}})
    prepared = site.prepare()
    assert [pair.names for pair in prepared.pairs] == [("one.test",), ("two.test",)]
    assert [pair.names for pair in prepared.admin_pairs] == [("one.test",)]
    assert len(prepared.state.keys) == 1
    server = (site.directory / "server.pem", site.directory / "server.key")
    files = [site.path, *server, made / "two/server.pem", made / "two/server.key", *server, site.directory / "secret"]
    assert list(watched(site.path, prepared.state.settings)) == files
    assert prepared.fingerprint == fingerprint(files)


def test_without_tls_of_its_own_the_admin_listener_has_no_pair(site: Site) -> None:
    assert site.prepare().admin_pairs == []


def test_says_what_is_wrong(site: Site) -> None:
    site.write(listen={"prot": 1})
    with pytest.raises(
        ConfigurationError, match=r"^listen.prot: there is no such setting; did you mean port\? \(line 6\)$"
    ):
        site.prepare()
    site.write()
    site.use_pair("one", "two")
    with pytest.raises(SetupError, match="is not the key of"):
        site.prepare()


# What is watched


def test_the_files_of_keys_are_watched(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    keys = [{"id": "a", "secret": {"file": str(tmp_path / "secret")}}, {"id": "b", "secret": {"sha256": "0" * 64}}]
    settings = make_settings(tmp_path, keys=keys)
    expected = ["gateway.yaml", "server.pem", "server.key", "secret"]
    assert [path.name for path in watched(tmp_path / "gateway.yaml", settings)] == expected


def test_every_file_that_a_configuration_names_is_watched(tmp_path: Path, made: Path) -> None:
    names = ("jwks.json", "pem", "shared", "token", "url", "cas", "out", "old", "own", "in")
    for name in names:
        (tmp_path / name).write_text("sqlite:///data/ledger.db and more than 32 bytes")
    files = {name: str(tmp_path / name) for name in names}
    ends = "2099-01-01T00:00:00Z"
    out = {name: {"file": files[place]} for name, place in (("secret", "out"), ("previous_secret", "old"))}
    own = {"owner": "key:acme", "secret": {"file": files["own"]}}
    taken = {"name": "a", "secret": {"file": files["in"]}, "forward_to": "http://127.0.0.1/a"}
    keys: list[dict[str, Any]] = [
        {"jwks": files["jwks.json"]}, {"jwks": "https://idp.test/keys"}, {"discovery": True},
        {"public_key": files["pem"]}, {"algorithms": ["HS256"], "secret": {"file": files["shared"]}},
    ]  # fmt: skip
    settings = make_settings(
        tmp_path,
        tls={**pair_of(made), "client_ca": str(made / "one" / "ca.pem")},
        authentication={
            "jwt": [
                {"issuer": f"https://idp{number}.test", "audience": "gateway", **of} for number, of in enumerate(keys)
            ]
        },
        admin={"token": {"file": files["token"]}},
        ledger={"url": {"file": files["url"]}},
        webhooks={"out": {**out, "previous_until": ends, "secrets": [own], "ca": files["cas"]}, "in": [taken]},
    )
    expected = ["gateway.yaml", "server.pem", "server.key", "ca.pem", *names]
    assert sorted(path.name for path in watched(tmp_path / "gateway.yaml", settings)) == sorted(expected)


def pair_of(made: Path) -> dict[str, str]:
    return {"certificate": str(made / "one" / "server.pem"), "private_key": str(made / "one" / "server.key")}


def test_the_admin_listener_asks_nobody_for_a_certificate(site: Site, made: Path) -> None:
    ca = {"client_ca": str(made / "one" / "ca.pem"), "client_certificates": "required"}
    site.write(tls=ca, admin={"tls": True})
    prepared = site.prepare()
    assert [pair.client_ca is not None for pair in (*prepared.pairs, *prepared.admin_pairs)] == [True, False]
    (admin,) = prepared.admin_pairs
    assert admin.context.verify_mode == ssl.CERT_NONE
    certificates = Certificates(prepared.admin_pairs, "intermediate")
    assert certificates.for_handshake() is admin.context
    assert certificates.listener_context.verify_mode == ssl.CERT_NONE


def test_a_secret_swapped_by_symlink_changes_the_fingerprint(site: Site) -> None:
    """As Kubernetes does it: the file is a link into ..data, which is a link to a directory that is exchanged."""
    mount = site.directory / "mount"
    for version, content in (("v1", "first"), ("v2", "other")):
        (mount / version).mkdir(parents=True)
        (mount / version / "token").write_text(content)
        os.utime(mount / version / "token", (0, 0))
    (mount / "..data").symlink_to("v1")
    (mount / "token").symlink_to("..data/token")
    site.write(admin={"token": {"file": str(mount / "token")}})
    before = site.prepare()
    (mount / "..new").symlink_to("v2")
    (mount / "..new").rename(mount / "..data")
    after = site.prepare()
    assert after.fingerprint != before.fingerprint
    token = after.state.settings.admin.token
    assert token is not None
    assert token != before.state.settings.admin.token
    assert site.prepare().fingerprint == after.fingerprint


# One attempt


async def test_a_good_configuration_is_put_in_force_whole(site: Site) -> None:
    reloader = site.reloader()
    started = reloader.succeeded_at
    site.use_pair("two")
    site.write(network={"allow": ["192.0.2.0/24"]}, keys=[])
    assert await reloader.reload()
    (prepared,) = site.in_force
    assert [pair.names for pair in prepared.pairs] == [("two.test",)]
    assert [(found.setting, found.ends) for found in reloader.ends] == [
        ("tls.certificate", (prepared.pairs[0].not_after,))
    ]
    assert list(map(str, prepared.state.settings.network.allow)) == ["192.0.2.0/24"]
    assert prepared.state.keys == {}
    assert reloader.was_successful
    assert reloader.succeeded_at >= started
    assert reloader.results == {"success": 1, "failure": 0}


def bad_yaml(site: Site) -> None:
    site.path.write_text("a: [")


def bad_setting(site: Site) -> None:
    site.write(network={"allow": ["192.0.2.0/24"]}, listen={"prot": 1})


def bad_pair(site: Site) -> None:
    site.write(network={"allow": ["192.0.2.0/24"]})
    site.use_pair("two", "one")


def no_secret(site: Site) -> None:
    site.environ = {}
    site.write(network={"allow": ["192.0.2.0/24"]}, keys=[{"id": "a", "secret": {"env": "NOT_THERE"}}])


def no_file(site: Site) -> None:
    site.path.unlink()


@pytest.mark.parametrize("spoil", [bad_yaml, bad_setting, bad_pair, no_secret, no_file])
async def test_a_fault_anywhere_leaves_everything_as_it_was(
    site: Site, spoil: Callable[[Site], None], events: list[Any]
) -> None:
    reloader = site.reloader()
    succeeded_at = reloader.succeeded_at
    spoil(site)
    assert not await reloader.reload()
    assert site.in_force == []
    assert (reloader.was_successful, reloader.succeeded_at) == (False, succeeded_at)
    assert reloader.results == {"success": 0, "failure": 1}
    (event,) = events
    assert (event["log_level"], len(event["faults"])) == ("error", 1)

    site.use_pair("one")
    site.write()
    assert await reloader.reload()
    assert len(site.in_force) == 1
    assert reloader.was_successful
    assert reloader.results == {"success": 1, "failure": 1}


@pytest.mark.parametrize(
    ("path", "sections"),
    [
        ("listen.address", {"listen": {"address": "127.0.0.2"}}),
        ("listen.port", {"listen": {"port": 1}}),
        (
            "listen.proxy_protocol",
            {"listen": {"proxy_protocol": True}, "network": {"allow": ["::1"], "trusted_proxies": ["::1"]}},
        ),
        ("admin.address", {"admin": {"address": "::1"}}),
        ("admin.port", {"admin": {"port": 1}}),
        ("admin.tls", {"admin": {"tls": True}}),
        ("tls.profile", {"tls": {"profile": "modern"}}),
        ("tls.client_ca", {"tls": {"client_ca": "ca.pem"}}),
        ("ledger.url", {"ledger": {"url": "sqlite:///elsewhere.db"}}),
        ("ledger.pooler", {"ledger": {"pooler": True}}),
        ("ledger.timeout", {"ledger": {"timeout": "3s"}}),
        ("body.count_timeout", {"body": {"count_timeout": "3s"}}),
    ],
)
async def test_what_is_bound_waits_for_a_restart_and_holds_nothing_back(
    site: Site, path: str, sections: dict[str, Any], events: list[Any]
) -> None:
    if "network" in sections:  # it waits with the exposure setting; what is in force does not
        site.write(network=sections["network"])
    reloader = site.reloader()
    if "client_ca" in sections.get("tls", {}):
        sections = {"tls": {"client_ca": str(site.made / "one" / "ca.pem")}}
    site.write(**sections, keys=[])
    assert await reloader.reload()
    (prepared,) = site.in_force
    assert prepared.state.keys == {}
    before = make_settings(site.directory)
    assert _at(prepared.state.settings, path) == _at(before, path)
    assert _at(prepared.written, path) != _at(before, path)
    assert (prepared.waiting, reloader.waiting) == ((path,), (path,))
    told = {
        "event": "settings wait for a restart", "settings": [path], "why": "restart needed", "log_level": "warning"
    }  # fmt: skip
    assert [event for event in events if event["log_level"] != "info"] == [told]

    site.write()
    assert await reloader.reload()
    assert reloader.waiting == ()
    assert events[-1]["event"] == "no setting waits for a restart any more"


def _at(settings: Any, path: str) -> Any:
    for name in path.split("."):
        settings = getattr(settings, name)
    return settings


MODES = ("none", "optional", "required")


@pytest.mark.parametrize(("before", "after"), [(a, b) for a in MODES for b in MODES])
async def test_whether_clients_are_asked_waits_for_a_restart_and_whom_to_believe_does_not(
    site: Site, before: str, after: str
) -> None:
    site.write(tls={"client_ca": str(site.made / "one" / "ca.pem"), "client_certificates": before})
    reloader = site.reloader()
    site.write(tls={"client_ca": str(site.made / "two" / "ca.pem"), "client_certificates": after})
    assert await reloader.reload()
    (prepared,) = site.in_force
    waits = (before == "none") != (after == "none")
    assert set(prepared.waiting) == ({"tls.client_certificates", "tls.client_ca"} if waits else set())
    assert prepared.state.needs_certificate is ((before if waits else after) == "required")


async def test_a_changed_ca_is_noticed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    path = site.directory / "clients.pem"
    shutil.copy(site.made / "one" / "ca.pem", path)
    site.write(tls={"client_ca": str(path), "client_certificates": "optional"})
    queue: asyncio.Queue[Prepared] = asyncio.Queue()
    first, reloader = site.prepare(), told(queue, site)
    monkeypatch.setattr(gateway.app.reload, "INTERVAL", 0.001)
    async with running(reloader):
        shutil.copy(site.made / "two" / "ca.pem", site.directory / "new.pem")
        (site.directory / "new.pem").replace(path)
        second = await asyncio.wait_for(queue.get(), LONG)
    assert None not in {first.pairs[0].client_ca, second.pairs[0].client_ca}
    assert first.pairs[0].client_ca != second.pairs[0].client_ca


async def test_another_ledger_behind_the_same_reference_waits_for_a_restart(site: Site) -> None:
    site.environ["LEDGER"] = "sqlite:///one.db"
    site.write(ledger={"url": {"env": "LEDGER"}})
    reloader = site.reloader()
    assert await reloader.reload()
    assert not reloader.waiting
    site.environ["LEDGER"] = "sqlite:///two.db"
    assert await reloader.reload()
    assert reloader.waiting == ("ledger.url",)
    assert url_of(site.in_force[-1].state.settings) == "sqlite:///one.db"


async def test_who_logs_in_to_the_ledger_and_how_is_put_in_force(site: Site) -> None:
    site.environ["LEDGER"] = "postgresql://me:old@db.test/ledger"
    site.write(ledger={"url": {"env": "LEDGER"}})
    reloader = site.reloader()
    for url in ("postgresql://me:new@db.test/ledger", "postgresql://you:x@db.test/ledger?sslmode=require"):
        site.environ["LEDGER"] = url
        assert await reloader.reload()
        assert not reloader.waiting
        assert url_of(site.in_force[-1].state.settings) == url
    for url in ("postgresql://you:x@db2.test/ledger", "postgresql://you:x@db.test/two", "sqlite:///x.db"):
        site.environ["LEDGER"] = url
        assert await reloader.reload()
        assert reloader.waiting == ("ledger.url",)


async def test_all_that_waits_for_a_restart_is_told_at_once_and_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.app.reload, "INTERVAL", 0.001)
    queue: asyncio.Queue[Prepared] = asyncio.Queue()
    reloader = told(queue, site)
    async with running(reloader):
        site.write(listen={"port": 1}, admin={"port": 2, "tls": True})
        await asyncio.wait_for(queue.get(), LONG)
        reloader.force()  # what waits is looked at with the rest, and begins no reload of its own
        await asyncio.wait_for(queue.get(), LONG)
    assert reloader.waiting == ("listen.port", "admin.port", "admin.tls")
    assert reloader.results["success"] == 2


async def test_the_next_change_is_compared_with_what_is_in_force(site: Site) -> None:
    site.write(admin={"tls": True})
    reloader = site.reloader()
    for allow in ("192.0.2.0/24", "198.51.100.0/24"):
        site.write(admin={"tls": True}, network={"allow": [allow]})
        assert await reloader.reload()
    assert [list(map(str, prepared.state.settings.network.allow)) for prepared in site.in_force] == [
        ["192.0.2.0/24"],
        ["198.51.100.0/24"],
    ]


async def test_a_mistyped_lower_budget_is_taken_back_while_an_exposure_setting_waits(site: Site) -> None:
    def budget(pages: int) -> dict[str, Any]:
        return {"profiles": {"default": {"pages_per_month": pages}}}

    site.write(**budget(100))
    reloader = site.reloader()
    for pages, port, in_force in ((5, 1, 5), (50, 1, 50), (200, 1, 100), (80, 8443, 80), (7, 1, 7), (90, 1, 80)):
        site.write(**budget(pages), listen={"port": port})
        assert await reloader.reload()
        assert site.in_force[-1].state.settings.profiles["default"].pages_per_month == in_force


async def test_what_lets_in_more_waits_with_the_exposure_setting_before_it(site: Site, events: list[Any]) -> None:
    route = {"name": "submit", "methods": ["POST"], "path": "/api/v1/marker", "kind": "submit"}
    site.write(routes=[route])
    reloader = site.reloader()
    ca = {"client_ca": str(site.made / "one" / "ca.pem"), "client_certificates": "required"}
    site.write(tls=ca, routes=[{**route, "access": "anyone"}], keys=[])
    assert await reloader.reload()
    (prepared,) = site.in_force
    assert [route.access for route in prepared.state.settings.routes] == ["key"]
    assert prepared.state.keys == {}
    assert reloader.waiting == ("tls.client_ca", "tls.client_certificates", "routes")
    assert events[-1]["settings"] == list(reloader.waiting)


async def test_what_was_put_together_and_does_not_fit_is_not_put_in_force(
    site: Site, monkeypatch: pytest.MonkeyPatch, events: list[Any]
) -> None:
    """As if a setting waited that nobody thought of: the check that files have comes after these."""
    monkeypatch.setattr("gateway.config.held_back.EXPOSURE_SETTINGS", frozenset())
    network = {"allow": ["10.0.0.0/8"]}
    site.write(listen={"proxy_protocol": True}, network={**network, "trusted_proxies": ["10.0.0.1"]})
    reloader = site.reloader()
    site.write(network=network)
    assert not await reloader.reload()
    (fault,) = events[-1]["faults"]
    assert fault.startswith("needs a restart, for listen.proxy_protocol can't change before")
    assert "listen.proxy_protocol: is on, but network.trusted_proxies names nobody" in fault
    assert (site.in_force, reloader.was_successful) == ([], False)


# Watching


@asynccontextmanager
async def running(reloader: Reloader) -> AsyncIterator[None]:
    task = asyncio.get_running_loop().create_task(reloader.run())
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def told(queue: "asyncio.Queue[Prepared]", site: Site) -> Reloader:
    return Reloader(site.path, site.environ, site.prepare(), queue.put_nowait, Notifier({}, list))


async def test_a_signal_reloads_even_what_is_equal(site: Site) -> None:
    queue: asyncio.Queue[Prepared] = asyncio.Queue()
    reloader = told(queue, site)
    async with running(reloader):
        for _ in range(2):
            reloader.force()
            await asyncio.wait_for(queue.get(), LONG)
    assert reloader.results["success"] == 2


async def test_a_change_is_noticed_and_a_fault_is_tried_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    polls = 0

    def counted(*arguments: Any) -> Any:
        nonlocal polls
        polls += 1
        if polls % 10 == 0:
            loop.call_soon_threadsafe(polled.set)
        return read_if_changed(*arguments)

    queue: asyncio.Queue[Prepared] = asyncio.Queue()
    reloader, loop, polled = told(queue, site), asyncio.get_running_loop(), asyncio.Event()
    monkeypatch.setattr(gateway.app.reload, "INTERVAL", 0.001)
    monkeypatch.setattr(gateway.app.reload, "read_if_changed", counted)
    async with running(reloader):
        await asyncio.wait_for(polled.wait(), LONG)
        assert reloader.results == {"success": 0, "failure": 0}  # nothing changed

        site.swap_key("two")
        for _ in range(3):
            polled.clear()
            await asyncio.wait_for(polled.wait(), LONG)
        assert reloader.results == {"success": 0, "failure": 1}

        site.swap_key("one")
        await asyncio.wait_for(queue.get(), LONG)
    assert reloader.results["success"] == 1
    assert reloader.was_successful


async def test_what_was_before_a_fault_that_a_signal_met_is_noticed_when_it_is_back(
    site: Site, monkeypatch: pytest.MonkeyPatch, events: list[Any]
) -> None:
    queue: asyncio.Queue[Prepared] = asyncio.Queue()
    reloader = told(queue, site)
    site.swap_key("two")
    async with running(reloader):
        reloader.force()
        await eventually(lambda: bool(events))
        assert not reloader.was_successful
        monkeypatch.setattr(gateway.app.reload, "INTERVAL", 0.001)
        site.swap_key("one")  # the very files that are in force
        await asyncio.wait_for(queue.get(), LONG)
    assert reloader.was_successful


async def test_a_file_that_a_refused_configuration_names_may_come_later(
    site: Site, monkeypatch: pytest.MonkeyPatch, events: list[Any]
) -> None:
    """As where Kubernetes brings a ConfigMap before its Secret: the configuration itself changes no more."""
    monkeypatch.setattr(gateway.app.reload, "INTERVAL", 0.001)
    queue: asyncio.Queue[Prepared] = asyncio.Queue()
    reloader, secret, tries = told(queue, site), site.directory / "late", 0
    real = prepare

    def counted(*arguments: Any) -> Prepared:
        nonlocal tries
        tries += 1
        return real(*arguments)

    monkeypatch.setattr(gateway.app.reload, "prepare", counted)
    site.write(keys=[{"id": "late", "secret": {"file": str(secret)}}])
    async with running(reloader):
        await eventually(lambda: tries > 2, LONG)
        assert (reloader.results["failure"], len(events)) == (1, 1)  # it is told once
        secret.write_text(SECRET)
        prepared = await asyncio.wait_for(queue.get(), LONG)
        assert [key.id for key in prepared.state.settings.keys] == ["late"]
    assert reloader.was_successful


# What must not be missed


def test_a_change_between_the_look_at_the_files_and_the_reading_is_read(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the reading before the look, a key that was removed in between would live on unseen."""
    real = fingerprint

    def change_just_after(paths: Any) -> str:
        found = real(list(paths))
        site.write(keys=[])
        return found

    monkeypatch.setattr(gateway.app.prepare, "fingerprint", change_just_after)
    prepared = site.prepare()
    assert prepared.state.keys == {}
    assert prepared.fingerprint != real(list(watched(site.path, prepared.state.settings)))


async def test_an_error_that_nobody_foresaw_does_not_end_the_watch(site: Site, events: list[Any]) -> None:
    fails = True

    def put_in_force(prepared: Prepared) -> None:
        if fails:
            raise KeyError("canary")
        site.in_force.append(prepared)

    reloader = Reloader(site.path, site.environ, site.prepare(), put_in_force, Notifier({}, list))
    assert not await reloader.reload()
    assert (reloader.was_successful, reloader.results["failure"]) == (False, 1)
    assert events[-1]["faults"][0].startswith("an error of the gateway: KeyError at gateway/app/reload.py:")
    assert "canary" not in str(events)
    fails = False
    assert await reloader.reload()
    assert len(site.in_force) == 1


async def test_nobody_walks_the_settings_each_second(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.app.reload, "INTERVAL", 0.001)
    looks, walks = 0, 0

    def counted(*arguments: Any) -> Any:
        nonlocal looks
        looks += 1
        return read_if_changed(*arguments)

    def walked(*arguments: Any) -> Any:
        nonlocal walks
        walks += 1
        return watched(*arguments)

    monkeypatch.setattr(gateway.app.reload, "read_if_changed", counted)
    monkeypatch.setattr(gateway.app.prepare, "watched", walked)
    reloader = site.reloader()
    before = walks
    async with running(reloader):
        await eventually(lambda: looks > 10, LONG)
    assert walks == before


async def test_a_reload_walks_the_settings_on_its_thread(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """With thousands of keys it held all requests for 50 ms."""
    queue: asyncio.Queue[Prepared] = asyncio.Queue()
    reloader = told(queue, site)
    walkers: list[threading.Thread] = []

    def walked(*arguments: Any) -> Any:
        walkers.append(threading.current_thread())
        return watched(*arguments)

    for module in (gateway.app.prepare, gateway.app.reload):
        monkeypatch.setattr(module, "watched", walked, raising=False)
    async with running(reloader):
        reloader.force()
        await asyncio.wait_for(queue.get(), LONG)
        await eventually(lambda: reloader.results["success"] == 1, LONG)
    assert walkers
    assert threading.main_thread() not in walkers


# Files that are none, and files that hang


def whole(site: Site) -> dict[str, Any]:
    """A configuration that names a file of each kind, all of them in site.directory."""
    at = site.directory
    for name in ("ca.pem", "out.pem"):
        shutil.copy(site.made / "one" / "ca.pem", at / name)
    shutil.copy(site.made / "two" / "server.pem", at / "two.pem")
    shutil.copy(site.made / "two" / "server.key", at / "two.key")
    key = Ed25519PrivateKey.generate().public_key()
    (at / "jwt.pem").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    member = base64.urlsafe_b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).rstrip(b"=").decode()
    (at / "jwks.json").write_text(json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": member, "kid": "1"}]}))
    (at / "shared").write_text("0123456789abcdef0123456789abcdef")
    (at / "url").write_text("sqlite:///data/ledger.db")
    issuer = {"audience": "us", "algorithms": ["EdDSA"]}
    return {
        "keys": [{"id": "a", "secret": {"file": str(at / "secret")}}],
        "tls": {
            "client_ca": str(at / "ca.pem"),
            "client_certificates": "optional",
            "certificates": [{"certificate": str(at / "two.pem"), "private_key": str(at / "two.key")}],
        },
        "authentication": {
            "jwt": [
                {**issuer, "issuer": "https://one.test", "public_key": str(at / "jwt.pem")},
                {**issuer, "issuer": "https://two.test", "jwks": str(at / "jwks.json")},
            ]
        },
        "webhooks": {"out": {"secret": {"file": str(at / "shared")}, "ca": str(at / "out.pem")}},
        "ledger": {"url": {"file": str(at / "url")}},
    }


FILES = ("gateway.yaml", "server.pem", "server.key", "ca.pem", "two.pem", "two.key", "secret", "jwt.pem", "jwks.json",
         "out.pem", "shared", "url")  # fmt: skip


def test_the_list_of_files_is_whole(site: Site) -> None:
    site.write(**whole(site))
    assert {path.name for path in watched(site.path, site.prepare().written)} == set(FILES)


@contextmanager
def fifo_at(path: Path) -> Iterator[None]:
    """A FIFO in the place of a file. Whoever reads it is let go in the end, so that no test hangs."""
    path.rename(path.with_suffix(".kept"))
    os.mkfifo(path)
    try:
        yield
    finally:
        with suppress(OSError):  # nobody reads it, as it should be
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        path.with_suffix(".kept").replace(path)


@pytest.mark.parametrize("name", FILES)
async def test_a_fifo_in_the_place_of_a_file_is_told_and_holds_nothing_up(
    site: Site, name: str, monkeypatch: pytest.MonkeyPatch, events: list[Any]
) -> None:
    monkeypatch.setattr(gateway.app.reload, "INTERVAL", 0.001)
    site.write(**whole(site))
    queue: asyncio.Queue[Prepared] = asyncio.Queue()
    reloader = told(queue, site)
    with fifo_at(site.directory / name):
        async with running(reloader):
            await eventually(lambda: reloader.results["failure"] > 0, LONG)
        assert (reloader.results["failure"], reloader.was_successful) == (1, False)
        (event,) = events
        assert re.search("not a regular file|neither a URL nor a file", " ".join(event["faults"]))
        assert str(site.directory / name) in " ".join(event["faults"])
    async with running(reloader):
        await asyncio.wait_for(queue.get(), LONG)
    assert reloader.was_successful


async def test_a_file_that_hangs_holds_up_nothing_that_names_it_no_more(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it was tried: it is tried once for each content."""
    monkeypatch.setattr(gateway.app.reload, "INTERVAL", 0.001)
    monkeypatch.setattr(gateway.app.reload, "PATIENCE", 0.5)
    queue: asyncio.Queue[Prepared] = asyncio.Queue()
    reloader, over, real = told(queue, site), threading.Event(), prepare

    def hang(*arguments: Any) -> Any:
        over.wait(LONG)
        return real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(gateway.app.reload, "prepare", hang)
        site.write(log={"level": "debug"})
        async with running(reloader):
            await eventually(lambda: not reloader.was_successful, LONG)
            looked = reloader._reading._free
            for _ in range(20):
                await asyncio.sleep(0.005)
            assert (reloader.results["failure"], looked.locked()) == (1, False)
            patched.undo()
            patched.setattr(gateway.app.reload, "PATIENCE", LONG)
            site.write(log={"level": "warning"})
            found = await asyncio.wait_for(queue.get(), LONG)
            assert found.state.settings.log.level == "warning"
            over.set()


async def test_a_look_that_can_not_be_begun_does_not_end_the_watch(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.app.reload, "INTERVAL", 0.001)
    queue: asyncio.Queue[Prepared] = asyncio.Queue()
    reloader = told(queue, site)

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        task = asyncio.get_running_loop().create_task(reloader.run())
        await eventually(lambda: reloader.results["failure"] > 1, LONG)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    async with running(reloader):
        site.write(log={"level": "warning"})
        await asyncio.wait_for(queue.get(), LONG)


async def test_a_signal_whose_look_fails_at_once_is_heard_without_a_spin(
    site: Site, monkeypatch: pytest.MonkeyPatch, events: list[Any]
) -> None:
    """As where no thread can be started: such a look never waits."""
    looks, is_able = 0, False

    class Unable:
        def __init__(self, **options: Any) -> None:
            self.able = DaemonThreads(**options)

        async def run(self, *arguments: Any) -> Any:
            nonlocal looks
            looks += 1
            if not is_able:
                raise RuntimeError("can't start new thread")
            return await self.able.run(*arguments)

    monkeypatch.setattr(gateway.app.reload, "DaemonThreads", Unable)
    queue: asyncio.Queue[Prepared] = asyncio.Queue()
    reloader = told(queue, site)
    reloader.force()
    async with running(reloader):
        await eventually(lambda: bool(events), LONG)
        assert looks < 5
        is_able = True
        await asyncio.wait_for(queue.get(), LONG)  # it was not forgotten


@pytest.mark.parametrize("part", ["fingerprint", "prepare"])
async def test_a_mount_that_hangs_fails_the_reload_and_what_it_holds_later_is_tried(
    site: Site, part: str, monkeypatch: pytest.MonkeyPatch, events: list[Any]
) -> None:
    monkeypatch.setattr(gateway.app.reload, "INTERVAL", 0.001)
    monkeypatch.setattr(gateway.app.reload, "PATIENCE", 0.05)
    queue: asyncio.Queue[Prepared] = asyncio.Queue()
    reloader, comes_back, real = told(queue, site), threading.Event(), getattr(gateway.app.reload, part)

    def hang(*arguments: Any) -> Any:
        comes_back.wait(LONG)
        return real(*arguments)

    monkeypatch.setattr(gateway.app.reload, part, hang)
    reloader.force()
    async with running(reloader):
        # Of looks more fail than threads may hang.
        await eventually(lambda: reloader.results["failure"] >= (6 if part == "fingerprint" else 1), LONG)
        assert not reloader.was_successful
        assert "does a mount hang?" in events[-1]["faults"][0]
        assert queue.empty()
        monkeypatch.setattr(gateway.app.reload, "PATIENCE", LONG)
        comes_back.set()
        await asyncio.wait_for(queue.get(), LONG)
        await eventually(lambda: reloader.was_successful, LONG)
