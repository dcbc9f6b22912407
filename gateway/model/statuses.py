"""Statuses of answers, by their classes (RFC 9110 15)."""

from typing import Final

OK: Final = 200
SUCCESS: Final = range(200, 300)
REDIRECTS: Final = range(300, 400)
FIRST_ERROR: Final = 400
"""From here on something went wrong, at the client's or the server's side."""
FIRST_FAILURE: Final = 500
"""From here on it went wrong at the server's."""
MAX_INTERIM: Final = 8
"""So many interim answers (1xx) may come before one; of a server that sends more, no answer is awaited."""
