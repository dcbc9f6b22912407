"""Whether a webhook may go to a URL (against SSRF): checked at a submit, and each time before sending."""

from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from gateway.errors import Refused, refuse
from gateway.model.reasons import RETRY_SOON, Denial, Reason
from gateway.webhooks.egress.resolver import NoAnswer, NotFound, Undecided
from gateway.webhooks.egress.rules import Rules
from gateway.webhooks.egress.webhook_url import Target, read_url

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]
# The same with the owner first, for whom the lookup counts.
ResolveFor = Callable[[str, str, int], Awaitable[Sequence[Address]]]
# The same sentence for a host that is not allowed, one with a forbidden address, and one that is neither allowed by
# its name nor found, so that the answer reveals nothing of names and addresses inside the network.
_NOT_ALLOWED: Final = "webhook_url: its host is not among those that webhooks may go to (webhooks.out.allow)"
_NOT_FOUND: Final = "webhook_url: the address of its host can't be found just now"
_NOT_KNOWN: Final = "webhook_url: its host could not be looked up just now; that says nothing of it"


class Destination(NamedTuple):
    """Where a webhook goes: its URL, and the only addresses that may be connected to."""

    target: Target
    addresses: tuple[Address, ...]

    @property
    def name(self) -> str:
        """Host and port, for logs and for the ledger's column."""
        return self.target.authority


async def check(url: str | None, rules: Rules, resolve: Resolve) -> Destination | None:
    """Checks a URL, and every address of its host. Returns None for no URL.

    It may run in a Drive, if `resolve` may.

    Raises:
        Refused: field_refused, with a sentence that quotes nothing of the URL; lookup_unavailable, if no lookup could
            decide whether it may go there.
    """
    if url is None:
        return None
    try:
        return await find(url, rules, resolve)
    except Undecided:
        raise _not_known() from None
    except NotFound as error:
        if not rules.names_host(read_url(url)):
            raise refuse(Reason.FIELD_REFUSED, _NOT_ALLOWED) from None
        if isinstance(error, NoAnswer):
            raise _not_known() from None
        raise refuse(Reason.FIELD_REFUSED, _NOT_FOUND) from None


async def find(url: str, rules: Rules, resolve: Resolve) -> Destination:
    """Does the same, for callers that can retry later.

    Raises:
        Refused: it may not go there.
        NotFound: it has no addresses, or the lookup fails now.
        Undecided: its addresses are not known yet.
    """
    try:
        target = read_url(url)
    except ValueError as error:
        raise refuse(Reason.FIELD_REFUSED, f"webhook_url: {error}") from None
    if not rules.may_allow(target):
        raise refuse(Reason.FIELD_REFUSED, _NOT_ALLOWED)
    literal = target.literal
    addresses = tuple(await resolve(target.host, target.port)) if literal is None else (literal,)
    if not rules.allows(target, addresses):
        raise refuse(Reason.FIELD_REFUSED, _NOT_ALLOWED)
    return Destination(target, addresses)


def _not_known() -> Refused:
    return Refused(Denial(Reason.LOOKUP_UNAVAILABLE, _NOT_KNOWN, retry_after=RETRY_SOON))
