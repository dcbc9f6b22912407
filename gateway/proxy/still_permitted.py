"""Whether a request that has waited is still permitted: its caller by what is in force now, its job if it exists."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from gateway.authorize.recheck import recheck_permit
from gateway.config.state import Live
from gateway.jobs.job import job_not_found
from gateway.model.request import Permit
from gateway.proxy.forward_order import ForwardOrder
from gateway.uploads.form import FormRules
from gateway.upstream.job_api import JobShape


class _MadeRules(NamedTuple):
    """Rules of a form, and what they were made of."""

    form_rules: FormRules
    shape: JobShape
    most_pages: int
    made: FormRules


class StillPermitted:
    """Checks requests again. `clock` is the loop's, in seconds; `wall` in seconds since the epoch."""

    def __init__(self, live: Live, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self._live = live
        self._clock = clock
        self._wall = wall
        self._made: _MadeRules | None = None

    def check(self, order: ForwardOrder) -> Permit:
        """The permit of a request as it would be granted now.

        Raises:
            Refused: it would no longer be granted.
        """
        return recheck_permit(self._live.state, order.prepared, order.client.peer, self._wall())

    def form_rules(self, shape: JobShape, most_pages: int) -> FormRules:
        """The rules that are in force now for a form of `most_pages` at the most, by the shape of its job."""
        rules, last = self._live.state.form_rules, self._made
        if last is not None and last.form_rules is rules and last.shape is shape and last.most_pages == most_pages:
            return last.made  # each submit asks twice, and most of them for the same
        made = replace(shape.form_rules(rules), most_pages=most_pages)
        self._made = _MadeRules(rules, shape, most_pages, made)
        return made

    def check_if_stale(self, order: ForwardOrder) -> None:
        """Checks the permit again, if the request has waited past the time until which it was valid.

        Raises:
            Refused: it would not be permitted now.
        """
        if self._clock() >= order.prepared.good_until:
            self.check(order)

    def check_job(self, order: ForwardOrder) -> None:
        """Checks that the request's job, if it has one, has not gone meanwhile, but by this very request.

        Raises:
            Refused: job_not_found.
        """
        if order.job is not None and order.job.is_gone and order.delete_before is None:
            raise job_not_found()  # its id may be another owner's by now

    def check_both(self, order: ForwardOrder) -> None:
        """Checks the permit, if it is stale, and the job.

        Raises:
            Refused: it would not be permitted now.
        """
        self.check_if_stale(order)
        self.check_job(order)
