"""What the running gateway says of a token, in one line."""

from gateway.admin.overview_answers import IssuerState
from gateway.admin.token_answers import TokenVerdict
from gateway.cli.joined_judgement import RunningVerdict, described_verdict

HELD = IssuerState(
    issuer="https://id.example", keys=1, fetched_at=None, failures=0, dropped_at=None, source="jwks.json",
    trouble=None, next_fetch_at=None,
)  # fmt: skip
REFUSED = TokenVerdict(
    accepted=False, account=None, profile=None, until=None, reason="token_invalid", why="signature", detail=None,
    text="signature: The key did not make its signature.", help=None, issuer=HELD,
)  # fmt: skip


def test_no_full_stop_stands_before_what_follows() -> None:
    told = described_verdict(RunningVerdict(REFUSED))
    assert told == ("refuses it now: signature: The key did not make its signature; it holds 1 of the issuer's keys")
