"""deploy/kubernetes is what kubectl renders without a word, and what Kubernetes and the operators would take."""

import copy
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import kubernetes_validate
import pytest
from jsonschema import Draft202012Validator
from kubernetes_validate.utils import all_versions, major_minor, schema_contents

from tests.support.kubernetes import COMPONENTS, MANIFESTS, OVERLAYS, Object, needs_kubectl, render, render_example

pytestmark = needs_kubectl
SCHEMAS: Final = Path(__file__).parent / "schemas"
VARIANTS: Final = [(overlay, *components) for overlay in OVERLAYS for components in ((), COMPONENTS)]
# The first that has native sidecars switched on, and the four newest that have been published.
VERSIONS: Final = ["1.29", "1.34", "1.35", "1.36", "1.37"]
CRDS: Final = {
    f"{group}/{path.stem}": Draft202012Validator(json.loads(path.read_text()))
    for group, path in (
        ("monitoring.coreos.com/v1", SCHEMAS / "ServiceMonitor.json"),
        ("cert-manager.io/v1", SCHEMAS / "Certificate.json"),
        *(
            ("gateway.networking.k8s.io/v1", SCHEMAS / f"{kind}.json")
            for kind in ("Gateway", "HTTPRoute", "BackendTLSPolicy")
        ),
    )
}


@pytest.fixture(params=[*VARIANTS, *(("example", overlay) for overlay in OVERLAYS)], ids="+".join)
def objects(request: pytest.FixtureRequest) -> tuple[Object, ...]:
    first, *rest = request.param
    return (render_example(*rest) if first == "example" else render(first, *rest)).objects


@pytest.fixture(scope="module", autouse=True)
def _schemas_are_read_once() -> Iterator[None]:
    """Kubernetes' own are megabytes, and read anew for each object."""
    with patch("kubernetes_validate.utils.schema_contents", cache(schema_contents)):
        yield


def kind_of(found: Object) -> str:
    return f"{found['apiVersion']}/{found['kind']}"


def refused_by_crd(found: Object) -> bool:
    return not CRDS[kind_of(found)].is_valid(found)


def refused_by_kubernetes(found: Object, version: str) -> bool:
    try:
        return bool(kubernetes_validate.validate(found, version, strict=True) != version)
    except kubernetes_validate.ValidationError:
        return True


def test_the_versions_are_the_newest_that_there_are() -> None:
    newest = list(dict.fromkeys(major_minor(version) for version in all_versions()))[-4:]
    assert newest == VERSIONS[-4:]


def test_there_is_an_overlay_and_a_component_for_each_name() -> None:
    assert sorted(path.name for path in (MANIFESTS / "overlays").iterdir()) == sorted(OVERLAYS)
    assert sorted(path.name for path in (MANIFESTS / "components").iterdir()) == sorted(COMPONENTS)
    assert sorted(path.name for path in (MANIFESTS / "examples").iterdir()) == sorted(OVERLAYS)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_tells_of_each_component_as_a_comment(overlay: str) -> None:
    text = (MANIFESTS / "overlays" / overlay / "kustomization.yaml").read_text()
    assert tuple(re.findall(r"^#   - ../../components/(.+)$", text, re.MULTILINE)) == COMPONENTS


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_each_object(objects: tuple[Object, ...], version: str) -> None:
    own = [found for found in objects if kind_of(found) not in CRDS]
    assert len(own) >= 10
    assert [found["metadata"]["name"] for found in own if refused_by_kubernetes(found, version)] == []


def test_the_operators_take_each_of_theirs(objects: tuple[Object, ...]) -> None:
    assert [found["metadata"]["name"] for found in objects if kind_of(found) in CRDS and refused_by_crd(found)] == []


def test_the_components_bring_one_object_for_each_operator() -> None:
    found = [kind_of(each) for each in render("sidecar", *COMPONENTS).objects]
    assert {kind: found.count(kind) for kind in CRDS} == dict.fromkeys(CRDS, 1)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where names of fields stand in an object; labels, annotations and data are names of the operator's choice."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            if key not in {"labels", "matchLabels", "annotations", "data", "limits", "requests", "selector"}:
                yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from places(inner, (*path, i))


def misspelt(found: Object, path: tuple[Any, ...]) -> Object:
    changed = copy.deepcopy(found)
    holder: Any = changed
    for part in path[:-1]:
        holder = holder[part]
    holder[f"{path[-1]}x"] = holder.pop(path[-1])
    return changed


def test_a_misspelt_field_anywhere_in_the_deployment_is_refused() -> None:
    deployment = render("sidecar").one("Deployment")
    paths = [path for path in places(deployment) if path not in {("apiVersion",), ("kind",)}]
    assert len(paths) > 100
    taken = [path for path in paths if not refused_by_kubernetes(misspelt(deployment, path), VERSIONS[-1])]
    assert taken == []


def test_a_wrong_value_is_refused() -> None:
    deployment = copy.deepcopy(render("sidecar").one("Deployment"))
    deployment["spec"]["replicas"] = "one"
    assert refused_by_kubernetes(deployment, VERSIONS[0])


@pytest.mark.parametrize("kind", CRDS)
def test_a_misspelt_field_of_an_operators_object_is_refused(kind: str) -> None:
    (found,) = (each for each in render("sidecar", *COMPONENTS).objects if kind_of(each) == kind)
    assert not refused_by_crd(found)
    inner = [path for path in places(found) if path[0] == "spec" and len(path) > 1]
    assert len(inner) >= 5
    assert [path for path in inner if not refused_by_crd(misspelt(found, path))] == []
