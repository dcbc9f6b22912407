"""Who may use the admin listener: the bearer of its token; without one whoever is on this machine, but no web page.

Any page that a browser on this machine shows can send requests to 127.0.0.1. What keeps those out:
- a name of its own that it points to 127.0.0.1 (DNS rebinding) stands in Host, and only loopback Hosts are served;
- a browser tells of other sites in Sec-Fetch-Site, and of a page's every change in Origin: both are refused;
- changes need a Content-Type that a page may send only after a preflight, which is never granted (parsing.py).
Behind a proxy of this machine everybody comes from 127.0.0.1. What a proxy adds to a request (Forwarded, Via and the
like) tells of it, and is refused; one that adds nothing can't be told from a person here.
With a token none of this is needed: a page doesn't know it, and a browser adds it to nothing by itself.
"""

import hmac
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import structlog
from aiohttp import web

from gateway.admin.problem import AdminProblem
from gateway.auth.api_keys import digest_of
from gateway.config.settings import SecretDigest
from gateway.config.state import Live
from gateway.limits.bad_logins import BadLogins
from gateway.model.networks import parse_address, unmapped
from gateway.model.request import Fields

_OF_PROXIES: Final = frozenset({b"forwarded", b"x-real-ip", b"via"})
_FORWARDED: Final = b"x-forwarded-"
_BEARER: Final = "bearer "
_OWN_SITES: Final = frozenset({"none", "same-origin"})
_SEND_TOKEN: Final = "Send the admin token as Authorization: Bearer."  # noqa: S105 -- no token, but where it goes
_TOO_MANY: Final = "Too many tokens from this address were wrong; the right one is not affected."
log = structlog.get_logger()


class Guard:
    """Names whoever calls, or refuses him. Holds what addresses have failed lately; `monotonic` is in seconds."""

    def __init__(self, live: Live, monotonic: Callable[[], float]) -> None:
        self._live = live
        self._monotonic = monotonic
        self._bad_logins = BadLogins()

    def actor_of(self, request: web.Request, fields: Fields) -> str:
        """Who calls, as the audit names him: how he was let in, and his address.

        Raises:
            AdminProblem: he is not let in.
        """
        token = self._live.state.settings.admin.token
        address = _address(request.remote)
        if token is None:
            _require_this_machine(request, fields, address)
            return f"admin:loopback@{address}"
        self._require_token(request, token, address)
        return f"admin:token@{address}"

    def _require_token(
        self, request: web.Request, token: SecretDigest, address: IPv4Address | IPv6Address | None
    ) -> None:
        given = request.headers.getall("Authorization", [])
        if not given:
            raise AdminProblem("unauthenticated", _SEND_TOKEN)
        if len(given) == 1 and given[0][: len(_BEARER)].lower() == _BEARER:
            digest = digest_of(given[0][len(_BEARER) :].strip().encode("utf-8", "surrogateescape"))
            if hmac.compare_digest(digest, token.digest):
                return
        self._count_failure(address)
        raise AdminProblem("unauthenticated", _SEND_TOKEN)

    def _count_failure(self, address: IPv4Address | IPv6Address | None) -> None:
        if address is None:
            return
        wait = self._bad_logins.failed(address, self._monotonic(), self._live.state.bad_logins)
        if wait is not None:
            raise AdminProblem("too_many_bad_logins", _TOO_MANY, retry_after=wait)
        log.warning("admin login failed", client_ip=str(address))


def _require_this_machine(request: web.Request, fields: Fields, address: IPv4Address | IPv6Address | None) -> None:
    is_here = address is not None and address.is_loopback and _is_loopback_host(fields.host)
    if not is_here:
        raise AdminProblem("forbidden", "Set admin.token to use this from elsewhere than the machine itself.")
    sites = request.headers.getall("Sec-Fetch-Site", [])
    if "Origin" in request.headers or not _OWN_SITES.issuperset(sites):
        raise AdminProblem("forbidden", "Web pages may not use this without admin.token.")
    if any(name in _OF_PROXIES or name.startswith(_FORWARDED) for name in fields.known):
        raise AdminProblem("forbidden", "Behind a proxy this needs admin.token: everybody comes from here then.")


def _address(remote: str | None) -> IPv4Address | IPv6Address | None:
    try:
        return parse_address((remote or "").partition("%")[0])
    except ValueError:
        return None


def _is_loopback_host(host: str) -> bool:
    before, _, port = host.rpartition(":")
    name = before if port.isdigit() and before else host
    if name == "localhost":
        return True
    try:
        return unmapped(ip_address(name.strip("[]"))).is_loopback
    except ValueError:
        return False
