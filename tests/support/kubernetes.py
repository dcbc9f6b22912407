"""deploy/kubernetes as kubectl renders it, and a pod's volumes as the kubelet lays them out on a disk."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

Object = dict[str, Any]
ROOT: Final = Path(__file__).parent.parent.parent
MANIFESTS: Final = ROOT / "deploy" / "kubernetes"
OVERLAYS: Final = ("sidecar", "service")
COMPONENTS: Final = ("cert-manager", "service-monitor", "egress-https", "ingress-nginx", "gateway-api")
NAMESPACE: Final = "document-gateway"
ADMIN_TOKEN: Final = "canary-admin-token-of-a-pod-51ce07"
_SUFFIXES: Final = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
needs_kubectl: Final = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on the PATH")


class Rendered(NamedTuple):
    """What `kubectl apply -k` would send, in its order."""

    objects: tuple[Object, ...]

    def of(self, kind: str) -> list[Object]:
        """All objects of a kind."""
        return [found for found in self.objects if found["kind"] == kind]

    def one(self, kind: str, name: str = NAMESPACE) -> Object:
        """The object of this kind and name."""
        (found,) = (each for each in self.of(kind) if each["metadata"]["name"] == name)
        return found

    @property
    def pod(self) -> Object:
        """The specification of the gateway's pod."""
        found: Object = self.one("Deployment")["spec"]["template"]["spec"]
        return found

    @property
    def container(self) -> Object:
        """The gateway's container."""
        (found,) = self.pod["containers"]
        assert isinstance(found, dict)
        return found

    @property
    def configuration(self) -> str:
        """The text of gateway.yaml."""
        text: str = self.one("ConfigMap", "gateway-configuration")["data"]["gateway.yaml"]
        return text


@cache
def render(overlay: str, *components: str) -> Rendered:
    """An overlay, with components if any are named; kubectl must have nothing to say about it."""
    if not components:
        return _kustomize(MANIFESTS / "overlays" / overlay)
    with tempfile.TemporaryDirectory() as directory:
        base = os.path.relpath(MANIFESTS, Path(directory).resolve())
        document = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": NAMESPACE,
            "resources": [f"{base}/overlays/{overlay}"],
            "components": [f"{base}/components/{component}" for component in components],
        }
        (Path(directory) / "kustomization.yaml").write_text(yaml.safe_dump(document))
        return _kustomize(Path(directory))


@cache
def render_example(overlay: str) -> Rendered:
    """The example that has every edit of an overlay."""
    return _kustomize(MANIFESTS / "examples" / overlay)


def _kustomize(directory: Path) -> Rendered:
    command = ["kubectl", "kustomize", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert (done.returncode, done.stderr) == (0, "")
    return Rendered(tuple(yaml.safe_load_all(done.stdout)))


def size(quantity: str) -> int:
    """Bytes of a quantity such as 3Gi."""
    return int(quantity[:-2]) * _SUFFIXES[quantity[-2:]]


class ProjectedVolume:
    """A projected volume as the kubelet writes it, and swaps it: all files in a directory of their own, at which
    `..data` points; each name of the volume leads through it (pkg/volume/util/atomic_writer.go does it so).

    With a `group`, files are root's and the group's, as fsGroup makes them.
    """

    def __init__(self, path: Path, sources: Sequence[Object], group: int | None = None) -> None:
        self.path = path
        self._sources = sources
        self._group = group
        self._numbers = count()

    def write(self, objects: Mapping[str, Mapping[str, bytes]], mode: int) -> None:
        """Writes what ConfigMaps and Secrets hold, by their names, and puts it in force by one rename."""
        before = self.path / "..data"
        old = before.resolve() if before.is_symlink() else None
        made = self.path / f"..2026_11_23_12_00_00.{next(self._numbers)}"
        for name, content in self._files(objects):
            file = made / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            file.chmod(mode)
            if self._group is not None:
                os.chown(file, 0, self._group)
        coming = self.path / "..data_tmp"
        coming.symlink_to(made.name)
        coming.rename(before)
        for name in {entry.name for entry in made.iterdir()}:
            if not (self.path / name).is_symlink():
                (self.path / name).symlink_to(f"..data/{name}")
        if old is not None:
            shutil.rmtree(old)

    def _files(self, objects: Mapping[str, Mapping[str, bytes]]) -> Iterator[tuple[str, bytes]]:
        for source in self._sources:
            ((_, chosen),) = source.items()
            data = objects[chosen["name"]]
            items = chosen.get("items", [{"key": key, "path": key} for key in data])
            yield from ((item["path"], data[item["key"]]) for item in items)


def volume(pod: Object, name: str) -> Object:
    """A volume of a pod."""
    (found,) = (each for each in pod["volumes"] if each["name"] == name)
    assert isinstance(found, dict)
    return found


def mount_path(container: Object, name: str) -> str:
    """Where a container has a volume."""
    (path,) = (mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == name)
    assert isinstance(path, str)
    return path


def pod_data(rendered: Rendered, certificates: Path, ledger_url: str) -> dict[str, dict[str, bytes]]:
    """What the ConfigMap and the Secrets of a pod hold: the rendered configuration, and secrets made for a test."""
    return {
        "gateway-configuration": {"gateway.yaml": rendered.configuration.encode()},
        "gateway-tls": {
            "tls.crt": (certificates / "server.pem").read_bytes(),
            "tls.key": (certificates / "server.key").read_bytes(),
        },
        "gateway-admin-token": {"token": ADMIN_TOKEN.encode()},
        "gateway-ledger": {"url": ledger_url.encode(), "ca.crt": (certificates / "ca.pem").read_bytes()},
    }
