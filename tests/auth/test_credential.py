import pytest
from hypothesis import given

from gateway.auth.credential import credential_of
from gateway.model.reasons import Denial, Reason
from tests.support.pure import PROPERTY, denial_of, header_values, recased

KEY, AUTHORIZATION = b"x-api-key", b"authorization"


def test_there_may_be_none() -> None:
    assert credential_of({}) is None
    assert credential_of({b"cookie": [b"session=1"], b"host": [b"a"]}) is None


@pytest.mark.parametrize(
    ("known", "credential"),
    [
        ({KEY: [b"abc"]}, b"abc"),
        ({KEY: [b"Bearer abc"]}, b"Bearer abc"),
        ({KEY: [b"x" * 8192]}, b"x" * 8192),
        ({AUTHORIZATION: [b"Bearer abc"]}, b"abc"),
        ({AUTHORIZATION: [b"bEARER   abc "]}, b"abc"),
        ({AUTHORIZATION: [b"Bearer a b"]}, b"a b"),
        ({KEY: [b"abc"], AUTHORIZATION: [b"Basic YTpi"]}, b"abc"),
        ({KEY: [b"abc"], AUTHORIZATION: [b"Digest username=a", b"Negotiate YTpi"]}, b"abc"),
    ],
)
def test_takes_the_one_credential(known: dict[bytes, list[bytes]], credential: bytes) -> None:
    assert credential_of(known) == credential


@PROPERTY
@given(recased("bearer"), header_values.filter(bool))
def test_the_scheme_is_read_in_any_case_and_the_token_as_it_is(scheme: str, token: bytes) -> None:
    assert credential_of({AUTHORIZATION: [scheme.encode() + b" " + token]}) == token.strip(b" ")


BOTH = Denial(Reason.BAD_REQUEST, "Send one credential: X-API-Key or Authorization, not both.")
TWO = Denial(Reason.BAD_REQUEST, "Send one credential, in one header.")
SCHEME = Denial(Reason.UNAUTHENTICATED, "The only scheme that Authorization takes here is Bearer.")
UNUSABLE = Denial(Reason.UNAUTHENTICATED, "The credential is empty or too long.")


@pytest.mark.parametrize(
    ("known", "denial"),
    [
        ({KEY: [b"a"], AUTHORIZATION: [b"Bearer a"]}, BOTH),
        ({KEY: [b"a"], AUTHORIZATION: [b""]}, BOTH),
        ({KEY: [b"a"], AUTHORIZATION: [b"bEARER a"]}, BOTH),
        ({KEY: [b"a"], AUTHORIZATION: [b"Basic YTpi", b"Bearer a"]}, BOTH),
        ({KEY: [b"a"], AUTHORIZATION: [b"Bearer\ta"]}, BOTH),
        ({KEY: [b"a"], AUTHORIZATION: [b" Bearer a"]}, BOTH),
        ({KEY: [b"a"], AUTHORIZATION: [b"dgw_ci_abc"]}, BOTH),
        ({KEY: [b"a", b"a"], AUTHORIZATION: [b"Basic YTpi"]}, TWO),
        ({KEY: [b"a", b"a"]}, TWO),
        ({KEY: [b"", b"a"]}, TWO),
        ({AUTHORIZATION: [b"Bearer a", b"Bearer a"]}, TWO),
        ({AUTHORIZATION: [b"Basic YTpi"]}, SCHEME),
        ({AUTHORIZATION: [b"Bearer"]}, SCHEME),
        ({AUTHORIZATION: [b"Bearera"]}, SCHEME),
        ({AUTHORIZATION: [b"Bearer\tabc"]}, SCHEME),
        ({AUTHORIZATION: [b""]}, SCHEME),
        ({AUTHORIZATION: [b"abc"]}, SCHEME),
        ({AUTHORIZATION: [b"Bearer "]}, UNUSABLE),
        ({AUTHORIZATION: [b"Bearer   "]}, UNUSABLE),
        ({KEY: [b""]}, UNUSABLE),
        ({KEY: [b"x" * 8193]}, UNUSABLE),
        ({AUTHORIZATION: [b"Bearer " + b"x" * 8193]}, UNUSABLE),
    ],
)
def test_refuses_all_else(known: dict[bytes, list[bytes]], denial: Denial) -> None:
    assert denial_of(credential_of, known) == denial
