from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from gateway.webhooks.egress.webhook_url import Target, read_host, read_url
from tests.support.pure import PROPERTY, ip


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("https://a.example", Target("a.example", 443, "/")),
        ("HTTPS://A.Example:8443/Hook?k=v&w=%2F", Target("a.example", 8443, "/Hook?k=v&w=%2F")),
        ("https://a.example?x", Target("a.example", 443, "/?x")),
        ("https://localhost/a/../b", Target("localhost", 443, "/a/../b")),
        ("https://xn--bcher-kva.example/", Target("xn--bcher-kva.example", 443, "/")),
        ("https://under_score.example:1/?a?b/c", Target("under_score.example", 1, "/?a?b/c")),
        ("https://10.1.2.3:65535/", Target("10.1.2.3", 65535, "/", ip("10.1.2.3"))),
        ("https://[::1]/", Target("::1", 443, "/", ip("::1"))),
        ("https://[2001:DB8:0::1]:444/", Target("2001:db8::1", 444, "/", ip("2001:db8::1"))),
    ],
)
def test_urls_that_are_taken(text: str, target: Target) -> None:
    assert read_url(text) == target


@pytest.mark.parametrize("text", ["https://a.example/x", "https://[2001:db8::1]:444/x?y", "https://10.0.0.1"])
def test_the_form_that_is_connected_to_is_read_as_the_same(text: str) -> None:
    target = read_url(text)
    assert read_url(target.url) == target
    assert target.url.startswith(f"https://{target.authority}/")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("http://a.example/", "needs the form"),
        ("ftp://a.example/", "needs the form"),
        ("//a.example/", "needs the form"),
        ("https:/a.example/", "needs the form"),
        ("https:a.example", "needs the form"),
        ("", "needs the form"),
        ("https://", "malformed host"),
        ("https:///x", "malformed host"),
        ("https://:443/", "malformed host"),
        ("https://a.example:/", "malformed host"),
        ("https://a.example:80:80/", "malformed host"),
        ("https://a.example:99999/", "a port that does not exist"),
        ("https://a.example:0/", "a port that does not exist"),
        ("https://a.example:-1/", "malformed host"),
        ("https://user@a.example/", "a user name"),
        ("https://user:secret@a.example/", "a user name"),
        ("https://a.example@10.0.0.1/", "a user name"),
        ("https://a.example/#top", "a fragment"),
        ("https://a.example\\@10.0.0.1/", "characters"),
        ("https://a.example/ x", "characters"),
        ("https://a.example/\x00", "characters"),
        ("https://a.example/\r\nX-Evil: 1", "characters"),
        ("https://a.example/\u00e9", "characters"),
        ("https://b\u00fccher.example/", "characters"),
        ("https://\uff11\uff12\uff17.0.0.1/", "characters"),
        ("https://a.example/{x}", "characters"),
        ("https://%61.example/", "malformed host"),
        ("https://a..example/", "no host name"),
        ("https://a.example./", "no host name"),
        ("https://-a.example/", "no host name"),
        ("https://" + "a." * 130 + "example/", "no host name"),
        ("https://" + "a" * 64 + ".example/", "no host name"),
        ("https://2130706433/", "odd notation"),
        ("https://0x7f.1/", "odd notation"),
        ("https://0X7F000001/", "odd notation"),
        ("https://0177.0.0.1/", "odd notation"),
        ("https://127.1/", "odd notation"),
        ("https://127.0.0.0x1/", "odd notation"),
        ("https://127.0.0.0x/", "odd notation"),
        ("https://256.0.0.1/", "odd notation"),
        ("https://1.2.3.4.5/", "odd notation"),
        ("https://[::1%25eth0]/", "malformed host"),
        ("https://[::1/", "malformed host"),
        ("https://[::1]x/", "malformed host"),
        ("https://[127.0.0.1]/", "malformed address"),
        ("https://[1:2:3]/", "malformed address"),
        ("https://a.example/" + "x" * 2048, "longer than 2048"),
    ],
)
def test_urls_that_are_not(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        read_url(text)
    assert "secret" not in str(caught.value)


def test_a_host_is_read_in_lower_case() -> None:
    assert read_host("A.Example") == "a.example"


pieces = st.sampled_from(
    ["https://", "a.example", "127.0.0.1", "[::1]", "@", ":", "8", "/", "\\", "?", "#", "%2e", ".", " "]
)


@given(st.lists(pieces, max_size=8).map("".join))
@PROPERTY
def test_what_is_taken_is_read_the_same_by_others(text: str) -> None:
    try:
        target = read_url(text)
    except ValueError:
        return
    for other in (text, target.url):
        assert urlsplit(other).hostname == target.host
        assert (urlsplit(other).port or 443) == target.port
        assert URL(other, encoded=True).raw_host == target.host
        assert URL(other, encoded=True).port == target.port
    assert URL(target.url, encoded=True).raw_path_qs == target.path
