"""Where the ledger is, and how that may be shown: pure."""

from gateway.config.settings import SecretValue, Settings


def url_of(settings: Settings) -> str:
    """The ledger's URL, its reference looked up; it may hold a password."""
    url = settings.ledger.url
    return url.value.decode("utf-8", "surrogateescape") if isinstance(url, SecretValue) else url
