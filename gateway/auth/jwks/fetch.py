"""Fetches the keys of an issuer: a JWKS, or first the discovery document that says where it is.

The gateway trusts an identity provider for its keys and for nothing else. The provider can't redirect the gateway,
keep it waiting, fill its memory or send compressed data. Its discovery document may name another host, but only with
https. Proxy variables of the environment are ignored; SSL_CERT_FILE is used, for a private CA.
"""

import asyncio
from typing import Final

import aiohttp
from yarl import URL

from gateway.aio.bounded_connector import USER_AGENT, BoundedConnector, make_session
from gateway.aio.connection_faults import in_words
from gateway.aio.host_lookups import HostLookups
from gateway.aio.iteration import Iteration
from gateway.aio.shared_context import NoContext, SharedContext
from gateway.auth.jwks.source import KeySource, check_fetched
from gateway.auth.jwt.key_set import MAX_DOCUMENT, KeySet, NoKeys, read_jwks
from gateway.errors import GatewayError
from gateway.http.strict_json import read_object
from gateway.model.statuses import OK

_WELL_KNOWN: Final = "/.well-known/openid-configuration"
_MAX_OF_WIRE: Final = 2 * MAX_DOCUMENT
_MAX_URL: Final = 2048
_PIECE: Final = 16 * 1024
# Nothing is decompressed here, so the answer must not be compressed.
_HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": USER_AGENT}


class FetchFailed(GatewayError):
    """Why a fetch failed. `why` is for the log: in our words, nothing that the provider sent."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


async def fetch_keys(
    iteration: Iteration,
    issuer: KeySource,
    deadline: float,
    lookups: HostLookups | None = None,
    shared: SharedContext | None = None,
) -> KeySet:
    """Fetches the keys of an issuer whose `jwks` is a URL, or that has `discovery`, all within `deadline` seconds.

    The provider's answer is read in turns of the loop's `iteration`. Who fetches again and again gives the same
    `lookups` and `shared` TLS context each time.

    Raises:
        FetchFailed: for any fault of the provider, the connection, or its keys.
    """
    try:
        async with (
            asyncio.timeout(deadline),
            await _session(iteration, issuer.issuer, shared or SharedContext(iteration.clock), lookups) as session,
        ):
            url = issuer.jwks if issuer.jwks is not None else await _discovered(session, issuer.issuer)
            return read_jwks(await _fetched(session, url), issuer.algorithms)
    except TimeoutError:
        raise FetchFailed(f"no answer within {deadline:g} s") from None
    except NoContext:
        raise FetchFailed("the system's CAs can't be read") from None
    except NoKeys as error:
        raise FetchFailed(f"the answer {error}") from None
    except (aiohttp.ClientError, OSError) as error:
        raise FetchFailed(in_words(error)) from None
    except ValueError:  # a host name that IDNA can't encode, and other URLs that fail only on use
        raise FetchFailed("the URL of the keys is malformed") from None


def checked_url(text: str) -> URL:
    """The URL to fetch the keys from, as yarl parses it.

    Raises:
        FetchFailed, ValueError: the keys may not be fetched from it.
    """
    # check_fetched parses with urlsplit, the connection with yarl: they agree on all but odd characters.
    if len(text) > _MAX_URL or "\\" in text or not all("\x21" <= character <= "\x7e" for character in text):
        raise FetchFailed("the URL of the keys is malformed")
    return URL(check_fetched(text))


async def _session(
    iteration: Iteration, issuer: str, shared: SharedContext, lookups: HostLookups | None
) -> aiohttp.ClientSession:
    # A new session for each fetch: fetches are minutes apart, so keeping a connection open is not worth it.
    connector = BoundedConnector(
        iteration,
        issuer,
        _MAX_OF_WIRE,
        lookups=lookups,
        untrusted=shared.doubt,
        force_close=True,
        ssl=await shared.get(),
    )
    return make_session(connector, headers=_HEADERS)


async def _discovered(session: aiohttp.ClientSession, issuer: str) -> str:
    """Reads the URL of an issuer's keys from its discovery document (OpenID Connect Discovery 4)."""
    document = read_object(await _fetched(session, issuer.removesuffix("/") + _WELL_KNOWN)) or {}
    if document.get("issuer") != issuer:  # 4.3: an exact match, or one tenant of a provider could speak for another
        raise FetchFailed("the discovery document is of another issuer, or none")
    url = document.get("jwks_uri")
    if not isinstance(url, str) or (issuer[:6].lower() == "https:" and not url.startswith("https://")):
        raise FetchFailed("the discovery document has no jwks_uri with https")
    return url


async def _fetched(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.get(checked_url(url), allow_redirects=False) as response:
        if response.status != OK:
            raise FetchFailed(f"the answer is {response.status}")
        if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise FetchFailed("the answer is compressed, which was not asked for")
        body = bytearray()
        async for piece in response.content.iter_chunked(_PIECE):
            body += piece
            if len(body) > MAX_DOCUMENT:
                raise FetchFailed(f"the answer is larger than {MAX_DOCUMENT // 1024} KB")
        return bytes(body)
