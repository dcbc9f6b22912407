"""Operations of the admin API on jobs (read) and webhooks (read, retry): functions of a Context and a Call."""

import re
from typing import Any, Final

from sqlalchemy import Connection

from gateway.admin import job_answers
from gateway.admin.context import Call, Context
from gateway.admin.cursors import written
from gateway.admin.portions import convert_all
from gateway.admin.problem import AdminProblem, InvalidValue
from gateway.admin.requests import JobQuery, JobsQuery, Nothing, WebhooksQuery
from gateway.jobs.view import job_facts, webhook_facts
from gateway.ledger import listings as joblist
from gateway.ledger.deliveries import retry
from gateway.ledger.listings import JobMark, WebhookMark, shown
from gateway.ledger.schema import DeliveryState, JobState
from gateway.model import patterns
from gateway.model.account_names import qualified

_WEBHOOK_ID: Final = re.compile(patterns.ID)
_NO_WEBHOOK: Final = "The ledger has no such webhook."
_NOT_TO_BE_SENT: Final = {
    DeliveryState.WAITING: "It waits for the end of its job.",
    DeliveryState.DELIVERED: "It was delivered.",
}


async def list_jobs(context: Context, call: Call) -> job_answers.Jobs:
    """Lists jobs."""
    query: JobsQuery = call.query
    owner = None if query.owner is None else qualified(query.owner)
    state = None if query.state is None else JobState[query.state.upper()]
    rows = await context.ledger.report(
        lambda c: joblist.list_jobs(c, owner, state, query.limit + 1, query.after, query.q)
    )
    page = rows[: query.limit]
    following = (
        JobMark(page[-1].created_at, page[-1].upstream, page[-1].request_id) if len(rows) > len(page) else None
    )
    found = await convert_all(page, lambda row: job_answers.Job(**job_facts(row)), context.iteration)
    return job_answers.Jobs(jobs=found, next=None if following is None else written(following))


async def show_job(context: Context, call: Call) -> job_answers.Job:
    """Shows a job."""
    query: JobQuery = call.query
    rows = await context.ledger.read(lambda c: joblist.jobs_with_id(c, call.subject, query.upstream))
    if not rows:
        raise AdminProblem("job_not_found", "The ledger has no job of this id.")
    if len(rows) > 1:
        names = ", ".join(row.upstream for row in rows)
        fault = InvalidValue(path="upstream", message=f"is needed: there are jobs of this id of {names}")
        raise AdminProblem("invalid", f"{fault.path} {fault.message}", errors=[fault])
    return job_answers.Job(**job_facts(rows[0]))


async def list_webhooks(context: Context, call: Call) -> job_answers.Webhooks:
    """Lists webhooks."""
    query: WebhooksQuery = call.query
    state = None if query.state is None else DeliveryState[query.state.upper()]
    rows = await context.ledger.report(
        lambda c: joblist.list_webhooks(c, state, query.limit + 1, query.after, query.q)
    )
    page = rows[: query.limit]
    following = WebhookMark(page[-1]["created_at"], page[-1]["id"]) if len(rows) > len(page) else None
    found = await convert_all(page, lambda row: job_answers.Webhook(**webhook_facts(row)), context.iteration)
    return job_answers.Webhooks(webhooks=found, next=None if following is None else written(following))


async def show_webhook(context: Context, call: Call) -> job_answers.Webhook:
    """Shows a webhook."""
    delivery = _known(call)
    return _webhook(await context.ledger.read(lambda c: shown(c, delivery)))


async def retry_webhook(context: Context, call: Call) -> job_answers.Webhook:
    """Makes a webhook due at once; one that is being sent stays as it is."""
    _: Nothing = call.body
    delivery, now = _known(call), context.wall()

    def work(connection: Connection) -> tuple[DeliveryState | None, dict[str, Any] | None]:
        return retry(connection, delivery, call.actor, now), shown(connection, delivery)

    was, row = await context.ledger.write(work, durable=True)
    if was in _NOT_TO_BE_SENT:
        raise AdminProblem("conflict", _NOT_TO_BE_SENT[was])
    return _webhook(row)


def _known(call: Call) -> str:
    if not _WEBHOOK_ID.fullmatch(call.subject):
        raise AdminProblem("webhook_not_found", _NO_WEBHOOK)
    return call.subject


def _webhook(row: dict[str, Any] | None) -> job_answers.Webhook:
    if row is None:
        raise AdminProblem("webhook_not_found", _NO_WEBHOOK)
    return job_answers.Webhook(**webhook_facts(row))
