"""What the admin API says of a token that is shown to it. Pure."""

from gateway.admin.answer import Answer, Moment
from gateway.admin.overview_answers import IssuerState


class TokenVerdict(Answer):
    """How this replica would judge a token now, with the keys that it holds now."""

    accepted: bool
    account: str | None
    """Whose it is: `jwt:<issuer>#<owner>`; null: it is refused."""
    profile: str | None
    until: Moment | None
    """When it ends, with the leeway."""
    reason: str | None
    """Of the refusal, as the client sees it; null: it is accepted."""
    why: str | None
    """Which rule refuses it, in a word that the client does not see."""
    detail: str | None
    """The sentence that the client sees."""
    text: str
    """The judgement in words, for the operator."""
    help: str | None
    issuer: IssuerState | None
    """The issuer that it names, not yet verified, and its keys; null: none of the configuration."""
