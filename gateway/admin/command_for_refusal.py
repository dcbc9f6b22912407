"""Which command tells more of why a credential was refused. Pure."""

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


def command_for(why: str | None, reason: str, key_id: str | None) -> str | None:
    """The command that tells more of a refusal."""
    if why in _OF_TOKENS or reason == Reason.TOKEN_EXPIRED:
        return "gateway explain --token FILE"
    if why in _OF_CERTIFICATES:
        return "gateway explain --certificate FILE"
    if key_id is not None and ":" not in key_id:
        return f"gateway keys show {key_id}"
    if key_id is not None and key_id.startswith(OF_CALLERS):
        return f"gateway callers show {shlex.quote(key_id)}"
    return "gateway keys list" if why in {Why.NOT_KNOWN, Why.NOT_WHOLE, Why.CLOSED} else None
