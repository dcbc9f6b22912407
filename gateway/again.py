"""Whether a submit that was let in is still welcome when its body ends: pure.

An upload may take hours, and its key may be revoked within them, its profile changed, its address shut out. So
before the end of a body is released, its sender is judged once more by what is in force then. A token may end
meanwhile: it was good when the request began, and no IdP takes one back; but its issuer must still be believed.
"""

from dataclasses import replace

from gateway.acquaintance import Passage, make_permit
from gateway.auth.apikey import find_key
from gateway.auth.claims import namespace_of
from gateway.auth.credential import credential_of
from gateway.auth.mtls import certificate_identity
from gateway.errors import refuse
from gateway.model import Identity, Peer, Permit, Reason
from gateway.policy import check_access, check_address
from gateway.state import State

_NO_MORE = "What you came with is not valid any more."


def permit_again(state: State, passage: Passage, peer: Peer, now: float) -> Permit:
    """The permit as it would be given now; `now` is in seconds since the epoch.

    Raises:
        Refused: it would not be given any more.
    """
    old = passage.permit
    rule = state.routes.match(passage.method, old.path, passage.fields.host)
    check_address(old.client, old.client.ip in state.allow, rule)
    identity = None
    if old.identity is not None:
        identity = _identity_again(state, passage, old.identity, peer, now)
        check_access(rule.route, identity, old.client.ip)
    return make_permit(state, rule, old.path, "", old.client, identity)


def _identity_again(state: State, passage: Passage, old: Identity, peer: Peer, now: float) -> Identity:
    by = {"api_key": _by_key, "certificate": _by_certificate}.get(old.label[0], _by_token)
    identity = by(state, passage, old, peer)
    is_over = old.label[0] != "jwt" and identity is not None and (identity.expires_at or now + 1) <= now
    if identity is None or identity.account != old.account or is_over:
        raise refuse(Reason.UNAUTHENTICATED, _NO_MORE)
    return identity


def _by_key(state: State, passage: Passage, old: Identity, peer: Peer) -> Identity | None:
    del old, peer
    credential = credential_of(passage.fields.known)
    if credential is None or not state.api_keys_enabled:
        return None
    key = find_key(credential, state.keys, state.ring.keys)
    address = passage.permit.client.ip
    return None if key is None or (key.networks and address not in key.networks) else key.identity


def _by_certificate(state: State, passage: Passage, old: Identity, peer: Peer) -> Identity | None:
    del passage, old
    return certificate_identity(peer.certificate, state.certificates) if state.certificates else None


def _by_token(state: State, passage: Passage, old: Identity, peer: Peer) -> Identity | None:
    del passage, peer
    profile = state.profiles.get(old.profile.name)
    is_believed = any(old.owner.startswith(namespace_of(name)) for name in state.issuers)
    return replace(old, profile=profile) if profile is not None and is_believed else None
