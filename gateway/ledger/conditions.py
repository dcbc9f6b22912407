"""The conditions that partial indexes share with the statements for which they are made.

An engine uses such an index only where a statement states the index's condition word for word, so each stands here
once, its numbers as words: parameters would not do. Only "not null" stands elsewhere, with its index (indexes.py): it
follows from every comparison.
"""

from typing import Any, Final

from sqlalchemy import ColumnElement, Integer, literal_column

from gateway.ledger.schema import DeliveryState, JobState, Stage, deliveries, jobs, reservations

FIRST_WAIT: Final = 60
"""Seconds; a forgotten job that waits for less was not yet to be deleted by its upstream."""


def _word(number: int) -> ColumnElement[Any]:
    return literal_column(str(int(number)), Integer)


IS_READABLE: Final = jobs.c.state != _word(JobState.GONE)
_is_gone: Final = jobs.c.state == _word(JobState.GONE)
last_wait: Final = jobs.c.expires_at - jobs.c.changed_at // _word(1000)
"""How long a forgotten job's last wait for its deletion is, in seconds."""

GONE_FIRST: Final = _is_gone & (last_wait < _word(FIRST_WAIT))
GONE_AGAIN: Final = _is_gone & (last_wait >= _word(FIRST_WAIT))
"""Deletions that are due now or later, of jobs that the upstream was never asked about, and of others."""

ENDED: Final = reservations.c.stage >= _word(Stage.SETTLED)
"""Reservations that nobody renews."""

WAITS: Final = deliveries.c.state == _word(DeliveryState.WAITING)
"""Webhooks of jobs that still run: one for each id of an upstream."""
