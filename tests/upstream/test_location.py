import unicodedata

import pytest

from gateway.upstream.location import public_place
from gateway.upstream.target import UpstreamTarget

OURS = "https://public.test"


def target(host: str = "container", port: int = 8000) -> UpstreamTarget:
    return UpstreamTarget("http", host, port, f"{host}:{port}", 1.0, 1.0, 1.0, "/", 3.0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"http://container:8000/a/b?c=d#e", b"https://public.test/a/b?c=d#e"),
        (b"https://container:8000/a", b"https://public.test/a"),
        (b"HTTP://Container:8000/a", b"https://public.test/a"),
        (b"http://container.:8000/a", b"https://public.test/a"),
        (b"//container:8000/a", b"https://public.test/a"),
        (b"http://container:8000", b"https://public.test/"),
        (b"http://container:8000?x", b"https://public.test/?x"),
        (b"http://user:word@container:8000/a", b"https://public.test/a"),
        (b"http://container:8000//evil.test/a", b"https://public.test/evil.test/a"),
        (b"http://\xbd:\xe4@container:8000/\xbd", b"https://public.test/\xbd"),
        (b"http://a@b@container:8000/@c", b"https://public.test/@c"),
        (b"/\t/user@container:8000/a\t", b"https://public.test/a"),
        (b"http:\\\\container:8000\\a", b"https://public.test/a"),
        (b" http://container:8000/a ", b"https://public.test/a"),
        (b"http://container:8000/\xe4", b"https://public.test/\xe4"),
    ],
)
def test_what_leads_to_the_upstream_leads_to_us(value: bytes, expected: bytes) -> None:
    assert public_place(value, target(), OURS) == expected


@pytest.mark.parametrize(
    "value",
    [
        b"/a/b", b"b?c", b"", b"http://elsewhere.test/a", b"http://container:8001/a", b"http://container/a",
        b"http://container.evil.test:8000/a", b"http://xcontainer:8000/a", b"https://s3.test/x?u=http://container:8000/",
        b"http://\xbd.test:8000/a", b"http://container@\xe4:8000/a", b"/a//x@container:8000/b", b"x//container:8000/",
        b"http://[::1", b"http://container:x/", b"mailto:a@container",
    ],
)  # fmt: skip
def test_all_else_passes_as_it_is(value: bytes) -> None:
    assert public_place(value, target(), OURS) == value


def test_the_port_of_a_scheme_may_be_left_out() -> None:
    assert public_place(b"http://container/a", target(port=80), OURS) == b"https://public.test/a"
    assert public_place(b"https://container/a", target(port=80), OURS) == b"https://public.test/a"
    assert public_place(b"http://[::1]:8000/a", target("::1"), OURS) == b"https://public.test/a"


def test_without_an_origin_of_ours_the_path_is_left_and_names_no_host() -> None:
    assert public_place(b"http://container:8000/a", target(), "") == b"/a"
    assert public_place(b"http://container:8000//evil.test/a", target(), "") == b"/evil.test/a"


@pytest.mark.parametrize("value", [b"http://%b/a", b"http://%b@container:8000/a", b"/\t/%b/a", b"\\\\%b"])
def test_no_authority_is_normalized(value: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head with 64 KB of them held everybody for 24 ms."""
    normalized = list[str]()

    def counted(_: str, text: str) -> str:
        normalized.append(text)
        return text

    monkeypatch.setattr(unicodedata, "normalize", counted)
    public_place(value % (b"\xbd" * 60_000), target(), OURS)
    monkeypatch.undo()  # pytest normalizes, too
    assert normalized == []
