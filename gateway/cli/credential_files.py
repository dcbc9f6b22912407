"""Reads what `gateway explain` is asked about: a token or a certificate of a file, and the issuer's keys."""

import asyncio
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509

from gateway.aio.iteration import Iteration
from gateway.aio.named_files import PEM_BYTES, SECRET_FILE_BYTES, read_named
from gateway.auth.jwks.fetch import FetchFailed, fetch_keys
from gateway.auth.jwks.files import is_fetched, read_local_keys
from gateway.cli.explain_certificate import described_certificate, judge_certificate
from gateway.cli.explain_key import Judged
from gateway.cli.explain_token import described, issuer_of, judge_token
from gateway.config.compile import with_issuers_keys
from gateway.config.settings import Settings
from gateway.config.state import State
from gateway.errors import FileUnusable, SetupError

_PATIENCE: Final = 5.0
_BEARER: Final = b"bearer "


class ShownCredential(NamedTuple):
    """A credential of a file: its kind, what it says of itself, and the judgement."""

    kind: str
    text: str
    judged: Judged


async def judge_token_file(path: Path, state: State, now: float) -> ShownCredential:
    """Judges a token; fetches the keys of its issuer if they come over the network.

    Raises:
        SetupError: the file can't be read; its name may be a token that was meant, so it is not shown.
    """
    token = _read(
        path, SECRET_FILE_BYTES, "--token takes a file, or - for standard input: what is named there"
    ).strip()
    if token.lower().startswith(_BEARER):
        token = token[len(_BEARER) :].strip()
    keys = dict(read_local_keys(state.settings.authentication.jwt))
    name, trouble = issuer_of(token, state), ""
    for issuer in state.settings.authentication.jwt:
        if issuer.issuer == name and is_fetched(issuer):
            iteration = Iteration(time.perf_counter, asyncio.get_running_loop().call_soon)
            try:
                keys[name] = await fetch_keys(iteration, issuer, _PATIENCE)
            except FetchFailed as error:
                trouble = f"; its issuer's keys can't be fetched from here: {error.why}"
    judged = judge_token(with_issuers_keys(state, keys), token, now)
    return ShownCredential("token", described(token) + trouble, judged)


def judge_certificate_file(path: Path, settings: Settings, state: State, now: float) -> ShownCredential:
    """Judges a client's certificate, with its intermediates after it in the file.

    Raises:
        SetupError: a file can't be read, or holds no certificate.
    """
    chain = _certificates(path)
    asks = settings.tls.client_certificates != "none" and settings.tls.client_ca is not None
    trusted = _certificates(settings.tls.client_ca) if asks and settings.tls.client_ca else []
    judged = judge_certificate(state, chain, trusted, datetime.fromtimestamp(now, UTC))
    return ShownCredential("certificate", described_certificate(chain[0]), judged)


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path, PEM_BYTES, str(path)))
    except ValueError:
        raise SetupError(f"{path} holds no PEM certificate") from None


def _read(path: Path, most: int, called: str) -> bytes:
    if str(path) == "-":
        return sys.stdin.buffer.read(most)
    try:
        return read_named(path, most)
    except FileUnusable as error:
        raise SetupError(f"{called} {error}") from None
