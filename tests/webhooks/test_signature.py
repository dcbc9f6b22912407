import base64
import hmac
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webhooks import verify
from gateway.webhooks.signature import (
    Secrets,
    Sent,
    check_secret,
    is_signed,
    plain_signature,
    sent_with,
    sign,
    standard_key,
    standard_signature,
)
from tests.support.pure import PROPERTY, recased

OLD, NEW, OTHER = b"old-secret-0123456789", b"new-secret-0123456789", b"other-secret-01234567"
IN_FORCE = Secrets(NEW, (NEW,))
BODY = b'{"request_id":"r1"}'
NOW = 1_795_435_200
# The example of the Standard Webhooks libraries.
VECTOR = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
VECTOR_HEADERS = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}


def signed(secrets: Secrets = IN_FORCE, body: bytes = BODY, now: float = NOW) -> dict[str, str]:
    return sign(secrets, "d1", now, body)


def test_the_plain_signature_is_the_hexadecimal_hmac_of_the_body() -> None:
    assert signed()["X-Webhook-Signature"] == hmac.new(NEW, BODY, sha256).hexdigest()


def test_the_standard_signature_is_that_of_the_standards_own_example() -> None:
    assert verify(b'{"test": 2432232314}', VECTOR_HEADERS, VECTOR, now=1614265330.0)
    made = standard_signature(
        VECTOR.encode(), VECTOR_HEADERS["webhook-id"], VECTOR_HEADERS["webhook-timestamp"], b'{"test": 2432232314}'
    )
    assert made == VECTOR_HEADERS["webhook-signature"]


def test_a_secret_without_the_prefix_is_the_key_itself() -> None:
    expected = base64.b64encode(hmac.new(NEW, b"d1.%d." % NOW + BODY, sha256).digest()).decode()
    assert signed()["webhook-signature"] == f"v1,{expected}"
    assert signed()["webhook-id"] == "d1"
    assert signed(now=NOW + 0.9)["webhook-timestamp"] == str(NOW)


def test_during_an_overlap_one_signature_stays_with_the_old_secret_and_the_other_carries_both() -> None:
    headers = signed(Secrets(OLD, (NEW, OLD)))
    assert headers["X-Webhook-Signature"] == plain_signature(OLD, BODY)
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (OLD, NEW):
        assert verify(BODY, headers, secret, now=NOW)
    assert not verify(BODY, headers, OTHER, now=NOW)


@pytest.mark.parametrize("secret", [b"whsec_***", b"whsec_" + base64.b64encode(b"15 bytes, no mo"), b"x" * 15, b""])
def test_secrets_that_can_not_be_signed_with(secret: bytes) -> None:
    with pytest.raises(ValueError, match="secret"):
        check_secret(secret)
    with pytest.raises(ValueError, match="secret"):
        verify(BODY, signed(), secret, now=NOW)


def test_secrets_that_can() -> None:
    assert check_secret(b"x" * 16) == b"x" * 16
    assert standard_key(b"whsec_" + base64.b64encode(b"k" * 16)) == b"k" * 16


def test_without_any_secret_nothing_is_verified() -> None:
    with pytest.raises(ValueError, match="no secret"):
        verify(BODY, signed(), [], now=NOW)


def test_the_systems_clock_is_the_default() -> None:
    assert not verify(BODY, signed(now=1.0), NEW)


@given(headers=st.fixed_dictionaries({name.lower(): recased(name).map(str) for name in signed()}))
@PROPERTY
def test_the_case_of_header_names_does_not_matter(headers: dict[str, str]) -> None:
    values = {name.lower(): value for name, value in signed().items()}
    assert verify(BODY, {recased_name: values[name] for name, recased_name in headers.items()}, NEW, now=NOW)


@pytest.mark.parametrize("name", [None, "plain", "standard"])
def test_one_of_the_two_is_enough(name: str | None) -> None:
    headers = signed()
    if name == "plain":
        headers = {"x-webhook-signature": headers["X-Webhook-Signature"].upper()}
    elif name == "standard":
        del headers["X-Webhook-Signature"]
    assert verify(BODY, headers, [OTHER, NEW.decode()], now=NOW)
    assert verify(BODY, headers, NEW, now=NOW, plain=False) is (name != "plain")


@pytest.mark.parametrize("off", [301.0, -301.0, 86400.0])
def test_a_message_that_is_too_old_or_of_the_future_is_none(off: float) -> None:
    assert not verify(BODY, signed(), NEW, now=NOW + off)
    assert verify(BODY, signed(), NEW, now=NOW + off, tolerance=abs(off))


def test_the_signature_that_knows_the_time_decides_where_it_is_there() -> None:
    headers = signed()
    headers["webhook-signature"] = signed(Secrets(OTHER, (OTHER,)))["webhook-signature"]
    assert not verify(BODY, headers, NEW, now=NOW)
    for missing in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        assert not verify(BODY, {name: value for name, value in signed().items() if name != missing}, NEW, now=NOW)


MALFORMED = [
    "",
    "v1",
    "v1,",
    "v2," + "A" * 44,
    "v1," + "A" * 44,
    "\u00e9" * 64,
    "0" * 63,
    "0" * 64,
    "g" * 64,
    "v1, v1,",
]


@pytest.mark.parametrize("value", MALFORMED)
def test_what_is_malformed_is_no_signature(value: str) -> None:
    assert not verify(BODY, {"X-Webhook-Signature": value}, NEW, now=NOW)
    assert not verify(BODY, {**signed(), "webhook-signature": value}, NEW, now=NOW)


@pytest.mark.parametrize("value", ["", "-1", "1e9", "\u0661", "9" * 13, "now", f"{NOW}.0", " "])
def test_what_is_malformed_is_no_time(value: str) -> None:
    assert not verify(BODY, {**signed(), "webhook-timestamp": value}, NEW, now=NOW)


@pytest.mark.parametrize("value", ["", "\u00e9", "x" * 257])
def test_what_is_malformed_is_no_id(value: str) -> None:
    assert not verify(BODY, {**signed(), "webhook-id": value}, NEW, now=NOW)


def test_a_flood_of_signatures_is_not_tried() -> None:
    headers = signed()
    headers["webhook-signature"] = " ".join(["v1,"] * 16 + [headers["webhook-signature"]])
    assert not verify(BODY, headers, NEW, now=NOW)


def test_a_header_that_is_there_twice_is_none() -> None:
    assert sent_with([("Webhook-Id", "a"), ("webhook-id", "a")]) is None
    assert not is_signed(BODY, None, [NEW], NOW, 300.0)
    assert sent_with([("Host", "x"), ("X-Webhook-Signature", " ab\t")]) == Sent("ab", None, None, None)


@given(body=st.binary(max_size=200), other=st.binary(max_size=200))
@PROPERTY
def test_a_signature_is_good_for_one_body(body: bytes, other: bytes) -> None:
    headers = signed(body=body)
    assert verify(body, headers, NEW, now=NOW)
    assert verify(other, headers, NEW, now=NOW) is (body == other)


@given(st.dictionaries(st.sampled_from([*signed()]), st.text(max_size=80)))
@PROPERTY
def test_whatever_is_sent_it_answers(headers: dict[str, str]) -> None:
    assert verify(BODY, headers, NEW, now=NOW) is False
