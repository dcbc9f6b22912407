"""What names are made of, as patterns that JSON Schema knows, too. In Python they are for `fullmatch`."""

from typing import Final

ID: Final = r"^[a-z0-9-]{1,63}$"
"""Of a key, and of a webhook."""
NAME: Final = r"^[a-z0-9_-]{1,63}$"
"""Of a profile, an upstream, a route and the like."""
OWNER: Final = r"^[A-Za-z0-9._@-]{1,128}$"
"""Of a key."""
ANY_OWNER: Final = r"^[^\x00-\x1f\x7f]{1,600}$"
"""Of a job: also a token's or a certificate's."""
SCOPE: Final = r"^[A-Za-z0-9:._-]{1,64}$"
OPERATION: Final = r"^[\x21-\x7e]{1,128}$"
"""An Idempotency-Key."""
