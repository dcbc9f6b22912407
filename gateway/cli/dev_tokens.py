"""An issuer for trying out tokens: its JWK set, and tokens that it signed. Never for production.

Its private key is in no file and ends with the command, as that of the development CA does: nobody can sign a further
token that a gateway with this JWK set would take.
"""

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import jwt
import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.errors import SetupError
from gateway.units import DAY

ISSUER: Final = "https://issuer.invalid"  # a name that nobody can have (RFC 6761)
KEYS: Final = "issuer.json"
LIFETIME: Final = DAY
_ALGORITHM: Final = "ES256"
_KEY_ID: Final = "development"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_CONFIGURATION: Final = """\
authentication:
  jwt:
    - issuer: {issuer}
      audience: {audience}
      jwks: {keys}
"""


def configuration(audience: str, keys: Path) -> str:
    """What a gateway needs in its configuration to take such tokens; YAML, whatever the audience is."""
    return _CONFIGURATION.format(issuer=ISSUER, audience=_written(audience), keys=_written(str(keys)))


def _written(text: str) -> str:
    """As YAML has it in one line: in quotes only where it has to be."""
    plain: str = (
        yaml.safe_dump(text, width=sys.maxsize, allow_unicode=True).removesuffix("\n...\n").removesuffix("\n")
    )
    return json.dumps(text) if "\n" in plain else plain


def token_file(directory: Path, name: str) -> Path:
    """Where the token of a name is written."""
    return directory / f"{name}.jwt"


def make_tokens(directory: Path, names: Sequence[str], audience: str, now: float) -> None:
    """Writes issuer.json and for each name NAME.jwt (0600), which ends a day after `now`, in seconds since the epoch.

    Raises:
        OSError: when a file can't be written.
        SetupError: when one of them is there already, or a name can't be a file's.
    """
    for name in names:
        if not _NAME.fullmatch(name):
            raise SetupError(f"{name!r} is not a name for a token: letters, digits, dots, _ and -, 63 at the most")
    directory.mkdir(parents=True, exist_ok=True)
    files = {name: token_file(directory, name) for name in names}
    for path in (directory / KEYS, *files.values()):
        if path.is_symlink() or path.exists():
            raise _there(path)
    key = ec.generate_private_key(ec.SECP256R1())
    _write_new(directory / KEYS, json.dumps({"keys": [_public(key)]}, indent=2), 0o644)
    for name, path in files.items():
        token = jwt.encode(_claims(name, audience, now), key, _ALGORITHM, headers={"kid": _KEY_ID})
        _write_new(path, token, 0o600)


def _write_new(path: Path, line: str, mode: int) -> None:
    """Writes a file that is not there, also if somebody makes it, or a link of its name, at this moment."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
            file.write(f"{line}\n")
    except FileExistsError:
        raise _there(path) from None


def _there(path: Path) -> SetupError:
    return SetupError(f"{path} is there already, and never overwritten: choose another directory")


def _claims(name: str, audience: str, now: float) -> dict[str, Any]:
    return {"iss": ISSUER, "aud": audience, "sub": name, "iat": int(now), "exp": int(now) + LIFETIME}


def _public(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    members: dict[str, Any] = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**members, "kid": _KEY_ID, "alg": _ALGORITHM, "use": "sig"}
