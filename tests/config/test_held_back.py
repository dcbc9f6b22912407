"""While a setting that says who reaches a listener waits for a restart, nothing that lets in more takes force."""

from pathlib import Path
from typing import Any

import pytest

from gateway.config.held_back import differences
from gateway.config.load import check_merged
from gateway.config.restart import with_what_stays
from gateway.config.settings import Settings
from gateway.errors import ConfigurationError
from tests.support.pure import look_up, make_settings

ENVIRON = {name: f"canary-{name}-0123456789abcdef0123456789abcdef" for name in "ABCD"}
OPEN = [{"name": "submit", "methods": ["POST"], "path": "/api/v1/marker", "kind": "submit", "access": "anyone"}]
KEY: dict[str, Any] = {"id": "a", "secret": {"env": "A"}, "scopes": ["admin"], "networks": ["10.1.0.0/16"]}
HS: dict[str, Any] = {
    "issuer": "https://id.test", "audience": "us", "algorithms": ["HS256"], "secret": {"env": "A"},
    "required_scopes": ["read"],
}  # fmt: skip
NAMES: dict[str, Any] = {"a.test": {"scopes": ["admin"]}, "b.test": {}}
PORT = {"port": 1}

EXPOSURE_SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("listen.address", {"listen": {"address": "127.0.0.1"}}),
    ("listen.port", {"listen": {"port": 1}}),
    ("listen.proxy_protocol", {"listen": {"proxy_protocol": True}, "network": {"trusted_proxies": ["10.0.0.1"]}}),
    ("tls.client_certificates", {"tls": {"client_ca": "ca.pem", "client_certificates": "required"}}),
]
BEHIND: list[tuple[str, dict[str, Any]]] = [
    ("routes", {"routes": OPEN}),
    ("network.allow", {"network": {"allow": ["0.0.0.0/0"]}}),
    ("network.trusted_proxies", {"network": {"trusted_proxies": ["10.0.0.1", "10.0.0.2"]}}),
    ("network.login_failures_per_minute", {"network": {"login_failures_per_minute": 100000}}),
    ("keys", {"keys": [{"id": "new", "secret": {"env": "B"}}]}),
    ("keys", {"keys": [{**KEY, "networks": []}]}),
    ("authentication.jwt", {"authentication": {"jwt": [HS]}}),
    ("authentication.certificates", {"authentication": {"certificates": {"identity": "uri"}}}),
    ("profiles", {"profiles": {"default": {"requests_per_minute": 100000}}}),
    ("aliases", {"aliases": {"/open": "/api/v1/marker"}}),
    ("body.allow_file_url", {"body": {"allow_file_url": True}}),
    ("upstream.url", {"upstream": {"url": "http://127.0.0.1:8001"}}),
    (
        "webhooks.in",
        {"webhooks": {"in": [{"name": "a", "secret": {"env": "A"}, "forward_to": "http://127.0.0.1/a"}]}},
    ),
]


def make(directory: Path, *changes: dict[str, Any]) -> Settings:
    for file in ("ca.pem", "server.pem", "server.key"):
        (directory / file).touch()
    sections: dict[str, Any] = {"network": {"allow": ["10.0.0.0/8"]}, "keys": [KEY]}
    for change in changes:
        for name, value in change.items():
            is_merged = isinstance(value, dict) and isinstance(sections.get(name), dict)
            sections[name] = {**sections[name], **value} if is_merged else value
    if "tls" in sections:
        names = {"certificate": "server.pem", "private_key": "server.key", "client_ca": "ca.pem"}
        sections["tls"] = {**sections["tls"], **{name: str(directory / file) for name, file in names.items()}}
    return make_settings(directory, ENVIRON, **sections)


@pytest.mark.parametrize(
    ("exposure", "change"), EXPOSURE_SETTINGS, ids=[exposure for exposure, _ in EXPOSURE_SETTINGS]
)
@pytest.mark.parametrize(("path", "opening"), BEHIND)
def test_what_lets_in_more_waits_with_the_exposure_setting(
    exposure: str, change: dict[str, Any], path: str, opening: dict[str, Any], tmp_path: Path
) -> None:
    old, new = make(tmp_path), make(tmp_path, change, opening)
    merged, waiting = with_what_stays(old, new)
    assert waiting[0] in {exposure, "tls.client_ca"}
    assert {exposure, path} <= set(waiting)
    assert [found for found in differences(merged, old) if found != "keys"] == []
    assert {key.id for key in merged.keys} <= {"a"}
    check_merged(merged)


@pytest.mark.parametrize(("path", "opening"), BEHIND)
def test_without_an_exposure_setting_that_waits_it_takes_force(
    path: str, opening: dict[str, Any], tmp_path: Path
) -> None:
    new = make(tmp_path, opening, {"ledger": {"timeout": "7s"}})
    merged, waiting = with_what_stays(make(tmp_path), new)
    assert waiting == ("ledger.timeout",)
    assert list(differences(merged, new)) == ["ledger.timeout"]
    assert look_up(merged, path.replace(".in", ".in_")) == look_up(new, path.replace(".in", ".in_"))


def after(directory: Path, old: dict[str, Any], new: dict[str, Any]) -> tuple[Settings, tuple[str, ...]]:
    """What is in force, and what waits, when the port is another one, too."""
    merged, waiting = with_what_stays(make(directory, old), make(directory, new, {"listen": PORT}))
    check_merged(merged)
    return merged, waiting


def test_log_and_certificates_lean_on_no_exposure_setting(tmp_path: Path) -> None:
    new = {"log": {"level": "debug"}, "tls": {"client_ca": "ca.pem", "client_certificates": "required"}}
    old = {"tls": new["tls"]}
    merged, waiting = after(tmp_path, old, new)
    assert (merged.log.level, waiting) == ("debug", ("listen.port",))


@pytest.mark.parametrize(
    ("old", "new", "is_in_force"),
    [
        (["10.0.0.0/8", "192.0.2.0/24"], ["10.0.0.0/8"], True),
        (["10.0.0.0/8"], ["10.1.0.0/16"], True),
        (["10.0.0.0/8", "::1"], ["::1"], True),
        (["10.0.0.0/8"], ["10.1.0.0/16", "::1"], False),
        (["10.1.0.0/16"], ["10.0.0.0/8"], False),
    ],
)
def test_networks_that_are_taken_off_are_gone_at_once(
    old: list[str], new: list[str], *, is_in_force: bool, tmp_path: Path
) -> None:
    merged, waiting = after(tmp_path, {"network": {"allow": old}}, {"network": {"allow": new}})
    assert [str(network) for network in merged.network.allow] == [
        name if "/" in name else f"{name}/128" for name in (new if is_in_force else old)
    ]
    assert waiting == ("listen.port", *(() if is_in_force else ("network.allow",)))


def test_while_addresses_are_about_to_mean_something_else_no_network_is_taken_off(tmp_path: Path) -> None:
    exposure = {"listen": {"proxy_protocol": True}}
    network = {"allow": ["10.1.0.0/16"], "trusted_proxies": ["10.0.0.1"]}
    merged, waiting = with_what_stays(make(tmp_path), make(tmp_path, exposure, {"network": network}))
    assert [str(network) for network in merged.network.allow] == ["10.0.0.0/8"]
    assert waiting == ("listen.proxy_protocol", "network.allow", "network.trusted_proxies")


def test_a_key_that_is_taken_away_is_gone_at_once_and_one_that_is_added_waits(tmp_path: Path) -> None:
    merged, waiting = after(tmp_path, {}, {"keys": []})
    assert (merged.keys, waiting) == ([], ("listen.port",))
    merged, waiting = after(tmp_path, {}, {"keys": [{**KEY, "id": "b"}]})
    assert (merged.keys, waiting) == ([], ("listen.port", "keys"))


@pytest.mark.parametrize(
    ("change", "in_force", "waits"),
    [
        ({"secret": {"env": "B"}}, {"secret": {"env": "B"}}, False),
        ({"disabled": True}, {"disabled": True}, False),
        ({"scopes": []}, {"scopes": []}, False),
        ({"expires": "2027-01-01T00:00:00Z"}, {"expires": "2027-01-01T00:00:00Z"}, False),
        ({"scopes": ["other"], "secret": {"env": "B"}}, {"scopes": [], "secret": {"env": "B"}}, True),
        ({"networks": []}, {}, True),
        ({"owner": "b"}, {}, True),
        ({"owner": "b", "secret": {"env": "B"}}, None, True),
    ],
)
def test_of_a_key_what_takes_away_takes_force(
    change: dict[str, Any],
    in_force: dict[str, Any] | None,
    waits: bool,
    tmp_path: Path,
) -> None:
    merged, waiting = after(tmp_path, {}, {"keys": [{**KEY, **change}]})
    expected = [] if in_force is None else make(tmp_path, {"keys": [{**KEY, **in_force}]}).keys
    assert merged.keys == expected
    assert waiting == ("listen.port", *(("keys",) if waits else ()))


@pytest.mark.parametrize(
    ("before", "now"), [({"disabled": True}, {}), ({"expires": "2027-01-01T00:00:00Z"}, {}), ({"scopes": []}, {})]
)
def test_a_key_gets_nothing_back_before_the_restart(
    before: dict[str, Any], now: dict[str, Any], tmp_path: Path
) -> None:
    old = {**KEY, **before}
    merged, waiting = after(tmp_path, {"keys": [old]}, {"keys": [{**KEY, **now}]})
    assert merged.keys == make(tmp_path, {"keys": [old]}).keys
    assert waiting == ("listen.port", "keys")


@pytest.mark.parametrize(
    ("change", "in_force", "waits"),
    [
        (None, None, False),
        ({"secret": {"env": "B"}}, {"secret": {"env": "B"}}, False),
        ({"required_scopes": []}, {}, True),
        ({"required_scopes": [], "secret": {"env": "B"}}, None, True),
    ],
)
def test_of_an_issuer_its_keys_take_force_and_what_is_asked_of_its_tokens_waits(
    change: dict[str, Any] | None,
    in_force: dict[str, Any] | None,
    waits: bool,
    tmp_path: Path,
) -> None:
    def issuers(change: dict[str, Any] | None) -> dict[str, Any]:
        return {"authentication": {"jwt": [] if change is None else [{**HS, **change}]}}

    merged, waiting = after(tmp_path, issuers({}), issuers(change))
    assert merged.authentication.jwt == make(tmp_path, issuers(in_force)).authentication.jwt
    assert waiting == ("listen.port", *(("authentication.jwt",) if waits else ()))


RECEIVED: dict[str, Any] = {"name": "a", "secret": {"env": "A"}, "forward_to": "http://127.0.0.1/a"}
BOTH: dict[str, Any] = {"secret": {"env": "B"}, "previous_secret": {"env": "A"}}
ELSEWHERE: dict[str, Any] = {"forward_to": "http://127.0.0.1/b"}


@pytest.mark.parametrize(
    ("change", "in_force", "waits"),
    [
        ({}, {}, False),
        (BOTH, BOTH, False),
        (ELSEWHERE, {}, True),
        ({**BOTH, **ELSEWHERE}, None, True),
        (None, None, False),
    ],
)
def test_of_webhooks_that_come_in_secrets_take_force_and_what_is_taken_away(
    change: dict[str, Any] | None, in_force: dict[str, Any] | None, waits: bool, tmp_path: Path
) -> None:
    def received(change: dict[str, Any] | None) -> dict[str, Any]:
        return {"webhooks": {"in": [] if change is None else [{**RECEIVED, **change}]}}

    merged, waiting = after(tmp_path, received({}), received(change))
    assert merged.webhooks == make(tmp_path, received(in_force)).webhooks
    assert waiting == ("listen.port", *(("webhooks.in",) if waits else ()))


def test_of_webhooks_that_go_out_secrets_take_force(tmp_path: Path) -> None:
    def sent(general: str | None, *owners: tuple[str, str]) -> dict[str, Any]:
        secret = {} if general is None else {"secret": {"env": general}}
        return {"webhooks": {"out": {**secret, "secrets": [{"owner": o, "secret": {"env": s}} for o, s in owners]}}}

    old = sent("A", ("key:a", "A"), ("key:b", "A"))
    merged, waiting = after(tmp_path, old, sent("B", ("key:a", "B"), ("key:c", "C")))
    assert merged.webhooks == make(tmp_path, sent("B", ("key:a", "B"), ("key:b", "A"))).webhooks
    assert waiting == ("listen.port", "webhooks.out")
    merged, _ = after(tmp_path, sent(None), sent("B"))
    assert merged.webhooks.out.secret is None


@pytest.mark.parametrize(
    ("old", "new", "in_force", "identity"),
    [
        (NAMES, {"b.test": {}}, {"b.test": {}}, "dns"),
        (NAMES, {"a.test": {}, "c.test": {}}, {"a.test": {}}, "dns"),
        (NAMES, {"c.test": {}}, NAMES, None),
        (NAMES, {}, NAMES, "dns"),
        ({}, NAMES, {"a.test": {}, "b.test": {}}, "dns"),  # as what they were: without scopes
    ],
)
def test_names_of_certificates_that_are_taken_away_are_gone_at_once(
    old: dict[str, Any], new: dict[str, Any], in_force: dict[str, Any], identity: str | None, tmp_path: Path
) -> None:
    def named(names: dict[str, Any]) -> dict[str, Any]:
        return {"authentication": {"certificates": {"identity": "dns", "names": names}}}

    merged, _ = after(tmp_path, named(old), named(new))
    expected = make(tmp_path, named(in_force)).authentication.certificates
    assert merged.authentication.certificates == expected.model_copy(update={"identity": identity})


@pytest.mark.parametrize("new", [{}, {"identity": "cn", "names": NAMES}, {"names": NAMES}])
def test_certificates_that_are_no_login_any_more_or_another_one_are_none_at_once(
    new: dict[str, Any], tmp_path: Path
) -> None:
    old = {"authentication": {"certificates": {"identity": "dns", "names": NAMES}}}
    merged, _ = after(tmp_path, old, {"authentication": {"certificates": new}})
    assert merged.authentication.certificates.identity is None


def test_of_a_profile_what_is_lower_takes_force(tmp_path: Path) -> None:
    old = make(tmp_path, {"profiles": {"free": {"pages_per_day": 9, "pages_per_month": 50, "pages_in_flight": 9000}}})
    profiles = {
        "default": {"pages_per_month": 7, "requests_per_minute": 300, "concurrent_downloads": 5},
        "free": {"pages_per_day": 10, "pages_per_month": 5, "spend_per_month": "1.5", "pages_in_flight": 8000},
        "new": {},
    }
    merged, waiting = with_what_stays(old, make(tmp_path, {"profiles": profiles, "listen": PORT}))
    check_merged(merged)
    assert set(waiting) == {"listen.port", "profiles"}
    assert set(merged.profiles) == {"default", "free"}
    default, free = merged.profiles["default"], merged.profiles["free"]
    assert (default.pages_per_month, default.requests_per_minute, default.concurrent_downloads) == (7, 200, 5)
    assert (free.pages_per_day, free.pages_per_month, str(free.spend_per_month)) == (9, 5, "1.5")
    assert free.pages_in_flight == 9000
    lower = {"profiles": {"free": {"pages_per_day": 8, "pages_per_month": 50, "pages_in_flight": 9000}}}
    assert with_what_stays(old, make(tmp_path, {**lower, "listen": PORT}))[1] == ("listen.port",)
    assert with_what_stays(old, make(tmp_path, {"listen": PORT}))[0].profiles == old.profiles


def test_a_budget_that_was_lowered_while_an_exposure_setting_waits_is_raised_to_what_it_was_before(
    tmp_path: Path,
) -> None:
    def of(pages: int | None, port: int = 1) -> Settings:
        return make(tmp_path, {"profiles": {"free": {"pages_per_month": pages}}, "listen": {"port": port}})

    before = of(50, 2)
    mistyped, _ = with_what_stays(before, of(5))
    assert mistyped.profiles["free"].pages_per_month == 5
    for written, in_force, waits in ((40, 40, False), (50, 50, False), (60, 50, True), (None, 50, True)):
        mended, waiting = with_what_stays(mistyped, of(written), before)
        assert mended.profiles["free"].pages_per_month == in_force
        assert ("profiles" in waiting) is waits


def test_other_cas_of_clients_wait_for_the_names_that_were_written_for_them(tmp_path: Path) -> None:
    """Old names, or an old open route, beside a wider CA: nobody has written that."""
    tls = {"tls": {"client_ca": "ca.pem", "client_certificates": "required"}}
    old = make(tmp_path, tls)
    wider = tmp_path / "wider.pem"
    wider.touch()
    new = make(tmp_path, tls, {"listen": PORT})
    new = new.model_copy(update={"tls": new.tls.model_copy(update={"client_ca": wider})})
    merged, waiting = with_what_stays(old, new)
    assert merged.tls.client_ca == old.tls.client_ca
    assert waiting == ("listen.port", "tls.client_ca")


def test_a_way_to_log_in_that_is_switched_off_is_off_at_once(tmp_path: Path) -> None:
    off, on = ({"authentication": {"api_keys": {"enabled": enabled}}} for enabled in (False, True))
    assert not after(tmp_path, on, off)[0].authentication.api_keys.enabled
    merged, waiting = after(tmp_path, off, on)
    assert not merged.authentication.api_keys.enabled
    assert waiting == ("listen.port", "authentication.api_keys")


TOKEN, OTHER = ({"token": {"env": name}} for name in "AB")


@pytest.mark.parametrize("exposure", [{"address": "::1"}, {"port": 1}, {"tls": True}])
@pytest.mark.parametrize(
    ("old", "new", "in_force"), [(TOKEN, {}, TOKEN), ({}, TOKEN, {}), (TOKEN, OTHER, OTHER), (TOKEN, TOKEN, TOKEN)]
)
def test_whether_the_admin_listener_asks_for_a_token_waits_with_it(
    exposure: dict[str, Any], old: dict[str, Any], new: dict[str, Any], in_force: dict[str, Any], tmp_path: Path
) -> None:
    before = make(tmp_path, {"admin": old})
    if "tls" in exposure:
        exposure = {
            "tls": {
                "certificate": before.tls.certificate.as_posix(),
                "private_key": before.tls.private_key.as_posix(),
            }
        }
    merged, waiting = with_what_stays(before, make(tmp_path, {"admin": {**new, **exposure}}, {"routes": OPEN}))
    assert merged.admin == make(tmp_path, {"admin": in_force}).admin
    assert [route.access for route in merged.routes] == ["anyone"]
    assert waiting == (f"admin.{next(iter(exposure))}", *(() if new == in_force else ("admin.token",)))


# Whatever is put together is checked as a file would be


def test_settings_that_nobody_has_written_together_are_checked(tmp_path: Path) -> None:
    settings = make(tmp_path)
    listen = settings.listen.model_copy(update={"proxy_protocol": True})
    with pytest.raises(ConfigurationError, match=r"^listen.proxy_protocol: is on, but network.trusted_proxies"):
        check_merged(settings.model_copy(update={"listen": listen}))
    webhooks = make(tmp_path, BEHIND[-1][1], {"body": {"unverified_limit": "64MB"}}).webhooks
    small = make(tmp_path, {"body": {"unverified_limit": "1MB"}})
    with pytest.raises(ConfigurationError, match=r"quarter of body\.unverified_limit"):
        check_merged(small.model_copy(update={"webhooks": webhooks}))
    twins = make(tmp_path, {"keys": [KEY, {**KEY, "id": "b", "secret": {"env": "B"}}]})
    same = [key.model_copy(update={"secret": twins.keys[0].secret}) for key in twins.keys]
    with pytest.raises(ConfigurationError, match="is the same as that of a"):
        check_merged(twins.model_copy(update={"keys": same}))


def test_no_section_whose_settings_wait_alone_has_rules_of_its_own() -> None:
    """check_merged looks at what is between sections; these are the ones that are put together within."""
    for name in ("listen", "tls", "admin", "ledger", "network", "body"):
        section = Settings.model_fields[name].annotation
        assert section is not None
        assert vars(section)["__pydantic_decorators__"].model_validators == {}
