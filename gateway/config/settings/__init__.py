"""Every setting, its type, default and reason. Section by section the same as docs/configuration.md.

The models are frozen and refuse unknown keys.
"""

from pydantic import Field, field_validator, model_validator

from gateway.admission.unverified_bodies import SHARES
from gateway.config.settings.access import Authentication, JobPlace, JwtIssuer, KeySettings, RouteName, RouteSettings
from gateway.config.settings.fields import Name, PlainPath, SecretDigest, SecretValue, Section, check_origin, default
from gateway.config.settings.jobs import Jobs, ShapeSettings
from gateway.config.settings.limits import LimitOverrides, Prices, ProfileSettings
from gateway.config.settings.service import (
    Admin,
    Audit,
    Body,
    CertificatePair,
    LedgerSettings,
    Listen,
    Log,
    LogLevel,
    NetworkSection,
    Shutdown,
    Tls,
    Upstream,
)
from gateway.config.settings.webhooks import Webhooks
from gateway.model.routes import Access, Kind

__all__ = [
    "Admin",
    "CertificatePair",
    "JobPlace",
    "Jobs",
    "JwtIssuer",
    "KeySettings",
    "LimitOverrides",
    "Listen",
    "Log",
    "LogLevel",
    "ProfileSettings",
    "RouteSettings",
    "SecretDigest",
    "SecretValue",
    "Section",
    "Settings",
    "ShapeSettings",
    "Upstream",
    "Webhooks",
]


def _shipped_routes() -> list[RouteSettings]:
    return [
        RouteSettings(name="submit", methods=["POST"], path="/api/v1/{operation:marker|ocr}", kind=Kind.SUBMIT),
        RouteSettings(name="usage", methods=["GET"], path="/api/v1/usage", access=Access.ADMIN),
        RouteSettings(
            name="result",
            methods=["GET"],
            path="/api/v1/{operation:marker|ocr}/{request_id}",
            kind=Kind.RESULT,
        ),
        RouteSettings(name="health", methods=["GET"], path="/health_check", access=Access.ANYONE),
    ]


class Settings(Section):
    """The whole configuration."""

    listen: Listen = Listen()
    public_url: str | None = None
    """Origin written into answers and webhooks; https://<Host> by default, where a certificate or route names it."""
    tls: Tls = default({})
    network: NetworkSection
    upstream: Upstream = Upstream()
    upstreams: dict[RouteName, Upstream] = {}
    """More stand-alone containers by name, when a route names one; never a pool."""
    authentication: Authentication = Authentication()
    keys: list[KeySettings] = []
    profiles: dict[Name, ProfileSettings] = {}
    """Limits by name; `default` is always there."""
    body: Body = Body()
    prices: Prices = Prices()
    routes: list[RouteSettings] = Field(default_factory=_shipped_routes)
    aliases: dict[PlainPath, PlainPath] = {}
    """Paths (with all below them) that are written anew before routes are matched."""
    jobs: Jobs = Jobs()
    webhooks: Webhooks = Webhooks()
    ledger: LedgerSettings = LedgerSettings()
    admin: Admin = Admin()
    audit: Audit = Audit()
    shutdown: Shutdown = Shutdown()
    log: Log = Log()

    @field_validator("public_url")
    @classmethod
    def _public(cls, url: str | None) -> str | None:
        return None if url is None else check_origin(url)

    @model_validator(mode="after")
    def _webhooks_fit(self) -> "Settings":
        share = self.body.unverified_limit // SHARES
        for i, entry in enumerate(self.webhooks.in_):
            if entry.body_limit > share:
                told = f"is more than the quarter of body.unverified_limit that an address has ({share} bytes)"
                raise ValueError(f"webhooks.in[{i}].body_limit {told}")
        return self

    @field_validator("profiles")
    @classmethod
    def _with_default(cls, profiles: dict[str, ProfileSettings]) -> dict[str, ProfileSettings]:
        return {"default": ProfileSettings(), **profiles}
