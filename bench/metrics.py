"""The figures that come out of a run: their names, units, and which way is better."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure; by `x` a peer is compared with nginx, more being better."""

    key: str
    title: str
    unit: str
    digits: int = 1
    more_is_better: bool = False

    def x(self, own: float, nginx: float) -> float | None:
        """Capacity relative to nginx; None where a figure is too close to zero to divide by."""
        over, under = (own, nginx) if self.more_is_better else (nginx, own)
        return over / under if under > 0 and over > 0 else None


METRICS = (
    Metric("poll_cpu", "small poll, keep-alive: CPU", "us"),
    Metric("poll_rate", "small poll, keep-alive: rate", "req/s", 0, more_is_better=True),
    Metric("token_cpu", "the same with a JWT: CPU", "us"),
    Metric("submit_cpu", "small submit: CPU", "us", 0),
    Metric("submit_time", "small submit: time on one connection", "us", 0),
    Metric("upload_cpu", "100 MB upload: CPU", "s/GB", 2),
    Metric("upload_faults", "the same: page faults", "1/GB", 0),
    Metric("inspected_cpu", "100 MB upload, a PDF with pages to count: CPU", "s/GB", 2),
    Metric("inspected_faults", "the same: page faults", "1/GB", 0),
    Metric("download_cpu", "50 MB download: CPU", "s/GB", 2),
    Metric("download_faults", "the same: page faults", "1/GB", 0),
    Metric("handshake_cpu", "full handshake and one poll: CPU", "us", 0),
    Metric("latency", "added to a single client's median poll", "us", 0),
    Metric("mixed_p50", "poll while four uploads run: p50", "ms", 2),
    Metric("mixed_p99", "poll while four uploads run: p99", "ms", 2),
    Metric("mixed_rate", "the four uploads beside those polls: rate", "MB/s", 0, more_is_better=True),
    Metric("wait_late", "from a job's end to its result in the hand of four clients", "ms", 0),
    Metric("wait_asked", "questions to the container in 100 ms of that job's life", "", 2),
    Metric("idle_kb", "memory of an idle TLS connection", "KB", 1),
    Metric("uploads_mb", "memory growth while eight 100 MB uploads run", "MB", 1),
    Metric("downloads_mb", "memory growth while eight 50 MB downloads run", "MB", 1),
)
