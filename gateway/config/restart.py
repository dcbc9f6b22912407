"""What a running gateway can't change on reload: pure.

These settings are bound, opened or fixed in a TLS context when the process starts. The old value stays in force, and
/readyz and a metric list what waits for a restart. Most of them hold back nothing else. But other settings rely on
those that decide who reaches a listener: a change that requires client certificates may open routes to anyone at the
same time. So while such an exposure setting waits, what relies on it waits too (see
held_back.py).
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.config.held_back import differences, held_back, look_up, put
from gateway.config.ledger_url import url_of
from gateway.config.settings import Settings
from gateway.ledger.url import place_of

_Same = Callable[[Any], object]


def _is_there(value: Any) -> object:
    return value is not None


def _asks(mode: str) -> bool:
    return mode != "none"


# What must stay equal for each: the value itself, or the function's result for it.
NEEDS_RESTART: Final[Mapping[str, _Same | None]] = {
    "listen.address": None,
    "listen.port": None,
    "listen.proxy_protocol": None,
    "tls.profile": None,
    "tls.client_ca": _is_there,
    "tls.client_certificates": _asks,
    "admin.address": None,
    "admin.port": None,
    "admin.tls": _is_there,
    "ledger.url": None,
    "ledger.pooler": None,
    "ledger.timeout": None,
    "ledger.turn_timeout": None,
    "body.spool_dir": None,
    "body.spool_limit": None,
    "body.count_timeout": None,
    "body.count_memory": None,
}


def with_what_stays(old: Settings, new: Settings, before: Settings | None = None) -> tuple[Settings, tuple[str, ...]]:
    """The new settings with the old values of what can't change now, and the paths of these.

    `before` are the settings when an exposure setting began to wait; None while none waits.
    """
    waiting = tuple(path for path in NEEDS_RESTART if _comparable(old, path) != _comparable(new, path))
    merged = new
    for path in waiting:
        merged = put(merged, path, look_up(old, path))
    merged = held_back(old, merged, frozenset(waiting), before or old)
    held = tuple(path for path in differences(merged, new) if path not in waiting)
    return merged, (*waiting, *held)


def _comparable(settings: Settings, path: str) -> object:
    if path == "ledger.url":  # resolved from a reference; user and password may change
        return place_of(url_of(settings))
    value, same = look_up(settings, path), NEEDS_RESTART[path]
    return value if same is None else same(value)
