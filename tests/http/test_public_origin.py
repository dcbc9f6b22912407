import pytest

from gateway.http.public_origin import COVERED, Origins, split_host

NAMES = ["gw.test", "10.0.0.7", "::1", "*.wild.test", "odd*.test", "ROOTED.test."]
HERE = Origins(port=8443).with_names(NAMES)
SIGNING = Origins(port=8443, signs=True).with_names(NAMES)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("gw.test", "https://gw.test"),
        ("GW.Test.", "https://gw.test"),
        ("gw.test:443", "https://gw.test"),
        ("gw.test:00443", "https://gw.test"),
        ("gw.test:8443", "https://gw.test:8443"),
        ("10.0.0.7:8443", "https://10.0.0.7:8443"),
        ("[0:0::1]:8443", "https://[::1]:8443"),
        ("[::1]", "https://[::1]"),
        ("rooted.test", "https://rooted.test"),
    ],
)
def test_a_name_of_ours_is_written_in_one_spelling(host: str, origin: str) -> None:
    assert (HERE.of(host), SIGNING.of(host)) == (origin, origin)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "gw.test.evil.example", "evil-gw.test", "a.gw.test", "test", "", ".", "10.0.0.8", "[::2]",
        "odd*.test", "oddly.test", "a.b.wild.test", "wild.test", "*", "10.7", "167772167", "gw.test..", "gw.test:x",
    ],
)  # fmt: skip
def test_every_other_host_is_none_of_ours(host: str) -> None:
    assert (HERE.of(host), SIGNING.of(host)) == ("", "")


def test_what_a_wildcard_or_another_port_only_allows_is_never_signed() -> None:
    assert HERE.of("a.wild.test") == "https://a.wild.test"
    assert HERE.of("gw.test:9443") == "https://gw.test:9443"
    assert (SIGNING.of("a.wild.test"), SIGNING.of("gw.test:9443")) == ("", "")
    chosen_by_kernel = Origins(signs=True).with_names(["gw.test"])
    assert chosen_by_kernel.of("gw.test:9443") == "https://gw.test:9443"


def test_the_public_url_is_the_origin_whatever_the_host_is() -> None:
    public = Origins("https://docs.test:9443", signs=True)
    assert {public.of(host) for host in ("evil.example", "docs.test", "")} == {"https://docs.test:9443"}
    assert (public.fault, public.warning) == (None, None)


def test_an_origin_that_nobody_can_have_is_told_of() -> None:
    assert Origins(signs=True).with_names(["*.wild.test"]).fault
    assert (SIGNING.fault, SIGNING.warning, HERE.fault, HERE.warning) == (None, COVERED, None, None)
    written_out = Origins(signs=True).with_names(["gw.test"])
    assert (written_out.fault, written_out.warning) == (None, None)
    assert Origins(signs=True).with_names(["*.wild.test"]).warning is None
    assert (Origins().fault, Origins().with_names(["*.wild.test"]).warning) == (None, None)
    assert Origins().warning


def test_a_host_is_a_name_and_a_port() -> None:
    assert split_host("[2001:DB8::1]:80") == ("2001:db8::1", 80)
    assert split_host("[::1]") == ("::1", None)
    assert split_host("A.test.:8") == ("a.test", 8)
