"""Whether a key would be accepted, by its id: what authorize/login.py decides when it has the secret. Pure."""

from ipaddress import IPv4Address, IPv6Address
from shlex import quote

from gateway.admin.judged import Judged
from gateway.auth.api_keys import ApiKey
from gateway.auth.validity import check_key_address, check_not_expired
from gateway.config.state import State
from gateway.errors import Refused
from gateway.model.identity import Identity


def called(command: str, config: str | None) -> str:
    """A command that would help, called as this one was: with the same --config, if it was named."""
    return command if config is None else f"{command} --config {quote(config)}"


def judge_key(state: State, key_id: str | None, now: float, config: str | None = None) -> Judged:
    """Finds the newest live secret of a key; `now` is in seconds since the epoch, `config` for commands that help."""
    if key_id is None:
        return Judged(None, "This route needs a key.", "Name one with --key.")
    if not state.api_keys_enabled:
        return Judged(None, "API keys are off.", "Set authentication.api_keys.enabled to true.")
    found = [key.identity for key in (*state.keys.values(), *state.ring.live_keys()) if key.identity.key_id == key_id]
    live = [identity for identity in found if _is_live(identity, now)]
    if live:
        newest = max(live, key=lambda identity: identity.generation)
        return Judged(newest, _described(newest))
    if found:
        return Judged(None, f"Key {key_id} has expired.", _renewed(state, key_id, now, config))
    return _missing(state, key_id, config)


def check_networks(state: State, identity: Identity, address: IPv4Address | IPv6Address) -> None:
    """Applies the key's own networks, as authorize/login.py does.

    Raises:
        Refused: address_denied.
    """
    check_key_address(_key_of(state, identity), address)


def _is_live(identity: Identity, now: float) -> bool:
    try:
        check_not_expired(identity, now)
    except Refused:
        return False
    return True


def _key_of(state: State, identity: Identity) -> ApiKey:
    return next(key for key in (*state.keys.values(), *state.ring.live_keys()) if key.identity is identity)


def _described(identity: Identity) -> str:
    source = f"of the ledger, secret {identity.generation}" if identity.generation else "of the configuration"
    scopes = f", scopes {' '.join(sorted(identity.scopes))}" if identity.scopes else ""
    return f"{identity.key_id}, {source}; profile {identity.profile.name}, owner {identity.owner}{scopes}"


def _renewed(state: State, key_id: str, now: float, config: str | None) -> str:
    record = state.ring.records.get(key_id)
    if record is None:
        return "Change `expires` of the key in the configuration."
    if record.expires_at is not None and record.expires_at <= now:
        return called(f"gateway keys change {key_id} --expires 90d", config)
    return f"Its secrets have ended: {called(f'gateway keys rotate {key_id}', config)}"


def _missing(state: State, key_id: str, config: str | None) -> Judged:
    """Why a key has no valid secret at all."""
    record = state.ring.records.get(key_id)
    if record is None:
        return Judged(None, f"Key {key_id} is disabled.", "Take `disabled` from the key in the configuration.")
    if record.unreadable:
        text = f"The {' and '.join(record.unreadable)} of key {key_id} can't be read by this release of the gateway."
        return Judged(None, text, "Run the release that wrote them.")
    if record.profile not in state.profiles:
        text = f"The profile of key {key_id}, {record.profile}, is not in the configuration."
        return Judged(None, text, called(f"gateway keys change {key_id} --profile NAME", config))
    if record.disabled_at is not None:
        return Judged(None, f"Key {key_id} is disabled.", called(f"gateway keys enable {key_id}", config))
    text = f"All secrets of key {key_id} are revoked."
    return Judged(None, text, called(f"gateway keys rotate {key_id}", config))
