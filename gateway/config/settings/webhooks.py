"""The settings of webhooks: deliveries about ended jobs (`out`), and received ones (`in`)."""

from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, AwareDatetime, Field, field_validator, model_validator

from gateway.config.settings.fields import (
    Count,
    Duration,
    ReadableFile,
    SecretValue,
    Section,
    Size,
    Switch,
    Timeout,
    default,
)
from gateway.model import patterns
from gateway.webhooks.egress.rules import Rules, read_entry
from gateway.webhooks.egress.webhook_url import MAX_CHARACTERS, read_url
from gateway.webhooks.signature import TOLERANCE, Secrets, check_secret

_MAX_ATTEMPT: Final = 300.0
_LEAST_REMEMBERED: Final = 2 * TOLERANCE


def _usable(secret: SecretValue) -> SecretValue:
    check_secret(secret.value)
    return secret


def _entry(text: str) -> str:
    read_entry(text)
    return text


def _target(url: str) -> str:
    read_url(url)
    return url


def _attempt(seconds: float) -> float:
    if seconds > _MAX_ATTEMPT:
        raise ValueError("is more than 5m: a receiver is never waited for that long")
    return seconds


def _remembered(seconds: float) -> float:
    if seconds < _LEAST_REMEMBERED:
        least = f"{_LEAST_REMEMBERED / 60:.0f}m"
        raise ValueError(f"must be {least} or more: a message that somebody saw on its way is accepted for that long")
    return seconds


def _handed_on(url: str) -> str:
    """Checks the URL of a service of the operator's own."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 -- asked for its fault
    except ValueError:
        raise ValueError("is not a URL") from None
    is_plain = (
        len(url) <= MAX_CHARACTERS and "\\" not in url and all("\x21" <= character <= "\x7e" for character in url)
    )
    if parts.scheme not in {"http", "https"} or not parts.hostname or not parts.path or not is_plain:
        raise ValueError("needs the form http://host:port/path or https://host:port/path")
    if parts.username is not None or parts.fragment:
        raise ValueError("has a user name or a fragment in it")
    return url


WebhookSecret = Annotated[SecretValue, AfterValidator(_usable)]
Attempt = Annotated[Timeout, AfterValidator(_attempt)]


class RotatedSecret(Section):
    """A secret, and the one before it while both are in use."""

    secret: WebhookSecret | None = None
    """Signs webhooks: {env: NAME} or {file: PATH}, 16 bytes or more."""
    previous_secret: WebhookSecret | None = None
    """The one that is being replaced: signs beside it until previous_until."""
    previous_until: AwareDatetime | None = None
    """When the previous one ends, such as 2027-01-31T00:00:00Z."""

    @model_validator(mode="after")
    def _whole(self) -> "RotatedSecret":
        if (self.previous_secret is None) != (self.previous_until is None):
            raise ValueError("previous_secret and previous_until belong together")
        if self.previous_secret is not None and self.secret is None:
            raise ValueError("previous_secret needs a secret that comes after it")
        return self

    def in_force(self, now: float) -> Secrets | None:
        """The signing secrets at a moment, in seconds since the epoch; None when there is no secret."""
        if self.secret is None:
            return None
        new, old = self.secret.value, self.previous_secret
        if old is None or self.previous_until is None or self.previous_until.timestamp() <= now:
            return Secrets(new, (new,))
        return Secrets(old.value, (new, old.value))


class OwnerSecret(RotatedSecret):
    """The secret of one owner."""

    owner: Annotated[str, Field(pattern=r"^(key|jwt|cert):.{1,590}$")]
    """Whose jobs it signs for, as the ledger has it: key:acme, jwt:https://id.example#sub, cert:host.example."""
    secret: WebhookSecret
    """Signs webhooks of this owner's jobs."""


class WebhooksOut(RotatedSecret):
    """Webhooks that report ended jobs. Without a secret for the owner of a job there are none."""

    secrets: list[OwnerSecret] = []
    """Secrets of single owners; all others have `secret`."""
    allow: list[Annotated[str, AfterValidator(_entry)]] = []
    """Where they may go: host names, *.domain, addresses, networks. Empty: nowhere."""
    default_url: Annotated[str, AfterValidator(_target)] | None = None
    """Where they go when a submit has no webhook_url; null: nowhere."""
    ca: ReadableFile | None = None
    """PEM file of CAs that receivers' certificates may be of, beside the system's."""
    timeout: Attempt = default("30s")
    """Longest attempt, from the look-up of the host to the answer."""
    give_up_after: Timeout = default("24h")
    """How long after the job's end it is still tried; then it is a dead letter."""
    keep: Timeout = default("30d")
    """How long what was delivered or given up is still listed."""
    most_in_flight: Count = 64
    """Most attempts at once of one replica."""
    most_in_flight_per_destination: Count = 4
    """Most attempts at once to one host and port, of all replicas."""

    @property
    def is_on(self) -> bool:
        """Whether there is a secret for any owner."""
        return self.secret is not None or bool(self.secrets)

    @model_validator(mode="after")
    def _sound(self) -> "WebhooksOut":
        owners = [entry.owner for entry in self.secrets]
        if len(set(owners)) < len(owners):
            raise ValueError("secrets: an owner is there twice")
        if self.default_url is not None and not Rules.of(self.allow).may_allow(read_url(self.default_url)):
            raise ValueError("default_url: its host is not allowed; add it to allow")
        return self

    def secrets_for(self, owner: str, now: float) -> Secrets | None:
        """The signing secrets for an owner's webhooks; None: no webhooks. `now` in seconds since the epoch."""
        own = next((entry for entry in self.secrets if entry.owner == owner), None)
        return (own or self).in_force(now)


class WebhookIn(Section):
    """Webhooks that are received at /gateway/v1/webhooks/<name> and handed on."""

    name: Annotated[str, Field(pattern=patterns.ID)]
    """The last part of the path they come to."""
    secret: WebhookSecret
    """What their sender signs with: {env: NAME} or {file: PATH}, 16 bytes or more."""
    previous_secret: WebhookSecret | None = None
    """Another one that is still believed, while the sender's secret is rotated."""
    forward_to: Annotated[str, AfterValidator(_handed_on)]
    """Where they are handed on to: a service of yours, by http or https."""
    body_limit: Size = default("1MB")
    """Largest body. Each MB of a verified one holds all others for some 3 ms, thrice if it tells the secret."""
    timeout: Attempt = default("30s")
    """Longest wait for forward_to."""
    remember: Annotated[Duration, AfterValidator(_remembered)] = default("7d")
    """How long a message that was handed on is not handed on again; 10m at the least."""
    accept_body_secret: Switch = False
    """Whether the secret itself as the body's webhook_secret, Datalab's older scheme, is enough."""

    @property
    def known(self) -> tuple[bytes, ...]:
        """The accepted secrets."""
        return (self.secret.value, *([self.previous_secret.value] if self.previous_secret else []))


class Webhooks(Section):
    """Webhooks, out and in."""

    out: WebhooksOut = WebhooksOut()
    """Webhooks that report ended jobs."""
    in_: list[WebhookIn] = Field(default=[], alias="in")
    """Webhooks that are received and handed on."""

    @field_validator("in_")
    @classmethod
    def _distinct(cls, received: list[WebhookIn]) -> list[WebhookIn]:
        names = [entry.name for entry in received]
        if len(set(names)) < len(names):
            raise ValueError("a name is there twice")
        return received
