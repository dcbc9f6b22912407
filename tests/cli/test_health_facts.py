"""What is wrong, what soon will be, and how fast it goes: judged from a gateway's metrics."""

from gateway.cli.health_facts import facts_of
from gateway.cli.rates import pace_of
from gateway.cli.running_gateway import read_metrics
from gateway.cli.samples import Samples

NOW = 1_800_000_000.0
DAY = 86_400


def samples(text: str = "", **readiness: object) -> Samples:
    return Samples(readiness, read_metrics(text))


def test_nothing_is_wrong_with_a_gateway_that_says_nothing() -> None:
    assert facts_of(samples(), NOW) == ([], [], [])


def test_each_problem_has_its_words() -> None:
    text = f"""
gateway_upstream_up{{upstream="two"}} 0
gateway_config_last_reload_successful 0
gateway_tls_certificate_not_after_seconds {NOW - 1}
"""
    assert facts_of(samples(text, missing=["ledger"]), NOW).problems == [
        "not ready: ledger",
        "the container two does not answer its health path",
        "the configuration on the disk is refused, the old one is in force: see gateway check",
        "a certificate has ended",
    ]
    assert facts_of(samples(status="draining"), NOW).problems == ["it is draining, and ends soon"]
    assert facts_of(samples(issuers_without_keys=["https://idp.test"]), NOW).problems == [
        "tokens of https://idp.test are refused: its keys can't be fetched"
    ]


def test_an_issuer_whose_keys_can_not_be_fetched_is_told_with_the_reason() -> None:
    issuer = {
        "issuer": "https://idp.test", "keys": None, "trouble": "no connection", "source": "https://idp.test/jwks",
        "next_fetch_at": "2027-01-15T08:00:40Z", "dropped_at": None,
    }  # fmt: skip
    found = samples(issuers_without_keys=["https://idp.test"])._replace(overview={"issuers": [issuer]})
    what = "can't be fetched from https://idp.test/jwks: no connection; "
    next_one = "the next attempt is at 2027-01-15T08:00:40Z"
    assert facts_of(found, NOW).problems == [f"tokens of https://idp.test are refused: its keys {what}{next_one}"]
    held = {**issuer, "keys": 2, "dropped_at": "2027-01-15T09:00:00Z"}
    (warning,) = facts_of(samples()._replace(overview={"issuers": [held]}), NOW).warnings
    assert warning == f"the keys of https://idp.test {what}those that are held are dropped at 2027-01-15T09:00:00Z"


def test_what_the_overview_knows_is_told_too() -> None:
    ledger = {"engine": "sqlite", "up": False, "trouble": "it is locked by somebody else"}
    upstreams = [{"name": "default", "up": False, "trouble": "no answer (no connection)"}]
    found = samples("gateway_upstream_up 0\n", missing=["ledger"])._replace(
        overview={"ledger": ledger, "upstreams": upstreams}
    )
    address = "http://127.0.0.1:8000/health_check"
    assert facts_of(found, NOW, {"default": address}).problems == [
        "not ready: ledger: it is locked by somebody else",
        f"the container does not answer its health path: {address}: no answer (no connection)",
    ]
    two = [*upstreams, {"name": "two", "up": True, "trouble": None}]
    assert facts_of(found._replace(overview={"upstreams": two}), NOW).problems == [
        "not ready: ledger",
        "the container default does not answer its health path: no answer (no connection)",
    ]
    assert facts_of(samples("gateway_upstream_up 0\n"), NOW).problems == [
        "the container does not answer its health path"
    ]


def test_each_warning_has_its_words() -> None:
    text = f"""
gateway_tls_certificate_not_after_seconds {NOW + 3 * DAY}
gateway_webhooks{{state="dead"}} 2
gateway_limit_used_ratio{{key="a",limit="pages_per_day"}} 0.5
gateway_limit_used_ratio{{key="b",limit="pages_per_day"}} 0.81
gateway_limit_used_ratio{{key="c",limit="pages_per_month"}} 1.0
"""
    facts = facts_of(samples(text, waits_for_restart=["listen.port"]), NOW)
    assert facts.problems == []
    assert facts.warnings == [
        "a certificate ends in 3 days",
        "waits for a restart: listen.port",
        "2 webhooks were given up: gateway webhooks list --state dead",
    ]
    assert facts.limits == [("c", "pages_per_month", 1.0), ("b", "pages_per_day", 0.81)]


def test_each_file_is_named_with_its_end() -> None:
    family = "gateway_certificate_file_not_after_seconds"
    text = f"""
gateway_tls_certificate_not_after_seconds {NOW + 5 * DAY}
{family}{{setting="tls.certificate"}} {NOW + 5 * DAY}
{family}{{setting="admin.tls.certificate"}} {NOW + 2.5 * DAY}
{family}{{setting="tls.client_ca"}} {NOW + DAY}
{family}{{setting="webhooks.out.ca"}} {NOW - 1}
{family}{{setting="tls.certificates[0].certificate"}} {NOW + 15 * DAY}
"""
    files = [{"setting": "tls.client_ca", "file": "/etc/gateway/ca.pem", "not_after": "..."}]
    facts = facts_of(samples(text)._replace(overview={"certificate_files": files}), NOW)
    assert facts.problems == ["the CA of webhooks.out.ca has ended"]
    assert facts.warnings == [
        "the CA of tls.client_ca (/etc/gateway/ca.pem) ends in 24 hours",
        "the certificate of admin.tls.certificate ends in 2 days",
        "the certificate of tls.certificate ends in 5 days",
    ]


def test_callers_without_a_key_are_near_a_limit_too() -> None:
    text = 'gateway_limit_used_ratio{key="b",limit="pages_per_day"} 0.85\n'
    near = [
        {"account": "jwt:https://idp.test#ann", "key": None, "name": "pages_per_month", "share": 1.0},
        {"account": "key:b", "key": "b", "name": "pages_per_day", "share": 0.86},
    ]
    assert facts_of(samples(text), NOW).limits == [("b", "pages_per_day", 0.85)]
    facts = facts_of(samples(text)._replace(near={"near": near}), NOW)
    assert facts.limits == [("jwt:https://idp.test#ann", "pages_per_month", 1.0), ("b", "pages_per_day", 0.86)]


def test_the_pace_is_what_counters_have_grown_by() -> None:
    form = """
gateway_requests_total{{status="200",route="a"}} {}
gateway_requests_total{{status="401",route="a"}} {}
gateway_requests_total{{status="502",route="b"}} {}
gateway_request_duration_seconds_count {}
gateway_request_duration_seconds_sum {}
gateway_pages_total{{kind="settled"}} {}
"""
    before, after = samples(form.format(1, 1, 1, 3, 1, 0)), samples(form.format(11, 3, 5, 19, 5, 20))
    assert pace_of(before, after, 2.0) == (8.0, 1.0, 2.0, 0.25, 600.0)
    assert pace_of(after, before, 2.0) == (0.0, 0.0, 0.0, None, 0.0)  # it was restarted
