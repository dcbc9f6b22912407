"""Checkpoints: a submit may name one only if an answer to its own owner did."""

import time
from collections.abc import Callable
from functools import partial

import pytest

from tests.support.backend import Backend
from tests.support.forms import form
from tests.support.gateway import ADMIN_KEY, BOTH_WAYS, KEY, Running, Start, submit
from tests.support.jobs import Jobs, Used, comes_to, complete, poll
from tests.support.waiting import eventually


@pytest.fixture
def jobs(backend: Backend) -> Jobs:
    """The upstream runs one job, whose answer names a checkpoint."""
    backend.script = jobs = Jobs()
    jobs.results["job-1"] = complete(1, checkpoint_id="cp-1", number=7)
    return jobs


async def shown(gateway: Running) -> None:
    """The first key has a job, and reads of its checkpoint."""
    assert (await gateway.ask(submit(), b"POST")).status == 200
    assert (await gateway.ask(poll())).status == 200
    await eventually(lambda: bool(gateway.gateway.jobs.checkpoints.seen))


def naming(checkpoint: str, key: str = KEY, *, chunked: bool = False) -> bytes:
    return submit(form(None, checkpoint_id=checkpoint, page_schema="{}"), key=key, chunked=chunked)


@BOTH_WAYS
async def test_a_checkpoint_is_for_whom_it_was_shown_to(
    gateway: Running, backend: Backend, jobs: Jobs, *, chunked: bool
) -> None:
    named = partial(naming, chunked=chunked)
    (await gateway.ask(named("cp-1"), b"POST")).is_refusal(404, "job_not_found")  # nobody has seen it yet
    await shown(gateway)
    assert (await gateway.ask(named("cp-1"), b"POST")).status == 200
    assert backend.requests[-1].body == form(None, checkpoint_id="cp-1", page_schema="{}")
    started = jobs.started
    theirs = (await gateway.ask(named("cp-1", ADMIN_KEY), b"POST")).is_refusal(404, "job_not_found")
    nobodys = (await gateway.ask(named("cp-2", ADMIN_KEY), b"POST")).is_refusal(404, "job_not_found")
    assert {**theirs, "request_id": ""} == {**nobodys, "request_id": ""}
    await comes_to(gateway, Used(), ADMIN_KEY)
    assert jobs.started == started


async def test_the_ledger_knows_it_when_the_process_does_not(gateway: Running, jobs: Jobs) -> None:
    await shown(gateway)
    await comes_to(gateway, Used(0, 0, 1, 1))
    gateway.gateway.jobs.checkpoints.seen.clear()
    assert (await gateway.ask(naming("cp-1"), b"POST")).status == 200
    (await gateway.ask(naming("cp-1", ADMIN_KEY), b"POST")).is_refusal(404, "job_not_found")
    assert jobs.started == 2


async def test_it_is_kept_as_long_as_results(start: Start, jobs: Jobs) -> None:
    gateway = await start(jobs={"watch": False, "result_ttl": "1s"})
    await shown(gateway)
    known = gateway.gateway.jobs.checkpoints
    (until,) = known.seen.values()
    await eventually(lambda: time.time() >= until)
    (await gateway.ask(naming("cp-1"), b"POST")).is_refusal(404, "job_not_found")
    assert jobs.started == 1


@pytest.mark.parametrize(
    "spelt",
    [lambda name: name.upper(), lambda name: f"{name}[]", lambda name: f" {name}"],
    ids=["upper", "[]", "blank"],
)
async def test_its_field_has_one_spelling(spelt: Callable[[str], str], gateway: Running, jobs: Jobs) -> None:
    body = form(None, **{spelt("checkpoint_id"): "cp-1"})
    (await gateway.ask(submit(body), b"POST")).is_refusal(415, "unsupported_media_type")
    twice = form(None, checkpoint_id="cp-1", other="x").replace(b'name="other"', b'name="checkpoint_id"')
    (await gateway.ask(submit(twice), b"POST")).is_refusal(415, "unsupported_media_type")
    assert jobs.started == 0


async def test_an_empty_one_names_none(gateway: Running, jobs: Jobs) -> None:
    assert (await gateway.ask(submit(form(checkpoint_id="")), b"POST")).status == 200
    assert jobs.started == 1


async def test_a_container_without_checkpoints_has_a_field_like_any_other(start: Start, jobs: Jobs) -> None:
    shape = {"checkpoint_field": None, "checkpoint_member": None}
    gateway = await start(jobs={"watch": False, "shapes": {"default": shape}})
    assert (await gateway.ask(naming("anything"), b"POST")).status == 200
    assert jobs.started == 1


@BOTH_WAYS
async def test_a_page_beside_one_does_not_make_it_a_page(start: Start, jobs: Jobs, *, chunked: bool) -> None:
    """The container may take the checkpoint, which may have any number of pages."""
    gateway = await start(profiles={"default": {"pages_per_request": 40, "pages_in_flight": 60}})
    await shown(gateway)
    body = submit(form(checkpoint_id="cp-1"), chunked=chunked)
    await comes_to(gateway, Used(pages=1, requests=1))
    assert (await gateway.ask(body, b"POST")).status == 200
    await comes_to(gateway, Used(in_flight=40, pages=41, requests=2))
    refused = await gateway.ask(body, b"POST")
    refused.is_refusal(429, "too_many_pages_in_flight")
    assert b"names two documents" in refused.body
    assert jobs.started == 2


@pytest.mark.parametrize("named", ["cp\x00", "x" * 257, "cp-1\n"], ids=["nul", "long", "line end"])
async def test_what_can_be_no_checkpoint_is_nobodys_and_no_fault_of_the_ledgers(
    named: str, ledger_url: str, start: Start, jobs: Jobs
) -> None:
    """PostgreSQL takes no NUL: asked for one, it would count as away, for everybody."""
    gateway = await start(ledger={"url": ledger_url})
    (await gateway.ask(naming(named), b"POST")).is_refusal(404, "job_not_found")
    assert gateway.metric("gateway_ledger_up") == 1
    assert jobs.started == 0
