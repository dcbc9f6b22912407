"""One name, one meaning: a newcomer who reads a name in two places reads of one thing."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import gateway

ROOT = Path(gateway.__file__).parent
# Classes whose names are seen from outside: sections of the settings, and the schemas of the admin API. A schema is
# named as what it shows.
SEEN = (
    "config/settings/",
    "admin/requests",
    "admin/answer",
    "admin/key_answers",
    "admin/job_answers",
    "admin/caller_answers",
    "admin/overview_answers",
)
# Files of one name: the same noun, seen from each of these folders; or what every such folder has.
ALIKE = {
    "api": "admin demo",
    "audit": "cli ledger model",
    "callers": "admin cli keys ledger",
    "checkpoints": "jobs ledger",
    "connection": "admin listener upstream",
    "jobs": "admin cli config/settings demo ledger model",
    "keys": "admin cli ledger model",
    "ledger": "cli ledger",
    "metrics": "app observe webhooks/outbound",
    "networks": "config model",
    "problem": "admin http",
    "refusals": "audit cli ledger",
    "routes": "admin model policy",
    "serve": "app cli",
    "settings": "webhooks/inbound webhooks/outbound",
    "usage": "cli ledger",
    "view": "jobs keys",
    "webhooks": "cli config/settings",
}


def names_in(text: str) -> Iterator[str]:
    """Classes, and types that have a name of their own."""
    tree = ast.parse(text)
    yield from (node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        yield from (target.id for target in targets if isinstance(target, ast.Name) and is_of_a_type(target.id))


def is_of_a_type(name: str) -> bool:
    return name.lstrip("_")[:1].isupper() and not name.isupper()


TEXTS = {str(path.relative_to(ROOT).with_suffix("")): path.read_text() for path in sorted(ROOT.rglob("*.py"))}


def files_by_name(*, seen: bool) -> dict[str, list[str]]:
    """The files that define each name: those whose classes are seen from outside, or the others."""
    found: dict[str, list[str]] = defaultdict(list)
    for file, text in TEXTS.items():
        if file.startswith(SEEN) is seen:
            for name in names_in(text):
                found[name].append(file)
    return found


def is_one_type(name: str, files: list[str]) -> bool:
    """Whether all of these give the name to the same type."""
    trees = [ast.parse(TEXTS[file]) for file in files]
    assigned = [node for tree in trees for node in tree.body if isinstance(node, ast.Assign)]
    meant = [ast.unparse(node.value) for node in assigned if ast.unparse(node.targets[0]) == name]
    return len(meant) == len(files) and len(set(meant)) == 1


def test_no_two_classes_have_one_name() -> None:
    found = files_by_name(seen=False).items()
    assert {name: files for name, files in found if len(files) > 1 and not is_one_type(name, files)} == {}


def test_what_is_seen_from_outside_has_names_of_its_own_too() -> None:
    for name, files in files_by_name(seen=True).items():
        kinds = {file.startswith("config/") for file in files}
        assert len(kinds) == len(files), name


def test_files_of_one_name_are_of_one_noun() -> None:
    folders: dict[str, list[str]] = defaultdict(list)
    for file in TEXTS:
        folder, _, name = file.rpartition("/")
        if name != "__init__":
            folders[name].append(folder)
    twice = {name: found for name, found in folders.items() if len(found) > 1}
    assert {name: " ".join(found) for name, found in twice.items()} == ALIKE


TESTS = Path(__file__).parent
NOT_OURS = {"os", "threading", "atexit"}  # what a fork server for tests has to do by hand
OF_TUPLES = {"_replace", "_asdict", "_fields", "_make"}


def private_names_in(text: str) -> Iterator[str]:
    """Private names that a test reads or sets on something else than itself, or has replaced by their names."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if ast.unparse(node.value) not in {"self", "cls"} | NOT_OURS:
                yield node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names if is_private(alias.name))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("attr", "patch", "patch.object")):
            texts_given = [given.value for given in node.args if isinstance(given, ast.Constant)]
            last = [str(given).rpartition(".")[2] for given in texts_given]
            yield from (name for name in last if is_private(name))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in OF_TUPLES


def test_tests_use_few_private_names_and_no_private_constant() -> None:
    found = [
        (str(path.relative_to(TESTS)), name)
        for path in sorted(TESTS.rglob("*.py"))
        for name in private_names_in(path.read_text())
    ]
    assert len(found) < 20, found
    assert [(file, name) for file, name in found if name.isupper()] == []


def test_this_test_sees_private_names() -> None:
    text = "a._b\nself._c\nos._exit(0)\na._replace()\nfrom a import _d\nm.setattr('a.b._E', 1)\npatch.object(a, '_f')"
    assert sorted(private_names_in(text)) == ["_E", "_b", "_d", "_f"]
