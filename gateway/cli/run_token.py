"""The output of `gateway certs token`."""

import time
from collections.abc import Sequence
from pathlib import Path

from gateway.cli.dev_tokens import ISSUER, KEYS, LIFETIME, configuration, make_tokens, token_file
from gateway.cli.output import answer, fail, or_fail, print_lines, say
from gateway.cli.table import shown
from gateway.cli.words import at
from gateway.units import moment


def make(directory: Path, names: Sequence[str], audience: str) -> None:
    """Makes them, and tells what a configuration needs."""
    now, names = time.time(), tuple(dict.fromkeys(names))
    try:
        or_fail(lambda: make_tokens(directory, names, audience, now))
    except OSError as error:
        fail(f"{error.filename or directory} can't be written: {error.strerror}")
    keys, ends = directory / KEYS, moment(now + LIFETIME)
    tokens = [{"name": name, "file": str(token_file(directory, name))} for name in names]
    document = {"issuer": ISSUER, "audience": audience, "keys": str(keys), "expires_at": ends, "tokens": tokens}
    answer(document, lambda: print_lines("  ".join([str(keys), *(token["file"] for token in tokens)])))
    say(
        f"A gateway takes them until {shown(at(ends))} with this in its configuration (not for production):",
        *configuration(audience, keys.absolute()).splitlines(),
    )
