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
    Metric("submits_one_rate", "50 submitters, one account, SQLite: rate", "1/s", 0, more_is_better=True),
    Metric("submits_one_cpu", "50 submitters, one account, SQLite: CPU of a submit", "us", 0),
    Metric("submits_one_pg_rate", "50 submitters, one account, PostgreSQL: rate", "1/s", 0, more_is_better=True),
    Metric("submits_one_pg_cpu", "50 submitters, one account, PostgreSQL: CPU of a submit", "us", 0),
    Metric("submits_many_rate", "50 submitters, 50 accounts, SQLite: rate", "1/s", 0, more_is_better=True),
    Metric("submits_many_cpu", "50 submitters, 50 accounts, SQLite: CPU of a submit", "us", 0),
    Metric("submits_many_pg_rate", "50 submitters, 50 accounts, PostgreSQL: rate", "1/s", 0, more_is_better=True),
    Metric("submits_many_pg_cpu", "50 submitters, 50 accounts, PostgreSQL: CPU of a submit", "us", 0),
    Metric("upload_cpu", "100 MB upload: CPU", "s/GB", 2),
    Metric("upload_faults", "100 MB upload: page faults", "1/GB", 0),
    Metric("inspected_cpu", "100 MB upload, a PDF with pages to count: CPU", "s/GB", 2),
    Metric("inspected_faults", "100 MB upload, a PDF with pages to count: page faults", "1/GB", 0),
    Metric("download_cpu", "50 MB download: CPU", "s/GB", 2),
    Metric("download_faults", "50 MB download: page faults", "1/GB", 0),
    Metric("handshake_cpu", "full handshake and one poll: CPU", "us", 0),
    Metric("resumed_cpu", "resumed handshake and one poll: CPU", "us", 0),
    Metric("latency", "added to a single client's median poll", "us", 0),
    Metric("mixed_p50", "poll while four uploads run: p50", "ms", 2),
    Metric("mixed_p99", "poll while four uploads run: p99", "ms", 2),
    Metric("mixed_rate", "the four uploads beside those polls: rate", "MB/s", 0, more_is_better=True),
    Metric("wait_late", "from a job's end to its result in the hand of four clients", "ms", 0),
    Metric("wait_asked", "questions to the container in 100 ms of that job's life", "", 2),
    Metric("watched_cpu", "job of 10 s, polled each second: CPU of the proxy, from submit to result", "ms", 2),
    Metric("watched_container_cpu", "job of 10 s, polled each second: CPU of the container", "ms", 2),
    Metric("watched_after_cpu", "job of 10 s, polled each second: CPU of both after the submit", "ms", 2),
    Metric("watched_asked", "job of 10 s, polled each second: questions to the container", "", 1),
    Metric("watched_late", "job of 10 s, polled each second: from its end to its result", "ms", 0),
    Metric("held_cpu", "job of 10 s, polled with jobs.hold: CPU of the proxy, from submit to result", "ms", 2),
    Metric("held_container_cpu", "job of 10 s, polled with jobs.hold: CPU of the container", "ms", 2),
    Metric("held_after_cpu", "job of 10 s, polled with jobs.hold: CPU of both after the submit", "ms", 2),
    Metric("held_asked", "job of 10 s, polled with jobs.hold: questions to the container", "", 1),
    Metric("held_late", "job of 10 s, polled with jobs.hold: from its end to its result", "ms", 0),
    Metric("idle_kb", "memory of an idle TLS connection", "KB", 1),
    Metric("uploads_mb", "memory growth while eight 100 MB uploads run", "MB", 1),
    Metric("downloads_mb", "memory growth while eight 50 MB downloads run", "MB", 1),
    Metric("start_time", "start: until the first answer, with 10,000 keys in the ledger", "ms", 0),
    Metric("start_mb", "start: memory at the first answer", "MB", 1),
    Metric("help_time", "start: `gateway --help`", "ms", 0),
    Metric("rest_cpu", "at rest: share of a core", "%", 2),
    Metric("rest_mb", "at rest: memory", "MB", 1),
)
