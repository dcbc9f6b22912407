"""Fetches the keys of an issuer: a JWKS, or first the discovery document that says where it is.

An identity provider is believed about its keys and about nothing else. It may not send the gateway elsewhere by a
redirect, keep it waiting, fill its memory or inflate what it sends; by discovery it may name another host, yet none
that speaks plain HTTP. Proxies of the environment play no part; SSL_CERT_FILE does, for a CA of one's own.
"""

import asyncio
import ssl
from typing import Final

import aiohttp
from yarl import URL

from gateway.aio.bounded_connector import BoundedConnector, bounded_context, make_session
from gateway.aio.iteration import Iteration
from gateway.auth.jwks.source import KeySource, check_fetched
from gateway.auth.jwt.key_set import KeySet, NoKeys, read_jwks
from gateway.errors import GatewayError
from gateway.http.strict_json import read_object

_WELL_KNOWN: Final = "/.well-known/openid-configuration"
_MAX_BYTES: Final = 256 * 1024
_MAX_OF_WIRE: Final = 2 * _MAX_BYTES
_MAX_URL: Final = 2048
_PIECE: Final = 16 * 1024
_OK: Final = 200
# Nothing is inflated here, so nothing may come deflated.
_HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "document-gateway"}


class FetchFailed(GatewayError):
    """Why there are no keys this time. `why` is for the log: our words, nothing that the provider sent."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


async def fetch_keys(iteration: Iteration, issuer: KeySource, deadline: float) -> KeySet:
    """Fetches the keys of an issuer whose `jwks` is a URL, or that has `discovery`, all within `deadline` seconds.

    What the provider sends is read in turns of the loop's `iteration`.

    Raises:
        FetchFailed: for whatever is wrong with the provider, the way there, or its keys.
    """
    try:
        async with (
            asyncio.timeout(deadline),
            _session(iteration, issuer.issuer, await asyncio.to_thread(bounded_context)) as session,
        ):
            url = issuer.jwks if issuer.jwks is not None else await _discovered(session, issuer.issuer)
            return read_jwks(await _fetched(session, url), issuer.algorithms)
    except TimeoutError:
        raise FetchFailed(f"no answer within {deadline:g} s") from None
    except NoKeys as error:
        raise FetchFailed(f"the answer {error}") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # ValueError: a host name that IDNA has no form for, and other URLs that only fail on their way.
        raise FetchFailed(_in_words(error)) from None


def checked_url(text: str) -> URL:
    """A URL that the keys may be fetched from, as it is connected to.

    Raises:
        FetchFailed, ValueError: it is none.
    """
    # urlsplit, which check_fetched judges by, and yarl, which is connected by, agree on all but odd characters.
    if len(text) > _MAX_URL or "\\" in text or not all("\x21" <= character <= "\x7e" for character in text):
        raise FetchFailed("the URL of the keys is malformed")
    return URL(check_fetched(text))


def _session(iteration: Iteration, issuer: str, context: ssl.SSLContext) -> aiohttp.ClientSession:
    # One for each fetch: there is one every few minutes, and so nothing is kept open and nothing needs to be closed.
    connector = BoundedConnector(iteration, issuer, _MAX_OF_WIRE, force_close=True, ssl=context)
    return make_session(connector, headers=_HEADERS)


async def _discovered(session: aiohttp.ClientSession, issuer: str) -> str:
    """Asks where the keys of an issuer are (OpenID Connect Discovery 4)."""
    document = read_object(await _fetched(session, issuer.removesuffix("/") + _WELL_KNOWN)) or {}
    if document.get("issuer") != issuer:  # 4.3: exactly, or one tenant of a provider could speak for another
        raise FetchFailed("the discovery document is of another issuer, or none")
    url = document.get("jwks_uri")
    if not isinstance(url, str) or (issuer[:6].lower() == "https:" and not url.startswith("https://")):
        raise FetchFailed("the discovery document has no jwks_uri with https")
    return url


async def _fetched(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.get(checked_url(url), allow_redirects=False) as response:
        if response.status != _OK:
            raise FetchFailed(f"the answer is {response.status}")
        if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise FetchFailed("the answer is compressed, which was not asked for")
        body = bytearray()
        async for piece in response.content.iter_chunked(_PIECE):
            body += piece
            if len(body) > _MAX_BYTES:
                raise FetchFailed(f"the answer is larger than {_MAX_BYTES // 1024} KB")
        return bytes(body)


def _in_words(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientSSLError):
        return "its TLS certificate is not trusted, or it speaks no TLS"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "no such host"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "no connection"
    if isinstance(error, aiohttp.ClientError | OSError):
        return "it closed the connection or does not speak HTTP"
    return "the URL of the keys is malformed"
