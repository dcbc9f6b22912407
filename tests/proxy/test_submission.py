"""What a submit reserves, and what becomes of that by the container's answer: it decides what is charged."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from gateway.admission.lease import PagesRefused
from gateway.errors import Refused, refuse
from gateway.ledger.deliveries import Planned
from gateway.ledger.jobs import NewJob
from gateway.limits.prices import Pricing
from gateway.limits.submit_decisions import Ask
from gateway.model.identity import Profile
from gateway.model.reasons import Denial, Reason
from gateway.proxy.judged_form import FormJudge, FormRoom
from gateway.proxy.submission import Intake, Submission
from gateway.uploads.file_kind import FileKind
from gateway.uploads.form import FileFacts, Form
from gateway.uploads.submit_body import Inspected
from gateway.upstream.submit_answer import SubmitAnswer
from gateway.webhooks.egress.destination import Destination
from gateway.webhooks.egress.webhook_url import read_url
from tests.support.ledgers import make_profile
from tests.support.pure import at_once, make_identity, make_permit, nobody_waits

OWNER, CAP = "key:ci", 50
PDF, IMAGE = FileFacts(FileKind.PDF, 1000), FileFacts(FileKind.IMAGE, 10)
PRICING = Pricing({"fast": 2, "accurate": 7}, "fast")
HOOK = Destination(read_url("https://hooks.test/in"), ())
BUDGET = PagesRefused(Denial(Reason.BUDGET_EXHAUSTED, "No page is left."))


class Desk:
    """All that a submission works with; `told` is what it did, in order. Each may be made to refuse."""

    lines = (b"RateLimit: 1",)
    tail = b"--b--"
    upstream, owner, reservation = "default", OWNER, "r1"
    name = "default"
    is_released = False

    def __init__(self, form: Form | None = None, counted: int | None = None, fields: list[str] | None = None) -> None:
        self.form = form or Form(file=PDF)
        self.counted = counted
        self.has_waited = True
        self.told: list[Any] = []
        self.profiles: list[Profile | Refused] = [make_profile(pages_per_request=CAP)]
        self.refusals: dict[str, Refused] = {}
        self.hook: Destination | None = None
        part: Any = self
        intake = Intake(part, "/api/v1/marker", self._begin, partial(self._note, "end_another_owners"), part)
        room = FormRoom(frozenset({"page_range", "max_pages"} if fields is None else fields), PRICING, part, part)
        permit = make_permit(identity=make_identity())
        self.submission = Submission(part, FormJudge(part, permit, self._permit_now, room), intake)

    def _note(self, what: str, *more: Any) -> None:
        self.told.append((what, *more) if more else what)
        if what in self.refusals:
            raise self.refusals[what]

    def _permit_now(self) -> Any:
        """By the first of the profiles, then by the next; the last one stays."""
        found = self.profiles.pop(0) if len(self.profiles) > 1 else self.profiles[0]
        if isinstance(found, Refused):
            raise found
        return make_permit(identity=make_identity(profile=found))

    def _begin(self, reservation: str, job: NewJob, has_failed: bool) -> None:
        self._note("begin", reservation, job.request_id, has_failed)

    # The body

    async def take(self, data: bytes) -> bytes:
        return data[:3]

    async def finish(self, let_others: Callable[[], Awaitable[None]], check: Callable[[Form], None]) -> Inspected:
        await let_others()
        check(self.form)
        self._note("counted")
        return Inspected(self.form, self.counted, self.has_waited)

    # The lease

    def judge_by(self, profile: Profile) -> None:
        self._note("judged by", profile.pages_per_request)

    async def reserve(self, ask: Ask) -> None:
        self._note("reserve", ask)

    async def accept(self, job: NewJob | None, webhook: Planned | None = None) -> None:
        self._note("accept", job, webhook)

    def mark_released(self) -> None:
        self.is_released = True

    def mark_refused(self) -> None:
        self._note("refused")

    def close(self) -> None:
        self._note("close")

    # Checkpoints and webhooks

    async def check(self, upstream: str, checkpoint: str, owner: str) -> None:
        self._note("checkpoint", upstream, checkpoint, owner)

    async def destination(self, url: str | None, owner: str) -> Destination | None:
        self._note("destination", url, owner)
        return self.hook

    def planned(self, where: Destination, job: tuple[str, str], owner: str, check_url: str | None) -> Planned:
        return Planned("w1", *job, owner, where.target.url, where.name, check_url)


def reserved(desk: Desk) -> Ask:
    assert at_once(desk.submission.reserve_pages(nobody_waits)) == desk.tail
    (ask,) = [one[1] for one in desk.told if one[0] == "reserve"]
    assert isinstance(ask, Ask)
    return ask


def refusal(doing: Awaitable[Any]) -> Denial:
    coroutine: Any = doing
    with pytest.raises(Refused) as caught:
        at_once(coroutine)
    return caught.value.denial


@pytest.mark.parametrize(
    ("form", "counted", "ask"),
    [
        (Form(file=PDF), 12, Ask(12, 2, "")),
        (Form(file=PDF, mode="accurate"), 12, Ask(12, 7, "accurate")),
        (Form(file=PDF, mode="balanced"), 12, Ask(12, 7, "balanced")),
        (Form(file=PDF, mode="of-tomorrow"), 12, Ask(12, 7, "")),
        (Form(file=PDF, page_range="0-2"), 12, Ask(3, 2, "")),
        (Form(file=PDF, max_pages="5"), 12, Ask(5, 2, "")),
        (Form(file=PDF), None, Ask(CAP, 2, "")),
        (Form(file=IMAGE), None, Ask(1, 2, "")),
        (Form(file=PDF, has_two=True), None, Ask(CAP, 2, "")),
        (Form(), None, Ask(CAP, 2, "")),
    ],
)
def test_as_many_pages_are_reserved_as_the_job_may_cost_at_the_price_of_its_mode(
    form: Form, counted: int | None, ask: Ask
) -> None:
    assert reserved(Desk(form, counted)) == ask


def test_all_that_may_refuse_comes_before_the_pages_are_reserved() -> None:
    form = Form(file=PDF, checkpoint="c1", removed={"webhook_url": "https://hooks.test/in"})
    desk = Desk(form, 4)
    reserved(desk)
    assert desk.told == [
        "counted",
        ("checkpoint", "default", "c1", OWNER),
        ("destination", "https://hooks.test/in", OWNER),
        ("judged by", CAP),
        ("reserve", Ask(4, 2, "")),
    ]


@pytest.mark.parametrize("at", ["counted", "checkpoint", "destination"])
def test_nothing_is_reserved_once_anything_refused(at: str) -> None:
    desk = Desk(Form(file=PDF, checkpoint="c1"), 4)
    desk.refusals[at] = refuse(Reason.FIELD_REFUSED, "No.")
    assert refusal(desk.submission.reserve_pages(nobody_waits)).reason is Reason.FIELD_REFUSED
    assert not any(one[0] == "reserve" for one in desk.told)


def test_who_may_no_longer_submit_has_no_page_counted() -> None:
    desk = Desk(counted=4)
    desk.profiles = [refuse(Reason.UNAUTHENTICATED, "Revoked.")]
    assert refusal(desk.submission.reserve_pages(nobody_waits)).reason is Reason.UNAUTHENTICATED
    assert desk.told == []


def test_who_lost_the_right_while_pages_were_counted_reserves_none() -> None:
    desk = Desk(counted=4)
    desk.profiles = [make_profile(pages_per_request=CAP), refuse(Reason.UNAUTHENTICATED, "Revoked.")]
    assert refusal(desk.submission.reserve_pages(nobody_waits)).reason is Reason.UNAUTHENTICATED
    assert desk.told == ["counted"]


@pytest.mark.parametrize(
    "form", [Form(file=PDF, checkpoint="c1"), Form(file=PDF, removed={"webhook_url": "https://hooks.test/in"})]
)
def test_limits_that_were_lowered_while_a_host_was_looked_up_are_in_force(form: Form) -> None:
    """To look up a webhook's host may take five seconds: the pages were reserved by the limits from before."""
    desk = Desk(form, 4)
    desk.profiles = [make_profile(pages_per_request=most) for most in (CAP, CAP, 3)]
    assert refusal(desk.submission.reserve_pages(nobody_waits)).reason is Reason.TOO_MANY_PAGES
    assert not any(one[0] == "reserve" for one in desk.told)


def test_who_was_judged_in_this_very_moment_is_not_judged_again() -> None:
    """Nobody else has run since: neither the State nor the request can be another one."""
    desk = Desk()
    desk.has_waited = False
    desk.profiles = [make_profile(pages_per_request=CAP), refuse(Reason.UNAUTHENTICATED, "Asked twice.")]
    assert reserved(desk) == Ask(CAP, 2, "")


def test_the_limits_of_after_the_count_are_those_that_count() -> None:
    desk = Desk(counted=12)
    desk.profiles = [make_profile(pages_per_request=CAP), make_profile(pages_per_request=11)]
    assert refusal(desk.submission.reserve_pages(nobody_waits)).reason is Reason.TOO_MANY_PAGES
    assert desk.told == ["counted", ("destination", None, OWNER)]


def test_a_choice_of_too_many_pages_is_refused_before_they_are_counted() -> None:
    desk = Desk(Form(file=PDF, page_range=f"0-{CAP}"), 4)
    assert refusal(desk.submission.reserve_pages(nobody_waits)).reason is Reason.TOO_MANY_PAGES
    assert desk.told == []


def test_a_profile_may_ask_for_a_page_range() -> None:
    desk = Desk(counted=4)
    desk.profiles = [make_profile(pages_per_request=CAP, needs_page_range=True)]
    assert refusal(desk.submission.reserve_pages(nobody_waits)).reason is Reason.FIELD_REFUSED
    assert desk.told == []


# What is said to whose pages could not be counted


@pytest.mark.parametrize(
    ("form", "why", "fields"),
    [
        (Form(file=PDF), "The document's pages can't be counted", "page_range or max_pages"),
        (Form(file=PDF, has_two=True), "The form names two documents", "max_pages"),
        (Form(), "The form has no field file", "max_pages"),
    ],
)
def test_who_pays_for_an_uncounted_document_is_told_why(form: Form, why: str, fields: str) -> None:
    desk = Desk(form)
    desk.refusals["reserve"] = BUDGET
    hint = f" {why}, so it counts as {CAP} (pages_per_request): say which by {fields}."
    assert refusal(desk.submission.reserve_pages(nobody_waits)).detail == BUDGET.denial.detail + hint


def test_where_no_field_narrows_the_pages_none_is_named() -> None:
    desk = Desk(fields=[])
    desk.refusals["reserve"] = BUDGET
    assert refusal(desk.submission.reserve_pages(nobody_waits)).detail.endswith("counts as 50 (pages_per_request).")


@pytest.mark.parametrize(
    ("form", "counted"),
    [
        (Form(file=PDF), 4),
        (Form(file=IMAGE), None),
        (Form(file=PDF, page_range="0-4"), None),
        (Form(file=PDF, max_pages="4"), None),
    ],
)
def test_who_chose_or_was_counted_is_told_no_more_than_the_limit(form: Form, counted: int | None) -> None:
    desk = Desk(form, counted)
    desk.refusals["reserve"] = BUDGET
    assert refusal(desk.submission.reserve_pages(nobody_waits)) == BUDGET.denial


def test_a_ledger_that_is_away_is_no_matter_of_pages() -> None:
    desk = Desk()
    desk.refusals["reserve"] = away = refuse(Reason.LEDGER_UNAVAILABLE, "Away.")
    assert refusal(desk.submission.reserve_pages(nobody_waits)) == away.denial


# The container's answer


def answered(desk: Desk, request_id: str | None, *, has_failed: bool = False) -> list[Any]:
    at_once(desk.submission.take_answer(SubmitAnswer(b"{}", "https://g/c", request_id, has_failed)))
    return desk.told


JOB = NewJob("job-1", "default", "/api/v1/marker", "https://g/c")


@pytest.mark.parametrize("has_failed", [False, True])
def test_a_job_is_written_down_before_anybody_follows_it(has_failed: bool) -> None:
    told = answered(Desk(), "job-1", has_failed=has_failed)
    ends = "end_another_owners", "default", "job-1", "key:ci"
    assert told == [ends, ("accept", JOB, None), ("begin", "r1", "job-1", has_failed)]


def test_a_submit_that_failed_and_has_no_job_costs_nothing() -> None:
    assert answered(Desk(), None, has_failed=True) == ["refused"]


def test_an_answer_that_names_no_job_is_accepted_without_one() -> None:
    """What it cost is not known then, so what was reserved is charged; nobody can follow it."""
    assert answered(Desk(), None) == [("accept", None, None)]


def test_its_webhook_is_planned_with_the_job_where_the_form_said() -> None:
    desk = Desk(Form(file=PDF, removed={"webhook_url": "https://hooks.test/in"}), 4)
    desk.hook = HOOK
    reserved(desk)
    planned = Planned("w1", "default", "job-1", OWNER, HOOK.target.url, HOOK.name, "https://g/c")
    assert answered(desk, "job-1")[-2:] == [("accept", JOB, planned), ("begin", "r1", "job-1", False)]


def test_nobody_follows_a_job_that_could_not_be_written_down() -> None:
    desk = Desk()
    desk.refusals["accept"] = refuse(Reason.LEDGER_UNAVAILABLE, "Away.")
    answer = SubmitAnswer(b"{}", None, "job-1", has_failed=False)
    assert refusal(desk.submission.take_answer(answer)).reason is Reason.LEDGER_UNAVAILABLE
    assert [one[0] for one in desk.told] == ["end_another_owners", "accept"]


def test_body_and_lease_are_closed_together() -> None:
    desk = Desk()
    assert at_once(desk.submission.take(b"abcdef")) == b"abc"
    assert desk.submission.lines == desk.lines
    desk.submission.mark_released()
    assert desk.submission.is_released
    desk.submission.close()
    assert desk.told == ["close", "close"]
