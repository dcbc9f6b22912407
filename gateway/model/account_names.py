"""The names of accounts and owners. Each kind has a namespace, so no name that one kind chooses is another's.

ANYONE alone has none: all others have a colon.
"""

from typing import Final

ANYONE: Final = "anyone"
"""The account of all submits that need no key, and the actor whom nobody knows."""

_KEY: Final = "key:"
JWT: Final = "jwt:"
CERTIFICATE: Final = "cert:"
OF_CALLERS: Final = (JWT, CERTIFICATE)
"""The namespaces of callers whom the ledger knows by their account alone."""


def key_account(name: str) -> str:
    """The account of the key with this id, or the owner whom keys name so: no token can name them."""
    return _KEY + name


def qualified(name: str) -> str:
    """An account or owner as the ledger has it; one without a namespace is a key's (their names have no colon)."""
    return name if ":" in name else key_account(name)


def key_id_of(account: str) -> str | None:
    """The id of the key that has this account; None if the account is not a key's."""
    return account.removeprefix(_KEY) if account.startswith(_KEY) else None


def unqualified(account: str) -> str:
    """A key's id, or the account of another caller: the reverse of `qualified`."""
    return account.removeprefix(_KEY)
