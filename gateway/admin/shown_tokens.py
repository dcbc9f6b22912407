"""The operation of the admin API that judges a token by what this replica holds. It changes and logs nothing."""

from gateway.admin.context import Call, Context
from gateway.admin.requests import ShownToken
from gateway.admin.token_answers import TokenVerdict
from gateway.admin.token_judgement import issuer_of, judge_token
from gateway.model.reasons import Denial, Reason
from gateway.units import maybe_moment


async def judge_shown(context: Context, call: Call) -> TokenVerdict:
    """Judges a token as a request's is judged, but fetches no keys for it."""
    shown: ShownToken = call.body
    state, token = context.live.state, shown.token.encode("utf-8", "replace")
    judged, name = judge_token(state, token, context.wall()), issuer_of(token, state)
    found = judged.identity
    denial = judged.denial if found is not None or judged.denial else Denial(Reason.UNAUTHENTICATED, judged.text)
    return TokenVerdict(
        accepted=found is not None,
        account=None if found is None else found.account,
        profile=None if found is None else found.profile.name,
        until=None if found is None else maybe_moment(found.expires_at),
        reason=None if denial is None else str(denial.reason),
        why=None if denial is None or denial.why is None else str(denial.why),
        detail=None if denial is None else denial.detail,
        text=judged.text,
        help=judged.help or None,
        issuer=next((issuer for issuer in context.watch.overview().issuers if issuer.issuer == name), None),
    )
