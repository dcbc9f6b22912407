"""Which ledger a URL names, and how to show it: pure."""

from pathlib import Path
from typing import Final

from gateway.ledger.postgres_url import read_postgres_url

SQLITE: Final = "sqlite:///"


def place_of(url: str) -> tuple[object, ...]:
    """Identifies the ledger: equal for URLs that differ only in user, password and connection options."""
    if url.startswith(SQLITE):
        return (str(Path(url.removeprefix(SQLITE)).absolute()),)
    parts = read_postgres_url(url)
    return parts.hosts, parts.database, parts.told


def shown_url(url: str) -> str:
    """A ledger's URL for display: a file, or host and database; without user, password and parameters."""
    if url.startswith(SQLITE):
        return str(Path(url.removeprefix(SQLITE)).absolute())
    try:
        return read_postgres_url(url).shown
    except ValueError:
        return "PostgreSQL"


def has_password(url: str) -> bool:
    """Whether it contains a password."""
    try:
        return read_postgres_url(url).has_password
    except ValueError:
        return False
