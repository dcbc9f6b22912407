"""A result of `gateway check`, and the places in the configuration that several checks name."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Checked:
    """A result of a check."""

    kind: str
    text: str

    @property
    def is_fault(self) -> bool:
        """Whether it keeps the gateway from starting, or makes it unsafe."""
        return self.kind == "fault"

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def upstream_section(upstream: str) -> str:
    """The place of an upstream's settings."""
    return "upstream" if upstream == "default" else f"upstreams.{upstream}"
