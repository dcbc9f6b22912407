from pathlib import Path

import pytest

from gateway.demo.place import FILES, take_place
from gateway.errors import SetupError
from gateway.tls.dev_certificates import make_development_certificates


def test_a_directory_of_ones_own_is_taken(tmp_path: Path) -> None:
    made = tmp_path / "deep" / "demo"
    take_place(made)
    assert made.stat().st_mode & 0o777 == 0o700
    (made / "gateway.yaml").touch()
    take_place(made)


def test_a_link_to_a_directory_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(SetupError, match="is a link"):
        take_place(tmp_path / "link")


@pytest.mark.parametrize("name", FILES)
def test_no_file_of_it_is_a_link(name: str, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / name).symlink_to(tmp_path / "victim")
    with pytest.raises(SetupError, match=f"{name} is a link"):
        take_place(tmp_path / "demo")
    assert not (tmp_path / "victim").exists()


def test_a_directory_that_others_may_write_into_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(SetupError, match="open to all"):
        take_place(tmp_path)
    tmp_path.chmod(0o700)
    monkeypatch.setattr("os.geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(SetupError, match="somebody else"):
        take_place(tmp_path)


def test_certificates_replace_a_link_and_leave_what_it_leads_to(tmp_path: Path) -> None:
    made, victim = tmp_path / "made", tmp_path / "victim"
    make_development_certificates(made, ["localhost"])
    victim.write_bytes((made / "ca.pem").read_bytes())
    before = victim.read_bytes()
    for name in ("ca.pem", "server.pem", "server.key"):
        (made / name).unlink()
        (made / name).symlink_to(victim)
    make_development_certificates(made, ["localhost"])
    assert victim.read_bytes() == before
    assert not any(path.is_symlink() for path in made.iterdir())
