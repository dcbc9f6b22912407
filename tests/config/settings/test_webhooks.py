from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from gateway.config.settings.webhooks import Webhooks
from gateway.webhooks.signature import TOLERANCE

ENVIRON = {"A": "a-secret-of-16-by", "B": "b-secret-of-16-by", "SHORT": "x" * 15, "BROKEN": "whsec_*" + "x" * 20}
IN = {"name": "datalab", "secret": {"env": "A"}, "forward_to": "http://127.0.0.1:9000/webhook"}


def of(**sections: Any) -> Webhooks:
    return Webhooks.model_validate(sections, context={"environ": ENVIRON})


def faults_of(**sections: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        of(**sections)
    found = caught.value.errors(include_url=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in found)


def test_all_is_off_by_default() -> None:
    webhooks = Webhooks()
    assert webhooks.in_ == []
    assert webhooks.out.secrets_for("key:ci", 0) is None
    assert webhooks.out.allow == []
    assert (webhooks.out.timeout, webhooks.out.give_up_after, webhooks.out.keep) == (30, 86400, 30 * 86400)
    assert (webhooks.out.most_in_flight, webhooks.out.most_in_flight_per_destination) == (64, 4)


def test_what_is_received_has_defaults_of_its_own() -> None:
    (received,) = of(**{"in": [IN]}).in_
    assert (received.body_limit, received.timeout, received.remember) == (1024**2, 30, 7 * 86400)
    assert received.accept_body_secret is False
    assert received.known == (ENVIRON["A"].encode(),)
    (rotated,) = of(**{"in": [{**IN, "previous_secret": {"env": "B"}}]}).in_
    assert rotated.known == (ENVIRON["A"].encode(), ENVIRON["B"].encode())


@pytest.mark.parametrize("remember", ["0s", "2s", "299s", "5m", "599s"])
def test_a_request_id_is_remembered_for_as_long_as_its_signature_is_believed(remember: str) -> None:
    """A sender's clock may be 5 minutes ahead, and its message is believed until 5 minutes behind that."""
    told = "must be 10m or more: a message that somebody saw on its way is accepted for that long"
    assert faults_of(**{"in": [{**IN, "remember": remember}]}) == f"in.0.remember: Value error, {told}"
    (received,) = of(**{"in": [{**IN, "remember": "10m"}]}).in_
    assert received.remember == 2 * TOLERANCE


def test_an_owner_has_its_own_secret_and_all_others_the_common_one() -> None:
    out = of(out={"secret": {"env": "A"}, "secrets": [{"owner": "key:acme", "secret": {"env": "B"}}]}).out
    a, b = ENVIRON["A"].encode(), ENVIRON["B"].encode()
    assert out.secrets_for("key:ci", 0) == (a, (a,))
    assert out.secrets_for("key:acme", 0) == (b, (b,))
    alone = of(out={"secrets": [{"owner": "key:acme", "secret": {"env": "B"}}]}).out
    assert alone.secrets_for("key:ci", 0) is None
    assert (out.is_on, alone.is_on, of().out.is_on) == (True, True, False)


@pytest.mark.parametrize("owner", [None, "key:acme"])
def test_during_an_overlap_both_secrets_are_in_force(owner: str | None) -> None:
    end = datetime(2027, 1, 31, tzinfo=UTC)
    rotated = {"secret": {"env": "A"}, "previous_secret": {"env": "B"}, "previous_until": end.isoformat()}
    section = rotated if owner is None else {"secrets": [{"owner": owner, **rotated}]}
    out = of(out=section).out
    a, b = ENVIRON["A"].encode(), ENVIRON["B"].encode()
    assert out.secrets_for("key:acme", end.timestamp() - 1) == (b, (a, b))
    assert out.secrets_for("key:acme", end.timestamp()) == (a, (a,))


@pytest.mark.parametrize(
    ("out", "fault"),
    [
        ({"secret": "in the open"}, "a secret is never written here"),
        ({"secret": {"env": "SHORT"}}, "at least 16 bytes"),
        ({"secret": {"env": "BROKEN"}}, "goes on in base64"),
        ({"secret": {"env": "A"}, "previous_secret": {"env": "B"}}, "belong together"),
        ({"secret": {"env": "A"}, "previous_until": "2027-01-31T00:00:00Z"}, "belong together"),
        ({"previous_secret": {"env": "B"}, "previous_until": "2027-01-31T00:00:00Z"}, "needs a secret"),
        ({"secrets": [{"owner": "key:a"}]}, "out.secrets.0.secret"),
        ({"secrets": [{"owner": "acme", "secret": {"env": "A"}}]}, "out.secrets.0.owner"),
        ({"secrets": [{"owner": "key:a", "secret": {"env": "A"}}] * 2}, "an owner is there twice"),
        ({"allow": ["127.0.0.0/8"]}, "never allowed as a network"),
        ({"allow": ["a.example:1"]}, "a port is not part of it"),
        ({"default_url": "http://a.example/", "allow": ["a.example"]}, "needs the form https://host/path"),
        ({"default_url": "https://a.example/"}, "add it to allow"),
        ({"timeout": "6m"}, "more than 5m"),
        ({"timeout": "0s"}, "more than zero"),
        ({"ca": "/nowhere/ca.pem"}, "can't be read"),
        ({"most_in_flight": 0}, "out.most_in_flight"),
        ({"secert": None}, "Extra inputs"),
    ],
)
def test_faults_of_out(out: dict[str, Any], fault: str) -> None:
    assert fault in faults_of(out=out)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"name": "Data_lab"}, "in.0.name"),
        ({"secret": {"env": "SHORT"}}, "at least 16 bytes"),
        ({"secret": None}, "in.0.secret"),
        ({"forward_to": "127.0.0.1:9000/webhook"}, "needs the form"),
        ({"forward_to": "http://127.0.0.1:9000"}, "needs the form"),
        ({"forward_to": "http://127.0.0.1:x/y"}, "is not a URL"),
        ({"forward_to": "http://127.0.0.1/\u00e9"}, "needs the form"),
        ({"forward_to": "http://u:p@127.0.0.1/y"}, "a user name or a fragment"),
        ({"forward_to": "http://127.0.0.1/y#z"}, "a user name or a fragment"),
        ({"forward_to": None}, "in.0.forward_to"),
        ({"accept_body_secret": "yes"}, "in.0.accept_body_secret"),
    ],
)
def test_faults_of_in(changes: dict[str, Any], fault: str) -> None:
    assert fault in faults_of(**{"in": [{**IN, **changes}]})


def test_names_are_distinct() -> None:
    assert "a name is there twice" in faults_of(**{"in": [IN, IN]})


def test_default_url_may_be_allowed_by_name_by_address_or_perhaps_by_network() -> None:
    for url, allow in (
        ("https://a.example/", ["a.example"]),
        ("https://a.b.example/", ["*.b.example"]),
        ("https://127.0.0.1/", ["127.0.0.1"]),
        ("https://a.example/", ["10.0.0.0/8"]),
    ):
        assert of(out={"default_url": url, "allow": allow}).out.default_url == url


def test_no_secret_shows() -> None:
    webhooks = of(out={"secret": {"env": "A"}}, **{"in": [IN]})
    assert ENVIRON["A"] not in repr(webhooks) + str(webhooks.model_dump()) + webhooks.model_dump_json()


def test_in_is_called_so_in_a_dump() -> None:
    schema = Webhooks.model_json_schema()
    assert set(schema["properties"]) == {"out", "in"}


def test_the_example_of_the_documentation_is_right() -> None:
    text = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text()
    blocks = [part.partition("\n```")[0] for part in text.split("```yaml\n")[1:]]
    environ = dict.fromkeys(("WEBHOOK_SECRET", "OLD_WEBHOOK_SECRET", "ACME_SECRET", "DATALAB_SECRET"), "x" * 32)
    assert blocks
    for block in blocks:
        Webhooks.model_validate(yaml.safe_load(block)["webhooks"], context={"environ": environ})
