"""The metrics of jobs, of the questions about them and of those that wait for them. Part of the composition root."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from gateway.admission.unverified_bodies import UnverifiedBodies
from gateway.jobs.findings import Findings
from gateway.jobs.housekeeping import Housekeeping
from gateway.jobs.long_polls import LongPolls
from gateway.jobs.reading import WHYS
from gateway.jobs.status_queue import StatusQueue
from gateway.jobs.watcher import Watcher
from gateway.model.jobs import JOB_STATES


@dataclass(frozen=True, slots=True, eq=False)
class JobMetrics:
    """Reads the numbers of these parts."""

    housekeeping: Housekeeping
    queue: StatusQueue
    watcher: Watcher
    findings: Findings
    unverified: UnverifiedBodies
    long_polls: LongPolls

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at each scrape."""
        jobs = GaugeMetricFamily("gateway_jobs", "Jobs that can be read, by state.", labels=("state",))
        for state in JOB_STATES:
            jobs.add_metric((state,), self.housekeeping.counts.get(state, 0))
        yield jobs
        yield CounterMetricFamily(
            "gateway_job_status_requests", "Questions to upstreams about a job's status.", self.queue.asked
        )
        unreadable = CounterMetricFamily(
            "gateway_job_answers_unreadable", "Answers about jobs that could not be read, by why.", labels=("why",)
        )
        for why in WHYS:
            unreadable.add_metric((why,), self.findings.unreadable[why])
        yield unreadable
        yield CounterMetricFamily(
            "gateway_job_status_words_unknown",
            "Answers with a status word in no list.",
            self.findings.unknown_words,
        )
        yield GaugeMetricFamily(
            "gateway_jobs_behind_seconds", "By how much the most urgent question is late.", self.watcher.behind
        )
        yield GaugeMetricFamily(
            "gateway_unverified_body_bytes", "Bytes of bodies nobody has vouched for yet.", self.unverified.used
        )
        yield GaugeMetricFamily(
            "gateway_polls_held", "Polls that wait for the end of their job.", len(self.long_polls)
        )
