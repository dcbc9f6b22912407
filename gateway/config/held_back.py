"""What a reload holds back while an exposure setting waits for a restart: pure.

An exposure setting decides who reaches a listener. Any new permission may rely on one, and a change does not show
whether it does. So nothing that permits more takes force before the exposure setting does; what permits less (a
removed key, an exchanged secret, a lower budget) takes force at once. The gateway's own certificates and the log rely
on none.
Other CAs of clients are held back: they would be combined with names and routes written for the old CAs.
"""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from gateway.config.settings import Admin, KeySettings, SecretDigest, Section, Settings
from gateway.config.settings.access import Authentication, CertificateIdentity, CertificateName
from gateway.config.settings.limits import BUDGETS, ProfileSettings
from gateway.config.settings.webhooks import Webhooks, WebhooksOut

T = TypeVar("T", bound=BaseModel)

EXPOSURE_SETTINGS: Final = frozenset(
    {"listen.address", "listen.port", "listen.proxy_protocol", "tls.client_certificates"}
)
_ADMIN_EXPOSURE_SETTINGS: Final = frozenset({"admin.address", "admin.port", "admin.tls"})
_FREE: Final = (
    "tls.certificate", "tls.private_key", "tls.certificates", "ledger.url", "admin", "log",
)  # fmt: skip
# No rule between settings leans on these, as one does on pages_in_flight.
_LOWERED: Final = sorted(
    BUDGETS | {"requests_per_minute", "polls_per_minute", "concurrent_requests", "concurrent_downloads"}
)
_SOURCE: Final = ("algorithms", "jwks", "discovery", "public_key", "secret")
_SECRETS: Final = ("secret", "previous_secret")


def held_back(old: Settings, new: Settings, waiting: frozenset[str], before: Settings) -> Settings:
    """The new settings, with the old values of everything held back by a waiting exposure setting.

    `before` are the settings when it began to wait: a budget that was lowered since is raised up to these.
    """
    if waiting & _ADMIN_EXPOSURE_SETTINGS:
        new = put(new, "admin.token", _token(old.admin, new.admin))
    if not waiting & EXPOSURE_SETTINGS:
        return new
    held = old
    for path in _FREE:
        held = put(held, path, look_up(new, path))
    if "listen.proxy_protocol" not in waiting and _is_narrower(old, new):
        held = put(held, "network.allow", new.network.allow)
    held = put(held, "keys", _keys(old.keys, new.keys))
    held = put(held, "profiles", _profiles(before.profiles, new.profiles))
    held = put(held, "webhooks", _webhooks(old.webhooks, new.webhooks))
    return put(held, "authentication", _authentication(old.authentication, new.authentication))


def differences(one: Settings, other: Settings) -> Iterator[str]:
    """The settings that differ, as `section.setting`; lists and mappings by their name alone."""
    for name in Settings.model_fields:
        section, opposite = getattr(one, name), getattr(other, name)
        if not isinstance(section, Section):
            if section != opposite:
                yield name
            continue
        for inner, field in type(section).model_fields.items():
            if getattr(section, inner) != getattr(opposite, inner):
                yield f"{name}.{field.alias or inner}"


def look_up(settings: Settings, path: str) -> Any:
    """The value of a setting by its path."""
    value: Any = settings
    for part in path.split("."):
        value = getattr(value, part)
    return value


def put(section: T, path: str, value: Any) -> T:
    """The same settings with one value replaced."""
    name, _, deeper = path.partition(".")
    return section.model_copy(update={name: put(getattr(section, name), deeper, value) if deeper else value})


# Restrictions that apply at once


def _token(old: Admin, new: Admin) -> SecretDigest | None:
    """A new token replaces an old one at once; adding or removing one waits for the listener's restart."""
    return new.token if old.token is not None and new.token is not None else old.token


def _is_narrower(old: Settings, new: Settings) -> bool:
    """Whether network.allow lost networks and gained none, and client addresses are determined in the same way."""
    if old.network.trusted_proxies != new.network.trusted_proxies:
        return False
    return all(
        any(inner.version == outer.version and inner.subnet_of(outer) for outer in old.network.allow)
        for inner in new.network.allow
    )


def _keys(old: Sequence[KeySettings], new: Sequence[KeySettings]) -> list[KeySettings]:
    there = {key.id: key for key in new}
    return [key for was in old if was.id in there and (key := _key(was, there[was.id])) is not None]


def _key(old: KeySettings, new: KeySettings) -> KeySettings | None:
    """None for a key whose new secret is for another bearer: the old secret is refused now, the new one waits."""
    changed = {name: getattr(new, name) for name in ("secret", "scopes", "expires", "disabled")}
    is_alike = old.model_copy(update=changed) == new
    if not is_alike and old.secret.digest != new.secret.digest:
        return None
    ends = [moment for moment in (old.expires, new.expires) if moment is not None]
    taken = {"scopes": _both(old.scopes, new.scopes), "disabled": old.disabled or new.disabled}
    return old.model_copy(update={"secret": new.secret, "expires": min(ends, default=None), **taken})


def _profiles(old: Mapping[str, ProfileSettings], new: Mapping[str, ProfileSettings]) -> dict[str, ProfileSettings]:
    """The old ones, but what is lower in the new ones; `default` is there unwritten."""
    plain = {"default": ProfileSettings()}
    before, after = {**plain, **old}, {**plain, **new}
    lowered = {name: _lowered(was, after[name]) for name, was in before.items() if name in after}
    return {**old, **{name: profile for name, profile in lowered.items() if profile != before[name]}}


def _lowered(old: ProfileSettings, new: ProfileSettings) -> ProfileSettings:
    lower = {name: getattr(new, name) for name in _LOWERED if _is_lower(getattr(new, name), getattr(old, name))}
    return old.model_copy(update=lower)


def _is_lower(new: Decimal | None, old: Decimal | None) -> bool:
    """None is without a limit."""
    return new is not None and (old is None or new < old)


def _authentication(old: Authentication, new: Authentication) -> Authentication:
    there = {issuer.issuer: issuer for issuer in new.jwt}
    enabled = old.api_keys.enabled and new.api_keys.enabled
    changes = {
        "api_keys": old.api_keys.model_copy(update={"enabled": enabled}),
        "jwt": [
            issuer
            for was in old.jwt
            if was.issuer in there and (issuer := _exchanged(was, there[was.issuer], _SOURCE)) is not None
        ],
        "certificates": _certificates(old.certificates, new.certificates),
    }
    return old.model_copy(update=changes)


def _exchanged(old: T, new: T, names: Sequence[str]) -> T | None:
    """As for keys: the new entry if only what is exchanged differs, None if something else does, too."""
    exchanged = old.model_copy(update={name: getattr(new, name) for name in names})
    if exchanged == new:
        return new
    return old if exchanged == old else None


def _webhooks(old: Webhooks, new: Webhooks) -> Webhooks:
    there = {entry.name: entry for entry in new.in_}
    received = [
        entry
        for was in old.in_
        if was.name in there and (entry := _exchanged(was, there[was.name], _SECRETS)) is not None
    ]
    return old.model_copy(update={"in_": received, "out": _sent(old.out, new.out)})


def _sent(old: WebhooksOut, new: WebhooksOut) -> WebhooksOut:
    """Secrets that are exchanged; who had none waits for one."""
    there = {entry.owner: entry for entry in new.secrets}
    changes: dict[str, Any] = {"secrets": [there.get(entry.owner, entry) for entry in old.secrets]}
    if old.secret is not None and new.secret is not None:
        changes |= {name: getattr(new, name) for name in (*_SECRETS, "previous_until")}
    return old.model_copy(update=changes)


def _certificates(old: CertificateIdentity, new: CertificateIdentity) -> CertificateIdentity:
    if old.identity != new.identity:  # the names now mean other identities, or none
        return old.model_copy(update={"identity": None})
    if not new.names:  # without names every certificate is allowed: that restricts nothing
        return old
    fewer = _names(old.names, new.names) if old.names else _of_all(old, new.names)
    return old.model_copy(update={"names": fewer} if fewer else {"identity": None})


def _of_all(old: CertificateIdentity, new: Mapping[str, CertificateName]) -> dict[str, CertificateName]:
    """All certificates were allowed: only these stay, with the profile they had."""
    return {name: CertificateName(profile=old.profile) for name in new}


def _names(old: Mapping[str, CertificateName], new: Mapping[str, CertificateName]) -> dict[str, CertificateName]:
    return {
        name: was.model_copy(update={"scopes": _both(was.scopes, new[name].scopes)})
        for name, was in old.items()
        if name in new
    }


def _both(old: Sequence[str], new: Sequence[str]) -> list[str]:
    return [scope for scope in old if scope in new]
