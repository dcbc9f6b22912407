"""Faults of our own end at one boundary: a 500 with a reason, one event with type and place, and nothing else."""

import asyncio
import errno
import os
import resource
import socket

import pytest

from gateway.errors import Refused
from gateway.listener.accept import Acceptor
from gateway.model.reasons import Denial, Reason
from gateway.proxy.forwarder import Forwarder
from tests.support.backend import Backend
from tests.support.forms import form
from tests.support.gateway import Running, request, submit


async def test_a_fault_of_ours_is_a_500_that_tells_only_the_log_where(
    gateway: Running, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise ValueError("canary-message")

    gateway.expects_internal_errors = True
    monkeypatch.setattr(Forwarder, "forward", fail)
    client = await gateway.connect()
    problem = (await client.ask(request())).is_refusal(500, "internal")
    monkeypatch.undo()
    (event,) = [event for event in gateway.events if event["event"] == "internal error"]
    assert event["request_id"] == problem["request_id"]
    assert event["error"].startswith("ValueError at gateway/proxy/job_requests.py:")
    assert "canary" not in str(gateway.events)
    assert gateway.counted(status=500, reason="internal") == 1
    assert (await client.ask(request())).status == 200
    assert len(backend.requests) == 1


async def test_a_refusal_that_can_not_be_written_is_a_fault_of_ours(
    gateway: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise Refused(Denial(Reason.FORBIDDEN, "x", title="\xfc"))  # a status line takes ASCII alone

    gateway.expects_internal_errors = True
    monkeypatch.setattr(Forwarder, "forward", refuse)
    (await gateway.ask(request())).is_refusal(500, "internal")
    monkeypatch.undo()
    assert gateway.counted(status=500, reason="internal") == 1


@pytest.mark.parametrize("name", ["\\ud800_dir", "\\udfff\\ud800_dir"])
async def test_a_name_that_utf_8_lacks_is_refused_as_any_other(gateway: Running, name: str) -> None:
    """JSON can spell a lone surrogate; it was quoted in the refusal, which no answer, log or ledger could take."""
    client = await gateway.connect()
    for _ in range(2):
        answer = await client.ask(submit(form(additional_config=f'{{"{name}": 1}}')), b"POST")
        assert "A field of this form" in answer.is_refusal(422, "field_refused")["detail"]
    assert gateway.counted(status=422, reason="field_refused") == 2
    kept = gateway.gateway.watch.seen.refusals()
    assert all(row.detail.isprintable() for row in kept)


async def test_when_files_run_out_accepting_rests_and_goes_on(
    gateway: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EMFILE, as the kernel would say it: the loop must not spin on a socket it can't accept from."""
    acceptor: Acceptor = gateway.gateway.listeners.public
    real = acceptor.listening
    fails = 1

    class Exhausted:
        def accept(self) -> tuple[socket.socket, object]:
            nonlocal fails
            if fails:
                fails -= 1
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return real.accept()

        def fileno(self) -> int:
            return real.fileno()

        def close(self) -> None:
            real.close()

    monkeypatch.setattr("gateway.listener.accept.REST", 0.05)
    monkeypatch.setattr(acceptor, "listening", Exhausted())
    client = await asyncio.wait_for(gateway.connect(), 10)
    assert (await client.ask(request())).status == 200
    assert acceptor.refused["out_of_files"] == 1
    assert [event["event"] for event in gateway.events if event["level"] == "error"] == ["accepting paused"]
    monkeypatch.undo()


async def test_a_client_that_hung_up_while_it_waited_is_no_reason_to_rest(gateway: Running) -> None:
    acceptor: Acceptor = gateway.gateway.listeners.public
    assert not acceptor._has_paused(OSError(errno.ECONNABORTED, "gone"))
    assert not acceptor.refused.total()
    assert (await gateway.ask(request())).status == 200


async def test_when_no_descriptor_is_left_for_the_upstream_the_answer_says_that(
    gateway: Running, backend: Backend
) -> None:
    """The real limit of this process, below all that is open: what closes meanwhile makes no room."""
    client = await gateway.connect()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        answer = await client.ask(request())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    problem = answer.is_refusal(503, "out_of_files")
    assert "file descriptors" in problem["detail"]
    await backend.got_nothing()
    assert (await gateway.ask(request())).status == 200
