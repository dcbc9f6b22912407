"""What `make dist` builds: the same bytes each time, and a gateway that runs."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from gateway.admin.page import FILES

ROOT = Path(__file__).parent.parent
BUILD = "from flit_core.buildapi import build_sdist, build_wheel as wheel; wheel({0!r}); build_sdist({0!r})"

RUN = "import gateway; print(gateway.__file__); from gateway.__main__ import main; main()"


def built(directory: Path) -> dict[str, bytes]:
    directory.mkdir()
    env = {**os.environ, "SOURCE_DATE_EPOCH": "1795000000"}
    program = BUILD.format(str(directory))
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=env, check=True)  # noqa: S603 -- our own
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_release_is_the_same_each_time_and_runs(tmp_path: Path) -> None:
    first = built(tmp_path / "first")
    assert sorted(name.rpartition(".")[2] for name in first) == ["gz", "whl"]
    assert built(tmp_path / "second") == first
    (wheel,) = (tmp_path / "first").glob("*.whl")
    place = tmp_path / "place"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(place)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("migrations/versions/0001_first.py") for name in names)
    assert {f"gateway/admin/web/{name}" for name in FILES.values()} <= set(names)
    assert not any(name.startswith("tests/") for name in names)
    told = subprocess.run(  # noqa: S603 -- our own
        [sys.executable, "-c", RUN, "--version"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(place)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.stdout.splitlines()[0] == str(place / "gateway" / "__init__.py")
    assert "version" in told.stdout.splitlines()[1]
