"""Reads what `gateway explain` is asked about: a token or a certificate of a file, and the issuer's keys."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509

from gateway.admin.judged import Judged
from gateway.admin.token_judgement import described, issuer_of, judge_token
from gateway.aio.iteration import Iteration
from gateway.aio.named_files import PEM_BYTES, SECRET_FILE_BYTES, read_named
from gateway.auth.jwks.fetch import FetchFailed, fetch_keys
from gateway.auth.jwks.files import is_fetched, read_local_keys
from gateway.cli.explain_certificate import described_certificate, judge_certificate
from gateway.cli.joined_judgement import RunningVerdict, described_verdict, joined
from gateway.config.compile import with_issuers_keys
from gateway.config.settings import Settings
from gateway.config.settings.access import JwtIssuer
from gateway.config.state import State
from gateway.errors import FileUnusable, SetupError

_PATIENCE: Final = 5.0
_BEARER: Final = b"bearer "
AskVerdict = Callable[[str], Awaitable[RunningVerdict]]


class ShownCredential(NamedTuple):
    """A credential of a file: its kind, what it says of itself, and the judgement.

    `running` is what the running gateway says, where it was asked.
    """

    kind: str
    text: str
    judged: Judged
    running: str | None = None


async def judge_token_file(path: Path, state: State, now: float, ask: AskVerdict) -> ShownCredential:
    """Judges a token. If its issuer's keys come over the network, fetches them, and asks the running gateway.

    Raises:
        SetupError: the file can't be read; its name may be a token that was meant, so it is not shown.
    """
    token = _token(path)
    issuer = _fetched_issuer(token, state)
    keys = dict(read_local_keys(state.settings.authentication.jwt))
    if issuer is None:
        judged = judge_token(with_issuers_keys(state, keys), token, now)
        return ShownCredential("token", described(token), judged)
    running, trouble = await ask(token.decode("ascii", "replace")), ""
    try:
        iteration = Iteration(time.perf_counter, asyncio.get_running_loop().call_soon)
        keys[issuer.issuer] = await fetch_keys(iteration, issuer, _PATIENCE)
    except FetchFailed as error:
        trouble = f"; its issuer's keys can't be fetched from here: {error.why}"
    held = with_issuers_keys(state, keys)
    judged = joined(judge_token(held, token, now), running, state, token, now)
    return ShownCredential("token", described(token) + trouble, judged, described_verdict(running))


def _token(path: Path) -> bytes:
    token = _read(
        path, SECRET_FILE_BYTES, "--token takes a file, or - for standard input: what is named there"
    ).strip()
    return token[len(_BEARER) :].strip() if token.lower().startswith(_BEARER) else token


def _fetched_issuer(token: bytes, state: State) -> JwtIssuer | None:
    """The issuer that a token names, if its keys come over the network."""
    name, issuers = issuer_of(token, state), state.settings.authentication.jwt
    return next((found for found in issuers if found.issuer == name and is_fetched(found)), None)


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
