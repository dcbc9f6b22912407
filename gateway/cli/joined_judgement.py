"""The judgement of a token by what is here, joined with that of the running gateway. Pure.

The issuer's keys may be away from here while the gateway still holds them; then it alone can tell.
"""

from contextlib import suppress
from typing import Final, NamedTuple

from gateway.admin.judged import Judged
from gateway.admin.overview_answers import IssuerState
from gateway.admin.token_answers import TokenVerdict
from gateway.admin.token_judgement import judge_signed_token
from gateway.config.state import State
from gateway.model.reasons import VERDICTS, Denial, Reason, Why

_HELP: Final = (
    "Call this where the gateway runs, while it runs; or where its issuer's keys can be fetched: see `gateway check "
    "--live`."
)


class RunningVerdict(NamedTuple):
    """What the running gateway says of a token; or why it says nothing."""

    verdict: TokenVerdict | None
    trouble: str = ""


def joined(here: Judged, running: RunningVerdict, state: State, token: bytes, now: float) -> Judged:
    """The judgement; `here` is that by the keys that are here, `now` is in seconds since the epoch."""
    if here.denial is None or here.denial.why is not Why.KEYS_NOT_THERE:
        return here
    verdict = running.verdict
    if verdict is None:
        text = f"can't tell: the issuer's keys can't be had here, and the gateway can't be asked: {running.trouble}"
        return Judged(None, text, _HELP, is_known=False)
    if verdict.accepted:
        return judge_signed_token(state, token, now)
    return Judged(None, verdict.text, verdict.help or "", _denial(verdict))


def described_verdict(running: RunningVerdict) -> str:
    """What the running gateway says, in one line."""
    verdict = running.verdict
    if verdict is None:
        return f"can't be asked: {running.trouble}"
    said = f"accepts it now, for {verdict.account}" if verdict.accepted else f"refuses it now: {verdict.text}"
    return said if verdict.issuer is None else f"{said.removesuffix('.')}; {_keys(verdict.issuer)}"


def _keys(issuer: IssuerState) -> str:
    """What it holds of an issuer."""
    held = "holds no keys of the issuer" if issuer.keys is None else f"holds {issuer.keys} of the issuer's keys"
    fetched = "" if issuer.fetched_at is None else f", fetched at {issuer.fetched_at}"
    failed = "" if issuer.trouble is None else f"; the last fetch from {issuer.source} failed: {issuer.trouble}"
    again = "" if issuer.trouble is None else f"; the next one is at {issuer.next_fetch_at}"
    return f"it {held}{fetched}{failed}{again}"


def _denial(verdict: TokenVerdict) -> Denial:
    """The refusal as a value; a word of another release is left out."""
    reason, why = Reason.TOKEN_INVALID, None
    with suppress(ValueError):
        reason = Reason(verdict.reason or "")
        why = None if verdict.why is None else Why(verdict.why)
    return Denial(reason, verdict.detail or VERDICTS[reason].title, why=why)
