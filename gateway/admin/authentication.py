"""Who may use the admin listener: with admin.token, its bearer; without, users of this machine, but no web page.

Any page in a browser on this machine can send requests to 127.0.0.1. These checks keep such pages out:
- DNS rebinding: a page's own name that resolves to 127.0.0.1 stands in Host, and only loopback Hosts are served;
- browsers announce cross-site requests in Sec-Fetch-Site, and every change by a page in Origin: both are refused, but
  for the page that this listener serves itself (console_files.py);
- changes need a Content-Type that a page may send only after a preflight, which is never granted (parsing.py).
With a reverse proxy on this machine all clients come from 127.0.0.1. A request with headers that proxies add
(Forwarded, Via and the like: OF_PROXIES) is refused; a proxy that adds none looks like a local user. With a token
these checks are not needed: a page doesn't know it, and a browser never adds it by itself. Its digest is compared in
constant time.
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
from gateway.http.headers import OF_PROXIES
from gateway.limits.bad_logins import BadLogins
from gateway.model.networks import parse_address, unmapped
from gateway.model.request import Headers

_FORWARDED: Final = b"x-forwarded-"
_BEARER: Final = "bearer "
_OWN_SITES: Final = frozenset({"none", "same-origin"})
_SEND_TOKEN: Final = "Send the admin token as Authorization: Bearer."  # noqa: S105 -- not a token
_TOO_MANY: Final = "Too many tokens from this address were wrong; the right one is not affected."
log = structlog.get_logger()


class Guard:
    """Names the caller or refuses it. Counts recent failed logins by address; `monotonic` is in seconds."""

    def __init__(self, live: Live, monotonic: Callable[[], float]) -> None:
        self._live = live
        self._monotonic = monotonic
        self._bad_logins = BadLogins()

    def actor_of(self, request: web.Request, headers: Headers) -> str:
        """The caller's name in the audit: how it was authenticated, and its address.

        Raises:
            AdminProblem: the caller is refused.
        """
        token = self._live.state.settings.admin.token
        address = _address(request.remote)
        if token is None:
            _require_this_machine(request, headers, address)
            return f"admin:loopback@{address}"
        self._require_token(request, token, address)
        return f"admin:token@{address}"

    def check_page(self, request: web.Request, headers: Headers) -> None:
        """Serves the page's own files to anybody who may ask at all: without a token, to users of this machine.

        Raises:
            AdminProblem: the caller is refused.
        """
        if self._live.state.settings.admin.token is None:
            _require_this_machine(request, headers, _address(request.remote))

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
        wait = self._bad_logins.count_failure(address, self._monotonic(), self._live.state.bad_logins)
        if wait is not None:
            raise AdminProblem("too_many_bad_logins", _TOO_MANY, retry_after=wait)
        log.warning("admin login failed", client_ip=str(address))


def _require_this_machine(request: web.Request, headers: Headers, address: IPv4Address | IPv6Address | None) -> None:
    is_here = address is not None and address.is_loopback and _is_loopback_host(headers.host)
    if not is_here:
        raise AdminProblem("forbidden", "Set admin.token to use this from elsewhere than the machine itself.")
    sites = request.headers.getall("Sec-Fetch-Site", [])
    if not _is_own_origin(request, headers) or not _OWN_SITES.issuperset(sites):
        raise AdminProblem("forbidden", "Web pages may not use this without admin.token.")
    if any(name in OF_PROXIES or name.startswith(_FORWARDED) for name in headers.known):
        raise AdminProblem("forbidden", "Behind a proxy this needs admin.token: everybody comes from here then.")


def _is_own_origin(request: web.Request, headers: Headers) -> bool:
    """Whether no other site's page asks: the host, which is loopback, and the port are those of this listener."""
    own = f"{request.scheme}://{headers.host}"
    return all(origin == own for origin in request.headers.getall("Origin", []))


def _address(remote: str | None) -> IPv4Address | IPv6Address | None:
    try:
        return parse_address((remote or "").partition("%")[0])
    except ValueError:
        return None


def _is_loopback_host(host: str) -> bool:
    before, _, port = host.rpartition(":")
    name = before if port.isdigit() and before else host
    if name.lower() == "localhost":
        return True
    try:
        return unmapped(ip_address(name.strip("[]"))).is_loopback
    except ValueError:
        return False
