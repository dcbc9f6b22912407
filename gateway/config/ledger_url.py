"""The ledger's URL: pure."""

from gateway.config.settings import SecretValue, Settings


def url_of(settings: Settings) -> str:
    """The ledger's URL, with its secret reference resolved; it may hold a password."""
    url = settings.ledger.url
    return url.value.decode("utf-8", "surrogateescape") if isinstance(url, SecretValue) else url
