"""Where the ledger is, and how that may be shown: pure."""

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gateway.settings import SecretValue, Settings

SQLITE: Final = "sqlite:///"


def url_of(settings: Settings) -> str:
    """The ledger's URL, its reference looked up; it may hold a password."""
    url = settings.ledger.url
    return url.value.decode("utf-8", "surrogateescape") if isinstance(url, SecretValue) else url


def named(url: str) -> str:
    """A ledger's URL as it may be shown: a file, or host and database; never who logs in, and how."""
    if url.startswith(SQLITE):
        return str(Path(url.removeprefix(SQLITE)).absolute())
    try:
        parts = urlsplit(url)
    except ValueError:
        return "PostgreSQL"
    return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"


def has_password(url: str) -> bool:
    """Whether a password stands in it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.password) or "password=" in parts.query
