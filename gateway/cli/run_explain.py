"""The output of `gateway explain`: the steps, the verdict, and what is left of every limit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from gateway.cli.credential_files import ShownCredential, judge_certificate_file, judge_token_file
from gateway.cli.explanation import ExplainedRequest, Explanation, RuleStep, explain
from gateway.cli.joined_judgement import RunningVerdict
from gateway.cli.output import answer, end_failed, named_config, print_lines
from gateway.cli.running_gateway import ask_verdict
from gateway.cli.session import Session, read_ledger
from gateway.cli.show_keys import limit_rows
from gateway.cli.table import printable, show_table
from gateway.config.compile import compile_settings
from gateway.config.settings import Settings
from gateway.config.state import State, with_blocked, with_names, with_ring
from gateway.errors import SetupError
from gateway.ledger.accounts import read_counts
from gateway.ledger.callers import blocked_accounts
from gateway.ledger.keys import one_key
from gateway.ledger.reservations import count_overdue
from gateway.limits.quotas import AccountCounts
from gateway.model.account_names import ANYONE, key_account
from gateway.model.reasons import VERDICTS, Denial, Reason
from gateway.tls.contexts import hosts_in

_OVERDUE: Final = "overdue"
_WIDTH: Final = 15
_HOST: Final = "localhost"
_HTTPS: Final = 443


class _Explained(NamedTuple):
    explanation: Explanation
    overdue_count: int
    now: float
    currency: str | None


def show_explanation(config: Path, method: str, path: str, asked: Mapping[str, Any]) -> None:
    """Prints the explanation; `asked` holds the options' values by name."""
    found = read_ledger(config, lambda session: _asked(session, config, method, path, asked), needs_all=True)
    whole = {**_object(found.explanation), "overdue_reservations": found.overdue_count}
    answer(whole, lambda: _print(found))
    if not found.explanation.is_known:
        end_failed()


def _print(found: _Explained) -> None:
    explanation, overdue_count = found.explanation, found.overdue_count
    for step in explanation.steps:
        print_lines(f"{step.name:<{_WIDTH}} {printable(step.text)}")
    if overdue_count:
        text = f"{overdue_count} reservations of this account are over: a gateway takes them back before it refuses"
        print_lines(f"{_OVERDUE:<{_WIDTH}} {text}")
    print_lines(f"\n{_verdict(explanation)}")
    if explanation.limits is not None:
        print_lines("")
        show_table(*limit_rows(explanation.limits, found.now, found.currency))


async def _asked(session: Session, config: Path, method: str, path: str, asked: Mapping[str, Any]) -> _Explained:
    now, key_id, currency = session.wall(), asked["key_id"], session.settings.prices.currency
    names = _names(session.settings)
    state = await _state(session, key_id, names or [_HOST])
    shown = await _shown(session, config, state, asked, now)
    if shown is not None and (not method or not shown.judged.is_known):
        return _Explained(_alone(shown), 0, now, currency)
    accounts = [ANYONE, *_account(key_id, shown)]
    counts_by_account: dict[str, AccountCounts] = await session.ledger.read(
        lambda c: {account: read_counts(c, account, now) for account in accounts}
    )
    over = await session.ledger.read(lambda c: count_overdue(c, now, accounts[-1]))
    host = asked["host"] or urlsplit(state.origins.public_url or "").netloc or _host(names, session.settings)
    question = _question(method, path, host, asked, shown)
    explanation = explain(question, state, counts_by_account, now)
    if shown is not None:
        told = _judgement(shown)
        explanation.steps[:0] = told if shown.judged.identity is None else told[:-1]
    return _Explained(explanation, over, now, currency)


def _question(
    method: str, path: str, host: str, asked: Mapping[str, Any], shown: ShownCredential | None
) -> ExplainedRequest:
    credential = None if shown is None else (shown.kind, shown.judged)
    return ExplainedRequest(
        method=method, target=path, host=host, address=asked["address"], key_id=asked["key_id"], pages=asked["pages"],
        mode=asked["mode"], shown=credential, config=named_config(),
    )  # fmt: skip


async def _shown(
    session: Session, config: Path, state: State, asked: Mapping[str, Any], now: float
) -> ShownCredential | None:
    async def ask(token: str) -> RunningVerdict:
        try:
            return RunningVerdict(await ask_verdict(session.settings, config, token))
        except SetupError as error:
            return RunningVerdict(None, str(error))

    if asked["token_file"] is not None:
        return await judge_token_file(asked["token_file"], state, now, ask)
    if asked["certificate_file"] is not None:
        return judge_certificate_file(asked["certificate_file"], session.settings, state, now)
    return None


def _alone(shown: ShownCredential) -> Explanation:
    """The judgement of a credential without a request."""
    explanation = Explanation(_judgement(shown))
    if shown.judged.identity is None:
        if shown.judged.is_known:
            explanation.denial = shown.judged.denial or Denial(Reason.UNAUTHENTICATED, shown.judged.text)
        explanation.help = shown.judged.help
    explanation.is_known = shown.judged.is_known
    return explanation


def _judgement(shown: ShownCredential) -> list[RuleStep]:
    running = [] if shown.running is None else [RuleStep("running gateway", shown.running)]
    return [RuleStep(f"the {shown.kind}", shown.text), *running, RuleStep("judgement", shown.judged.text)]


def _account(key_id: str | None, shown: ShownCredential | None) -> list[str]:
    if shown is not None and shown.judged.identity is not None:
        return [shown.judged.identity.account]
    return [key_account(key_id)] if key_id else []


async def _state(session: Session, key_id: str | None, names: Sequence[str]) -> State:
    """The configuration with this key of the ledger, as a gateway compiles it."""
    blocked = await session.ledger.read(blocked_accounts)
    state = with_blocked(with_names(compile_settings(session.settings), names), blocked)
    is_configured = key_id in {key.id for key in session.settings.keys}
    if key_id is None:
        return state
    if is_configured:
        if key_id in {record.id for record in await session.keys.list()}:
            raise SetupError(f"{key_id} is in the configuration and in the ledger: the gateway does not start so")
        return state
    record = await session.ledger.read(lambda c: one_key(c, key_id))
    return with_ring(state, state.ring.changed([record]))


def _names(settings: Settings) -> list[str]:
    """The certificates' names; empty when this user can't read one."""
    try:
        return [name for pair in (settings.tls, *settings.tls.certificates) for name in hosts_in(pair.certificate)]
    except SetupError:
        return []


def _host(names: Sequence[str], settings: Settings) -> str:
    """As clients send it to the listener's port."""
    name, port = next(iter(names), _HOST), settings.listen.port
    written = f"[{name}]" if ":" in name else name
    return written if port in {0, _HTTPS} else f"{written}:{port}"


def _verdict(explanation: Explanation) -> str:
    denial = explanation.denial
    help_ = f"what would help: {printable(explanation.help)}"
    if not explanation.is_known:
        return f"not known whether it is allowed\n{help_}"
    if denial is None:
        return "allowed"
    verdict = VERDICTS[denial.reason]
    lines = [f"refused: {verdict.status} {denial.reason}: {denial.heading}", f"  {printable(denial.detail)}"]
    if denial.retry_after is not None:
        lines.append(f"  Retry-After: {denial.retry_after} s")
    if denial.allow:
        lines.append(f"  Allow: {', '.join(denial.allow)}")
    return "\n".join([*lines, help_])


def _object(explanation: Explanation) -> dict[str, Any]:
    denial = explanation.denial
    verdict = VERDICTS[denial.reason] if denial else None
    return {
        "allowed": denial is None if explanation.is_known else None,
        "status": verdict.status if verdict else None,
        "reason": denial.reason if denial else None,
        "why": denial.why if denial else None,
        "title": denial.heading if denial and verdict else None,
        "detail": denial.detail if denial else None,
        "retry_after": denial.retry_after if denial else None,
        "help": explanation.help or None,
        "steps": [step._asdict() for step in explanation.steps],
        "limits": explanation.limits,
    }
