"""When each certificate file of a configuration ends."""

from datetime import UTC, datetime
from pathlib import Path

import trustme

from gateway.tls.file_ends import FileEnd, file_ends
from tests.support.pure import make_settings

NOW = datetime(2030, 1, 2, tzinfo=UTC)
ENDS = [datetime(year, 1, 2, tzinfo=UTC) for year in (2036, 2037, 2038, 2039)]


def write(path: Path, *ends: datetime) -> Path:
    """A file with a certificate for each end."""
    authority = trustme.CA()
    leaves = [authority.issue_cert("a.test", not_after=end) for end in ends]
    path.write_bytes(b"".join(leaf.cert_chain_pems[0].bytes() for leaf in leaves))
    return path


def test_every_file_is_named_with_the_first_end_of_what_it_holds(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.pem", ENDS[1]), write(tmp_path / "two.pem", ENDS[2])
    ca, admin = write(tmp_path / "ca.pem", ENDS[3], ENDS[0]), write(tmp_path / "admin.pem", ENDS[3])
    hooks = write(tmp_path / "hooks.pem", ENDS[2])
    settings = make_settings(
        tmp_path,
        tls={
            "certificate": str(one),
            "private_key": str(one),
            "certificates": [{"certificate": str(two), "private_key": str(two)}],
            "client_ca": str(ca),
            "client_certificates": "optional",
        },
        admin={"tls": {"certificate": str(admin), "private_key": str(admin)}},
        webhooks={"out": {"ca": str(hooks)}},
    )
    found = file_ends(settings)
    assert found == (
        FileEnd("tls.certificate", one, (ENDS[1],)),
        FileEnd("tls.certificates[0].certificate", two, (ENDS[2],)),
        FileEnd("tls.client_ca", ca, (ENDS[3], ENDS[0])),
        FileEnd("admin.tls.certificate", admin, (ENDS[3],)),
        FileEnd("webhooks.out.ca", hooks, (ENDS[2],)),
    )
    assert [file.not_after(NOW) for file in found] == [ENDS[1], ENDS[2], ENDS[0], ENDS[3], ENDS[2]]


def test_a_file_that_is_not_used_or_holds_none_has_no_end(tmp_path: Path) -> None:
    one, empty = write(tmp_path / "one.pem", ENDS[1]), tmp_path / "empty.pem"
    empty.write_text("nothing")
    tls = {"certificate": str(one), "private_key": str(one), "client_ca": str(one)}
    settings = make_settings(tmp_path, tls=tls, webhooks={"out": {"ca": str(empty)}})
    assert [found.setting for found in file_ends(settings)] == ["tls.certificate"]


def test_a_ca_that_ends_beside_others_says_nothing_from_then_on(tmp_path: Path) -> None:
    ca = FileEnd("tls.client_ca", tmp_path, tuple(ENDS[:3]))
    told = [ca.not_after(NOW.replace(year=year)) for year in (2030, 2036, 2037, 2038)]
    assert told == [ENDS[0], ENDS[1], ENDS[2], ENDS[2]]


def test_a_certificate_of_ours_that_has_ended_is_told(tmp_path: Path) -> None:
    ours = FileEnd("tls.certificate", tmp_path, tuple(ENDS[:2]))
    assert ours.not_after(ENDS[1]) == ENDS[0]
