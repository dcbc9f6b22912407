"""A ledger as it is after a year: thousands of keys, a million settled jobs. And a token, for the other way in.

Run as `python -P bench/ledger.py FOLDER KEY KEYS JOBS [URL]` by the interpreter that runs the gateway; writes
ledger.db (or fills the ledger that URL names), token.pem and token.txt into FOLDER. It imports nothing of the bench:
with another tree's gateway on the path it makes a ledger for that one. The key of the account other-N is other-N.
"""

import asyncio
import hashlib
import sys
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import Connection, insert

from gateway.ledger import keys
from gateway.ledger.ledger import open_ledger
from gateway.ledger.schema import Stage, reservations

AT_ONCE = 50_000
YEAR = 365 * 86_400


def fill_keys(connection: Connection, key: str, count: int) -> None:
    """Makes the key of the bench and so many others."""
    now = time.time()
    # Trees of before 28 November 2026 call it NewKey.
    make: Any = getattr(keys, "NewKeyRow", None) or getattr(keys, "NewKey")  # noqa: B009 -- mypy reads only this tree
    keys.create(connection, make("bench", "default", "bench"), hashlib.sha256(key.encode()).digest(), now)
    for number in range(count - 1):
        other = f"other-{number}"
        keys.create(connection, make(other, "default", other), hashlib.sha256(other.encode()).digest(), now)


def fill_jobs(connection: Connection, start: int, count: int, total: int) -> None:
    """Settled jobs, some of the bench's own account, spread over a year."""
    now = int(time.time())
    rows = []
    for number in range(start, start + count):
        at = now - YEAR + number * YEAR // total
        account = "key:bench" if number % 10 == 0 else f"key:other-{number % 9999}"
        rows.append({
            "id": f"{number:032x}", "account": account, "owner": account, "stage": Stage.SETTLED, "mode": "fast",
            "pages": 10, "price": 0, "day": 20251124, "month": 202511, "upstream": "default",
            "request_id": f"job-{number}", "created_at": at, "expires_at": None, "settled_at": at + 30,
        })  # fmt: skip
    connection.execute(insert(reservations), rows)


async def fill(url: str, key: str, keys: int, jobs: int) -> None:
    """Makes the ledger."""
    ledger = open_ledger(url, 300)
    await ledger.write(lambda c: fill_keys(c, key, keys))
    for start in range(0, jobs, AT_ONCE):
        await ledger.write(lambda c, start=start: fill_jobs(c, start, min(AT_ONCE, jobs - start), jobs))  # type: ignore[misc]
    await ledger.close()


def write_token(folder: Path) -> None:
    """Makes a token that lasts for the run, and the public key that proves it."""
    private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "token.pem").write_bytes(public)
    claims = {"iss": "https://bench.test", "aud": "gateway", "sub": "bench", "exp": int(time.time()) + 86_400}
    (folder / "token.txt").write_text(jwt.encode(claims, private, algorithm="ES256"))


if __name__ == "__main__":
    place, secret, key_count, job_count, *named = sys.argv[1:]
    write_token(Path(place))
    target = named[0] if named else f"sqlite:///{Path(place) / 'ledger.db'}"
    asyncio.run(fill(target, secret, int(key_count), int(job_count)))
