"""The origin under which clients know this gateway: public_url, else a Host that is one of our names. Pure.

A client chooses its Host, and a client that gets a URL may send its key there. So a client's Host is never written
anywhere (an answer, the ledger, a signed webhook), only the operator's own name that equals it.

Webhook deliveries are signed, and their receivers trust them. So with webhooks.out a name counts only when it is
written out, since a wildcard covers hosts of others, too; and a port only when it is ours or that of https.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Final

_HTTPS: Final = 443
_WILD: Final = "*."
UNSIGNABLE: Final = "is needed: webhooks.out signs it, and no certificate and no route names a host in its place"
COVERED: Final = (
    "is not set: webhooks.out signs no host that only a wildcard of a certificate covers: a submit to one is a 421"
)
UNKNOWN: Final = "is not set, and no certificate and no route names a host in its place: each submit is a 421"


@dataclass(frozen=True, slots=True)
class Origins:
    """The operator's names for this gateway.

    `names` are host names and addresses in lower case, `domains` the part of wildcards after `*.`. `port` is the
    listener's (0: the kernel chose it, so any port may be ours). `signs`: whether webhooks are delivered.
    """

    public_url: str | None = None
    names: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    port: int = 0
    signs: bool = False

    def with_names(self, names: Iterable[str]) -> "Origins":
        """A copy with these names added: DNS names, perhaps with a wildcard, and addresses."""
        found = {_folded(name) for name in names}
        wild = {name.removeprefix(_WILD) for name in found if name.startswith(_WILD)}
        exact = {name for name in found if "*" not in name}
        return replace(self, names=self.names | exact, domains=self.domains | wild)

    def of(self, host: str) -> str:
        """The public origin, without a final slash, for clients that sent this Host; empty: the Host is not ours."""
        if self.public_url is not None:
            return self.public_url
        name, port = split_host(host)
        return f"https://{_written(name)}{_colon(port)}" if self._is_ours(name) and self._is_port(port) else ""

    @property
    def fault(self) -> str | None:
        """The error in public_url: webhooks are delivered, but have no origin to sign."""
        return UNSIGNABLE if self.signs and self.public_url is None and not self.names else None

    @property
    def warning(self) -> str | None:
        """A warning about public_url: some submits, or all, have no origin, which may not be intended."""
        if self.public_url is not None or self.fault:
            return None
        if self.signs:
            return COVERED if self.domains else None
        return None if self.names or self.domains else UNKNOWN

    def _is_ours(self, name: str) -> bool:
        return name in self.names or (not self.signs and name.partition(".")[2] in self.domains)

    def _is_port(self, port: int | None) -> bool:
        return port is None or not self.signs or self.port in {0, port} or port == _HTTPS


def split_host(host: str) -> tuple[str, int | None]:
    """The normalized name of a Host, for comparison, and its port."""
    name, colon, port = host.rpartition(":")
    if colon and port.isdigit():
        return _folded(name), int(port)
    return _folded(host), None


def _folded(name: str) -> str:
    """Lower case, without the final dot; addresses in their usual form, without brackets."""
    plain = name.lower().removesuffix(".").removeprefix("[").removesuffix("]")
    try:
        return str(ip_address(plain))
    except ValueError:
        return plain


def _written(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _colon(port: int | None) -> str:
    return "" if port in {None, _HTTPS} else f":{port}"
