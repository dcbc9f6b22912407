"""Checks again whether a request is still permitted after it has waited: pure.

An upload may take hours, a long poll waits for a minute, a container computes: meanwhile a key may be revoked, moved
to another owner or expire, its profile may change, its address may be blocked, or the proxy that named it may be
trusted no more. So before the end of a body is
released, and before an answer begins, the sender is judged again by the configuration then in force. One exception:
the token of a submit may expire meanwhile. It was valid when the upload began, and no IdP revokes one. All else of it
must still be valid: issuer, key, audience, claims and scopes.
"""

from ipaddress import IPv4Address, IPv6Address
from math import nextafter
from typing import Final

from gateway.auth.api_keys import find_key
from gateway.auth.certificates import certificate_identity
from gateway.auth.credential import credential_of
from gateway.auth.jwt.tokens import KeyUnknown, identify
from gateway.auth.validity import check_key_address, check_not_blocked, check_not_expired, check_required_certificate
from gateway.authorize.login import Evidence
from gateway.authorize.permit import make_permit
from gateway.authorize.prepared_request import PreparedRequest
from gateway.config.state import State
from gateway.errors import refuse
from gateway.http.client_address import client_address
from gateway.jobs.job import job_not_found
from gateway.model.identity import ClientCertificate, Identity, Peer
from gateway.model.reasons import Reason
from gateway.model.request import Permit
from gateway.model.routes import Access, Kind
from gateway.policy.route_access import check_access, check_address

_NO_MORE: Final = "This request's credential is no longer valid."
_NOT_ASKED: Final = "This route asks for a credential now; send the request again."
_MOVED: Final = "This request's credential belongs to another owner now; send the request again."


def recheck_permit(state: State, prepared: PreparedRequest, peer: Peer, now: float) -> Permit:
    """The permit as it would be granted now; `now` is in seconds since the epoch.

    Raises:
        Refused: it would no longer be granted.
    """
    old = prepared.permit
    client = client_address(peer, prepared.headers.known, state.trusted_proxies)
    rule = state.routes.match(prepared.method, old.path, prepared.headers.host)
    check_address(client, client in state.allow, rule)
    if state.needs_certificate:
        check_required_certificate(peer.certificate, now)
    evidence = Evidence(client, peer.certificate)
    identity = None if old.identity is None else _recheck_identity(state, prepared, old.identity, evidence, now)
    if identity is not None:
        check_access(rule.route, identity, client)
    elif rule.route.access is not Access.ANYONE:
        raise refuse(Reason.UNAUTHENTICATED, _NOT_ASKED)
    query = prepared.path_and_query.removeprefix(old.path)
    return make_permit(state, rule, old.path, query, client, identity)


def _recheck_identity(
    state: State, prepared: PreparedRequest, old: Identity, evidence: Evidence, now: float
) -> Identity:
    is_patient = old.label[0] == "jwt" and prepared.permit.route.kind is Kind.SUBMIT
    match old.label[0]:
        case "api_key":
            identity = _by_key(state, prepared, evidence.address)
        case "certificate":
            identity = _by_certificate(state, evidence.certificate)
        case _:
            identity = _by_token(state, prepared, _while_good(old, now) if is_patient else now)
    if identity is not None:
        check_not_blocked(identity, state.blocked)
    if identity is None or identity.account != old.account:
        raise refuse(Reason.UNAUTHENTICATED, _NO_MORE)
    if not is_patient:
        check_not_expired(identity, now)
    if identity.owner != old.owner:
        raise job_not_found() if prepared.permit.route.kind.is_of_a_job else refuse(Reason.UNAUTHENTICATED, _MOVED)
    return identity


def _by_key(state: State, prepared: PreparedRequest, client: IPv4Address | IPv6Address) -> Identity | None:
    credential = credential_of(prepared.headers.known)
    if credential is None or not state.api_keys_enabled:
        return None
    key = find_key(credential, state.keys, state.ring)
    if key is None:
        return None
    check_key_address(key, client)
    return key.identity


def _by_certificate(state: State, certificate: ClientCertificate | None) -> Identity | None:
    return certificate_identity(certificate, state.certificates) if state.certificates else None


def _by_token(state: State, prepared: PreparedRequest, now: float) -> Identity | None:
    credential = credential_of(prepared.headers.known)
    if credential is None:
        return None
    known = state.tokens.get(credential, now)  # many long polls may be woken at once
    if known is not None:
        return known
    try:
        return identify(credential, state.issuers, state.profiles, now)
    except KeyUnknown as unknown:  # what verified it is no longer there; new keys are fetched for new requests
        raise unknown.refusal from None


def _while_good(identity: Identity, now: float) -> float:
    """The latest moment, up to now, at which a token had not ended."""
    return now if identity.expires_at is None else min(now, nextafter(identity.expires_at, 0.0))
