"""The form of a submit: inspected piece by piece, then judged as a whole. What it asks for follows: its pages."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, NamedTuple

from gateway.admission.lease import PagesRefused
from gateway.errors import Refused
from gateway.jobs.checkpoints import Checkpoints
from gateway.limits.prices import Pricing
from gateway.limits.submit_decisions import Ask
from gateway.model.identity import Profile
from gateway.model.request import Permit
from gateway.uploads.file_kind import FileKind
from gateway.uploads.form import Form
from gateway.uploads.pages.bound import check_choice, narrowing, page_bound
from gateway.uploads.submit_body import SubmitBody
from gateway.webhooks.egress.destination import Destination
from gateway.webhooks.outbound.planning import Planning

_KNOWN_MODES: Final = frozenset({"fast", "balanced", "accurate"})


class FormRoom(NamedTuple):
    """What a form is judged with: the page fields that its container obeys, prices, checkpoints, webhooks."""

    page_fields: frozenset[str]
    pricing: Pricing
    checkpoints: Checkpoints
    webhooks: Planning


class JudgedForm(NamedTuple):
    """What a form asks for, under the limits of `profile`; `hint` is for who is refused that many pages."""

    ask: Ask
    profile: Profile
    destination: Destination | None
    hint: str

    def explained(self, refused: PagesRefused) -> Refused:
        """Adds the hint to a refusal."""
        return Refused(replace(refused.denial, detail=refused.denial.detail + self.hint))


class FormJudge:
    """One form of one sender.

    `permit_now` gives the sender's permit as it would be granted now, with the limits for the pages; raises Refused.
    """

    __slots__ = ("_body", "_checked", "_permit", "_permit_now", "_room")

    def __init__(self, body: SubmitBody, permit: Permit, permit_now: Callable[[], Permit], room: FormRoom) -> None:
        self._body = body
        self._permit = permit
        self._permit_now = permit_now
        self._room = room
        self._checked: Profile | None = None

    async def take(self, data: bytes) -> bytes:
        """Inspects the next bytes of the body; returns those that may go upstream now.

        Raises:
            Refused: they are invalid.
        """
        return await self._body.take(data)

    async def judge(self, let_others: Callable[[], Awaitable[None]]) -> JudgedForm:
        """Called after the last byte: completes the checks, and counts the pages.

        `let_others` gives all others a turn.

        Raises:
            Refused: the body is invalid, it has too many pages, or its sender may no longer submit.
        """
        form, counted, has_waited = await self._body.finish(let_others, self._check)
        profile = self._profile_now() if has_waited or self._checked is None else self._checked
        destination = await self._look_up(form)
        if form.checkpoint or form.removed.get("webhook_url"):  # to look up a host may take seconds
            profile = self._profile_now()
        obeyed, needs_range = self._room.page_fields, profile.needs_page_range
        most = profile.pages_per_request
        pages = page_bound(form, counted, most, obeyed=obeyed, page_range_required=needs_range)
        mode = form.mode if form.mode in _KNOWN_MODES else ""
        hint = _hint(form, counted, pages, narrowing(form, obeyed))
        return JudgedForm(Ask(pages, self._room.pricing.of(form.mode), mode), profile, destination, hint)

    async def _look_up(self, form: Form) -> Destination | None:
        """Checks what the form names beside its document; returns where its webhook goes."""
        owner = self._permit.owner
        if form.checkpoint:
            await self._room.checkpoints.check(self._permit.route.upstream, form.checkpoint, owner)
        return await self._room.webhooks.destination(form.removed.get("webhook_url"), owner)

    @property
    def tail(self) -> bytes:
        """The body's end, which was held back."""
        return self._body.tail

    def close(self) -> None:
        """Frees what is kept of the body; called on every path."""
        self._body.close()

    def _check(self, form: Form) -> None:
        """Refuses a sender no longer permitted, or a form that asks for too much, before pages are counted for it."""
        profile = self._checked = self._profile_now()
        check_choice(
            form,
            profile.pages_per_request,
            obeyed=self._room.page_fields,
            page_range_required=profile.needs_page_range,
        )

    def _profile_now(self) -> Profile:
        return self._permit_now().profile


def _hint(form: Form, counted: int | None, pages: int, narrowed_by: list[str]) -> str:
    """An explanation and help for who is refused a document whose pages could not be counted."""
    is_chosen = any((getattr(form, name) or "").strip() for name in narrowed_by)
    is_image = form.document is not None and form.document.kind is FileKind.IMAGE
    if counted is not None or is_chosen or is_image:
        return ""
    why = "The form names two documents" if form.has_two else "The document's pages can't be counted"
    why = why if form.file is not None else "The form has no field file"
    help_text = f": say which by {' or '.join(narrowed_by)}." if narrowed_by else "."
    return f" {why}, so it counts as {pages} (pages_per_request){help_text}"
