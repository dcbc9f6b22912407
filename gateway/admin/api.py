"""The one table of the admin API: routes and OpenAPI document are both made of it, so neither can drift."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache

from pydantic import BaseModel

from gateway.admin import jobs as joboperations
from gateway.admin import keys as keyoperations
from gateway.admin import reports
from gateway.admin import requests as asked
from gateway.admin import requests as jobasked
from gateway.admin import responses as answers
from gateway.admin.context import Call, Context
from gateway.admin.openapi import document_of

_KEY = "/admin/v1/keys/{id}"
_WEBHOOK = "/admin/v1/webhooks/{id}"
Run = Callable[[Context, Call], Awaitable[BaseModel]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path: what it takes, what it answers with `status`, and what does it."""

    id: str
    method: str
    path: str
    summary: str
    run: Run
    answer: type[BaseModel]
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    status: int = 200
    takes_idempotency_key: bool = False


def make_operations() -> tuple[Operation, ...]:
    """Makes the table, the description of itself included."""

    @cache
    def document() -> answers.Document:
        return answers.Document(document_of(operations))

    async def describe(_: Context, __: Call) -> answers.Document:
        return await asyncio.to_thread(document)  # it takes 60 ms, and nobody may ever ask

    summary = "This document"
    itself = Operation("describe", "GET", "/admin/v1/openapi.json", summary, describe, answers.Document)
    operations = (*_keys(), *_jobs(), *_reports(), itself)
    return operations


def _keys() -> tuple[Operation, ...]:
    do = keyoperations
    return (
        Operation(
            "listKeys", "GET", "/admin/v1/keys", "Keys of the ledger, by id", do.list_keys, answers.Keys,
            query=asked.KeysQuery,
        ),
        Operation(
            "createKey", "POST", "/admin/v1/keys", "Make a key; its secret is in this answer alone", do.create,
            answers.NewSecret, body=asked.NewKey, status=201,
        ),
        Operation("showKey", "GET", _KEY, "One key, and how its account stands", do.show, answers.KeyInFull),
        Operation(
            "changeKey", "PATCH", _KEY, "Change what is named; `disabled` is done behind all else", do.change,
            answers.Key, body=asked.KeyChange,
        ),
        Operation(
            "rotateKey", "POST", f"{_KEY}/rotate", "Another secret; the one in use lasts for the overlap",
            do.rotate, answers.NewSecret, body=asked.Rotation, takes_idempotency_key=True,
        ),
        Operation(
            "revokeKey", "POST", f"{_KEY}/revoke", "End one secret, or all", do.revoke, answers.Revoked,
            body=asked.Revocation,
        ),
        Operation(
            "grantPages", "POST", f"{_KEY}/grants", "Add pages to the budgets for some time", do.grant,
            answers.Granted, body=asked.Grant,
        ),
        Operation(
            "resetKey", "POST", f"{_KEY}/reset", "Let the windows of this day and month begin anew", do.reset,
            answers.Forgotten, body=asked.Nothing,
        ),
    )  # fmt: skip


def _jobs() -> tuple[Operation, ...]:
    do = joboperations
    return (
        Operation(
            "listJobs", "GET", "/admin/v1/jobs", "Jobs, the newest first, without content", do.list_jobs,
            answers.Jobs, query=jobasked.JobsQuery,
        ),
        Operation(
            "showJob", "GET", "/admin/v1/jobs/{request_id}", "One job, also when it is gone", do.show_job,
            answers.Job, query=jobasked.JobQuery,
        ),
        Operation(
            "listWebhooks", "GET", "/admin/v1/webhooks", "Webhooks that go out, the newest first", do.list_webhooks,
            answers.Webhooks, query=jobasked.WebhooksQuery,
        ),
        Operation("showWebhook", "GET", _WEBHOOK, "One webhook", do.show_webhook, answers.Webhook),
        Operation(
            "retryWebhook", "POST", f"{_WEBHOOK}/retry", "Send one at once that was given up, or waits",
            do.retry_webhook, answers.Webhook, body=asked.Nothing,
        ),
    )  # fmt: skip


def _reports() -> tuple[Operation, ...]:
    return (
        Operation(
            "usage", "GET", "/admin/v1/usage", "Settled usage by day and account", reports.usage, answers.Usage,
            query=asked.UsageQuery,
        ),
        Operation(
            "audit", "GET", "/admin/v1/audit", "Who changed, read or was refused what", reports.audit, answers.Audit,
            query=asked.AuditQuery,
        ),
    )  # fmt: skip
