"""Authorization: decides whether a caller may do what the request asks, and makes the Permit that says so. Pure.

Only this file makes Permits, and nothing is forwarded without one.
"""

from ipaddress import IPv4Address, IPv6Address
from itertools import chain
from typing import Final

from gateway.authorize.job_id import job_id_of, names_in_query, refuse_in_query
from gateway.config.state import State
from gateway.errors import refuse
from gateway.http.names import readings
from gateway.model.account_names import ANYONE
from gateway.model.identity import Identity, Profile
from gateway.model.reasons import Reason
from gateway.model.request import BodyLimit, Permit
from gateway.model.routes import Kind
from gateway.policy.body_limits import with_framing
from gateway.policy.routes import Rule
from gateway.uploads.field_rules import judged_by

_BODY_OF_ANYONE: Final = 1_048_576


def make_permit(
    state: State, rule: Rule, path: str, query: str, client: IPv4Address | IPv6Address, identity: Identity | None
) -> Permit:
    """Makes the Permit from the decisions; `query` is the request's own, with its question mark.

    Raises:
        Refused: job_not_found, when the job's name can't be an id; bad_request, when the request names two ids, or
            one in a place from which the route does not read it.
    """
    profile = identity.profile if identity else state.anonymous
    if rule.route.kind.is_of_a_job and rule.route.id_in != "query":
        refuse_in_query(rule.route.id_name, query)
    if rule.route.kind is Kind.SUBMIT and query:
        _refuse_fields(state, rule, query)
    names_in_target = rule.route.kind.is_of_a_job and rule.route.id_in != "body"
    return Permit(
        route=rule.route,
        path=path,
        client=client,
        identity=identity,
        body_limit=_body_limit(state, rule, profile, is_known=identity is not None),
        account=identity.account if identity else ANYONE,
        profile=profile,
        job_id=job_id_of(state, rule, path, query) if names_in_target else None,
    )


def _refuse_fields(state: State, rule: Rule, query: str) -> None:
    """Refuses a submit's query with names of fields that the form is judged by: a container might read them there."""
    rules = state.shapes[rule.route.job].form_rules(state.form_rules)
    judged = judged_by(rules)
    for name in chain.from_iterable(map(readings, names_in_query(query))):
        if name in judged or rules.refuses(name):
            raise refuse(Reason.BAD_REQUEST, "The query names what stands in the form alone, such as page_range.")


def _body_limit(state: State, rule: Rule, profile: Profile, *, is_known: bool) -> BodyLimit:
    if is_known or rule.route.kind is Kind.SUBMIT:
        return BodyLimit(with_framing(profile.body_limit), "profiles.<name>.body_limit")
    received = state.settings.webhooks.in_ if rule.route.is_ours else ()
    if received:
        return BodyLimit(max(entry.body_limit for entry in received), "webhooks.in[].body_limit")
    return BodyLimit(with_framing(_BODY_OF_ANYONE), "fixed where no key is asked for")
