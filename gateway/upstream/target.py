"""Where the container is, and its timeouts: a value."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UpstreamTarget:
    """Where requests go, and their timeouts in seconds."""

    scheme: str
    host: str
    port: int
    authority: str
    connect_timeout: float
    read_timeout: float
    idle_timeout: float
    health_path: str
    health_timeout: float
