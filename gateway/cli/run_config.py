"""The output of `gateway config show`."""

import json
import os
from pathlib import Path
from typing import Any

from gateway.cli.output import answer, or_fail
from gateway.cli.table import show_table
from gateway.config.load import explained


def show_config(config: Path, *, only_set: bool) -> None:
    """Prints every setting with its origin."""
    found = or_fail(lambda: explained(config, os.environ))
    shown = [origin for origin in found if not (only_set and origin.is_default)]
    rows = [{"setting": origin.path, "value": _plain(origin.value), "from": origin.source} for origin in shown]
    cells = [(origin.path, _text(origin.value), origin.source) for origin in shown]
    answer({"config": str(config), "settings": rows}, lambda: show_table(("setting", "value", "from"), cells))


def _plain(value: Any) -> Any:
    """What JSON has no form for is written as text: a date, say."""
    return json.loads(json.dumps(value, default=str))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str, ensure_ascii=False)
