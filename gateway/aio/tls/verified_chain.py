"""What certificates a peer showed, and by which chain OpenSSL verified it: public in `ssl` only since Python 3.13."""

import ssl
from hashlib import sha256
from typing import Any, Final

_DER: Final = 2  # _ssl.ENCODING_DER


def verified_chain(connection: ssl.SSLObject) -> frozenset[bytes]:
    """SHA-256 digests of the certificates (DER) of the verified chain, from the peer's own to the trusted one.

    Empty when the peer showed no certificate. `connection` has completed its handshake.
    """
    inner: Any = connection._sslobj  # type: ignore[attr-defined] # noqa: SLF001 -- see above
    return frozenset(sha256(one.public_bytes(_DER)).digest() for one in inner.get_verified_chain() or ())


def shown_certificates(connection: ssl.SSLObject) -> int:
    """How many certificates the peer sent, of any worth. `connection` has completed its handshake."""
    inner: Any = connection._sslobj  # type: ignore[attr-defined] # noqa: SLF001 -- as above
    return len(inner.get_unverified_chain() or ())
