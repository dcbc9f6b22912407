"""Writes rules/ as an object of the Prometheus Operator, to standard output; docs/monitoring.md has the line."""  # noqa: INP001

import sys
import textwrap
from pathlib import Path

HEAD = """\
# rules/*.yml as an object of the Prometheus Operator. Made by prometheusrule.py beside it; don't edit.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: document-gateway
  labels:
    app.kubernetes.io/name: document-gateway
spec:
  groups:
"""


def groups_of(path: Path) -> str:
    """The groups of a file of rules, as they stand, two columns further in."""
    return textwrap.indent(path.read_text().partition("\ngroups:\n")[2], "  ")


def main() -> None:
    """Writes the object to standard output."""
    rules = Path(__file__).parent / "rules"
    sys.stdout.write(HEAD + "\n".join(groups_of(rules / name) for name in ("recording.yml", "alerts.yml")))


if __name__ == "__main__":
    main()
