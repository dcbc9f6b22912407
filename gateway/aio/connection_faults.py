"""Why an answer did not come, in words for operators."""

import aiohttp


def in_words(error: aiohttp.ClientError | OSError) -> str:
    """Says what an error of aiohttp's client means, without any text of the peer's."""
    if isinstance(error, aiohttp.ClientSSLError):
        return "its TLS certificate is not trusted, or it speaks no TLS"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "no such host"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "no connection"
    return "it closed the connection or does not speak HTTP"
