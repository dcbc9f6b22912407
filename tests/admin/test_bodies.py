"""Bodies and queries of the admin API: whatever is sent, the answer is a problem that says why, never a 500."""

import gzip
import json
import string
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.admin.parsing import MAX_BYTES
from tests.admin.api import Api
from tests.support.gateway import Running
from tests.support.pure import examples

KEYS = "/admin/v1/keys"
WRITES = [
    ("POST", KEYS), ("PATCH", f"{KEYS}/acme"), ("POST", f"{KEYS}/acme/rotate"), ("POST", f"{KEYS}/acme/revoke"),
    ("POST", f"{KEYS}/acme/grants"), ("POST", f"{KEYS}/acme/reset"),
]  # fmt: skip
NAMES = [
    "id", "profile", "owner", "scopes", "networks", "limits", "expires_at", "disabled", "overlap", "operation",
    "generation", "force", "pages", "until", "pages_per_day", "body_limit", "spend_per_month", "soft_limit",
    "page_range", "requests_per_minute", "x", "\x00", "",
]  # fmt: skip
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**70), 2**70), st.floats(),
    st.text(string.printable + "\x00\ud800\U0001f600", max_size=70),
    st.sampled_from([
        "acme", "default", "24h", "0s", "999999999999999d", "3MB", "999999999999999GB", "10.0.0.0/8", "::/0",
        "2999-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "required", 10**400,
        "1e999", "NaN", -0.0, 1, 10**15, 10**16, 0.5, "a" * 63, "\ud800",
    ]),
)  # fmt: skip
BODIES = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)
)
FUZZ = settings(deadline=None, max_examples=examples(80), suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
async def api(gateway: Running) -> Api:
    api = Api(gateway)
    await api.make("acme")
    return api


async def survives(api: Api, method: str, path: str, data: bytes) -> None:
    """It is done or refused for what it is; the helper holds each answer against the OpenAPI document."""
    answer = await api(method, path, data=data)
    assert answer.status in {200, 201, 400, 404, 409, 413, 422}, answer.text
    if answer.status == 422:
        assert len(answer.text) < 60_000
    if api.gateway.events[-1]["event"] == "internal error":
        raise AssertionError(data)


@FUZZ
@given(operation=st.sampled_from(WRITES), body=BODIES)
async def test_no_json_body_is_an_internal_error(operation: tuple[str, str], body: Any, api: Api) -> None:
    await survives(api, *operation, json.dumps(body).encode())


@FUZZ
@given(
    operation=st.sampled_from(WRITES),
    body=st.fixed_dictionaries(
        {"id": st.sampled_from(["b", "c", "ci", "acme"]) | VALUES},
        optional=dict.fromkeys(NAMES[1:15], BODIES),
    ),
)
async def test_no_almost_right_body_is_an_internal_error(operation: tuple[str, str], body: Any, api: Api) -> None:
    if operation[1] != KEYS:
        del body["id"]
    await survives(api, *operation, json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass"))


@FUZZ
@given(operation=st.sampled_from(WRITES), data=st.binary(max_size=200))
async def test_no_bytes_are_an_internal_error(operation: tuple[str, str], data: bytes, api: Api) -> None:
    await survives(api, *operation, data)


@FUZZ
@given(
    path=st.sampled_from([KEYS, "/admin/v1/usage", "/admin/v1/audit"]),
    query=st.text(string.printable.replace("#", "").replace(" ", "") + "é", max_size=40)
    | st.builds(
        "{}={}".format, st.sampled_from(["key", "since", "limit", "after"]), VALUES.map(lambda v: ascii(v)[:90])
    ),
)
async def test_no_query_is_an_internal_error(path: str, query: str, api: Api) -> None:
    answer = await api("GET", f"{path}?{query.translate(dict.fromkeys(map(ord, string.whitespace)))}")
    assert answer.status in {200, 400, 422}, answer.text


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 60_000, b'{"limits":' * 5000, b'{"a":1' + b"0" * 60_000 + b"}",
        b'{"id": "\\ud800"}', b'{"\\ud800": 1}', b'{"id": "\xff"}', b'\xef\xbb\xbf{"id": "b"}', b"\x00",
        b"{'id': 'b'}", b'{"id": "b",}', b'{"id": "b"} x', '{"id": "b"}'.encode("utf-16"),
    ],
    ids=range(12),
)  # fmt: skip
async def test_what_is_no_json_is_malformed(data: bytes, api: Api) -> None:
    (await api("POST", KEYS, data=data)).is_problem(400, "body_malformed")


@pytest.mark.parametrize(
    ("path", "data", "name"),
    [
        ("", b'{"id": "b", "id": "c"}', "'id'"),
        ("", b'{"id": "b", "limits": {"pages_per_day": 1, "pages_per_day": 1000000}}', "'pages_per_day'"),
        ("", b'{"id": "b", "x": [{"y": 1, "y": 1}]}', "'y'"),
        ("", rb'{"id": "b", "\u0069d": "c"}', "'id'"),
        ("/acme/revoke", b'{"generation": 1, "force": false, "force": true}', "'force'"),
        ("/acme/grants", b'{"pages": NaN, "pages": 1, "until": "2999-01-01T00:00:00Z"}', "'pages'"),
        ("/acme/reset", '{"\u00e9\x7f": 1, "\u00e9\x7f": 2}'.encode(), r"'\xe9\x7f'"),
        ("", b'{"' + b"x" * 20_000 + b'": 1, "' + b"x" * 20_000 + b'": 2}', f"'{'x' * 300}'"),
    ],
    ids=range(8),
)  # fmt: skip
async def test_a_member_that_is_there_twice_is_refused(path: str, data: bytes, name: str, api: Api) -> None:
    problem = (await api("POST", KEYS + path, data=data)).is_problem(400, "body_malformed")
    assert problem["detail"] == f"The body has the member {name} twice."
    (key,) = (await api("GET", KEYS)).json["keys"]
    assert (key["id"], key["state"]) == ("acme", "live")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 4000, "-1", "0.5", "1e3"])
async def test_what_is_no_number_of_pages_is_refused(number: str, api: Api) -> None:
    data = f'{{"pages": {number}, "until": "2999-01-01T00:00:00Z"}}'.encode()
    (await api("POST", f"{KEYS}/acme/grants", data=data)).is_problem(422, "invalid")


async def test_a_body_has_64_kb(api: Api) -> None:
    body = json.dumps({"id": "b"}).encode()
    assert (await api("POST", KEYS, data=body + b" " * (MAX_BYTES - len(body)))).status == 201
    (await api("POST", KEYS, data=body + b" " * MAX_BYTES)).is_problem(413, "body_too_large")


async def test_a_compressed_body_is_not_unpacked(api: Api) -> None:
    bomb = gzip.compress(b'{"id": "b"}' + b" " * 10_000_000)
    answer = await api("POST", KEYS, data=bomb, headers={"Content-Encoding": "gzip"})
    answer.is_problem(415, "unsupported_media_type")


async def test_hundreds_of_faults_are_a_short_answer(api: Api) -> None:
    body = {f"name-{number}": 1 for number in range(990)}
    problem = (await api("POST", KEYS, body)).is_problem(422, "invalid")
    assert len(problem["errors"]) == 100
    assert "(and 99 more, see errors)" in problem["detail"]


async def test_a_body_that_would_take_long_to_read_is_not_read(api: Api) -> None:
    problem = (await api("POST", KEYS, data=b'{"id": [' + b"[]," * 12_000 + b"1]}")).is_problem(400, "body_malformed")
    assert problem["detail"] == "A body has 10,000 quotation marks, commas, backslashes and brackets at the most."


async def test_what_is_twice_in_a_query_is_refused(api: Api) -> None:
    problem = (await api("GET", "/admin/v1/audit?key=a&key=b&limit=1")).is_problem(422, "invalid")
    assert problem["errors"] == [{"path": "key", "message": "is there twice"}]


async def test_more_faults_than_a_person_reads_are_counted(api: Api) -> None:
    """Each would be made a sentence in the loop: 3,300 took it 20 ms."""
    answer = await api("PATCH", f"{KEYS}/acme", data=json.dumps({f"a{number}": 1 for number in range(1001)}).encode())
    assert answer.status == 422
    problem = json.loads(answer.text)
    assert problem["detail"] == "body: has 1,001 faults, too many to name"
    assert problem["errors"] == [{"path": "", "message": "has 1,001 faults, too many to name"}]


async def test_a_query_has_few_parameters(api: Api) -> None:
    few = await api("GET", f"{KEYS}?" + "&".join(f"a{number}=1" for number in range(50)))
    many = await api("GET", f"{KEYS}?" + "&".join(f"a{number}=1" for number in range(51)))
    assert (few.status, many.status) == (422, 400)
    assert "A query has 50 parameters at the most." in many.text


@pytest.mark.parametrize(
    ("announced", "status"),
    [
        ("application/json", 201),
        ("Application/JSON ; charset=utf-8", 201),
        ("application/json;" + '"' * 7000, 201),
        ("application/jsonp", 415),
        ("text/plain; application/json", 415),
        ('"' * 7000, 415),
        ("a" + ";" * 7000, 415),
    ],
)
async def test_only_the_name_of_a_content_type_is_looked_at(announced: str, status: int, api: Api) -> None:
    """Its parameters went to a parser of mail: 8 KB of quotes held the loop for three seconds."""
    with patch("gateway.admin.parsing.web.Request.content_type", property(lambda _: pytest.fail("it was parsed"))):
        answer = await api("POST", KEYS, data=b'{"id": "b"}', headers={"Content-Type": announced})
    assert answer.status == status
