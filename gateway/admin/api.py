"""The one table of the admin API. Routes and OpenAPI document are both built from it, so they can't drift apart."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache

from pydantic import BaseModel

from gateway.admin import (
    answer,
    caller_answers,
    callers,
    job_answers,
    jobs,
    key_answers,
    keys,
    near,
    overview_answers,
    refused,
    reports,
    requests,
    shown_tokens,
    token_answers,
    watching,
)
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
    changes_nothing: bool = False


def make_operations() -> tuple[Operation, ...]:
    """Makes the table, including the operation that describes it."""

    @cache
    def document() -> answer.Document:
        return answer.Document(document_of(operations))

    async def describe(_: Context, __: Call) -> answer.Document:
        return await asyncio.to_thread(document)  # it takes 60 ms, and may never be needed

    summary = "This document"
    itself = Operation("describe", "GET", "/admin/v1/openapi.json", summary, describe, answer.Document)
    operations = (*_watching(), *_keys(), *_callers(), *_tokens(), *_jobs(), *_reports(), itself)
    return operations


def _keys() -> tuple[Operation, ...]:
    do = keys
    return (
        Operation(
            "listKeys", "GET", "/admin/v1/keys", "Keys of the ledger, by id", do.list_keys, key_answers.Keys,
            query=requests.KeysQuery,
        ),
        Operation(
            "listConfiguredKeys", "GET", "/admin/v1/configured-keys", "Keys of the configuration, in its order",
            do.list_configured, key_answers.ConfiguredKeys,
        ),
        Operation(
            "createKey", "POST", "/admin/v1/keys", "Make a key; its secret is in this answer alone", do.create,
            key_answers.NewSecret, body=requests.NewKey, status=201,
        ),
        Operation("showKey", "GET", _KEY, "One key, with its account's usage", do.show, key_answers.KeyInFull),
        Operation(
            "changeKey", "PATCH", _KEY, "Change the named fields; `disabled` is applied last", do.change,
            key_answers.Key, body=requests.KeyChange,
        ),
        Operation(
            "rotateKey", "POST", f"{_KEY}/rotate", "Another secret; the one in use lasts for the overlap",
            do.rotate, key_answers.NewSecret, body=requests.Rotation, takes_idempotency_key=True,
        ),
        Operation(
            "revokeKey", "POST", f"{_KEY}/revoke", "End one secret, or all", do.revoke, key_answers.Revoked,
            body=requests.Revocation,
        ),
        Operation(
            "grantPages", "POST", f"{_KEY}/grants", "Add pages to the budgets for some time", do.grant,
            key_answers.Granted, body=requests.Grant,
        ),
        Operation(
            "endGrants", "POST", f"{_KEY}/grants/end", "End one grant now, or all", do.end_grants,
            key_answers.GrantsEnded, body=requests.GrantEnd,
        ),
        Operation(
            "resetKey", "POST", f"{_KEY}/reset", "Reset this day's and this month's windows", do.reset,
            key_answers.Forgotten, body=requests.Nothing,
        ),
    )  # fmt: skip


def _watching() -> tuple[Operation, ...]:
    do = watching
    return (
        Operation(
            "overview", "GET", "/admin/v1/overview", "State of this replica", do.overview, overview_answers.Overview
        ),
        Operation(
            "history", "GET", "/admin/v1/history", "The last hour of this replica", do.history,
            overview_answers.History, query=requests.HistoryQuery,
        ),
        Operation(
            "nearLimits", "GET", "/admin/v1/near-limits", "Who has used most of a limit, the nearest first",
            near.near_limits, overview_answers.NearLimits, query=requests.NearQuery,
        ),
        Operation(
            "refusals", "GET", "/admin/v1/refusals", "Who was refused how often and why, since this replica's start",
            do.refusals, caller_answers.Refusals, query=requests.RefusalsQuery,
        ),
        Operation(
            "listRefused", "GET", "/admin/v1/refused-requests", "Requests of a day that were refused or failed",
            refused.list_refused, caller_answers.RefusedRequests, query=requests.RefusedQuery,
        ),
        Operation(
            "showRefused", "GET", "/admin/v1/refusals/{request_id}", "One of these by its id",
            refused.show_refused, caller_answers.RefusedRequest,
        ),
    )  # fmt: skip


def _tokens() -> tuple[Operation, ...]:
    return (
        Operation(
            "judgeToken", "POST", "/admin/v1/tokens/judge", "Whether this replica would accept a token, and why not",
            shown_tokens.judge_shown, token_answers.TokenVerdict, body=requests.ShownToken, changes_nothing=True,
        ),
    )  # fmt: skip


def _callers() -> tuple[Operation, ...]:
    do = callers
    return (
        Operation(
            "listCallers", "GET", "/admin/v1/callers", "Callers by token and certificate, by name", do.list_callers,
            caller_answers.Callers, query=requests.CallersQuery,
        ),
        Operation(
            "showCaller", "GET", _CALLER, "One caller, even before the first request", do.show,
            caller_answers.CallerInFull,
        ),
        Operation(
            "blockCaller", "POST", f"{_CALLER}/block", "Refuse all that a caller asks", do.block,
            caller_answers.CallerInFull, body=requests.Nothing,
        ),
        Operation(
            "unblockCaller", "POST", f"{_CALLER}/unblock", "Let a caller in again", do.unblock,
            caller_answers.CallerInFull, body=requests.Nothing,
        ),
        Operation(
            "grantPagesToCaller", "POST", f"{_CALLER}/grants", "Add pages to the budgets for some time", do.grant,
            caller_answers.GrantedToCaller, body=requests.Grant,
        ),
        Operation(
            "endGrantsOfCaller", "POST", f"{_CALLER}/grants/end", "End one grant now, or all", do.end_grants,
            caller_answers.GrantsOfCallerEnded, body=requests.GrantEnd,
        ),
        Operation(
            "resetCaller", "POST", f"{_CALLER}/reset", "Reset this day's and this month's windows", do.reset,
            caller_answers.ForgottenOfCaller, body=requests.Nothing,
        ),
    )  # fmt: skip


def _jobs() -> tuple[Operation, ...]:
    do = jobs
    return (
        Operation(
            "listJobs", "GET", "/admin/v1/jobs", "Jobs, the newest first, without content", do.list_jobs,
            job_answers.Jobs, query=requests.JobsQuery,
        ),
        Operation(
            "showJob", "GET", "/admin/v1/jobs/{request_id}", "One job, also when it is gone", do.show_job,
            job_answers.Job, query=requests.JobQuery,
        ),
        Operation(
            "listWebhooks", "GET", "/admin/v1/webhooks", "Webhooks that go out, the newest first", do.list_webhooks,
            job_answers.Webhooks, query=requests.WebhooksQuery,
        ),
        Operation("showWebhook", "GET", _WEBHOOK, "One webhook", do.show_webhook, job_answers.Webhook),
        Operation(
            "retryWebhook", "POST", f"{_WEBHOOK}/retry", "Send one at once that was given up, or waits",
            do.retry_webhook, job_answers.Webhook, body=requests.Nothing,
        ),
    )  # fmt: skip


def _reports() -> tuple[Operation, ...]:
    return (
        Operation(
            "usage", "GET", "/admin/v1/usage", "Settled usage by day and account", reports.usage,
            caller_answers.Usage, query=requests.UsageQuery,
        ),
        Operation(
            "audit", "GET", "/admin/v1/audit", "Who changed, read or was refused what",
            reports.audit, caller_answers.Audit, query=requests.AuditQuery,
        ),
    )  # fmt: skip
