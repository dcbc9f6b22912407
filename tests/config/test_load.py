from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.document import _Loader, read_file
from gateway.config.load import load
from gateway.config.settings import LogLevel, Settings
from gateway.errors import ConfigurationError, Fault
from tests.support.pure import document, look_up, make_settings, write

NO_NETWORK = "is not a network, such as 10.0.0.0/8 or ::1/128"


def faults_of(directory: Path, environ: dict[str, str] | None = None, **sections: Any) -> list[str]:
    """Every fault of a configuration, as it is shown."""
    with pytest.raises(ConfigurationError) as caught:
        make_settings(directory, environ, **sections)
    assert str(caught.value).split("\n") == [str(fault) for fault in caught.value.faults]
    return [str(replace(fault, where="", value="")) for fault in caught.value.faults]


def fault_of_text(directory: Path, text: str | bytes) -> str:
    """The one fault of a file that can't even be read, without the file's name."""
    path = directory / "gateway.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigurationError) as caught:
        read_file(path)
    (fault,) = caught.value.faults
    assert fault.path == ""
    assert fault.message.startswith(str(path))
    return fault.message.removeprefix(str(path))


# The file


def test_loads_what_is_right(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, listen={"port": 1})
    assert isinstance(settings, Settings)
    assert settings.listen.port == 1


def test_says_why_a_file_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path / "none.yaml", {})
    assert caught.value.faults == (Fault("", f"{tmp_path}/none.yaml can't be read: No such file or directory"),)
    with pytest.raises(ConfigurationError, match="can't be read: Is a directory"):
        load(tmp_path, {})


def test_an_empty_file_says_what_helps(tmp_path: Path) -> None:
    for text in ("", "# only a comment\n", "---\n"):
        assert read_file(write(tmp_path, text)).document == {}
    with pytest.raises(ConfigurationError) as caught:
        load(write(tmp_path, ""), {})
    assert str(caught.value) == f"{tmp_path}/gateway.yaml is empty: gateway config init writes one that works"
    with pytest.raises(ConfigurationError) as caught:
        load(write(tmp_path, ""), {"GATEWAY__LISTEN__PORT": "1"})
    required = "is required: at least allow, the networks of your clients, such as allow: [10.0.0.0/8]"
    assert Fault("network", required) in caught.value.faults


@pytest.mark.parametrize("text", ["- a\n", "a\n", "17\n", "[]\n"])
def test_a_file_must_be_a_mapping(tmp_path: Path, text: str) -> None:
    assert fault_of_text(tmp_path, text) == " is not a mapping of settings"


def test_a_file_is_of_one_megabyte_at_the_most(tmp_path: Path) -> None:
    filler = "# 45678901234567890123456789012345678901234567890123456789012\n"
    fitting = filler * (1_048_576 // len(filler))
    assert read_file(write(tmp_path, fitting + "#" * (1_048_576 - len(fitting)))).document == {}
    assert fault_of_text(tmp_path, fitting + "#" * (1_048_577 - len(fitting))) == " is larger than 1 MB"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", ", line 2: the key a is there twice, first in line 1"),
        ("listen:\n  port: 1\n  address: '::'\n  port: 1\n",
         ", line 4: the key port is there twice, first in line 2"),
        ("x: [{a: 1, b: 2, a: 3}]\n", ", line 1: the key a is there twice, first in line 1"),
        ("1: a\n0x1: b\n", ", line 2: the key 1 is there twice, first in line 1"),
        ("a: &x 1\nb: *x\n", ", line 2: aliases (*name) are not supported here"),
        ("a: &x [1]\nb:\n  <<: *x\n", ", line 3: aliases (*name) are not supported here"),
        ("*x : 1\n", ", line 1: aliases (*name) are not supported here"),
        ("x: 1\na: 'b\n", ", line 2: a quote begins here that is never closed"),
        ("a: [1\nb: 2\n", ', line 2: a [ begins a list, and no ] ends it: a text must be quoted: "..."'),
        ("a: b: c\n", ', line 1: a value with a colon and a blank in it must be quoted: "..."'),
        ("\tb: 1\n", ", line 1: a tab stands there: indent with spaces"),
        ("a: 1\n---\nb: 2\n", ", line 2: a second document begins (---): a configuration has one"),
        ("? [a]\n: b\n", ", line 1: a list or a mapping can't be the name of a setting"),
        ("a: !!python/object/apply:os.system [true]\n",
         ", line 1: tags (!name) are not supported here: quote the value"),
        ("a: 1\nb: !!int {x: 1}\n", ", line 2: expected a scalar node, but found mapping"),
        ('a: 1\nb: "\\ud800"\n', ", line 2: half a character (\\ud800 to \\udfff), which no text in UTF-8 has"),
        ("a: 1\nb: " + "9" * 5000 + "\n", ", line 2: a number of more than 100 characters"),
        ("a: 0x" + "f" * 9000 + "\n", ", line 1: a number of more than 100 characters"),
        ("a: 1:" + "1:" * 200 + "1.5\n", ", line 1: a number of more than 100 characters"),
        ("0x" + "f" * 900 + ": 1\n", ", line 1: a number of more than 100 characters"),
    ],
)  # fmt: skip
def test_says_in_which_line_a_file_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    assert fault_of_text(tmp_path, text) == message


def test_a_key_is_not_compared_with_all_before_it() -> None:
    """10,000 took seven seconds."""
    compared = 0

    class Key(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    class Counting(_Loader):
        pass

    def construct(loader: _Loader, node: Any) -> Key:
        return Key(loader.construct_scalar(node))

    Counting.add_constructor("tag:yaml.org,2002:str", construct)
    read = Counting("".join(f"k{number}: 1\n" for number in range(300))).get_single_data()
    assert len(read) == 300
    assert compared < 3000


@pytest.mark.parametrize(
    "text",
    ["a: 2001-99-99\n", "[" * 20_000, "a: !!int x\n", "a: !!int ''\n", "a: !!float ''\n",
     "a: !!bool x\n",
     "a: !!timestamp x\n", "a: !!map x\n", "a: !!map [x]\n", "a: !!float '" + "1:" * 40 + "x'\n"],
    ids=lambda text: repr(text)[:20],
)  # fmt: skip
def test_says_that_a_file_is_no_yaml(tmp_path: Path, text: str | bytes) -> None:
    assert fault_of_text(tmp_path, text) == " is not YAML"


# Faults: all at once, each with its path


def test_tells_all_faults_at_once(tmp_path: Path) -> None:
    told = faults_of(
        tmp_path,
        {"GATEWAY__LOG__LEVEL": "[", "GATEWAY__KEYS__0__ID": "a"},
        listen={"port": "8443", "adress": "::", "proxy_protocol": True, "idle_timeout": 75},
        keys=[
            {"id": "A", "secret": "clear", "profile": "defalt"},
            {"id": "b"},
            {"id": "b", "networks": ["10.0.0.1/8"]},
        ],
        network={"allow": []},
        upstrem={},
    )
    assert told == [
        "GATEWAY__KEYS__0__ID: names no setting; values and whole lists can be overridden, not parts of a list",
        "GATEWAY__LOG__LEVEL, line 1: it ends where a value should be",
        "listen.proxy_protocol: is on, but network.trusted_proxies names nobody who may use it",
        "keys[2].id: b is there already",
        "keys[0].profile: there is no profile defalt; did you mean default?",
        "listen.port: must be a whole number: write 8443 without quotes",
        "listen.idle_timeout: write a duration with its unit, such as 5s, 500ms or 1h (units: ms, s, m, h, d)",
        "listen.adress: there is no such setting; did you mean address?",
        "network.allow: must not be empty",
        "keys[0].id: must match ^[a-z0-9-]{1,63}$",
        "keys[0].secret: a secret is never written here: use {env: NAME}, {file: /path} or {sha256: HEX}",
        "keys[1].secret: is required",
        "keys[2].secret: is required",
        f"keys[2].networks[0]: {NO_NETWORK}: 10.0.0.1 is within one, so write 10.0.0.0/8, or 10.0.0.1 alone",
        "upstrem: there is no such setting; did you mean upstream?",
    ]


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"network": {}},
         "network.allow: is required: list the networks of your clients, such as [10.0.0.0/8]; there is no default"),
        ({"network": None}, "network: is empty: write its settings in the lines below, indented, or leave it out"),
        ({"listen": {"zzzzz": 1}}, "listen.zzzzz: there is no such setting"),
        ({"zzzzz": 1}, "zzzzz: there is no such setting"),
        ({"listen": {"prot": 1}}, "listen.prot: there is no such setting; did you mean port?"),
        ({"tls": {"certificate": "{d}/server.pem", "private_key": "{d}/server.key",
         "certificates": [{"certificate": "{d}/server.pem", "privat_key": "x", "private_key": "{d}/server.key"}]}},
         "tls.certificates[0].privat_key: there is no such setting; did you mean private_key?"),
        ({"authentication": {"api_keys": {"enable": True}}},
         "authentication.api_keys.enable: there is no such setting; did you mean enabled?"),
        ({"admin": {"tls": {"certificate": "{d}/server.pem", "private_key": "{d}/server.key", "x_certificate": 1}}},
         "admin.tls.x_certificate: there is no such setting; did you mean certificate?"),
        ({"profiles": {"big": {"body_limt": "1GB"}}},
         "profiles.big.body_limt: there is no such setting; did you mean body_limit?"),
        ({"profiles": {"Big": {}}}, "profiles.Big: must match ^[a-z0-9_-]{1,63}$"),
        ({"profiles": []},
         "profiles: must be a section: write its settings in the lines below, indented, each as name: value"),
        ({"jobs": {"result_ttl": "36501d"}}, "jobs.result_ttl: is more than a hundred years (36500d)"),
        ({"shutdown": {"drain_delay": "999999999999999d"}},
         "shutdown.drain_delay: is more than a hundred years (36500d)"),
        ({"profiles": {"big": {"body_limit": "0B"}}}, "profiles.big.body_limit: must be more than zero"),
        ({"routes": [{"name": "a", "path": "/a", "methods": []}]},
         "routes[0].methods: must not be empty"),
        ({"routes": [{"name": "a", "path": "/a/{a}/{a}", "methods": ["GET"]}]},
         "routes[0].path: a name may stand only once in a path"),
        ({"routes": [{"name": "a", "path": "/a", "methods": ["GET"]}, {"name": "a", "path": "/b",
         "methods": ["GET"]}]},
         "routes[1].name: a is there already"),
        ({"authentication": {"jwt": [
            {"issuer": "https://a", "audience": "g", "discovery": True},
            {"issuer": "https://b", "audience": "g", "discovery": True},
            {"issuer": "https://a", "audience": "h", "discovery": True}]}},
         "authentication.jwt[2].issuer: https://a is there already"),
        ({"authentication": {"jwt": [
            {"issuer": "x", "audience": "g", "algorithms": ["HS256"], "secret": {"env": "K"}}]}},
         "authentication.jwt[0].secret: is shorter than 32 bytes"),
        ({"authentication": {"jwt": [
            {"issuer": "https://a", "audience": "g", "algorithms": ["ES256", "HS256"], "discovery": True}]}},
         "authentication.jwt[0].algorithms: has HS* beside others, whose public keys would be its secrets"),
        ({"routes": 1},
         'routes: must be a list: write [...], or each entry in a line that begins with "- "'),
        ({"keys": [{"id": "a", "secret": {"env": "K"}, "profile": "big"}]},
         "keys[0].profile: there is no profile big"),
        ({"keys": [{"id": "a", "secret": {"env": "K"}}, {"id": "b", "secret": {"env": "K"}}]},
         "keys[1].secret: is the same as that of a"),
        ({"listen": {"proxy_protocol": True}},
         "listen.proxy_protocol: is on, but network.trusted_proxies names nobody who may use it"),
        ({1: 2}, "[1]: the name of a setting must be a text"),
    ],
)  # fmt: skip
def test_a_fault_has_its_path_and_a_way_out(tmp_path: Path, sections: dict[Any, Any], told: str) -> None:
    whole = document(tmp_path) | yaml.safe_load(yaml.safe_dump(sections).replace("{d}", str(tmp_path)))
    with pytest.raises(ConfigurationError) as caught:
        load(write(tmp_path, whole), {"K": "long-and-secret"})
    assert [str(replace(fault, where="", value="")) for fault in caught.value.faults] == [told]


def test_entries_without_a_name_are_no_repetition(tmp_path: Path) -> None:
    assert faults_of(tmp_path, {"A": "1", "B": "2"}, keys=[{"secret": {"env": "A"}}, {"secret": {"env": "B"}}]) == [
        "keys[0].id: is required",
        "keys[1].id: is required",
    ]


@pytest.mark.parametrize("value", ["true", 1, "on"])
def test_proxy_protocol_is_a_plain_yes_or_no(tmp_path: Path, value: object) -> None:
    (told,) = faults_of(tmp_path, listen={"proxy_protocol": value})
    assert told.startswith("listen.proxy_protocol: must be true or false")


def test_what_disagrees_in_the_wrong_shape_is_told_once(tmp_path: Path) -> None:
    told = faults_of(tmp_path, listen=[], keys=[3, {"id": "a", "secret": {"env": "K"}, "profile": 7}], routes=["a"])
    assert [line.partition(":")[0] for line in told] == [
        "listen",
        "keys[0]",
        "keys[1].secret",
        "keys[1].profile",
        "routes[0]",
    ]


def test_the_same_secret_is_found_however_it_is_referred_to(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("canary\n")
    keys = [
        {"id": "a", "secret": {"env": "A"}},
        {"id": "b", "secret": {"env": "B"}},
        {"id": "c", "secret": {"file": str(tmp_path / "secret")}},
        {"id": "d", "secret": {"sha256": "a3b4b2c5b9d0a6c24e9f0fa0a1a4b9ac7bd8dd1c3f1ba1a3d1c9f4c6dd6a8e0b"}},
        {"id": "e", "secret": {"env": "A"}},
    ]
    assert faults_of(tmp_path, {"A": "canary", "B": "other"}, keys=keys) == [
        "keys[2].secret: is the same as that of a",
        "keys[4].secret: is the same as that of a",
    ]


# What the environment overrides


@pytest.mark.parametrize(
    ("environ", "path", "value"),
    [
        ({"GATEWAY__LISTEN__PORT": "9443"}, "listen.port", 9443),
        ({"GATEWAY__LOG__LEVEL": "debug"}, "log.level", LogLevel.DEBUG),
        ({"GATEWAY__LISTEN__IDLE_TIMEOUT": "1m"}, "listen.idle_timeout", 60.0),
        ({"GATEWAY__UPSTREAM": "{url: 'http://[::1]:1'}"}, "upstream.url", "http://[::1]:1"),
        ({"GATEWAY__AUTHENTICATION__API_KEYS__ENABLED": "false"}, "authentication.api_keys.enabled", False),
        ({"GATEWAY__PUBLIC_URL": "https://a.test"}, "public_url", "https://a.test"),
        ({"GATEWAY__PUBLIC_URL": "null"}, "public_url", None),
        ({"GATEWAY__PUBLIC_URL": ""}, "public_url", None),
        ({"GATEWAY__ADMIN__TLS": ""}, "admin.tls", None),
        ({"gateway__listen__port": "9443", "GATEWAY_LISTEN_PORT": "1"}, "listen.port", 7443),
    ],
)
def test_the_environment_overrides_the_file(
    tmp_path: Path, environ: dict[str, str], path: str, value: object
) -> None:
    settings = make_settings(tmp_path, environ, listen={"port": 7443}, public_url="https://file.test")
    assert look_up(settings, path) == value


def test_an_override_leaves_its_neighbours(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, {"GATEWAY__LISTEN__PORT": "1"}, listen={"port": 2, "address": "::1"})
    assert (settings.listen.port, settings.listen.address) == (1, "::1")


def test_a_list_is_overridden_whole(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, {"GATEWAY__NETWORK__ALLOW": "[192.0.2.0/24, '::1']"})
    assert list(map(str, settings.network.allow)) == ["192.0.2.0/24", "::1/128"]


def test_a_section_may_come_from_the_environment_alone(tmp_path: Path) -> None:
    whole = document(tmp_path)
    del whole["network"]
    settings = load(write(tmp_path, whole), {"GATEWAY__NETWORK__ALLOW": "[10.0.0.0/8]"})
    assert list(map(str, settings.network.allow)) == ["10.0.0.0/8"]


NO_SETTING = "names no setting; values and whole lists can be overridden, not parts of a list"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("GATEWAY__", "1", f"GATEWAY__: {NO_SETTING}"),
        ("GATEWAY____PORT", "1", f"GATEWAY____PORT: {NO_SETTING}"),
        ("GATEWAY__LISTEN__", "1", f"GATEWAY__LISTEN__: {NO_SETTING}"),
        ("GATEWAY__NETWORK____ALLOW", "1", f"GATEWAY__NETWORK____ALLOW: {NO_SETTING}"),
        ("GATEWAY__LISTEN__PORT__X", "1", f"GATEWAY__LISTEN__PORT__X: {NO_SETTING}"),
        ("GATEWAY__NETWORK__ALLOW__0", "::1", f"GATEWAY__NETWORK__ALLOW__0: {NO_SETTING}"),
        ("GATEWAY__LISTEN__PROT", "1", "listen.prot: there is no such setting; did you mean port?"),
        (
            "GATEWAY__LISTEN__PORT",
            "[1",
            'GATEWAY__LISTEN__PORT, line 1: a [ begins a list, and no ] ends it: a text must be quoted: "..."',
        ),
        ("GATEWAY__LISTEN__PORT", "!!int ''", "GATEWAY__LISTEN__PORT is not YAML"),
        (
            "GATEWAY__LISTEN__PORT",
            "{a: 1, a: 2}",
            "GATEWAY__LISTEN__PORT, line 1: the key a is there twice, first in line 1",
        ),
        ("GATEWAY__LISTEN__PORT", "'1'", "listen.port: must be a whole number: write 1 without quotes"),
    ],
)
def test_an_override_that_is_wrong_is_a_fault_like_any_other(tmp_path: Path, name: str, text: str, told: str) -> None:
    assert faults_of(tmp_path, {name: text}, listen={"port": 1}) == [told]


@pytest.mark.parametrize(
    "text", ["canary-in-clear", "{env: canary-in-clear, file: x}", "[canary-in-clear]", "{value: canary-in-clear}"]
)
def test_a_fault_never_shows_a_secret_that_stands_in_the_wrong_place(tmp_path: Path, text: str) -> None:
    told = faults_of(tmp_path, {"GATEWAY__ADMIN__TOKEN": text}, keys=[{"id": "a", "secret": yaml.safe_load(text)}])
    assert len(told) == 2
    assert "canary" not in "".join(told)
