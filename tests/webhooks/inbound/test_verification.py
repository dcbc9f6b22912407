"""What is believed of a webhook that comes in."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.settings.webhooks import WebhookIn
from gateway.http import strict_json
from gateway.model.reasons import Reason
from gateway.webhooks.inbound import verification
from gateway.webhooks.inbound.verification import SenderCheck, Verified, malformed, without_secret
from gateway.webhooks.signature import Secrets, sign
from tests.support.pure import PROPERTY, denial_of

SECRET, PREVIOUS = "secret-of-the-sender", "previous-secret-of-it"
NOW = 1_795_435_200.0
Headers = dict[bytes, list[bytes]]


def settings(**more: Any) -> WebhookIn:
    return settings_of(SECRET, **more)


def settings_of(secret: str, **more: Any) -> WebhookIn:
    raw = {"name": "datalab", "secret": {"env": "A"}, "forward_to": "http://127.0.0.1:9000/webhook", **more}
    return WebhookIn.model_validate(raw, context={"environ": {"A": secret, "B": PREVIOUS}})


def signed(body: bytes, secret: str = SECRET) -> Headers:
    headers = sign(Secrets(secret.encode(), (secret.encode(),)), "m1", NOW, body)
    return {name.lower().encode(): [value.encode()] for name, value in headers.items()}


def plainly(body: bytes, secret: str = SECRET) -> Headers:
    return {b"x-webhook-signature": signed(body, secret)[b"x-webhook-signature"]}


def judge(by: WebhookIn, headers: Headers, body: bytes, now: float) -> Verified:
    """Of a body that is here whole."""
    check = SenderCheck(by, headers, now)
    check.take(body)
    return check.read(by, body, now)


def handed_on(by: WebhookIn, headers: Headers, body: bytes, now: float) -> bytes:
    """The body that is forwarded of a verified one, as inbound_receiver.py makes it."""
    if not judge(by, headers, body, now).tells_secret:
        return body
    members = strict_json.read_object(body)
    bare = None if members is None else without_secret(members)
    if bare is None:
        raise malformed()
    return bare


BODY = b'{"request_id": "r1", "request_check_url": "https://x", "n": 1.50}'


@pytest.mark.parametrize("make", [signed, plainly])
def test_a_signed_body_is_handed_on_byte_for_byte(make: Any) -> None:
    assert judge(settings(), make(BODY), BODY, NOW) == (("r1", "m1" if make is signed else None), False)
    assert handed_on(settings(), make(BODY), BODY, NOW) == BODY


def test_a_message_is_known_by_the_id_that_was_signed() -> None:
    """A container may give a job's id again; the secret in the body, and X-Webhook-Signature, cover no other id."""
    body = with_secret(SECRET)
    assert judge(settings(accept_body_secret=True), {}, body, NOW).message == ("r1", None)
    for other in (b"m2", b"m" * 257, b"", b"m1\t", b"m\xe9"):
        forged = {**signed(BODY), b"webhook-id": [other, *([b"m1"] if other == b"m1\t" else [])]}
        assert denial_of(judge, settings(), forged, BODY, NOW).reason is Reason.UNAUTHENTICATED
    long = sign(Secrets(SECRET.encode(), (SECRET.encode(),)), "m" * 256, NOW, BODY)
    headers = {name.lower().encode(): [value.encode()] for name, value in long.items()}
    assert judge(settings(), headers, BODY, NOW).message.signed_id == "m" * 256


def test_two_secrets_may_be_in_force() -> None:
    assert judge(settings(previous_secret={"env": "B"}), signed(BODY, PREVIOUS), BODY, NOW).message.request_id == "r1"
    assert denial_of(judge, settings(), signed(BODY, PREVIOUS), BODY, NOW).reason is Reason.UNAUTHENTICATED


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"x-webhook-signature": [b""]},
        {b"x-webhook-signature": [b"\xff" * 64]},
        {b"x-webhook-signature": [b"0" * 64]},
        {b"x-webhook-signature": plainly(BODY)[b"x-webhook-signature"] * 2},
        {b"authorization": [SECRET.encode()]},
        signed(BODY + b" "),
    ],
)
@pytest.mark.parametrize("lax", [False, True])
def test_all_else_is_unauthenticated(headers: Headers, lax: bool) -> None:
    denial = denial_of(judge, settings(accept_body_secret=lax), headers, BODY, NOW)
    assert denial.reason is Reason.UNAUTHENTICATED
    assert SECRET not in denial.detail


def with_secret(secret: Any) -> bytes:
    return json.dumps({"request_id": "r1", "webhook_secret": secret, "x": ["\u00e9", 10**30]}).encode()


def slashed(text: str) -> str:
    """As PHP writes it."""
    return json.dumps(text).replace("/", "\\/")


def test_the_secret_in_the_body_is_enough_only_if_switched_on_and_is_taken_out() -> None:
    body = with_secret(SECRET)
    assert denial_of(judge, settings(), {}, body, NOW).reason is Reason.UNAUTHENTICATED
    assert judge(settings(accept_body_secret=True), {}, body, NOW).tells_secret
    handed = handed_on(settings(accept_body_secret=True), {}, body, NOW)
    assert json.loads(handed) == {"request_id": "r1", "x": ["\u00e9", 10**30]}
    # A signature that is there decides, whatever the body says.
    bad = {b"x-webhook-signature": [b"0" * 64]}
    assert denial_of(judge, settings(accept_body_secret=True), bad, body, NOW).reason is Reason.UNAUTHENTICATED


@pytest.mark.parametrize("secret", [SECRET, 'a/b"c\\d' * 3, "\u00e9\U0001f600/" * 3])
@pytest.mark.parametrize("write", [json.dumps, partial(json.dumps, ensure_ascii=False), slashed])
def test_a_long_body_is_read_for_a_secret_however_it_is_spelled(secret: str, write: Callable[[str], str]) -> None:
    told = write(secret)
    body = f'{{"request_id": "r1", "webhook_secret": {told}, "x": "{"y" * 100_000}"}}'.encode()
    assert judge(settings_of(secret, accept_body_secret=True), {}, body, NOW).message.request_id == "r1"


def test_a_long_body_without_a_secret_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's megabyte held all others for 10 ms."""
    body = with_secret(SECRET[::-1] + "y" * 100_000)
    monkeypatch.setattr(verification, "read_texts", None)
    denial = denial_of(judge, settings(accept_body_secret=True), {}, body, NOW)
    assert denial.reason is Reason.UNAUTHENTICATED


def in_pieces(check: SenderCheck, body: bytes, size: int) -> None:
    for begin in range(0, len(body), size):
        check.take(body[begin : begin + size])


@pytest.mark.parametrize("size", [1, 7, 64, 4096])
@pytest.mark.parametrize("make", [signed, plainly, None])
def test_pieces_of_any_size_are_judged_as_the_whole(make: Callable[[bytes], Headers] | None, size: int) -> None:
    """The signature of a body of 8 MB was checked in one go, which held all others for 20 ms."""
    told = SECRET if make is None else "anything"
    body = f'{{"request_id": "r1", "webhook_secret": "{told}", "x": "{"y" * 70_000}"}}'.encode()
    lax = settings(accept_body_secret=True)
    headers = {} if make is None else make(body)
    check = SenderCheck(lax, headers, NOW)
    in_pieces(check, body, size)
    assert check.read(lax, body, NOW).message.request_id == "r1"
    other, check = body.replace(told.encode(), b"?" * len(told)), SenderCheck(lax, headers, NOW)
    in_pieces(check, other, size)
    assert denial_of(check.read, lax, other, NOW).reason is Reason.UNAUTHENTICATED


def test_a_whole_body_is_gone_through_by_nothing_but_its_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compared at the end depends on no byte of the body given then."""
    check = SenderCheck(settings(), signed(BODY), NOW)
    in_pieces(check, BODY, 8)
    monkeypatch.setattr(verification, "read_texts", lambda _: {"request_id": "r1"})
    assert check.read(settings(), b"", NOW).message == ("r1", "m1")


def test_it_judges_by_the_settings_that_it_began_with() -> None:
    old = settings(previous_secret={"env": "B"})
    check = SenderCheck(old, signed(BODY, PREVIOUS), NOW)
    assert check.is_by(settings(previous_secret={"env": "B"}, body_limit="2MB"))
    assert not check.is_by(settings())
    assert not check.is_by(settings(previous_secret={"env": "B"}, accept_body_secret=True))


def test_a_message_that_is_too_old_when_its_body_has_come_is_not_believed() -> None:
    check = SenderCheck(settings(), signed(BODY), NOW + 299)
    in_pieces(check, BODY, 8)
    assert denial_of(check.read, settings(), BODY, NOW + 301).reason is Reason.UNAUTHENTICATED


@pytest.mark.parametrize("secret", ["", SECRET + "x", "\ud800", None, 1, True, [SECRET], {"a": SECRET}])
def test_another_one_is_none(secret: Any) -> None:
    denial = denial_of(judge, settings(accept_body_secret=True), {}, with_secret(secret), NOW)
    assert denial.reason is Reason.UNAUTHENTICATED


def test_a_signed_body_loses_the_secret_too() -> None:
    body = with_secret("anything")
    assert b"webhook_secret" not in handed_on(settings(), signed(body), body, NOW)


@pytest.mark.parametrize(
    "text",
    [
        "\x7f" * 100,
        "\u00e9\u65e5\U0001f600",
        '\\"/\\',
        "\n\r\t\x00\x1f",
        "\ud800",
        "\\\udfff",
        "\udfff\ud800",
        "\u2028",
    ],
)
def test_a_body_that_is_written_anew_says_the_same_and_is_no_longer(text: str) -> None:
    """Spelled in ASCII alone, a megabyte of DEL became six, and took as long as five of any other kind."""
    body = json.dumps(
        {"request_id": "r1", "webhook_secret": SECRET, text: [text, {"n": 0.1}, 7, None, True]}
    ).encode()
    bare = handed_on(settings(), signed(body), body, NOW)
    assert json.loads(bare) == {"request_id": "r1", text: [text, {"n": 0.1}, 7, None, True]}
    raw = json.dumps(
        {"request_id": "r1", "webhook_secret": SECRET, "x": "\x7f\u65e5" * 1000}, ensure_ascii=False
    ).encode()
    assert len(handed_on(settings(), signed(raw), raw, NOW)) < len(raw)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b"{", b"\xff", b"{}", b'{"request_id":1}', b'{"request_id":""}', b'{"request_id":null}',
        b'{"request_id":"a","request_id":"b"}', b'{"request_id":"\\u0000"}', b'{"request_id":"\\ud800"}',
        json.dumps({"request_id": "x" * 257}).encode(), b"[" * 100_000,
        b'{"request_id":"a","x":[' + b"[]," * 6000 + b"1]}",
        b'{"request_id":"a","webhook_secret":"b","x":1e999}', b'{"request_id":"a","x":NaN}',
    ],
)  # fmt: skip
def test_a_body_that_is_believed_must_name_a_job(body: bytes) -> None:
    assert denial_of(handed_on, settings(), signed(body), body, NOW).reason is Reason.BODY_MALFORMED
    # Unsigned, nothing is told of what is wrong with it.
    assert denial_of(handed_on, settings(accept_body_secret=True), {}, body, NOW).reason is Reason.UNAUTHENTICATED


def test_numbers_are_read_only_of_who_is_believed_and_where_they_are_written_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stranger's 10,000 dear ones held everybody for 12 ms."""
    converted = list[str]()

    def counted(text: str) -> float:
        converted.append(text)
        return 0.5

    monkeypatch.setattr(strict_json, "float", counted, raising=False)

    def of(secret: str) -> bytes:
        return b'{"request_id": "r1"%b, "a": [%b]}' % (secret.encode(), b",".join([b"3e-316"] * 900))

    stranger, plain, told = of(', "webhook_secret": "?"'), of(""), of(f', "webhook_secret": "{SECRET}"')
    lax = settings(accept_body_secret=True)
    assert denial_of(judge, lax, {}, stranger, NOW).reason is Reason.UNAUTHENTICATED
    assert handed_on(lax, signed(plain), plain, NOW) == plain
    assert judge(lax, {}, told, NOW).tells_secret
    assert converted == []
    assert json.loads(handed_on(lax, {}, told, NOW)) == {"request_id": "r1", "a": [0.5] * 900}


def test_one_whose_numbers_take_too_long_is_malformed() -> None:
    body = b'{"request_id": "r1", "webhook_secret": "b", "a": [%b]}' % b",".join([b"3e-316"] * 1001)
    assert denial_of(handed_on, settings(), signed(body), body, NOW).reason is Reason.BODY_MALFORMED


@given(st.text(min_size=1, max_size=256).filter(str.isprintable))
@PROPERTY
def test_every_printable_id_is_taken(request_id: str) -> None:
    body = json.dumps({"request_id": request_id}).encode()
    assert judge(settings(), signed(body), body, NOW).message.request_id == request_id
