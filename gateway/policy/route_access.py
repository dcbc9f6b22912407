"""Decides whether a caller may use a route: by his address (IP allowlists), scopes and profile. Pure."""

from ipaddress import IPv4Address, IPv6Address
from typing import Final

from gateway.errors import refuse
from gateway.model.identity import Identity
from gateway.model.reasons import Reason
from gateway.model.routes import Access, Route
from gateway.policy.routes import Rule

_BODILESS: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})  # RFC 9110 9.3: their bodies have no meaning


def check_address(client: IPv4Address | IPv6Address, is_allowed: bool, rule: Rule) -> None:
    """Applies the network rule, whose verdict is `is_allowed`, and the route's own.

    Raises:
        Refused: address_denied.
    """
    if not is_allowed or (rule.networks and client not in rule.networks):
        raise refuse(Reason.ADDRESS_DENIED, "This address may not use this service.")


def check_access(route: Route, identity: Identity, address: IPv4Address | IPv6Address) -> None:
    """Applies the route's access rule, and the networks and routes that the caller's profile allows.

    Raises:
        Refused: forbidden, or address_denied.
    """
    profile = identity.profile
    if profile.networks and not any(address in network for network in profile.networks):
        raise refuse(Reason.ADDRESS_DENIED, "Keys of this profile may not be used from this address.")
    if profile.routes and route.label not in profile.routes and not route.is_ours:
        raise refuse(Reason.FORBIDDEN, "Keys of this profile may not use this route (profiles.<name>.routes).")
    if route.access is Access.ADMIN and "admin" not in identity.scopes:
        raise refuse(Reason.FORBIDDEN, "This route needs a key with the scope admin.")


def check_takes_body(route: Route, method: str) -> None:
    """Refuses a useless body of an unauthenticated client: it would be read and sent upstream for nothing.

    Raises:
        Refused: bad_request.
    """
    if method in _BODILESS and route.id_in != "body":
        raise refuse(Reason.BAD_REQUEST, f"{method} takes no body here.")
