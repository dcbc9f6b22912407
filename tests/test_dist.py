"""What `make dist` builds: the same bytes each time, and a gateway that is installed and runs."""

import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from gateway import __version__
from gateway.admin.console_files import FILES

ROOT = Path(__file__).parent.parent
ENVIRON = {**os.environ, "SOURCE_DATE_EPOCH": "1795000000"}  # a tree without .git can't say when it was


def run(*command: str | Path, at: Path = ROOT) -> str:
    """What a command prints, in an environment that knows nothing of this tree."""
    environ = {name: value for name, value in ENVIRON.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    done = subprocess.run(command, cwd=at, env=environ, capture_output=True, text=True, check=False)  # noqa: S603 -- our own
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(directory: Path) -> Path:
    """What the target runs, in a directory of its own."""
    directory.mkdir()
    run(sys.executable, ".ci/dist", directory)
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("release") / "dist")


def test_the_target_runs_what_is_tested_here() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\ndist: ")[2].partition("\n\n")[0]
    assert re.search(r"^\t@\$\(BIN\)/python \.ci/dist dist$", recipe, re.MULTILINE)


def test_a_release_is_the_same_each_time(release: Path, tmp_path: Path) -> None:
    first = contents(release)
    assert sorted(name.rpartition(".")[2] for name in first) == ["gz", "whl"]
    assert contents(built(tmp_path / "second")) == first


def test_its_sdist_gives_the_same_wheel(release: Path, tmp_path: Path) -> None:
    (wheel,), (sdist,) = release.glob("*.whl"), release.glob("*.tar.gz")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-index")
    run(*pip, "--no-build-isolation", "--no-cache-dir", "--wheel-dir", tmp_path, sdist, at=tmp_path)
    assert contents(tmp_path) == {wheel.name: wheel.read_bytes()}


def test_it_holds_what_it_needs_and_no_more(release: Path) -> None:
    (wheel,) = release.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("migrations/versions/0001_first.py") for name in names)
    assert {f"gateway/admin/web/{name}" for name in FILES.values()} <= set(names)
    assert {name.partition("/")[0] for name in names} == {"gateway", f"document_gateway-{__version__}.dist-info"}


def test_it_is_installed_and_runs(release: Path, tmp_path: Path) -> None:
    """In a venv of its own, which gets what the gateway needs from this one."""
    (wheel,) = release.glob("*.whl")
    place = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", place)
    python, command = place / "bin" / "python", place / "bin" / "gateway"
    (packages,) = (place / "lib").glob("python*/site-packages")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--no-deps", "--no-index", wheel, at=tmp_path)
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    found = run(python, "-c", "import gateway; print(gateway.__file__)", at=tmp_path)
    assert Path(found.strip()) == packages / "gateway" / "__init__.py"
    assert __version__ in run(command, "--version", at=tmp_path)
    assert "serve" in run(command, "--help", at=tmp_path)
    started = run(python, "-m", "gateway", "--help", at=tmp_path)
    assert "serve" in started
