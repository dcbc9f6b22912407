from pathlib import Path

import pytest

from gateway.authorize.cached_headers import cache_headers
from gateway.authorize.permit import make_permit as permit_of
from gateway.authorize.preparation import prepare_request
from gateway.authorize.prepared_request import RequestLine
from gateway.config.compile import compile_settings
from gateway.config.state import State, with_names
from gateway.jobs.job import Job, job_not_found
from gateway.model.account_names import ANYONE
from gateway.model.identity import Peer, Profile
from gateway.model.jobs import JobRef
from gateway.model.reasons import Reason
from gateway.model.routes import Access, Kind, Route
from tests.support.pure import denial_of, ip, make_identity, make_permit, make_settings

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PAIRS = (
    (b"Host", b"gw.test:8443"),
    (b"Accept", b"*/*"),
    (b"X-Forwarded-For", b"10.1.2.3"),
    (b"X-Request-Id", b"theirs"),
    (b"traceparent", TRACE),
)
PROXY, STRANGER = Peer(ip("10.9.0.1"), 1), Peer(ip("10.0.0.1"), 2)
VERSION = (1, 1)
LINE = RequestLine("GET", "/alias?a=b")
CLIENT = ip("192.0.2.7")


def state_with(directory: Path, **sections: object) -> State:
    network = {"allow": ["10.0.0.0/8"], "trusted_proxies": ["10.9.0.0/16"]}
    return compile_settings(make_settings(directory, {}, **{"network": network, **sections}))


@pytest.fixture
def state(tmp_path: Path) -> State:
    return with_names(state_with(tmp_path), ["gw.test"])


def test_a_trusted_proxy_says_who_calls_and_names_the_request(state: State) -> None:
    cached = cache_headers(state, PROXY, VERSION, PAIRS)
    assert (cached.client_ip, cached.address, cached.request_id) == ("10.1.2.3", ip("10.1.2.3"), "theirs")
    assert cached.is_allowed
    assert cached.passed_on == (TRACE, None)
    assert cached.prepared is None


def test_a_stranger_says_neither(state: State) -> None:
    cached = cache_headers(state, STRANGER, VERSION, PAIRS)
    assert (cached.client_ip, cached.request_id) == ("10.0.0.1", None)
    assert not cache_headers(state, Peer(ip("192.0.2.1"), 3), VERSION, PAIRS).is_allowed


def test_bad_headers_are_refused_each_time(state: State) -> None:
    assert denial_of(cache_headers, state, STRANGER, VERSION, PAIRS[1:]).reason is Reason.BAD_REQUEST


def test_it_is_the_same_only_for_the_same_state_version_and_bytes(state: State, tmp_path: Path) -> None:
    cached = cache_headers(state, STRANGER, VERSION, PAIRS)
    assert cached.is_same(state, VERSION, tuple((bytes(name), bytes(value)) for name, value in PAIRS))
    assert not cached.is_same(state, (1, 0), PAIRS)
    assert not cached.is_same(state, VERSION, PAIRS[:-1])
    assert not cached.is_same(state, VERSION, ((b"host", b"gw.test:8443"), *PAIRS[1:]))
    assert not cached.is_same(state_with(tmp_path), VERSION, PAIRS)


def test_a_passage_is_for_one_method_and_target_and_for_a_while(state: State) -> None:
    cached = cache_headers(state, STRANGER, VERSION, PAIRS)
    prepared = prepare_request(state, cached, LINE, "?a=b", make_permit("/real"), 100.0)
    assert prepared.is_for("GET", "/alias?a=b", 99.9)
    assert not prepared.is_for("GET", "/alias?a=b", 100.0)
    assert not prepared.is_for("POST", "/alias?a=b", 99.9)
    assert not prepared.is_for("GET", "/alias?a=c", 99.9)
    assert not prepared.is_for("GET", "/real?a=b", 99.9)


FORM = ((b"Content-Type", b"multipart/form-data; boundary=abc"), (b"Content-Length", b"17"))


def test_a_passage_holds_what_goes_upstream(state: State) -> None:
    cached = cache_headers(state, STRANGER, VERSION, PAIRS + FORM)
    permit = make_permit("/real", Kind.SUBMIT, make_identity(key_id="ci"))
    prepared = prepare_request(state, cached, LINE, "?a=b", permit, 100.0)
    lines = prepared.opening.split(b"\r\n")
    assert lines[0] == b"GET /real?a=b HTTP/1.1"
    assert b"Host: 127.0.0.1:8000" in lines
    assert b"X-Forwarded-For: 10.0.0.1" in lines
    assert b"X-Gateway-Key-Id: ci" in lines
    assert b"Accept-Encoding: identity" in lines
    assert b"theirs" not in prepared.opening
    assert b"Transfer-Encoding: chunked" in lines
    assert prepared.upstream is state.upstreams["default"]
    assert prepared.boundary == b"abc"


@pytest.mark.parametrize(
    "pairs",
    [
        (),
        FORM[:1],
        FORM[1:],
        ((b"Content-Type", b"multipart/form-data"), FORM[1]),
        ((b"Content-Type", b"application/json"), FORM[1]),
        (FORM[0], *FORM),
        ((b"Content-Encoding", b"gzip"), *FORM),
    ],
)
def test_a_submit_is_one_unambiguous_form(pairs: tuple[tuple[bytes, bytes], ...], state: State) -> None:
    cached = cache_headers(state, STRANGER, VERSION, PAIRS + pairs)
    permit = make_permit("/real", Kind.SUBMIT)
    assert denial_of(prepare_request, state, cached, LINE, "", permit, 0.0).reason is Reason.UNSUPPORTED_MEDIA_TYPE
    assert prepare_request(state, cached, LINE, "", make_permit("/real"), 0.0).boundary is None


def test_a_permit_has_the_limits_of_who_calls(state: State) -> None:
    rule = state.routes.match("GET", "/api/v1/marker/job-7", "gw.test")
    client = CLIENT
    identity = make_identity(account="key:ci", profile=Profile("small", 2000))
    permit = permit_of(state, rule, "/api/v1/marker/job-7", "", client, identity)
    assert (permit.route, permit.path, permit.client, permit.identity) == (
        rule.route, "/api/v1/marker/job-7", client, identity,
    )  # fmt: skip
    assert (permit.account, permit.profile, permit.body_limit.most) == ("key:ci", identity.profile, 2002)
    assert permit.job_id == "job-7"


def test_a_permit_for_anyone_has_the_limits_of_nobody(state: State) -> None:
    rule = state.routes.match("GET", "/health_check", "gw.test")
    permit = permit_of(state, rule, "/health_check", "?request_id=a", CLIENT, None)
    assert (permit.account, permit.profile, permit.job_id) == (ANYONE, state.anonymous, None)


def test_clients_know_us_by_a_name_of_ours_or_the_public_url(state: State, tmp_path: Path) -> None:
    cached = cache_headers(state, STRANGER, VERSION, PAIRS)
    assert prepare_request(state, cached, LINE, "", make_permit(), 0.0).origin == "https://gw.test:8443"
    public = state_with(tmp_path, public_url="https://docs.test")
    assert prepare_request(public, cached, LINE, "", make_permit(), 0.0).origin == "https://docs.test"


def test_a_host_that_is_no_name_of_ours_is_written_nowhere(tmp_path: Path) -> None:
    state = with_names(state_with(tmp_path), ["other.test"])
    cached = cache_headers(state, STRANGER, VERSION, PAIRS)
    plain = prepare_request(state, cached, LINE, "", make_permit(), 0.0)
    assert plain.origin == ""
    assert b"gw.test" not in plain.opening
    for permit in (
        make_permit(kind=Kind.SUBMIT),
        make_permit()._replace(route=Route("a", Kind.ASSET, Access.KEY, rewrites=True)),
    ):
        assert denial_of(prepare_request, state, cached, LINE, "", permit, 0.0).reason is Reason.MISDIRECTED


# Which job a request is for


@pytest.mark.parametrize(
    "query",
    ["?request_id=other", "?a=b&request_id=", "?Request_ID", "?request%5Fid=a", "?a;request_id=b", "??request_id=a"],
)
def test_a_query_that_names_a_job_beside_the_path_is_refused(query: str, state: State) -> None:
    rule = state.routes.match("GET", "/api/v1/marker/job-7", "gw.test")
    denial = denial_of(permit_of, state, rule, "/api/v1/marker/job-7", query, CLIENT, make_identity())
    assert denial.reason is Reason.BAD_REQUEST
    assert permit_of(state, rule, "/api/v1/marker/job-7", "?a=request_id", CLIENT, None).job_id == "job-7"


JOB_ROUTES = [
    {"name": "submit", "methods": ["POST"], "path": "/marker", "kind": "submit", "job": "oss"},
    {"name": "result", "methods": ["GET", "HEAD"], "path": "/results", "kind": "result", "job": "oss",
     "id": {"in": "query", "name": "file_id"}},
    {"name": "asset", "methods": ["GET"], "path": "/static/{file_id}/{path*}", "kind": "asset", "job": "oss",
     "id": {"in": "path", "name": "file_id"}},
    {"name": "clear", "methods": ["POST"], "path": "/clear", "kind": "delete", "job": "oss",
     "id": {"in": "body", "name": "file_id"}},
    {"name": "any", "methods": ["GET"], "path": "/any", "kind": "result", "id": {"in": "query", "name": "id"}},
]  # fmt: skip
OSS = {"shapes": {"oss": {"id": "file_id", "id_pattern": "[0-9a-f]{4}", "read": "/results?file_id={id}"}}}


@pytest.fixture
def of_jobs(tmp_path: Path) -> State:
    return state_with(tmp_path, routes=JOB_ROUTES, jobs=OSS)


def job_of(state: State, path: str, query: str = "", method: str = "GET") -> str | None:
    rule = state.routes.match(method, path, "gw.test")
    return permit_of(state, rule, path, query, CLIENT, make_identity()).job_id


@pytest.mark.parametrize(
    ("path", "query", "found"),
    [
        ("/results", "?file_id=01ab", "01ab"),
        ("/results", "?a=b&file_id=01ab&download=true", "01ab"),
        ("/results", "?a&file_id=01ab&&b=", "01ab"),
        ("/results", "?file_id=%30%31a%62", "01ab"),
        ("/results", "?file%5fid=01ab", "01ab"),
        ("/results", "?file_id=01ab&fileid=01ac&file[id]=01ad&my.file_id=01ae", "01ab"),
        ("/static/01ab/a/b.png", "?other=file_id", "01ab"),
        ("/static/%301ab/b.png", "", "01ab"),
        ("/any", "?id=caf%C3%A9", "caf\u00e9"),
        ("/any", "?id=a+b%2Bc", "a b+c"),
        ("/any", "?id=" + "x" * 256, "x" * 256),
    ],
)
def test_a_request_names_its_job_in_its_path_or_its_query(path: str, query: str, found: str, of_jobs: State) -> None:
    assert job_of(of_jobs, path, query) == found


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "query",
    [
        "", "?", "?file_id", "?file_id=", "?id=01ab", "?fileid=01ab", "?file_id=01AB", "?file_id=01ab0",
        "?file_id=01ab%0a", "?file_id=%2e%2e%2f%2e%2e", "?file_id=01%61%", "?file_id=%ff%fe", "?%ff=a&file_id=01ab",
        "?file_id=01ab%00", "?file_id=01ab;a=b", "?file[id]=01ab",
        "?" + "a=b&" * 50 + "file_id=01ab",
    ],
)  # fmt: skip
def test_a_query_that_names_no_job_is_answered_as_an_unknown_one(query: str, method: str, of_jobs: State) -> None:
    rule = of_jobs.routes.match(method, "/results", "gw.test")
    denial = denial_of(permit_of, of_jobs, rule, "/results", query, CLIENT, make_identity())
    assert denial == job_not_found().denial


@pytest.mark.parametrize(
    ("path", "query"),
    [("/static/01aB/a", ""), ("/static/x/a", "?a=01ab"), ("/static/%ff%fe%ff%fe/a", ""),
     ("/any", "?id=.."), ("/any", "?id=a;x=b"), ("/any", "?id=a%2Fb"), ("/any", "?id=a%5cb"), ("/any", "?id=%2525")],
)  # fmt: skip
def test_an_id_that_no_job_can_have_is_answered_as_an_unknown_one(path: str, query: str, of_jobs: State) -> None:
    rule = of_jobs.routes.match("GET", path, "gw.test")
    denial = denial_of(permit_of, of_jobs, rule, path, query, CLIENT, make_identity())
    assert denial == job_not_found().denial


@pytest.mark.parametrize(
    "query",
    [
        "?file_id=01ab&file_id=01ac", "?file_id=01ab&file_id=01ab", "?file_id=01ab&file%5Fid=01ac",
        "?file_id&file_id", "?x=1;file_id=01ac&file_id=01ab", "?file_id=01ab&x;file_id=01ac",
        "?file_id=01ab&FILE_ID=01ac", "?file_id=01ab&file_id[]=01ac", "?file_id=01ab&file_id%5B0%5D=01ac",
        "?file_id=01ab&file.id=01ac", "?file_id=01ab&+file_id=01ac", "?file_id=01ab&file+id=01ac",
        "?file_id=01ab&file_id%00=01ac", "?file_id=01ab&file[id=01ac", "?file_id=01ab&%EF%BB%BFfile_id=01ac",
        "?File_Id=01ab", "?file_id[]=01ab", "?file.id=01ab",
    ],
)  # fmt: skip
def test_a_query_that_names_two_jobs_is_read_in_no_way(query: str, of_jobs: State) -> None:
    rule = of_jobs.routes.match("GET", "/results", "gw.test")
    denial = denial_of(permit_of, of_jobs, rule, "/results", query, CLIENT, make_identity())
    assert denial.reason is Reason.BAD_REQUEST
    assert "file_id" in denial.detail
    assert "01a" not in denial.detail


def test_a_job_that_the_body_names_is_not_known_yet(of_jobs: State) -> None:
    assert job_of(of_jobs, "/clear", "?other=01ab", "POST") is None


@pytest.mark.parametrize(("path", "method"), [("/static/01ab/a", "GET"), ("/clear", "POST")])
def test_a_query_may_name_none_where_the_job_is_named_elsewhere(path: str, method: str, of_jobs: State) -> None:
    rule = of_jobs.routes.match(method, path, "gw.test")
    denial = denial_of(permit_of, of_jobs, rule, path, "?file_id=01ab", CLIENT, make_identity())
    assert denial.reason is Reason.BAD_REQUEST


def test_a_submit_names_no_job(of_jobs: State) -> None:
    assert job_of(of_jobs, "/marker", "?file_id=01ab", "POST") is None


# How long a poll is held


def hold(state: State, *prefers: bytes, kind: Kind = Kind.RESULT, method: str = "GET") -> float:
    cached = cache_headers(state, STRANGER, VERSION, (*PAIRS[:1], *((b"Prefer", value) for value in prefers)))
    return prepare_request(state, cached, RequestLine(method, "/a"), "", make_permit(kind=kind), 0.0).hold


@pytest.fixture
def holding(tmp_path: Path) -> State:
    """A configuration that holds polls for 5 s, and for 60 s at most."""
    return state_with(tmp_path, jobs={"hold": "5s", "hold_limit": "60s"})


@pytest.mark.parametrize(
    ("prefers", "seconds"),
    [
        ([b"wait=10"], 10),
        ([b"respond-async, wait=10"], 10),
        ([b"respond-async,wait=10"], 10),
        ([b"respond-async; wait=10"], 10),
        ([b"wait=10, respond-async"], 10),
        ([b"respond-async", b"wait=10"], 10),
        ([b"WAIT = 10"], 10),
        ([b'wait="10"'], 10),
        ([b"\twait=10 "], 10),
        ([b"wait=10; foo=bar"], 10),
        ([b"wait=10, wait=20"], 10),
        ([b"wait=0"], 0),
        ([b"wait=007"], 7),
        ([b"wait=60"], 60),
        ([b"wait=61"], 60),
        ([b"wait=999999999"], 60),
    ],
)
def test_a_client_says_how_long_its_poll_may_be_held(prefers: list[bytes], seconds: float, holding: State) -> None:
    assert hold(holding, *prefers) == seconds


@pytest.mark.parametrize(
    "prefers",
    [
        [], [b""], [b"respond-async"], [b"wait"], [b"wait="], [b"wait=-1"], [b"wait=+1"], [b"wait=1.5"], [b"wait=a"],
        [b"wait=1e9"], [b"wait=10s"], [b"wait=10 20"], [b"await=10"], [b"wait-10"], [b"x wait=10"], [b"wait=0x10"],
        [b"wait=" + b"9" * 10], [b"wait=" + b"9" * 5000], [b"wait=\xb2"], [b"wait=1_0"], [b"wait='10'"],
    ],
)  # fmt: skip
def test_what_is_no_such_preference_leaves_it_to_the_configuration(prefers: list[bytes], holding: State) -> None:
    assert hold(holding, *prefers) == 5


@pytest.mark.parametrize("prefers", [[], [b"wait=10"]])
def test_only_polls_are_held(prefers: list[bytes], holding: State) -> None:
    assert hold(holding, *prefers, method="HEAD") == 0
    for kind in (Kind.ASSET, Kind.DELETE, Kind.PLAIN):
        assert hold(holding, *prefers, kind=kind) == 0


def test_nothing_is_held_where_nobody_asks_for_it(state: State) -> None:
    assert hold(state) == 0
    assert hold(state, b"wait=1000000") == 60


# What a connection remembers


def test_whose_job_it_is_is_remembered_for_one_passage_and_for_a_while(state: State) -> None:
    cached = cache_headers(state, STRANGER, VERSION, PAIRS)
    prepared, other = (prepare_request(state, cached, LINE, "", make_permit(), 100.0) for _ in range(2))
    job = Job(JobRef("default", "job-7", "r1"), "key:ci", state.shapes["default"], "/api/v1/marker", 0.0)
    assert cached.job_for(prepared) is None
    cached.job, cached.job_of = job, prepared
    assert cached.job_for(prepared) is job
    assert cached.job_for(other) is None
    job.end(100.0)
    assert cached.job_for(prepared) is None
