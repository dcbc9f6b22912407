"""The one table of the admin API. Routes and OpenAPI document are both built from it, so they can't drift apart."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache

from pydantic import BaseModel

from gateway.admin import callers, jobs, keys, reports, requests, responses, watching
from gateway.admin.context import Call, Context
from gateway.admin.openapi import document_of

_KEY = "/admin/v1/keys/{id}"
_CALLER = "/admin/v1/callers/{account}"
_WEBHOOK = "/admin/v1/webhooks/{id}"
Run = Callable[[Context, Call], Awaitable[BaseModel]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path: its input, its answer with `status`, and the function that runs it."""

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
    """Makes the table, including the operation that describes it."""

    @cache
    def document() -> responses.Document:
        return responses.Document(document_of(operations))

    async def describe(_: Context, __: Call) -> responses.Document:
        return await asyncio.to_thread(document)  # it takes 60 ms, and may never be needed

    summary = "This document"
    itself = Operation("describe", "GET", "/admin/v1/openapi.json", summary, describe, responses.Document)
    operations = (*_watching(), *_keys(), *_callers(), *_jobs(), *_reports(), itself)
    return operations


def _keys() -> tuple[Operation, ...]:
    do = keys
    return (
        Operation(
            "listKeys", "GET", "/admin/v1/keys", "Keys of the ledger, by id", do.list_keys, responses.Keys,
            query=requests.KeysQuery,
        ),
        Operation(
            "listConfiguredKeys", "GET", "/admin/v1/configured-keys", "Keys of the configuration, in its order",
            do.list_configured, responses.ConfiguredKeys,
        ),
        Operation(
            "createKey", "POST", "/admin/v1/keys", "Make a key; its secret is in this answer alone", do.create,
            responses.NewSecret, body=requests.NewKey, status=201,
        ),
        Operation("showKey", "GET", _KEY, "One key, and how its account stands", do.show, responses.KeyInFull),
        Operation(
            "changeKey", "PATCH", _KEY, "Change what is named; `disabled` is done behind all else", do.change,
            responses.Key, body=requests.KeyChange,
        ),
        Operation(
            "rotateKey", "POST", f"{_KEY}/rotate", "Another secret; the one in use lasts for the overlap",
            do.rotate, responses.NewSecret, body=requests.Rotation, takes_idempotency_key=True,
        ),
        Operation(
            "revokeKey", "POST", f"{_KEY}/revoke", "End one secret, or all", do.revoke, responses.Revoked,
            body=requests.Revocation,
        ),
        Operation(
            "grantPages", "POST", f"{_KEY}/grants", "Add pages to the budgets for some time", do.grant,
            responses.Granted, body=requests.Grant,
        ),
        Operation(
            "resetKey", "POST", f"{_KEY}/reset", "Let the windows of this day and month begin anew", do.reset,
            responses.Forgotten, body=requests.Nothing,
        ),
    )  # fmt: skip


def _watching() -> tuple[Operation, ...]:
    do = watching
    return (
        Operation(
            "overview", "GET", "/admin/v1/overview", "How this replica stands", do.overview, responses.Overview
        ),
        Operation(
            "history", "GET", "/admin/v1/history", "The last hour of this replica", do.history, responses.History,
            query=requests.HistoryQuery,
        ),
        Operation(
            "refusals", "GET", "/admin/v1/refusals", "Who was refused how often and why, since this replica's start",
            do.refusals, responses.Refusals, query=requests.RefusalsQuery,
        ),
    )  # fmt: skip


def _callers() -> tuple[Operation, ...]:
    do = callers
    return (
        Operation(
            "listCallers", "GET", "/admin/v1/callers", "Callers by token and certificate, by name", do.list_callers,
            responses.Callers, query=requests.CallersQuery,
        ),
        Operation("showCaller", "GET", _CALLER, "One caller, also before he comes", do.show, responses.CallerInFull),
        Operation(
            "blockCaller", "POST", f"{_CALLER}/block", "Refuse all that a caller asks", do.block,
            responses.CallerInFull, body=requests.Nothing,
        ),
        Operation(
            "unblockCaller", "POST", f"{_CALLER}/unblock", "Let a caller in again", do.unblock,
            responses.CallerInFull, body=requests.Nothing,
        ),
        Operation(
            "grantPagesToCaller", "POST", f"{_CALLER}/grants", "Add pages to the budgets for some time", do.grant,
            responses.GrantedToCaller, body=requests.Grant,
        ),
        Operation(
            "resetCaller", "POST", f"{_CALLER}/reset", "Let the windows of this day and month begin anew", do.reset,
            responses.ForgottenOfCaller, body=requests.Nothing,
        ),
    )  # fmt: skip


def _jobs() -> tuple[Operation, ...]:
    do = jobs
    return (
        Operation(
            "listJobs", "GET", "/admin/v1/jobs", "Jobs, the newest first, without content", do.list_jobs,
            responses.Jobs, query=requests.JobsQuery,
        ),
        Operation(
            "showJob", "GET", "/admin/v1/jobs/{request_id}", "One job, also when it is gone", do.show_job,
            responses.Job, query=requests.JobQuery,
        ),
        Operation(
            "listWebhooks", "GET", "/admin/v1/webhooks", "Webhooks that go out, the newest first", do.list_webhooks,
            responses.Webhooks, query=requests.WebhooksQuery,
        ),
        Operation("showWebhook", "GET", _WEBHOOK, "One webhook", do.show_webhook, responses.Webhook),
        Operation(
            "retryWebhook", "POST", f"{_WEBHOOK}/retry", "Send one at once that was given up, or waits",
            do.retry_webhook, responses.Webhook, body=requests.Nothing,
        ),
    )  # fmt: skip


def _reports() -> tuple[Operation, ...]:
    return (
        Operation(
            "usage", "GET", "/admin/v1/usage", "Settled usage by day and account", reports.usage, responses.Usage,
            query=requests.UsageQuery,
        ),
        Operation(
            "audit", "GET", "/admin/v1/audit", "Who changed, read or was refused what",
            reports.audit, responses.Audit, query=requests.AuditQuery,
        ),
    )  # fmt: skip
