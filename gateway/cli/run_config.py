"""The output of `gateway config show`."""

import json
import os
from pathlib import Path
from typing import Any

import click

from gateway.cli.output import or_fail
from gateway.cli.table import show_table
from gateway.config.load import explained


def show_config(config: Path, *, only_set: bool, as_json: bool) -> None:
    """Prints every setting with its origin."""
    found = or_fail(lambda: explained(config, os.environ))
    shown = [origin for origin in found if not (only_set and origin.is_default)]
    if as_json:
        rows = [{"setting": origin.path, "value": origin.value, "from": origin.source} for origin in shown]
        click.echo(json.dumps({"config": str(config), "settings": rows}, indent=2, default=str))
        return
    show_table(("setting", "value", "from"), [(origin.path, _text(origin.value), origin.source) for origin in shown])


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str, ensure_ascii=False)
