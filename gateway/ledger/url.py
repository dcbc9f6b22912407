"""Which ledger a URL names, and how it may be shown: pure."""

from pathlib import Path
from typing import Final

from gateway.ledger.postgres_url import read_postgres_url

SQLITE: Final = "sqlite:///"


def place_of(url: str) -> tuple[object, ...]:
    """Which ledger it is: equal for URLs that differ only in who logs in, and how."""
    if url.startswith(SQLITE):
        return (str(Path(url.removeprefix(SQLITE)).absolute()),)
    parts = read_postgres_url(url)
    return parts.hosts, parts.database, parts.told


def named(url: str) -> str:
    """A ledger's URL as it may be shown: a file, or host and database; never who logs in, and how."""
    if url.startswith(SQLITE):
        return str(Path(url.removeprefix(SQLITE)).absolute())
    try:
        return read_postgres_url(url).shown
    except ValueError:
        return "PostgreSQL"


def has_password(url: str) -> bool:
    """Whether a password stands in it."""
    try:
        return read_postgres_url(url).has_password
    except ValueError:
        return False
