"""Why a request would be allowed or refused, step by step: the handler's own decisions, in the handler's order. Pure.

Each decision calls the same function as the handler (policy, cached_headers, limits.quotas, uploads.pages.bound), so
the two can't diverge. Where the handler needs a secret, explain_key judges the key by its id.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from shlex import quote
from typing import Any, NamedTuple

from gateway.admin.judged import Judged
from gateway.authorize.cached_headers import CachedHeaders, cache_headers
from gateway.authorize.preparation import origin_for
from gateway.cli.explain_key import called, check_networks, judge_key
from gateway.cli.words import in_bytes
from gateway.config.state import State
from gateway.errors import Refused, refuse
from gateway.http.headers import origin_form, read_target
from gateway.limits.quotas import AccountCounts, refuse_pages, refuse_submit
from gateway.limits.report import limits_report
from gateway.model.account_names import ANYONE, OF_CALLERS
from gateway.model.identity import Identity, Peer
from gateway.model.reasons import Denial, Reason
from gateway.model.routes import Access, Kind
from gateway.policy.route_access import check_access, check_address
from gateway.policy.routes import Rule
from gateway.uploads.pages.bound import check_cap


class ExplainedRequest(NamedTuple):
    """A hypothetical request. `pages` is the most that its job may cost, `mode` the form's mode.

    `shown` is a credential that was judged already, and its kind; else `key_id` is. `config` is the configuration
    that was named, as it was.
    """

    method: str
    target: str
    host: str
    address: IPv4Address | IPv6Address
    key_id: str | None
    pages: int | None
    mode: str | None = None
    shown: tuple[str, Judged] | None = None
    config: str | None = None


class RuleStep(NamedTuple):
    """One decision: what was checked, and the result."""

    name: str
    text: str


@dataclass(slots=True)
class Explanation:
    """The steps up to the refusal, or to the end; `limits` is the state of the account.

    `is_known` is false where nobody could tell.
    """

    steps: list[RuleStep] = field(default_factory=list)
    denial: Denial | None = None
    help: str = ""
    limits: dict[str, Any] | None = None
    is_known: bool = True
    _asking: str = ""

    def ask(self, name: str, would_help: str) -> None:
        """Begins a step; `would_help` says what to do if it refuses."""
        self._asking, self.help = name, would_help

    def allow(self, text: str) -> None:
        """Ends a step that passes."""
        self.steps.append(RuleStep(self._asking, text))

    def refuse(self, denial: Denial) -> None:
        """Ends a step that refuses."""
        self.steps.append(RuleStep(self._asking, denial.detail))
        self.denial = denial


def explain(
    question: ExplainedRequest, state: State, counts_by_account: Mapping[str, AccountCounts], now: float
) -> Explanation:
    """Runs all steps of a request; `now` is in seconds since the epoch."""
    explanation = Explanation()
    try:
        _walk(explanation, question, state, counts_by_account, now)
        explanation.help = ""
    except Refused as refused:
        explanation.refuse(refused.denial)
    return explanation


def _walk(
    explanation: Explanation,
    question: ExplainedRequest,
    state: State,
    counts_by_account: Mapping[str, AccountCounts],
    now: float,
) -> None:
    explanation.ask("request", _as_sent(question))
    cached = cache_headers(state, Peer(question.address, 0), (1, 1), ((b"Host", question.host.encode("utf-8")),))
    _check_method(question.method)
    named, target = origin_form(question.target)
    question, cached = question._replace(host=named or question.host), cached.addressed_to(named)
    path, _ = read_target(question.method, target)
    explanation.allow(f"{question.method} {path} from {question.address}, Host {question.host}")
    rule = _route(explanation, question, state, path)
    _address(explanation, state, cached, rule)
    identity = _identity(explanation, state, question, rule, now)
    _host(explanation, state, question, rule)
    profile = identity.profile if identity else state.anonymous
    account = identity.account if identity else ANYONE
    counts = counts_by_account.get(account, AccountCounts())
    explanation.limits = limits_report(profile, counts, now)
    if rule.route.kind is Kind.SUBMIT:
        _submit(explanation, state, identity, counts, question, now)
    else:
        explanation.ask("limits", "")
        text = f"polls_per_minute {profile.polls_per_minute}, counted by each replica in memory: not seen from here"
        explanation.allow(text)


def _as_sent(question: ExplainedRequest) -> str:
    """How a request is written that is none."""
    if _has_small_letters(question.method):
        return f"Methods are case-sensitive: did you mean {question.method.upper()}?"
    if not question.target.startswith("/") and "://" not in question.target:
        return f"A path begins with a slash: did you mean /{question.target}?"
    return "Write host and path as a client sends them, such as /api/v1/marker."


def _has_small_letters(method: str) -> bool:
    return method != method.upper()


def _check_method(method: str) -> None:
    """As the parser, which knows the methods that there are."""
    if _has_small_letters(method):
        raise refuse(Reason.BAD_REQUEST, "The request is not valid HTTP/1.1.")


def _route(explanation: Explanation, question: ExplainedRequest, state: State, path: str) -> Rule:
    plain = state.routes.unaliased(path)
    if plain != path:
        explanation.ask("alias", "")
        explanation.allow(f"{path} stands for {plain}")
    routes = state.settings.routes
    known = "; ".join(f"{route.name}: {' '.join(route.methods)} {route.path}" for route in routes)
    explanation.ask("route", f"First match wins, by method, path and host (--host). The routes are {known}.")
    rule = state.routes.match(question.method, plain, question.host)
    written = next(
        (route.path for route in routes if route.name == rule.route.label), "answered by the gateway itself"
    )
    explanation.allow(f"{rule.route.label} ({rule.route.kind}, access {rule.route.access}): {written}")
    return rule


def _host(explanation: Explanation, state: State, question: ExplainedRequest, rule: Rule) -> None:
    """The gateway's origin as clients who send this Host see it."""
    explanation.ask("host", "Set public_url, or name a host of the certificate or of a route (--host).")
    origin = origin_for(state, question.host, rule.route)
    explanation.allow(f"clients know this gateway as {origin}" if origin else "no name of ours: URLs are paths alone")


def _address(explanation: Explanation, state: State, cached: CachedHeaders, rule: Rule) -> None:
    ip = cached.address
    where = f"routes.{rule.route.label}.networks" if cached.is_allowed else "network.allow"
    explanation.ask("address", f"Add a network with {ip} to {where} in the configuration.")
    check_address(cached.address, cached.is_allowed, rule)
    network = next(network for network in state.settings.network.allow if ip in network)
    also = (
        "; a trusted proxy, too: the address that it forwards is what counts" if ip in state.trusted_proxies else ""
    )
    explanation.allow(f"{ip} is in {network} of network.allow{also}")
    if state.needs_certificate:
        explanation.ask("certificate", "")
        explanation.allow("tls.client_certificates is required: taken as shown")


def _identity(
    explanation: Explanation, state: State, question: ExplainedRequest, rule: Rule, now: float
) -> Identity | None:
    if rule.route.access is Access.ANYONE:
        explanation.ask("key", "")
        explanation.allow("none is asked for; submits without a key share one account")
        return None
    kind, judged = question.shown or ("key", judge_key(state, question.key_id, now, question.config))
    explanation.ask(kind, judged.help)
    if judged.identity is None:
        raise Refused(judged.denial) if judged.denial else refuse(Reason.UNAUTHENTICATED, judged.text)
    explanation.allow(judged.text)
    identity = judged.identity
    if kind == "key":
        _networks(explanation, state, identity, question)
    explanation.ask("access", _opening(identity, rule, question.config))
    check_access(rule.route, identity, question.address)
    explanation.allow(f"profile {identity.profile.name} may use this route from here")
    return identity


def _networks(explanation: Explanation, state: State, identity: Identity, question: ExplainedRequest) -> None:
    changed = _changed(identity, f"--network {question.address}", question.config)
    explanation.ask("key's networks", f"{changed} (and all others it is to have)")
    check_networks(state, identity, question.address)
    explanation.allow("may be used from here")


def _opening(identity: Identity, rule: Rule, config: str | None) -> str:
    name = identity.profile.name
    ways = [f"profiles.{name}.networks and profiles.{name}.routes say where and for what its keys may be used"]
    if rule.route.access is Access.ADMIN:
        ways.append(f"this route needs the scope admin: {_with_admin(identity, config)}")
    return "; ".join(ways)


def _submit(
    explanation: Explanation,
    state: State,
    identity: Identity | None,
    counts: AccountCounts,
    question: ExplainedRequest,
    now: float,
) -> None:
    profile = identity.profile if identity else state.anonymous
    explanation.ask("limits", _more(identity, question.config))
    _raise(refuse_submit(profile, counts, now))
    explanation.allow(
        f"a submit more is within rate, concurrency and budgets; its body may have {_bytes(profile.body_limit)}"
    )
    if profile.needs_page_range:
        explanation.ask("page_range", "")
        explanation.allow("has to be in the form (profiles.<name>.page_range): taken as there")
    explanation.ask("pages", _fewer(identity, question.config))
    if question.pages is None:
        explanation.allow("not asked; see --pages")
        return
    check_cap(question.pages, profile.pages_per_request)
    explanation.ask("pages", _more(identity, question.config))
    price = state.pricing.of(question.mode)
    _raise(refuse_pages(profile, counts, question.pages, question.pages * price, now))
    explanation.allow(f"{question.pages} pages more are within pages_per_request, pages_in_flight and budgets")


def _bytes(count: int) -> str:
    return f"{in_bytes(count)} ({count} bytes)"


def _more(identity: Identity | None, config: str | None) -> str:
    if identity is None:
        return "Wait, or raise the limits of profiles.default."
    if identity.key_id.startswith(OF_CALLERS):
        grant = called(f"gateway callers grant {quote(identity.key_id)} --pages N --until WHEN", config)
        return f"Wait; or for pages: {grant}"
    grant = called(f"gateway keys grant {identity.key_id} --pages N --until WHEN", config)
    return f"Wait; or for pages: {grant}; or {_changed(identity, '--limit NAME=VALUE', config)}; or another profile."


def _fewer(identity: Identity | None, config: str | None) -> str:
    if identity is None or identity.key_id.startswith(OF_CALLERS):
        name = "default" if identity is None else identity.profile.name
        return f"Ask for fewer by page_range or max_pages; or raise pages_per_request of profiles.{name}."
    raised = _changed(identity, "--limit NAME=VALUE", config)
    return f"Ask for fewer by page_range or max_pages; or {raised}, NAME being pages_per_request; or another profile."


def _with_admin(identity: Identity, config: str | None) -> str:
    """How a caller gets the scope, by what he showed."""
    if identity.label[0] == "jwt":
        return "ask the issuer for a token with admin in its scope"
    if identity.label[0] == "certificate":
        return "write it under scopes of this name in authentication.certificates.names"
    return _changed(identity, "--scope admin", config)


def _changed(identity: Identity, options: str, config: str | None) -> str:
    """How to change a key. A key of the configuration has no generations; it is changed in the file."""
    if not identity.generation:
        return "change the key in the file"
    return called(f"gateway keys change {identity.key_id} {options}", config)


def _raise(denial: Denial | None) -> None:
    if denial is not None:
        raise Refused(denial)
