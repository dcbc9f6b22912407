"""Which command helps with a refusal, or tells more of it. Pure."""

import shlex
from typing import Final

from gateway.model.account_names import OF_CALLERS
from gateway.model.reasons import Reason, Why

_OF_TOKENS: Final = frozenset(
    {
        Why.MALFORMED,
        Why.ISSUER,
        Why.ALGORITHM,
        Why.KEYS_NOT_THERE,
        Why.UNKNOWN_KEY,
        Why.SIGNATURE,
        Why.AUDIENCE,
        Why.CLAIM,
        Why.NOT_YET_VALID,
        Why.SCOPE,
        Why.PROFILE,
    }
)
_OF_CERTIFICATES: Final = frozenset({Why.MISSING, Why.AMBIGUOUS, Why.NAME})


# Of the budgets, those that no grant adds to: the detail of a refusal names its budget.
_NOT_OF_PAGES: Final = ("(requests_per_", "(spend_per_")


def help_by(why: str | None, reason: str, key_id: str | None, detail: str | None = None) -> str | None:
    """The command that helps with a refusal, or tells more of it, as a sentence."""
    if is_helped_by_grant(reason, key_id, detail):
        return f"`{_of_account(key_id or '', 'grant')} --pages N --until WHEN` adds pages to its budgets."
    command = command_for(why, reason, key_id)
    return None if command is None else f"See `{command}`."


def is_helped_by_grant(reason: str, key_id: str | None, detail: str | None) -> bool:
    """Whether a grant of pages lets such a request in."""
    is_of_pages = not any(word in (detail or "") for word in _NOT_OF_PAGES)
    return reason == Reason.BUDGET_EXHAUSTED and bool(_of_account(key_id or "", "grant")) and is_of_pages


def command_for(why: str | None, reason: str, key_id: str | None) -> str | None:
    """The command that tells more of a refusal."""
    if why in _OF_TOKENS or reason == Reason.TOKEN_EXPIRED:
        return "gateway explain --token FILE"
    if why in _OF_CERTIFICATES:
        return "gateway explain --certificate FILE"
    if shown := _of_account(key_id or "", "show"):
        return shown
    return "gateway keys list" if why in {Why.NOT_KNOWN, Why.NOT_WHOLE, Why.CLOSED} else None


def _of_account(name: str, act: str) -> str:
    """The command that does this to a key or a caller; empty where there is none."""
    if name and ":" not in name:
        return f"gateway keys {act} {name}"
    return f"gateway callers {act} {shlex.quote(name)}" if name.startswith(OF_CALLERS) else ""
