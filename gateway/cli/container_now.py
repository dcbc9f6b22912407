"""How the container of a failed request is now, and since when: what the gateway that runs here tells of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gateway.cli.running_gateway import upstream_now
from gateway.cli.session import Session
from gateway.cli.words import at
from gateway.errors import SetupError

_TOLD: Final = ("up", "trouble", "since", "last_trouble", "last_trouble_at")


async def container_now(session: Session, config: Path, name: str) -> dict[str, Any]:
    """Asks for it; where that can't be, `up` is None, and `trouble` says why."""
    try:
        if "admin" in session.without:
            raise SetupError("what the configuration says of admin is faulty")
        told = await upstream_now(session.settings, config, name)
    except SetupError as error:
        return {**dict.fromkeys(_TOLD), "trouble": str(error)}
    return {field: told.get(field) for field in _TOLD}


def in_words(now: Mapping[str, Any], moment: float) -> str:
    """The same as a sentence; `moment` is in seconds since the epoch."""
    if now["up"] is None:
        return f"not known: {now['trouble']}"
    since = f" since {_at(now['since'], moment)}" if now["since"] else ""
    if not now["up"]:
        return f"down{since}: {now['trouble']}"
    last = (
        f"; last error, {_at(now['last_trouble_at'], moment)}: {now['last_trouble']}" if now["last_trouble"] else ""
    )
    return f"up{since}{last}"


def _at(text: str, moment: float) -> str:
    shown = at(text, moment)
    return "" if shown is None else shown.words
