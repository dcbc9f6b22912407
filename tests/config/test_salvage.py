"""What is well of a faulty configuration: faulty sections are left out, but nothing that a command needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.config.document import LEDGER_VARIABLE
from gateway.config.ledger_url import url_of
from gateway.config.salvage import LEDGER, LEDGER_URL, Salvaged, salvage, salvage_for_look
from gateway.errors import ConfigurationError
from tests.support.pure import document, write

URL = "sqlite:////data/ledger.db"
ADMIN = frozenset({"admin.address", "admin.port"})
WRONG = {"port": "https"}  # in listen
NOTHING: Mapping[str, str] = {}


def written(directory: Path, **sections: Any) -> Path:
    """A file that names its ledger, with these sections."""
    return write(directory, document(directory, **{"ledger": {"url": URL}, **sections}))


def told(error: ConfigurationError) -> list[str]:
    return [fault.path for fault in error.faults]


def faults_of(found: Salvaged) -> list[str]:
    return [fault.path for fault in found.faults]


def refused(path: Path, needs: frozenset[str] = LEDGER, environ: Mapping[str, str] = NOTHING) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        salvage(path, environ, needs)
    return told(caught.value)


def test_of_a_right_file_nothing_is_left_out(tmp_path: Path) -> None:
    found = salvage(written(tmp_path, listen={"port": 1234}), {}, LEDGER)
    assert (found.settings.listen.port, found.faults, found.without, found.unknown_ledger) == (1234, (), (), "")


def test_faulty_sections_are_left_out_whole_and_named_with_their_faults(tmp_path: Path) -> None:
    path = written(tmp_path, listen=WRONG | {"backlog": 7}, log={"level": "loud"}, admin={"port": 1234})
    found = salvage(path, {}, LEDGER)
    assert found.without == ("listen", "log")
    assert sorted(faults_of(found)) == ["listen.backlog", "listen.port", "log.level"]
    assert url_of(found.settings) == URL
    assert found.settings.admin.port == 1234
    assert found.settings.listen.port == 8443  # the default


def test_what_names_something_in_a_faulty_section_is_left_out_with_it_and_its_fault_is_none(tmp_path: Path) -> None:
    """A key of a profile that is left out: nothing is wrong with that key."""
    key = {"id": "ci", "secret": {"env": "CI_KEY"}, "profile": "gold"}
    path = written(tmp_path, profiles={"default": {}, "gold": {"pages_per_day": "x"}}, keys=[key])
    found = salvage(path, {"CI_KEY": "x" * 40}, LEDGER)
    assert found.without == ("keys", "profiles")
    assert faults_of(found) == ["profiles.gold.pages_per_day"]
    assert found.settings.keys == []


def test_keys_of_one_secret_are_told_though_another_section_is_faulty(tmp_path: Path) -> None:
    keys = [{"id": name, "secret": {"env": "CI_KEY"}} for name in ("a", "b")]
    found = salvage(written(tmp_path, keys=keys, listen=WRONG), {"CI_KEY": "x" * 40}, LEDGER)
    assert found.without == ("keys", "listen")
    assert faults_of(found) == ["listen.port", "keys[1].secret"]


def test_without_its_networks_a_command_lets_nobody_in(tmp_path: Path) -> None:
    found = salvage(written(tmp_path, network={"allow": ["10.0.0.0/33"]}), {}, LEDGER)
    assert found.without == ("network",)
    assert [str(network) for network in found.settings.network.allow] == ["127.0.0.1/32"]


def test_certificates_that_are_not_here_are_left_out(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "server.pem").unlink()
    found = salvage(path, {}, LEDGER)
    assert found.without == ("tls",)
    assert faults_of(found) == ["tls.certificate"]


def test_secrets_that_are_not_here_are_no_fault(tmp_path: Path) -> None:
    found = salvage(written(tmp_path, keys=[{"id": "ci", "secret": {"env": "UNSET"}}]), {}, LEDGER)
    assert (found.faults, found.without, [key.id for key in found.settings.keys]) == ((), (), ["ci"])
    path = written(tmp_path, keys=[{"id": "ci", "secret": {"env": "UNSET"}}], listen=WRONG)
    found = salvage(path, {}, LEDGER)
    assert (found.without, [key.id for key in found.settings.keys]) == (("listen",), ["ci"])


@pytest.mark.parametrize("section", ["ledger", "profiles"])
def test_a_fault_in_a_section_that_is_needed_is_told_with_all_others(section: str, tmp_path: Path) -> None:
    wrong: dict[str, Any] = {"listen": WRONG, section: {"url": URL, "x": 1} if section == "ledger" else {"p": 1}}
    path = written(tmp_path, **wrong)
    assert "listen.port" in refused(path, LEDGER | {section})
    assert len(refused(path, LEDGER | {section})) > 1


def test_which_ledger_is_meant_has_to_be_written(tmp_path: Path) -> None:
    """The default is another one."""
    path = written(tmp_path, ledger={}, listen=WRONG)
    assert refused(path) == ["listen.port"]
    found = salvage(path, {LEDGER_VARIABLE: URL}, LEDGER)
    assert found.without == ("listen",)


@pytest.mark.parametrize(("name", "needs"), [("ledgr", LEDGER), ("profile", LEDGER | {"profiles"})])
def test_a_section_that_may_be_a_misspelt_one_is_not_left_out_where_that_is_needed(
    name: str, needs: frozenset[str], tmp_path: Path
) -> None:
    sections = document(tmp_path, **{name: {"url": URL}})
    variables = {LEDGER_VARIABLE: URL} if name == "profile" else {}
    assert name in refused(write(tmp_path, sections), needs, variables)
    found = salvage(write(tmp_path, sections), {LEDGER_VARIABLE: URL}, LEDGER)
    assert found.without == (name,)


def test_a_setting_that_is_needed_stays_of_a_section_that_is_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, admin={"address": "127.0.0.2", "port": 1234, "x": 1})
    found = salvage(path, {}, LEDGER | ADMIN)
    assert (found.without, faults_of(found)) == (("admin",), ["admin.x"])
    assert (found.settings.admin.address, found.settings.admin.port) == ("127.0.0.2", 1234)


@pytest.mark.parametrize("admin", [{"address": "127.0.0.2", "port": "x"}, {"port": 1234, "x": 1}, "canary"])
def test_such_a_setting_that_is_faulty_or_not_written_is_not_left_out(admin: object, tmp_path: Path) -> None:
    path = written(tmp_path, admin=admin)
    assert refused(path, LEDGER | ADMIN)
    assert salvage(path, {}, LEDGER).without == ("admin",)


def test_a_variable_that_names_no_setting_is_a_fault_of_all(tmp_path: Path) -> None:
    assert refused(written(tmp_path, listen=WRONG), environ={"GATEWAY__NETWORK__ALLOW__X": "1"})


def test_of_what_is_no_yaml_a_variable_names_the_ledger_and_nothing_else_is_known(tmp_path: Path) -> None:
    path = write(tmp_path, "listen: [")
    assert refused(path) == [""]
    found = salvage(path, {LEDGER_VARIABLE: URL}, LEDGER)
    assert "ledger" not in found.without
    assert {"listen", "keys", "profiles", "tls", "network"} <= set(found.without)
    assert faults_of(found) == [""]
    assert str(path) in str(found.faults[0])
    assert refused(path, LEDGER | {"profiles"}, {LEDGER_VARIABLE: URL}) == [""]


def test_a_file_that_is_not_there_is_no_file_without_yaml(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.yaml", environ={LEDGER_VARIABLE: URL}) == [""]
    assert refused(tmp_path, environ={LEDGER_VARIABLE: URL}) == [""]


def test_who_looks_goes_on_where_the_ledger_is_in_a_variable_of_the_gateway_alone(tmp_path: Path) -> None:
    path = written(tmp_path, ledger={"url": {"env": "OF_THE_SERVICE"}}, admin={"port": 1234})
    assert refused(path) == [LEDGER_URL]
    found = salvage_for_look(path, {}, frozenset())
    assert "OF_THE_SERVICE" in found.unknown_ledger
    assert found.settings.admin.port == 1234
    assert url_of(found.settings) == "sqlite:////dev/null/none"  # where nothing can be made
    known = salvage_for_look(path, {"OF_THE_SERVICE": URL}, frozenset())
    assert (known.unknown_ledger, url_of(known.settings)) == ("", URL)


def test_who_looks_is_told_of_faults_in_what_is_needed(tmp_path: Path) -> None:
    path = written(tmp_path, ledger={"url": {"env": "OF_THE_SERVICE"}}, admin={"port": "x"})
    for environ in (NOTHING, {"OF_THE_SERVICE": URL}):
        with pytest.raises(ConfigurationError) as caught:
            salvage_for_look(path, environ, frozenset({"admin"}))
        assert "admin.port" in told(caught.value)


def test_who_looks_is_told_of_any_other_fault_of_the_ledger(tmp_path: Path) -> None:
    """It is known there: an answer without it would be a wrong one."""
    with pytest.raises(ConfigurationError) as caught:
        salvage_for_look(written(tmp_path, ledger={"url": URL, "x": 1}), {}, frozenset())
    assert told(caught.value) == ["ledger.x"]
