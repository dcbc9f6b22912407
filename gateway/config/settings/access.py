"""The settings of access: ways to log in, keys, routes."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, field_validator, model_validator

from gateway.auth.jwks.source import check_fetched
from gateway.auth.jwt.key_set import LEAST_SECRET
from gateway.config.settings.fields import (
    CIDR,
    HOST,
    Duration,
    Methods,
    Name,
    ReadableFile,
    SecretDigest,
    SecretValue,
    Section,
    Switch,
    Timeout,
    default,
    one_container,
)
from gateway.config.settings.limits import LimitOverrides
from gateway.model import patterns
from gateway.model.routes import Access, Kind
from gateway.policy.routes import compile_pattern

_MAX_LEEWAY = 60.0

KeyId = Annotated[str, Field(pattern=patterns.ID)]
Owner = Annotated[str, Field(pattern=patterns.OWNER)]
RouteName = Name
Scope = Annotated[str, Field(pattern=patterns.SCOPE)]
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256", "HS384", "HS512"
]


class ApiKeys(Section):
    """API keys as a way to log in."""

    enabled: Switch = True
    """Whether X-API-Key and Bearer keys are accepted."""


def _bounded_leeway(value: float) -> float:
    if value > _MAX_LEEWAY:
        raise ValueError("a leeway of more than 60s would undo exp")
    return value


def _of_one_kind(algorithms: list[str]) -> list[str]:
    shared = sum(name.startswith("HS") for name in algorithms)
    if 0 < shared < len(algorithms):
        raise ValueError("has HS* beside others, whose public keys would be its secrets")
    return algorithms


def _long_enough(secret: SecretValue) -> SecretValue:
    if len(secret.value) < LEAST_SECRET:
        raise ValueError(f"is shorter than {LEAST_SECRET} bytes")
    return secret


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # a name that is too long
        return False


class JwtIssuer(Section):
    """An identity provider whose tokens are believed."""

    issuer: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,255}$")]
    """The `iss` of its tokens, byte for byte."""
    audience: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    )
    """The `aud` that its tokens must name: this service."""
    algorithms: Annotated[list[Algorithm], Field(min_length=1), AfterValidator(_of_one_kind)] = default(
        ["RS256", "ES256", "EdDSA"]
    )
    """What its tokens may be signed with."""
    jwks: str | None = None
    """Its keys: an https URL, or a file."""
    discovery: Switch = False
    """Whether its keys are found through <issuer>/.well-known/openid-configuration."""
    public_key: ReadableFile | None = None
    """Its one public key: a PEM file."""
    secret: Annotated[SecretValue, AfterValidator(_long_enough)] | None = None
    """The secret shared with it, for HS256, HS384 and HS512: 32 bytes or more."""
    leeway: Annotated[Duration, AfterValidator(_bounded_leeway)] = default("30s")
    """How far its clock may be off; at most 60s."""
    owner_claim: Annotated[str, Field(min_length=1)] = "sub"
    """The claim that says whom jobs belong to."""
    profile_claim: str | None = None
    """The claim that names the profile; null: every token has `profile`."""
    profile: str = "default"
    """The profile of its tokens, when profile_claim is null."""
    required_claims: dict[str, Any] = {}
    """Claims that a token must have with this value; a list here or there: one in common."""
    required_scopes: list[Scope] = []
    """Scopes that a token must have, all of them."""
    refresh: Timeout = default("10m")
    """How old its keys may be before they are fetched again; that begins at half this age."""
    stale: Timeout = default("24h")
    """How long keys are used on while they can't be fetched."""

    @field_validator("jwks")
    @classmethod
    def _fetched_or_read(cls, jwks: str | None) -> str | None:
        if jwks is None or "://" not in jwks:
            if jwks is not None and not _is_file(jwks):
                raise ValueError(f"{jwks} is neither a URL nor a file that is there")
            return jwks
        return check_fetched(jwks)

    @model_validator(mode="after")
    def _one_source(self) -> "JwtIssuer":
        sources = sum((self.jwks is not None, self.discovery, self.public_key is not None, self.secret is not None))
        if sources != 1:
            raise ValueError("needs exactly one of jwks, discovery, public_key and secret")
        if self.algorithms[0].startswith("HS") != (self.secret is not None):
            raise ValueError("secret is for HS256, HS384 and HS512, and these need it")
        if self.discovery:
            check_fetched(self.issuer)
        return self


class CertificateName(Section):
    """What the bearer of one certificate is."""

    profile: str = "default"
    """Its profile."""
    scopes: list[Scope] = []
    """`admin` opens the routes with access: admin."""


class CertificateIdentity(Section):
    """Client certificates as a way to log in; the CA is tls.client_ca."""

    identity: Literal["uri", "dns", "email", "cn"] | None = None
    """Which name of the certificate is the identity: one of its subjectAltName, or the subject's CN; null: none."""
    profile: str = "default"
    """The profile of names that `names` does not list."""
    names: dict[Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,255}$")], CertificateName] = {}
    """Names that are let in, and what they are; empty: every name that the CA has signed."""


class Authentication(Section):
    """Ways to log in."""

    api_keys: ApiKeys = ApiKeys()
    """API keys."""
    jwt: list[JwtIssuer] = []
    """Identity providers whose tokens are taken as Authorization: Bearer."""
    certificates: CertificateIdentity = CertificateIdentity()
    """Client certificates."""


class KeySettings(Section):
    """An API key of the configuration."""

    id: KeyId
    """What metrics and logs call the key."""
    secret: SecretDigest
    """Where its secret is."""
    profile: str = "default"
    """The profile whose limits it has."""
    owner: Owner | None = None
    """Whom its jobs belong to; its own id by default. Keys of one owner share jobs."""
    scopes: list[Scope] = []
    """`admin` opens the routes with access: admin."""
    networks: list[CIDR] = []
    """Networks it may be used from, within network.allow; empty: all of these."""
    expires: AwareDatetime | None = None
    """When it ends, such as 2027-01-31T00:00:00Z; null: never."""
    disabled: Switch = False
    """Whether it is refused for now."""
    limits: LimitOverrides = LimitOverrides()
    """Limits that differ from its profile's."""


class JobPlace(Section):
    """Where a request names the job that it is for."""

    place: Literal["path", "query", "body"] = Field(default="path", alias="in")
    """path: a segment {name} of the route's path; query: a parameter; body: a member of the JSON object sent."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = "request_id"
    """The segment's, the parameter's or the member's name."""


class RouteSettings(Section):
    """One line of the default-deny table; the first that matches wins."""

    name: RouteName
    """What metrics and logs call it."""
    methods: Methods
    """Methods it takes."""
    path: str
    """Pattern, exact by segment: text, {name}, {name:a|b}, and a last {name*} for the rest."""
    kind: Kind = Kind.PLAIN
    """submit starts a job, result reads it, asset belongs to it, delete ends it, plain has to do with none."""
    access: Access = Access.KEY
    """anyone (whose address is allowed), key, or admin (a key with the scope admin)."""
    host: str | None = None
    """Host header it is for, without port; any by default."""
    networks: list[CIDR] = []
    """Networks it may be used from, within network.allow; empty: all of these."""
    upstream: Annotated[RouteName, BeforeValidator(one_container)] = "default"
    """The one container it goes to: a name of `upstreams`, or default, the section `upstream`."""
    job: RouteName = "default"
    """What its jobs are: a name of `jobs.shapes`."""
    id: JobPlace = JobPlace()
    """Where a request for a job names it."""
    rewrite_urls: Switch = False
    """Whether URLs of the upstream in answers are written as ours."""

    @field_validator("path")
    @classmethod
    def _pattern(cls, path: str) -> str:
        compile_pattern(path)
        return path

    @field_validator("host")
    @classmethod
    def _host(cls, host: str | None) -> str | None:
        if host is not None and not HOST.fullmatch(host.lower()):
            raise ValueError("is not a host name without a port")
        return host.lower() if host else None
